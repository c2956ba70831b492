"""What the weather does to the network: how many outages a day brings in each weather zone, and the storms of a year.

Tables by the driver, in whole numbers, at ``day * WEATHER_ZONES + zone``; they follow from seed, start and zone alone.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property

from utilityflow.simulate.almanac import EPOCH, WEATHER_ZONES, Almanac
from utilityflow.simulate.draws import number

# outages by month against the year's mean, per mille: thunderstorms in summer, wind and ice in winter
_SEASON = (950, 930, 950, 900, 900, 1100, 1300, 1250, 950, 900, 950, 950)
# a day's chance: (of 1,000 days so many are up to here, outages per mille of a usual day)
_CHANCE = ((600, 620), (850, 1000), (950, 1600), (990, 2500), (1000, 3600))
# storms of a year by month of the calendar
_STORMY = (2, 2, 2, 1, 1, 2, 3, 3, 1, 1, 1, 2)
BACKLOG_DAYS = 6  # so many days after a storm other work waits

CLEAR, RAIN, WIND, LIGHTNING, SNOW, ICE = range(6)
WORDS = ("CLEAR", "RAIN", "WIND", "LIGHTNING", "SNOW", "ICE")


@dataclass(frozen=True)
class Storm:
    """A day on which the network of a weather zone breaks. ``severity``: per mille of the worst."""

    day: dt.date
    zone: int
    severity: int


@dataclass(frozen=True)
class Weather:
    """The weather as the network feels it, for the days of an almanac."""

    almanac: Almanac

    @cached_property
    def storms(self) -> list[Storm]:
        """One to three in each year from the start, also those that lie beyond the almanac's last month."""
        found: list[Storm] = []
        for year in range(-(-self.almanac.months // 12)):
            count = 1 + number(self.almanac.seed, "storms", year) % 3
            found += [self._storm(year, n, {s.day for s in found}) for n in range(count)]
        return sorted(found, key=lambda s: s.day)

    def _storm(self, year: int, n: int, taken: set[dt.date]) -> Storm:
        seed, first = self.almanac.seed, self.almanac.start.month - 1
        months = [m for m in range(12) for _ in range(_STORMY[(first + m) % 12])]
        month = months[number(seed, "storm month", year, n) % len(months)]
        day = self.almanac.month_start(year * 12 + month) + dt.timedelta(days=number(seed, "storm day", year, n) % 28)
        while day in taken:
            day += dt.timedelta(days=1)
        return Storm(day, number(seed, "storm zone", year, n) % WEATHER_ZONES, 700 + number(seed, "storm force", year, n) % 300)

    @cached_property
    def severity(self) -> list[int]:
        """Severity of the storm of each day and zone, 0 for none."""
        known = {(s.day, s.zone): s.severity for s in self.storms}
        return [known.get((day, zone), 0) for day in self.almanac.days for zone in range(WEATHER_ZONES)]

    @cached_property
    def stress(self) -> list[int]:
        """Outages of each day and zone against a usual day, per mille."""
        return [self._stress(day, zone) for day in self.almanac.days for zone in range(WEATHER_ZONES)]

    def _stress(self, day: dt.date, zone: int) -> int:
        seed, when = self.almanac.seed, (day - EPOCH).days
        chance = number(seed, "stress", when) % 1000
        usual = next(factor for below, factor in _CHANCE if chance < below)
        local = 800 + number(seed, "local stress", when, zone) % 400
        return _SEASON[day.month - 1] * usual * local // 1_000_000

    @cached_property
    def words(self) -> list[int]:
        """What a dispatcher writes about the weather of each day and zone: a place in WORDS."""
        days = [(day, zone) for day in self.almanac.days for zone in range(WEATHER_ZONES)]
        return [
            self._word(day, zone, stress, storm)
            for (day, zone), stress, storm in zip(days, self.stress, self.severity, strict=True)
        ]

    def _word(self, day: dt.date, zone: int, stress: int, storm: int) -> int:
        cold, warm = (degrees := self.almanac.temperature(day, zone)) < 5, degrees > 170
        if storm:
            return ICE if cold else LIGHTNING if warm else WIND
        if stress < 900:
            return CLEAR
        return SNOW if cold else LIGHTNING if warm and stress > 1500 else WIND if stress > 1500 else RAIN

    @cached_property
    def backlog(self) -> list[int]:
        """By how much work takes longer in each zone after a storm, per mille of the usual; declines within BACKLOG_DAYS."""
        table = [0] * len(self.severity)
        for place, severity in enumerate(self.severity):
            for later in range(BACKLOG_DAYS if severity else 0):
                then = place + later * WEATHER_ZONES
                if then < len(table):
                    table[then] = max(table[then], severity * 2 * (BACKLOG_DAYS - later) // BACKLOG_DAYS)
        return table
