"""Values of XLSX cells as exact texts: numbers without the noise of binary fractions, dates as ISO 8601."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Literal

DateKind = Literal["", "date", "datetime", "time", "duration"]

_WHOLE = re.compile(r"-?[0-9]+\Z")
_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?\Z")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_HALVES = re.compile("[\ud800-\udfff]")
_DAY = 86_400_000  # milliseconds
_LAST_DAY = 2_958_465  # 9999-12-31
# Built-in formats of East Asian Excels, which openpyxl does not know: days, and days or times by their value.
_ASIAN_DATES = frozenset({27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58})
_ASIAN_EITHER = frozenset({32, 33, 34, 35, 55, 56})
_LONGEST_CODE = 255  # Excel's own bound


class NoValueError(Exception):
    """A cell's content is no value of its type; ``str()`` says what it is."""


def date_kinds(formats: Sequence[int], codes: dict[int, str]) -> list[DateKind]:
    """What each cell style shows a number as: a day, a moment, a time of day, a duration; empty: the number itself."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS

    known = {**BUILTIN_FORMATS, **codes}
    kinds = {number: _date_kind(number, known.get(number)) for number in set(formats)}
    return [kinds[number] for number in formats]


def _date_kind(number: int, code: str | None) -> DateKind:
    from openpyxl.styles.numbers import is_date_format, is_datetime, is_timedelta_format

    if code is None:
        return "date" if number in _ASIAN_DATES else "time" if number in _ASIAN_EITHER else ""
    if len(code) > _LONGEST_CODE or not is_date_format(code):
        return ""
    if is_timedelta_format(code):
        return "duration"
    return is_datetime(code) or ""


def plain_text(text: str) -> str:
    """A text without the escapes of XLSX: ``_x000D_`` is a carriage return, ``_x005F_`` a ``_`` before such a thing.

    :raises NoValueError: when an escape stands for half a character or for NUL.
    """
    if "_x" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
        if _HALVES.search(text):
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            if "\ufffd" in text:
                raise NoValueError("a text with half a character")
        if "\0" in text:
            raise NoValueError("a text with a NUL character")
    return text


@lru_cache(maxsize=65_536)
def number_text(text: str) -> str:
    """A number as decimal text: whole ones digit by digit; others by the fewest digits that give the same double.

    Excel writes 17 digits of a double, so 4.1 lies in the file as 4.0999999999999996.

    :raises NoValueError: when it is no number, or none that a double holds.
    """
    if _WHOLE.match(text):
        return text
    number = float(text) if len(text) < 1000 and _NUMBER.match(text) else float("nan")
    if number - number != 0:
        raise NoValueError("no number")
    shown = f"{Decimal(repr(number)):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


@lru_cache(maxsize=65_536)
def date_text(text: str, kind: DateKind, from_1904: bool) -> str:
    """A number of days as ISO text, to the millisecond: ``2017-01-31``, ``2017-01-31T13:45:00``, ``13:45:00``.

    A duration is hours, minutes and seconds (``26:30:00``). A moment shows its time even at midnight; a day shows a
    time only if it has one. Days count from 1899-12-30, with 1900-02-29 that never was, or from 1904-01-01.

    :raises NoValueError: when the number is no day between 1900-01-01 and 9999-12-31.
    """
    number = float(number_text(text))
    if abs(number) > _LAST_DAY + 1:
        raise NoValueError("no date")
    milliseconds = round(number * _DAY)
    day, rest = divmod(milliseconds, _DAY)
    if kind == "duration":
        sign = "-" if milliseconds < 0 else ""
        return sign + _clock(abs(milliseconds))
    if kind == "time" and day == 0:
        return _clock(rest)
    if from_1904:
        base = dt.date(1904, 1, 1)
    else:
        base = dt.date(1899, 12, 30 if day > 60 else 31)
        if day < 1 or day == 60:
            raise NoValueError("no date")
    if day < 0 or day > (base.max - base).days:
        raise NoValueError("no date")
    shown = (base + dt.timedelta(days=day)).isoformat()
    return f"{shown}T{_clock(rest)}" if rest or kind == "datetime" else shown


def _clock(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    shown = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{shown}.{thousandths:03}".rstrip("0") if thousandths else shown
