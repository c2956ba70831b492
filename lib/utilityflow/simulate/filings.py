"""Regulatory reporting: what a made-up utility owes its regulators, and the life of each filing as a closed formula.

A filing is one form for one period, of the whole utility or of a district. Its states follow from seed, form, district and period
alone, so the register as of any day needs no day before it. Deadlines are made up, in the manner of the forms.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from utilityflow.simulate.draws import number
from utilityflow.simulate.model import DISTRICTS

DAY_RATE = 500  # penalty in USD for each day that a filing is late, after GRACE days
GRACE = 5


@dataclass(frozen=True)
class Form:
    """A form that is filed again and again.

    ``months``: length of a period. ``due_days``: from the end of a period to the last day in time. ``low``, ``high``: its
    figure in thousandths of ``unit``.
    """

    code: str
    regulation: str
    regulator: str
    months: int
    by_district: bool
    due_days: int
    metric: str
    unit: str
    low: int
    high: int


COMMISSION = "State Commission"
FORMS = (
    Form("SQR", "Service Quality Report", COMMISSION, 1, True, 20, "Calls within 30 s", "percent", 58_000, 97_000),
    Form("REL", "Reliability Report", COMMISSION, 3, True, 45, "SAIDI", "minutes", 8_000, 64_000),
    Form("861M", "EIA-861M", "EIA", 1, False, 30, "Retail sales", "MWh", 40_000_000, 90_000_000),
    Form("861", "EIA-861", "EIA", 12, False, 120, "Retail sales", "MWh", 480_000_000, 990_000_000),
    Form("F1", "FERC Form 1", "FERC", 12, False, 108, "Operating revenue", "thousand USD", 90_000_000, 180_000_000),
    Form("F3Q", "FERC Form 3-Q", "FERC", 3, False, 60, "Operating revenue", "thousand USD", 20_000_000, 50_000_000),
    Form("RCR", "Rate Case Report", COMMISSION, 12, False, 180, "Revenue requirement", "thousand USD", 95_000_000, 190_000_000),
)


@dataclass(frozen=True)
class State:
    """Where a filing stands from ``changed`` on. Times are local, to the minute; ``value`` in thousandths; money in USD."""

    changed: dt.datetime
    status: str
    due: dt.date
    filed: dt.datetime | None = None
    value: int | None = None
    snapshot: str = ""
    penalty: int | None = None


@dataclass(frozen=True)
class Filing:
    """One form for one period: ``period`` counts periods of its length since year 0; ``district`` from 0, None for all."""

    seed: int
    form: int
    district: int | None
    period: int

    @property
    def kind(self) -> Form:
        """Its form."""
        return FORMS[self.form]

    @property
    def start(self) -> dt.date:
        """First day of the period."""
        return _first(self.period * self.kind.months)

    @property
    def end(self) -> dt.date:
        """Last day of the period."""
        return _first((self.period + 1) * self.kind.months) - dt.timedelta(days=1)

    @property
    def due(self) -> dt.date:
        """Last day in time, extensions aside."""
        return self.end + dt.timedelta(days=self.kind.due_days)

    @property
    def name(self) -> str:
        """Its number in the register."""
        place = "" if self.district is None else f"-D{self.district + 1:02d}"
        return f"{self.kind.code}-{self.end:%Y-%m}{place}"

    @property
    def docket(self) -> str:
        """The regulator's number, from the first submission on."""
        return f"{self.end.year}-{self.drawn('docket', 100_000):05d}"

    def drawn(self, what: str, below: int, turn: int = 0) -> int:
        """A whole number from 0 to ``below`` - 1 for some use of it."""
        place = 0 if self.district is None else self.district + 1
        return number(self.seed, f"filing/{what}", self.form, place, self.period, turn) % below

    @cached_property
    def states(self) -> tuple[State, ...]:
        """All its states in order, the first at the beginning of the year in which it is due."""
        opened = State(dt.datetime(self.due.year, 1, 2, 9), "due", self.due)
        life, fate = [opened], self.drawn("fate", 1000)
        if fate < 10:  # nothing to report after all
            gone = self._at(self.due - dt.timedelta(days=5 + self.drawn("withdrawn", 5)), "withdrawal")
            return opened, replace(opened, changed=gone, status="withdrawn")
        if fate < 40:
            asked = self._at(self.due - dt.timedelta(days=11 + self.drawn("extended", 4)), "extension")
            life.append(replace(opened, changed=asked, due=self.due + dt.timedelta(days=30)))
        filed = self._at(life[-1].due + dt.timedelta(days=self._delay()), "submission")
        life += self._submitted(life[-1], filed, 0)
        if fate >= 910:  # not accepted at once
            again = self._at(life[-1].changed.date() + dt.timedelta(days=2 + self.drawn("again", 14)), "submission", 1)
            life[-1] = replace(life[-1], status="rejected", penalty=None)
            life += self._submitted(life[-1], again, 1)
        if self.drawn("amended", 1000) < 40:
            later = self._at(life[-1].changed.date() + dt.timedelta(days=30 + self.drawn("later", 61)), "submission", 2)
            life += self._submitted(life[-1], later, 2)
        return tuple(life)

    def _delay(self) -> int:
        """Days from the due day to the first submission: mostly a few early, some late, few very late."""
        kind, days = self.drawn("delay", 1000), self.drawn("delay days", 1_000_000)
        if kind < 900:
            return -(days % 11)
        return 1 + days % 20 if kind < 980 else 40 + days % 50

    def _submitted(self, before: State, filed: dt.datetime, turn: int) -> list[State]:
        """The states of a submission: that it is there, and that the regulator took it."""
        days = (filed.date() - before.due).days
        late = before.penalty if turn == 2 else (days * DAY_RATE if days > GRACE else None)
        value = self.kind.low + self.drawn("figure", self.kind.high - self.kind.low)
        value += value * (1 + self.drawn("restated", 5)) // 100 if turn == 2 else 0
        snapshot = f"S{self.drawn('snapshot', 1_000_000, turn):06d}"
        told = State(filed + dt.timedelta(minutes=5 + self.drawn("told", 50, turn)), "amended" if turn == 2 else "filed",
                     before.due, filed, value, snapshot, before.penalty if turn == 2 else None)  # fmt: skip
        taken = self._at(filed.date() + dt.timedelta(days=5 + self.drawn("decision", 21, turn)), "decision", turn)
        return [told, replace(told, changed=taken, status="accepted", penalty=late)]

    def _at(self, day: dt.date, what: str, turn: int = 0) -> dt.datetime:
        """A minute of the working hours of a day."""
        minute = self.drawn(f"minute of {what}", 8 * 60, turn)
        return dt.datetime.combine(day, dt.time(8)) + dt.timedelta(minutes=minute)


@lru_cache(maxsize=4)  # the months of a year ask for the same
def filings_due(seed: int, year: int) -> tuple[Filing, ...]:
    """All filings that are due in a year (extensions aside), in the order of the register: by form, district and period."""
    found: list[Filing] = []
    for index, form in enumerate(FORMS):
        for district in range(DISTRICTS) if form.by_district else (None,):
            first, last = ((y * 12) // form.months for y in (year - 2, year + 1))
            every = (Filing(seed, index, district, period) for period in range(first, last))
            found += [filing for filing in every if filing.due.year == year]
    return tuple(found)


def register(seed: int, month: dt.date) -> list[tuple[Filing, State]]:
    """The register as of the end of a month, given by its first day.

    It lists the year's filings, and those of the year before that moved on in the month: a year after its due day none moves.
    """
    begin, end = (dt.datetime.combine(day, dt.time()) for day in (month, _first(month.year * 12 + month.month)))
    rows = []
    for year in (month.year - 1, month.year):
        for filing in filings_due(seed, year):
            until = [state for state in filing.states if state.changed < end]
            if until and (year == month.year or until[-1].changed >= begin):
                rows.append((filing, until[-1]))
    return rows


def _first(month: int) -> dt.date:
    """First day of a month counted from year 0."""
    return dt.date(month // 12, month % 12 + 1, 1)
