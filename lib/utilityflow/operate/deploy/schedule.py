"""Quartz expressions: read strictly, carried over to the recurrence of Synapse and ADF, and set beside the as-of date."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
WEEK = {
    name: day
    for name, day in zip(
        _DAYS, ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"], strict=True
    )
}
# name, lowest, highest value, first number of the names, names, what else may stand there
_FIELDS: tuple[tuple[str, int, int, int, list[str], str], ...] = (
    ("second", 0, 59, 0, [], ""),
    ("minute", 0, 59, 0, [], ""),
    ("hour", 0, 23, 0, [], ""),
    ("day of the month", 1, 31, 1, [], r"\?|L|L-([1-9]|[12]\d|30)|LW|([1-9]|[12]\d|3[01])W"),
    ("month", 1, 12, 1, _MONTHS, ""),
    (
        "day of the week",
        1,
        7,
        1,
        _DAYS,
        r"\?|L|[1-7]L|(SUN|MON|TUE|WED|THU|FRI|SAT)L|([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)#[1-5]",
    ),
    ("year", 1970, 2099, 1970, [], ""),
)


@dataclass(frozen=True)
class Cron:
    """A Quartz expression: what each field names; None: every value, a text: one of the special forms (``?``, ``L``)."""

    text: str
    fields: tuple[frozenset[int] | str | None, ...]

    def numbers(self, place: int, otherwise: Iterable[int] = ()) -> list[int]:
        """The values of a field, rising; ``otherwise`` where it names every value."""
        found = self.fields[place]
        return sorted(found) if isinstance(found, frozenset) else list(otherwise)


def parse(text: str) -> Cron:
    """Read a Quartz expression of six or seven fields.

    :raises ValueError: naming the field that does not fit.
    """
    words = text.upper().split()
    if len(words) not in (6, 7):
        raise ValueError(f"has {len(words)} fields, Quartz wants second minute hour day month weekday [year]")
    fields = tuple(_field(word, *spec) for word, spec in zip(words, _FIELDS, strict=False))
    if (words[3] == "?") == (words[5] == "?"):
        raise ValueError("day of the month and day of the week: exactly one of the two must be ?")
    return Cron(text, fields)


def _field(
    word: str, name: str, low: int, high: int, first: int, names: list[str], special: str
) -> frozenset[int] | str | None:
    if word == "*":
        return None
    if special and re.fullmatch(special, word):
        return word
    values: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        begin, dash, end = span.partition("-")
        a = low if span == "*" else _number(begin, name, first, names)
        b = _number(end, name, first, names) if dash else (high if slash or span == "*" else a)
        if not (low <= a <= high and low <= b <= high):
            raise ValueError(f"{name} '{part}' is not within {low} to {high}")
        every = _number(step, name, 0, []) if slash else 1
        if every < 1 or (slash and every > high):
            raise ValueError(f"{name} '{part}' has no step that fits")
        span_of = range(a, b + 1, every) if a <= b else [*range(a, high + 1, every), *range(low, b + 1, every)]
        values.update(span_of)
    return frozenset(values)


def _number(word: str, name: str, first: int, names: list[str]) -> int:
    if word in names:
        return names.index(word) + first
    if not re.fullmatch(r"\d{1,4}", word):
        raise ValueError(f"{name} '{word}' is no number" + (f" and none of {' '.join(names)}" if names else ""))
    return int(word)


def recurrence(cron: Cron, windows_zone: str, start: str) -> dict[str, Any]:
    """The same times as the recurrence of a schedule trigger; its days begin at ``start`` in the Windows zone.

    :raises ValueError: for what a recurrence cannot say (seconds, single months or years, the special forms).
    """
    seconds, hours, minutes = cron.numbers(0, range(60)), cron.numbers(2, range(24)), cron.numbers(1, range(60))
    if seconds != [0]:
        raise ValueError("a recurrence fires at full minutes: the second must be 0")
    if cron.fields[4] is not None or len(cron.fields) > 6 and cron.fields[6] is not None:
        raise ValueError("a recurrence fires in every month and year: write * there")
    of_month, of_week = cron.fields[3], cron.fields[5]
    when: dict[str, Any] = {"minutes": minutes, "hours": hours}
    frequency = "Day"
    if isinstance(of_week, frozenset):
        frequency, when["weekDays"] = "Week", [WEEK[_DAYS[d - 1]] for d in sorted(of_week)]
    elif isinstance(of_month, frozenset):
        frequency, when["monthDays"] = "Month", sorted(of_month)
    elif of_month == "L":
        frequency, when["monthDays"] = "Month", [-1]
    elif isinstance(of_month, str) and of_month != "?" or isinstance(of_week, str) and of_week != "?":
        raise ValueError(f"a recurrence has no form for '{of_month if of_month != '?' else of_week}'")
    stamp = f"{start}T00:00:00" + ("Z" if windows_zone == "UTC" else "")
    return {"frequency": frequency, "interval": 1, "startTime": stamp, "timeZone": windows_zone, "schedule": when}


def times_of(recurring: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two recurrences must share to fire at the same times."""
    given = recurring.get("schedule")
    when = given if isinstance(given, dict) else {}  # files changed by hand may hold anything
    every = [
        value if isinstance(value := when.get(k), list) else [] for k in ("minutes", "hours", "weekDays", "monthDays")
    ]
    lists = [tuple(sorted(map(str, values))) for values in every]
    return (recurring.get("frequency"), recurring.get("interval"), recurring.get("timeZone"), *lists)


def never(cron: Cron, zone: str) -> str | None:
    """A day and time of a once-a-day schedule that the clock of the zone leaves out, else None.

    At such a time there would be no run on that day; 2020 to 2040 is looked at. A schedule with more times a day misses one.
    """
    hours, minutes = cron.numbers(2, range(24)), cron.numbers(1, range(60))
    if len(hours) * len(minutes) > 1:
        return None
    info = ZoneInfo(zone)
    for number in range(20 * 366):
        local = dt.datetime(2020, 1, 1, hours[0], minutes[0], tzinfo=info) + dt.timedelta(days=number)
        there = local.astimezone(dt.timezone.utc).astimezone(info)
        if there.replace(tzinfo=None) != local.replace(tzinfo=None):
            return f"{local:%Y-%m-%d %H:%M}"
    return None


def other_day_in_utc(cron: Cron, zone: str) -> str | None:
    """A time of the schedule at which UTC has another date than the zone, else None.

    Databricks tells a job the UTC date of its trigger alone: at such a time it would be the as-of date of another day. All
    offsets that the zone has between 2020 and 2040 are looked at.
    """
    info = ZoneInfo(zone)
    moments = (dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=n) for n in range(20 * 366))
    offsets = {moment.astimezone(info).utcoffset() or dt.timedelta() for moment in moments}
    for hour in cron.numbers(2, range(24)):
        for minute in cron.numbers(1, range(60)):
            local = dt.timedelta(hours=hour, minutes=minute)
            for offset in offsets:
                if not dt.timedelta() <= local - offset < dt.timedelta(days=1):
                    return f"{hour:02}:{minute:02}"
    return None
