"""Calendar, weather and load shapes of the territory: small tables, made by the driver in whole numbers.

Every system asks the same almanac, so that a hot week raises the reads, then the bills, and later the calls.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from zoneinfo import ZoneInfo

from utilityflow.simulate.draws import number

EPOCH = dt.date(1970, 1, 1)
WEATHER_ZONES = 4  # lake, hills, valley, coast
_ZONE_OFFSET = (-10, -18, 4, 14)  # tenths of a degree C against the territory's normal

# normal temperature in the middle of each month, tenths of a degree C, and sun in Wh per kWp of panels and day
_NORMAL = (-45, -35, 15, 80, 145, 195, 222, 212, 168, 105, 50, -15)
_SUN = (1700, 2600, 3700, 4500, 5100, 5500, 5600, 4900, 4000, 2800, 1800, 1400)


@dataclass(frozen=True)
class LoadProfile:
    """How a kind of site uses energy.

    ``base_wh``: mean daily use in Wh before weather; ``heat``, ``cool``: per mille more for each degree C below 18 or
    above 16; ``weekend``: per mille of a working day; ``peak``: daily peak over mean demand, per mille; ``spread``: how
    uneven the sites are (power of the draw); ``weight``: sites in 1,024; ``rates``: rate codes, each as likely.
    """

    name: str
    customer_class: str
    weight: int
    base_wh: int
    heat: int
    cool: int
    weekend: int
    peak: int
    spread: int
    rates: tuple[str, ...]


PROFILES: tuple[LoadProfile, ...] = (
    LoadProfile("house, other heat", "RES", 470, 21_000, 4, 70, 1090, 3900, 2, ("RS-1", "RS-1", "RS-1", "RS-TOU")),
    LoadProfile(
        "house, electric heat", "RES", 190, 24_000, 52, 65, 1060, 3300, 2, ("RS-1", "RS-EH", "RS-EH", "RS-TOU")
    ),
    LoadProfile("apartment", "RES", 242, 9_500, 18, 75, 1070, 4300, 2, ("RS-1", "RS-1", "RS-1", "RS-LI")),
    LoadProfile("small commercial", "COM", 92, 64_000, 8, 38, 620, 2300, 3, ("SC-1", "SC-1", "SC-2", "SC-TOU")),
    LoadProfile("large commercial", "COM", 10, 1_150_000, 6, 26, 700, 1900, 3, ("LC-2", "LC-2", "LC-3", "LC-3")),
    LoadProfile("industrial", "IND", 4, 8_800_000, 2, 9, 780, 1450, 4, ("IN-3", "IN-3", "IN-3", "IN-4")),
    LoadProfile("municipal", "MUN", 6, 140_000, 10, 4, 960, 2100, 3, ("ML-1", "ML-1", "ML-2", "ML-2")),
    LoadProfile("farm", "AGR", 10, 88_000, 12, 30, 990, 2700, 3, ("AG-1", "AG-1", "AG-1", "AG-2")),
)


@dataclass(frozen=True)
class Almanac:
    """Days and months of the simulated time; month 0 is the first, day 0 its first day.

    :param start: the first day of month 0. :param months: how many months the tables reach.
    :param time_zone: the utility's zone; its days of 23 and 25 hours scale the energy of the day.
    """

    seed: int
    start: dt.date
    months: int
    time_zone: str

    def month_start(self, month: int) -> dt.date:
        """First day of a month; negative months lie before the start."""
        index = self.start.year * 12 + self.start.month - 1 + month
        return dt.date(index // 12, index % 12 + 1, 1)

    @cached_property
    def month_starts(self) -> list[int]:
        """First days of months 0 .. ``months`` (one beyond the end), in days since 1970-01-01."""
        return [(self.month_start(m) - EPOCH).days for m in range(self.months + 1)]

    @cached_property
    def first_day(self) -> int:
        """Day 0 in days since 1970-01-01."""
        return self.month_starts[0]

    @cached_property
    def days(self) -> list[dt.date]:
        """All local days of months 0 .. ``months`` - 1."""
        return [self.start + dt.timedelta(days=i) for i in range(self.month_starts[-1] - self.first_day)]

    @cached_property
    def month_of_day(self) -> list[int]:
        """Month index of each day."""
        return [(d.year - self.start.year) * 12 + d.month - self.start.month for d in self.days]

    @cached_property
    def hours(self) -> list[int]:
        """Length of each local day in hours: 24, or 23 and 25 where the clock changes."""
        return [day_hours(day, ZoneInfo(self.time_zone)) for day in self.days]

    def temperature(self, day: dt.date, zone: int) -> int:
        """Mean temperature of a day in a weather zone, tenths of a degree C: normal, weather of the week, chance."""
        block, within = divmod((day - EPOCH).days, 5)
        here, after = (number(self.seed, "weather", b) % 161 - 80 for b in (block, block + 1))
        local = number(self.seed, "local weather", (day - EPOCH).days, zone) % 31 - 15
        return _between_months(_NORMAL, day) + _ZONE_OFFSET[zone] + (here * (5 - within) + after * within) // 5 + local

    @cached_property
    def sun(self) -> list[int]:
        """Energy of panels, Wh per kWp, by day and zone (``day * WEATHER_ZONES + zone``)."""
        return [self._sun(day, zone) for day in self.days for zone in range(WEATHER_ZONES)]

    def _sun(self, day: dt.date, zone: int) -> int:
        block = (day - EPOCH).days // 3
        clouds = (
            350
            + number(self.seed, "clouds", block, zone) % 500
            + number(self.seed, "cloud", block * 3 + day.day, zone) % 300
        )
        return _between_months(_SUN, day) * clouds // 1000

    @cached_property
    def load(self) -> list[int]:
        """Use against ``base_wh``, per mille, at ``(day * profiles + profile) * zones + zone``."""
        table = []
        for day, hours in zip(self.days, self.hours, strict=True):
            rest = is_rest_day(day)
            degrees = [self.temperature(day, zone) for zone in range(WEATHER_ZONES)]
            table += [_factor(p, t, hours, rest) for p in PROFILES for t in degrees]
        return table


def _factor(profile: LoadProfile, degrees: int, hours: int, rest: bool) -> int:
    weather = 1000 + (profile.heat * max(0, 180 - degrees) + profile.cool * max(0, degrees - 160)) // 10
    return weather * (profile.weekend if rest else 1000) * hours // 24_000


def _between_months(values: tuple[int, ...], day: dt.date) -> int:
    """Interpolate between the middles of months, in whole numbers."""
    month, away = day.month - 1, day.day - 15
    other = (month + (1 if away >= 0 else -1)) % 12
    return (values[month] * (30 - min(30, abs(away))) + values[other] * min(30, abs(away))) // 30


def day_hours(day: dt.date, zone: ZoneInfo) -> int:
    """Hours between the two midnights of a local day."""
    begin, end = (dt.datetime.combine(d, dt.time(), zone) for d in (day, day + dt.timedelta(days=1)))
    return round((end.timestamp() - begin.timestamp()) / 3600)


def is_rest_day(day: dt.date) -> bool:
    """Weekends and the big fixed or floating holidays of the United States."""
    if day.weekday() >= 5 or (day.month, day.day) in {(1, 1), (6, 19), (7, 4), (12, 25)}:
        return True
    monday, nth = day.weekday() == 0, (day.day - 1) // 7 + 1
    return (
        (monday and (day.month, nth) in {(1, 3), (2, 3), (9, 1), (10, 2)})
        or (monday and day.month == 5 and day.day > 24)
        or (day.weekday() == 3 and (day.month, nth) == (11, 4))
    )
