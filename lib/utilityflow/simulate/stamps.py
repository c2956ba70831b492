"""Instants of simulated systems: seconds since 1970 (UTC) from local days, and how a system writes them."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from utilityflow.simulate.almanac import Almanac, day_hours
from utilityflow.simulate.draws import at, text

MARGIN = 40  # days before and after those of the almanac whose beginning is known too


def midnight(almanac: Almanac, day: str) -> str:
    """SQL of the instant at which a local day (days since 1970) begins; also of MARGIN days before and after the almanac's."""
    zone, count = ZoneInfo(almanac.time_zone), len(almanac.days)
    days = (almanac.start + dt.timedelta(days=n) for n in range(-MARGIN, count + MARGIN))
    instants = ",".join(str(_begin(d, zone)) for d in days)
    return at(f"cast(split('{instants}', ',') as array<bigint>)", f"{day} - {almanac.first_day - MARGIN}L")


def _begin(day: dt.date, zone: ZoneInfo) -> int:
    return round(dt.datetime.combine(day, dt.time(), zone).timestamp())


def offsets(almanac: Almanac) -> list[tuple[int, int]]:
    """(instant from which it holds, seconds east of UTC), the first from the beginning; a day beyond the end is looked at."""
    zone = ZoneInfo(almanac.time_zone)
    found = [(0, _offset(_begin(almanac.start, zone), zone))]
    for day in [*almanac.days, almanac.days[-1] + dt.timedelta(days=1)]:
        if day_hours(day, zone) != 24:
            low = _begin(day, zone)
            before, high = _offset(low, zone), low + day_hours(day, zone) * 3600
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
            found.append((high, _offset(high, zone)))
    return found


def _offset(instant: int, zone: ZoneInfo) -> int:
    there = dt.datetime.fromtimestamp(instant, zone).utcoffset()
    return round(there.total_seconds()) if there is not None else 0


def day_stamp(day: str, second: str) -> str:
    """SQL of a local time without offset, ``2025-01-31 17:05:00``, from a day (since 1970) and its second on the clock.

    The simulator's session is in UTC, in which each day has all its hours.
    """
    return f"cast(timestamp_seconds(({day}) * 86400L + ({second})) as string)"


def utc_stamp(instant: str) -> str:
    """SQL of an instant as ``2025-01-31T17:05:00Z``, empty for null."""
    return f"coalesce(concat(replace(cast(timestamp_seconds({instant}) as string), ' ', 'T'), 'Z'), '')"


def local_stamp(instant: str, almanac: Almanac) -> str:
    """SQL of an instant as ``2025-01-31T12:05:00-05:00``, empty for null: hours that a day has twice stay apart."""

    def pick(values: list[str]) -> str:
        first, *later = values
        since = [begin for begin, _ in steps[1:]]
        cases = " ".join(f"WHEN {instant} >= {s}L THEN {v}" for s, v in reversed([*zip(since, later, strict=True)]))
        return f"CASE {cases} ELSE {first} END" if cases else first

    steps = offsets(almanac)
    east, words = pick([f"{o}L" for _, o in steps]), pick([text(_written(o)) for _, o in steps])
    return f"coalesce(concat(replace(cast(timestamp_seconds({instant} + {east}) as string), ' ', 'T'), {words}), '')"


def _written(offset: int) -> str:
    hours, minutes = divmod(abs(offset) // 60, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"

