"""The history engine again, in plain Python on lists, to be obviously right rather than fast.

Moments are integers: days since 1970 at day grain, microseconds since 1970 UTC at microsecond grain.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

TYPE2, TYPE1, UNTRACKED = ("name", "address", "city"), ("phone",), ("note",)
ATTRIBUTES = TYPE2 + TYPE1 + UNTRACKED
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY = 86_400_000_000


@dataclass(frozen=True)
class Rules:
    grain: str = "day"
    policy: str = "all"
    zone: str = "America/New_York"
    partial: bool = False

    @property
    def begin(self) -> int:
        return self.moment(date(1900, 1, 1))

    @property
    def end(self) -> int:
        return self.moment(date(9999, 12, 31))

    def moment(self, day: date) -> int:
        """A bound of the tables: a day, or its midnight in UTC."""
        days = (day - date(1970, 1, 1)).days
        return days if self.grain == "day" else days * DAY

    def start(self, at: int) -> int:
        if self.grain == "microsecond":
            return at
        local = (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(self.zone))
        return (local.date() - date(1970, 1, 1)).days


@dataclass(frozen=True)
class Event:
    key: str
    at: int  # microseconds since 1970 UTC
    values: tuple[str | None, ...] = (None,) * len(ATTRIBUTES)
    sequence: int | None = 1
    operation: str = "upsert"
    given: tuple[str, ...] | None = None  # partial updates: the attributes that the event carries
    file: str = "f"
    row: int = 0

    @property
    def deleted(self) -> bool:
        return self.operation == "delete"

    def hash(self, partial: bool) -> str:
        parts = []
        for name in sorted(ATTRIBUTES):
            value = self.values[ATTRIBUTES.index(name)]
            if partial and self.given is not None and name not in self.given:
                parts.append("~")
            else:
                parts.append("-" if value is None else f"{len(value)}:{value}")
        return hashlib.sha256("".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Version:
    key: str
    first: bool
    values: tuple[str | None, ...]
    start: int
    end: int
    current: bool
    inferred: bool
    event: Event | None

    @property
    def identity(self) -> tuple[str, int | None]:
        """What the surrogate key stands for."""
        return self.key, None if self.first else self.start


def in_order(events: list[Event], rules: Rules) -> list[Event]:
    """The last of a moment wins: by time, sequence (null lowest), delete; the smallest hash; the first row."""
    result = sorted(events, key=lambda e: (e.file, e.row), reverse=True)
    result.sort(key=lambda e: "" if e.deleted else e.hash(rules.partial), reverse=True)
    result.sort(key=lambda e: (rules.start(e.at), e.at, -1 if e.sequence is None else e.sequence, e.deleted))
    return result


def carried(events: list[Event]) -> list[Event]:
    """Partial updates made whole: what an event does not carry, it takes from those before it, back to a delete."""
    state: dict[str, str | None] = {}
    result = []
    for event in events:
        if event.deleted:
            state = {}
        else:
            given = ATTRIBUTES if event.given is None else event.given
            state |= {name: event.values[ATTRIBUTES.index(name)] for name in given}
        whole = tuple(state.get(name) for name in ATTRIBUTES)
        result.append(Event(event.key, event.at, whole, event.sequence, event.operation, None, event.file, event.row))
    return result


def history(key: str, events: list[Event], rules: Rules, *, as_of: date, needed: bool = False) -> list[Version]:
    """All versions of one key, by start."""
    last: dict[int, Event] = {}
    ordered = in_order(events, rules)
    for event in carried(ordered) if rules.partial else ordered:
        last[rules.start(event.at)] = event
    runs: list[list[tuple[int, Event]]] = []
    for start in sorted(last):
        event = last[start]
        if runs and same(runs[-1][-1][1], event):
            runs[-1].append((start, event))
        else:
            runs.append([(start, event)])
    said = [event for _, event in sorted(last.items()) if not event.deleted]
    result: list[Version] = []
    for n, run in enumerate(runs):
        start, event = run[0]
        if event.deleted:
            continue
        end = runs[n + 1][0][0] if n + 1 < len(runs) else rules.end
        newest = said[-1] if rules.policy == "all" else run[-1][1]
        values = tuple((newest if n in TYPE1 else event).values[i] for i, n in enumerate(ATTRIBUTES))
        now = current(start, end, rules, as_of)
        result.append(Version(key, not result, values, start, end, now, False, event))
    if needed and not result:
        return [Version(key, True, (None,) * len(ATTRIBUTES), rules.begin, rules.end, True, True, None)]
    return result


def same(one: Event, other: Event) -> bool:
    if one.deleted or other.deleted:
        return one.deleted and other.deleted
    return one.values[: len(TYPE2)] == other.values[: len(TYPE2)]


def current(start: int, end: int, rules: Rules, as_of: date) -> bool:
    if rules.grain == "day":
        return start <= rules.moment(as_of) < end
    midnight = datetime.combine(as_of + timedelta(days=1), datetime.min.time(), ZoneInfo(rules.zone))
    last_instant = (midnight.astimezone(timezone.utc) - EPOCH) // timedelta(microseconds=1) - 1
    return start <= last_instant < end


def conflicts(events: list[Event], rules: Rules) -> int:
    """Different upserts at one time and sequence, beyond the first."""
    groups: dict[tuple[int, int | None], set[str]] = {}
    for event in events:
        if not event.deleted:
            groups.setdefault((event.at, event.sequence), set()).add(event.hash(rules.partial))
    return sum(len(hashes) - 1 for hashes in groups.values())


Found = tuple[tuple[str, int | None] | None, bool]


def lookup(versions: list[Version], day: int, first_day: int | None = None) -> Found:
    """What a fact finds: a version's identity (None: the unknown member), and whether it lies before the first one."""
    for moment in (day, first_day):
        for version in versions:
            if moment is not None and version.start <= moment < version.end:
                return version.identity, False
    if versions and day < versions[0].start:
        return versions[0].identity, True
    return None, False


def changed(before: list[Version], after: list[Version], rules: Rules) -> list[tuple[int, int]]:
    """The merged intervals in which a fact finds something else than before."""
    edges = sorted({rules.begin, rules.end} | {m for v in before + after for m in (v.start, v.end)})
    result: list[tuple[int, int]] = []
    for low, high in zip(edges, edges[1:], strict=False):
        if lookup(before, low) != lookup(after, low):
            if result and result[-1][1] == low:
                result[-1] = (result[-1][0], high)
            else:
                result.append((low, high))
    return result
