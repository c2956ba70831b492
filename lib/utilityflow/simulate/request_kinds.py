"""What customers ask the service desk for, how often, and how long it takes: tables, and the desk's days."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property

from utilityflow.simulate.almanac import Almanac, is_rest_day
from utilityflow.simulate.draws import number


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    ``weight``: of the requests that no event of the model causes. ``low``, ``high``: hours to its end, at least, and how many
    more at most (a third of it in the mean). ``at_once``: of sixteen so many are settled while the customer is there.
    ``due``: days that the desk gives itself, 0 for none. ``nameless``: of sixteen so many name no customer.
    """

    type: str
    detail: str
    priority: str
    weight: int
    low: int
    high: int
    at_once: int = 0
    due: int = 0
    nameless: int = 0


KINDS: tuple[Kind, ...] = (
    Kind("Outage", "No power", "Urgent", 0, 0, 0, nameless=1),
    Kind("Outage", "Partial power", "High", 0, 0, 0, nameless=1),
    Kind("Outage", "Flickering lights", "Normal", 0, 0, 0, nameless=1),
    Kind("Outage", "Wire down", "Emergency", 0, 0, 0, nameless=5),
    Kind("Outage", "Complaint about a long outage", "High", 0, 0, 0),
    Kind("Billing", "High bill question", "Normal", 0, 2, 96, at_once=11, due=5),
    Kind("Billing", "High bill complaint", "Normal", 0, 4, 300, at_once=7, due=10),
    Kind("Billing", "Bill not received", "Low", 11, 2, 72, at_once=11, due=5),
    Kind("Billing", "Disputed charge", "Normal", 3, 24, 380, at_once=3, due=14),
    Kind("Billing", "Payment arrangement", "Normal", 15, 1, 48, at_once=12, due=3),
    Kind("Metering", "Complaint: meter reads too high", "Normal", 2, 48, 300, at_once=1, due=10),
    Kind("Metering", "Display blank", "Normal", 7, 24, 200, due=7),
    Kind("Street light", "Lamp out", "Low", 12, 24, 360, due=10, nameless=12),
    Kind("Street light", "Lamp on by day", "Low", 2, 48, 380, due=14, nameless=12),
    Kind("Move", "Move out", "Normal", 10, 24, 120, at_once=8, due=5),
    Kind("Move", "Move in", "Normal", 0, 0, 0, due=14),
    Kind("New connection", "New service", "Normal", 0, 0, 0, due=21),
    Kind("Safety", "Damaged pole or cabinet", "Emergency", 2, 1, 12, due=1, nameless=9),
)
NO_POWER, PARTIAL, FLICKER, WIRE_DOWN, LONG_OUTAGE, HIGH_BILL, HIGH_BILL_COMPLAINT = range(7)
MOVE_IN, NEW_CONNECTION = 15, 16
LAST_OUTAGE = LONG_OUTAGE

COMPLAIN = 2  # of sixteen who call about a high bill so many complain, the others ask
PER_PREMISE = 2  # requests of 1,000 premises on a working day that no event of the model causes
_MOST = 1700  # of them on the busiest day, per mille of PER_PREMISE


def most_a_day(premises: int) -> int:
    """Requests of a day without an event of the model, at most."""
    return premises * PER_PREMISE * _MOST // 1_000_000 + 1


@dataclass(frozen=True)
class DeskDays:
    """How busy the desk is on each day of an almanac."""

    almanac: Almanac

    @cached_property
    def high_bills(self) -> list[int]:
        """Questions and complaints about high bills against all others, per mille: they follow the weather of weeks before."""
        return [self._high_bills(day) for day in self.almanac.days]

    def _high_bills(self, day: dt.date) -> int:
        before = [self.almanac.temperature(day - dt.timedelta(days=back), 0) for back in range(6, 46, 4)]
        heating, cooling = (sum(max(0, limit * sign - t * sign) for t in before) for limit, sign in ((100, 1), (180, -1)))
        return 120 + (heating * 2 + cooling * 7) // len(before)

    def requests(self, premises_of_month: list[int]) -> list[int]:
        """Requests of each day that no event of the model causes: fewer on rest days, more when bills are high."""
        found = []
        for day, month, high in zip(self.almanac.days, self.almanac.month_of_day, self.high_bills, strict=True):
            factor = (1000 + high) * (450 if is_rest_day(day) else 1000) // 1000
            expected = premises_of_month[month] * PER_PREMISE * min(factor, _MOST)
            found.append((expected + number(self.almanac.seed, "desk day", day.toordinal()) % 1_000_000) // 1_000_000)
        return found
