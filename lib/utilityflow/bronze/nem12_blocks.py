"""What stands in a block of NEM12 or NEM13: its records, their fields, and the rules that they follow.

NEM12: a 200 record names a data stream (NMI, suffix, unit, interval length); each 300 record after it is a day of
1440 / length values with one quality, or with quality V and 400 records that give ranges of intervals theirs; 500 records
are business notes. NEM13: a 250 record is what a register counted between two readings; 550 records are notes. Times are
NEM time: UTC+10 all year, no daylight saving. Sources: AEMO's sample files and the documentation of nemreader.
"""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from utilityflow.bronze.records import PROBLEM

COLUMNS = (
    "version", "created", "from_participant", "to_participant", "record", "line",
    "nmi", "nmi_configuration", "register_id", "suffix", "data_stream", "meter_serial", "direction_indicator", "uom",
    "interval_length", "next_scheduled_read",
    "interval_date", "interval_number", "interval_start", "interval_end", "period_start", "period_end",
    "previous_read", "previous_read_time", "previous_quality", "previous_method", "previous_reason_code",
    "previous_reason_description", "current_read", "current_read_time", "read_uom",
    "value", "quality", "method", "reason_code", "reason_description", "update_time", "msats_load_time", "b2b", PROBLEM,
)  # fmt: skip

MINUTES = 1440  # of a day in NEM time
_ZONE = "+10:00"
HEADER = ("version", "created", "from_participant", "to_participant")
_STREAM = ("nmi", "nmi_configuration", "register_id", "suffix", "data_stream", "meter_serial", "uom", "interval_length",
           "next_scheduled_read")  # fmt: skip
_DAY_END = ("quality", "reason_code", "reason_description", "update_time", "msats_load_time")
_ACCUMULATED = (
    "nmi", "nmi_configuration", "register_id", "suffix", "data_stream", "meter_serial", "direction_indicator",
    "previous_read", "previous_read_time", "previous_quality", "previous_reason_code", "previous_reason_description",
    "current_read", "current_read_time", "quality", "reason_code", "reason_description", "value", "uom",
    "next_scheduled_read", "update_time", "msats_load_time",
)  # fmt: skip
_NEEDED_FIELDS = 20  # of a 250 record: up to its unit
VERSIONS = {"NEM12": ("200", "300", "400", "500"), "NEM13": ("250", "550")}
CHILDREN = {"300": ("400", "500"), "250": ("550",)}
KNOWN = ("100", "900", *VERSIONS["NEM12"], *VERSIONS["NEM13"])
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
_QUALITY = re.compile(r"[ANV]|[SFE](?:[0-9]{2})?")
_DAY = re.compile(r"[0-9]{8}")
_STAMP = re.compile(r"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?")
_WHOLE = re.compile(r"[0-9]{1,4}")


class BrokenError(Exception):
    """What is wrong with a block: line, rule and problem."""

    def __init__(self, line: int, rule: str, problem: str) -> None:
        super().__init__(f"line {line}: {rule}: {problem}")


@dataclass(frozen=True)
class Line:
    """A line of the file, counted from 1, and its fields; not ``sound`` where a quote in it is never closed."""

    number: int
    raw: str
    fields: list[str]
    sound: bool = True

    @property
    def kind(self) -> str:
        """The record indicator."""
        return self.fields[0]

    def at(self, place: int) -> str | None:
        """One field, counted from 0; None where it is empty or not there."""
        return self.fields[place] or None if place < len(self.fields) else None

    def named(self, names: Sequence[str], start: int = 1) -> dict[str, str | None]:
        """The fields from ``start`` on by name.

        :raises BrokenError: MDFF-04 when more fields than these are filled.
        """
        if any(self.fields[start + len(names) :]):
            raise BrokenError(self.number, "MDFF-04", f"the {self.kind} record has more fields than the format")
        return {name: self.at(start + place) for place, name in enumerate(names)}


@dataclass
class Stream:
    """The 200 record in force; ``problem`` says what is wrong with it, ``lost`` that the line is none that can be read."""

    line: Line
    columns: dict[str, str | None] = field(default_factory=dict)
    length: int = 0
    days: int = 0
    problem: str | None = None
    lost: bool = False


@dataclass
class Block:
    """A 300 or 250 record and the records that belong to it."""

    first: Line
    stream: Stream | None = None
    children: list[Line] = field(default_factory=list)
    size: int = 0

    @property
    def lines(self) -> list[Line]:
        """All its lines, in their order."""
        return [self.first, *self.children]


def fields_of(raw: str) -> tuple[list[str], bool]:
    """Fields of a line without the blanks around them, and whether its quotes are sound."""
    if '"' in raw:
        try:
            return [f.strip() for row in csv.reader([raw], strict=True) for f in row], True
        except csv.Error:
            return [f.strip() for f in raw.split(",")], False
    return [f.strip() for f in raw.split(",")], True


def told(line: Line, rule: str, problem: str) -> str:
    """What is wrong, in the words in which BrokenError says it."""
    return str(BrokenError(line.number, rule, problem))


# -- NEM12 -------------------------------------------------------------------------------------------------------------


def stream_of(line: Line) -> Stream:
    """The data stream of a 200 record, with its problem if it is broken."""
    stream = Stream(line)
    try:
        stream.columns = line.named(_STREAM)
    except BrokenError:
        stream.problem = "it has more fields than the format"
    length = stream.columns.get("interval_length") or ""
    minutes = int(length) if _WHOLE.fullmatch(length) else 0
    if not line.sound:
        stream.problem = "a quote is opened and never closed"
    elif not (stream.columns.get("nmi") and stream.columns.get("suffix")):
        stream.problem = stream.problem or "NMI or suffix is missing"
    elif minutes == 0 or MINUTES % minutes:
        stream.problem = "the interval length is no number of minutes that divides a day"
    else:
        stream.length = minutes
    return stream


def day_of(block: Block) -> Iterator[dict[str, str | None]]:
    """The intervals of a 300 record, checked before the first is given.

    :raises BrokenError: MDFF-04 to MDFF-11.
    """
    first, stream = block.first, block.stream
    if stream is None:
        raise BrokenError(first.number, "MDFF-05", "a 300 record before the first 200 record")
    if stream.lost:
        problem = f"line {stream.line.number} may have been its 200 record and is not one that can be read"
        raise BrokenError(first.number, "MDFF-05", problem)
    if stream.problem is not None:
        raise BrokenError(first.number, "MDFF-06", f"its 200 record on line {stream.line.number}: {stream.problem}")
    day = _date(first.at(1), first.number, "the interval date", _DAY)
    values = _values(first, MINUTES // stream.length)
    end = first.named(_DAY_END, start=2 + len(values))
    qualities = _qualities(block, end, len(values))
    for number, (value, quality) in enumerate(zip(values, qualities, strict=True), start=1):
        if value is None and quality["quality"] != "N":
            raise BrokenError(first.number, "MDFF-09", f"interval {number} has no value, and its quality is not N")
    shared = {**stream.columns, **end, "interval_date": first.at(1), "b2b": _notes(block)}
    return _numbered(shared, day, stream.length, values, qualities)


def _numbered(
    shared: dict[str, str | None], day: dt.date, length: int, values: Sequence[str | None],
    qualities: Sequence[dict[str, str | None]],
) -> Iterator[dict[str, str | None]]:  # fmt: skip
    starts = [f"{day}{time}" for time in _times(length)]
    starts.append(f"{day + dt.timedelta(days=1)}T00:00:00{_ZONE}")
    for place, (value, quality) in enumerate(zip(values, qualities, strict=True)):
        yield {**shared, **quality, "value": value, "interval_number": str(place + 1),
               "interval_start": starts[place], "interval_end": starts[place + 1]}  # fmt: skip


@lru_cache(maxsize=64)
def _times(length: int) -> tuple[str, ...]:
    return tuple(f"T{m // 60:02}:{m % 60:02}:00{_ZONE}" for m in range(0, MINUTES, length))


def _values(line: Line, due: int) -> list[str | None]:
    """The values of a 300 record: what stands before its quality."""
    fields = line.fields
    end = next((i for i in range(2, len(fields)) if _QUALITY.fullmatch(fields[i])), None)
    if end is None:
        raise BrokenError(line.number, "MDFF-10", "the 300 record has no quality method after its values")
    found = end - 2
    if found == 0:
        raise BrokenError(line.number, "MDFF-07", f"the 300 record holds no values, {due} are due")
    if found != due:
        minutes = MINUTES // due
        problem = f"the 300 record holds {found} values, {due} are due: its 200 record says {minutes} minutes"
        raise BrokenError(line.number, "MDFF-07", problem)
    for number, value in enumerate(fields[2:end], start=1):
        if value and not _NUMBER.fullmatch(value):
            raise BrokenError(line.number, "MDFF-09", f"the value of interval {number} is no number")
    return [value or None for value in fields[2:end]]


def _qualities(block: Block, end: dict[str, str | None], count: int) -> list[dict[str, str | None]]:
    """Quality, method and reason of each interval: the day's, or what 400 records say of it.

    :raises BrokenError: MDFF-11 when 400 records overlap, leave the day or, of a day of quality V, do not cover it.
    """
    varies = end["quality"] == "V"
    found: list[dict[str, str | None] | None] = [None] * count
    for line in block.children:
        if line.kind != "400":
            continue
        start, stop, event = _event(line, count)
        for place in range(start - 1, stop):
            if found[place] is not None:
                raise BrokenError(line.number, "MDFF-11", f"interval {place + 1} stands in two 400 records")
            found[place] = event
    if varies and None in found:
        interval = found.index(None) + 1
        problem = f"the quality is V, and no 400 record speaks of interval {interval}"
        raise BrokenError(block.first.number, "MDFF-11", problem)
    of_day = {} if varies else {**_flag(end["quality"], block.first), **{n: end[n] for n in _DAY_END[1:3]}}
    return [of_day if event is None else event for event in found]


def _event(line: Line, count: int) -> tuple[int, int, dict[str, str | None]]:
    event = line.named(("start", "stop", "quality", "reason_code", "reason_description"))
    start, stop = (int(t) if _WHOLE.fullmatch(t) else 0 for t in (event.pop("start") or "", event.pop("stop") or ""))
    if not 1 <= start <= stop <= count:
        raise BrokenError(line.number, "MDFF-11", f"the 400 record is of no range of intervals within 1 to {count}")
    if event["quality"] == "V":
        raise BrokenError(line.number, "MDFF-10", "the 400 record has quality V, which is of a whole day")
    return start, stop, {**event, **_flag(event["quality"], line)}


def _flag(text: str | None, line: Line, prefix: str = "") -> dict[str, str | None]:
    """Flag and method of a quality method such as F14."""
    if not text or text == "V" or not _QUALITY.fullmatch(text):
        raise BrokenError(line.number, "MDFF-10", f"the {line.kind} record has no quality method of A, S, F, E or N")
    return {f"{prefix}quality": text[0], f"{prefix}method": text[1:] or None}


def _notes(block: Block) -> str | None:
    return "\n".join(line.raw for line in block.children if line.kind != "400") or None


# -- NEM13 -------------------------------------------------------------------------------------------------------------


def accumulated(block: Block) -> dict[str, str | None]:
    """A 250 record as a period: from the day of the previous reading to that of the current one.

    :raises BrokenError: MDFF-04 and MDFF-08 to MDFF-10, or MDFF-06 without NMI or suffix.
    """
    line = block.first
    if len(line.fields) < _NEEDED_FIELDS:
        problem = f"the 250 record has {len(line.fields)} fields, at least {_NEEDED_FIELDS} are due"
        raise BrokenError(line.number, "MDFF-07", problem)
    columns = line.named(_ACCUMULATED)
    for name in ("nmi", "suffix"):
        if columns[name] is None:
            raise BrokenError(line.number, "MDFF-06", f"the 250 record has no {name}")
    for name in ("previous_read", "current_read", "value"):
        text = columns[name]
        if text is not None and not _NUMBER.fullmatch(text):
            raise BrokenError(line.number, "MDFF-09", f"{name.replace('_', ' ')} is no number")
    start = _date(columns["previous_read_time"], line.number, "the time of the previous reading", _STAMP)
    end = _date(columns["current_read_time"], line.number, "the time of the current reading", _STAMP)
    flags = {**_flag(columns["previous_quality"], line, "previous_"), **_flag(columns["quality"], line)}
    if columns["value"] is None and flags["quality"] != "N":
        raise BrokenError(line.number, "MDFF-09", "the quantity is missing, and its quality is not N")
    # a mapping may read it beside the reads: where it is filled, so are they
    read_uom = columns["uom"] if columns["previous_read"] and columns["current_read"] else None
    return {**columns, **flags, "read_uom": read_uom, "period_start": str(start), "period_end": str(end), "b2b": _notes(block)}


def _date(text: str | None, line: int, what: str, form: re.Pattern[str]) -> dt.date:
    digits = text or ""
    try:
        if form.fullmatch(digits):
            day = dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
            clock = digits[8:].ljust(6, "0")
            dt.time(int(clock[:2]), int(clock[2:4]), int(clock[4:]))
            if day < dt.date.max:  # its end is a date too
                return day
    except ValueError:
        pass
    raise BrokenError(line, "MDFF-08", f"{what} is no date of the calendar, written yyyymmdd")
