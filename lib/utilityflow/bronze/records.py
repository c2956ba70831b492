"""Records of the text formats in plain Python, streaming: for what Spark does not read alike on both lanes.

Each parser yields (names, values, corrupt): the cleaned names in force, and either the values as texts (None: not
there) or, for a record that does not fit, its raw text. A format of EXPLAINED gives values beside the raw text: what it
could tell of the record, and in the column PROBLEM why it does not fit. Blank lines are no records. Problems that reject
the whole file are raised with the file's name and the record's number, counted from 1 after the header.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any, TextIO

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.names import Names, clean_names
from utilityflow.bronze.scan import Limits
from utilityflow.errors import UtilityFlowError

Record = tuple[tuple[str, ...], "list[str | None] | None", "str | None"]

PROBLEM = "problem"
EXPLAINED = ("nem12",)


def is_gzip(path: Path) -> bool:
    """A file is taken as gzip by the end of its name."""
    return path.name.lower().endswith(".gz")


def open_binary(path: Path) -> IO[bytes]:
    """The content of a file, decompressed."""
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")  # type: ignore[return-value]


def open_text(path: Path, encoding: str) -> TextIO:
    """The text of a file, decompressed, line ends as they are, without BOM."""
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    return io.TextIOWrapper(open_binary(path), encoding=name, errors="strict", newline="")


def bad_line(path: Path, encoding: str, name: str) -> UtilityFlowError:
    """The error for a file that is not in its encoding, with the first line that is not."""
    with open_binary(path) as stream:
        return not_in_encoding(stream, encoding, name)


def not_in_encoding(stream: IO[bytes], encoding: str, name: str) -> UtilityFlowError:
    """As ``bad_line``, of the bytes of a text from their beginning."""
    line = 0
    with io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="") as text:
        try:
            for content in text:
                line += 1
                if any("\ud800" <= c <= "\udfff" for c in content):
                    break
        except UnicodeError:  # UTF-16 knows no escape
            line += 1
    hint = "set options.encoding in the feed file"
    return UtilityFlowError("UF-2004", f"{name}: line {line} is not {encoding}", hint=hint)


class Lines:
    """An iterator of lines that remembers those of the present record and their count."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.taken: list[str] = []
        self.count = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        self.taken.append(line)
        return line


def lines_before(feed: Feed) -> int:
    """Lines before the first record: the header record and the column names, where the feed has them."""
    names = feed.format == "csv" and feed.options.header
    return names + (feed.control is not None and feed.control.header_prefix is not None)


class Controls:
    """Header and trailer of one file: counts and sums what passes between them, and compares."""

    def __init__(self, feed: Feed, name: str) -> None:
        self.control = feed.control
        self.name = name
        self.sign = None if feed.options.delimiter == "," else feed.options.delimiter
        self.header: tuple[int, Sequence[str]] | None = None  # line and fields
        self.trailer: tuple[int, Sequence[str]] | None = None
        self.rows = 0
        self.sums: dict[str, Decimal] = dict.fromkeys(feed.control.sums if feed.control else (), Decimal(0))
        self.places: dict[str, int] = {}

    def take(self, raw: str, line: int, row: Sequence[str] | None = None, *, named: bool = True) -> bool:
        """Whether a record, which begins on ``line``, is the header or the trailer, by its beginning; its fields are kept then.

        :param row: its fields; None: the words of the text, or what the delimiter cuts.
        :param named: the column names were read, so it may be the trailer.
        :raises UtilityFlowError: UF-2006 for a file that does not begin with its header, has a second one or goes on after
            its trailer, and for a header that names no date or number, or others than the file's name.
        """
        control = self.control
        if control is None:
            return False
        if self.trailer is not None:
            raise self._wrong(line, "control.trailer_prefix", f"a record follows the trailer, after record {self.rows}")
        if control.header_prefix is not None:
            begins = raw.startswith(control.header_prefix)
            if begins and self.header is not None:
                raise self._wrong(line, "control.header_prefix", f"a second header record, after record {self.rows}")
            if begins:
                self.header = (line, raw.split(self.sign) if row is None else row)
                self._check_header()
                return True
            if self.header is None:
                raise self._headless(line)
        if not named or control.trailer_prefix is None or not raw.startswith(control.trailer_prefix):
            return False
        self.trailer = (line, raw.split(self.sign) if row is None else row)
        return True

    def add(self, names: Sequence[str], values: Sequence[str | None] | None) -> None:
        """Count a record; a corrupt one (None) counts without adding to the sums."""
        self.rows += 1
        if values is None or not self.sums:
            return
        if not self.places:
            self.places = {n: names.index(n) for n in self.sums if n in names}
        for column, place in self.places.items():
            number = _decimal(values[place] or "")
            if number is not None:
                self.sums[column] += number

    def check(self) -> None:
        """Compare, at the file's end.

        :raises UtilityFlowError: UF-2006 with both numbers.
        """
        control = self.control
        if control is None:
            return
        if control.header_prefix is not None and self.header is None:
            raise self._headless(1)
        if control.trailer_prefix is not None and self.trailer is None:
            problem = f"no trailer '{control.trailer_prefix}' after {self.rows} records"
            raise UtilityFlowError("UF-2006", f"{self.name}: {problem} ('control.trailer_prefix')")
        if control.header_rows is not None:
            self._compare("header", "header_rows", control.header_rows, Decimal(self.rows), "rows")
        if control.rows is not None:
            self._compare("trailer", "rows", control.rows, Decimal(self.rows), "rows")
        for column, total in self.sums.items():
            self._compare("trailer", f"sums.{column}", control.sums[column], total, f"sum of {column}")

    def _compare(self, record: str, key: str, place: str, found: Decimal, what: str) -> None:
        text = self._field(record, place)
        told = None if text is None else _decimal(text)
        line = self._line(record)
        if told is None:
            raise self._wrong(line, f"control.{key}", f"the {record} has no number in {place} ({what})")
        if told != found:
            raise self._wrong(line, f"control.{key}", f"{what}: the {record} says {told}, the file has {found}")

    def _check_header(self) -> None:
        """The header's date and running number, each sound, and those of the file's name."""
        control = self.control
        if control is None:
            return
        found = re.search(control.file_name, self.name.rsplit("/", 1)[-1]) if control.file_name else None
        if control.file_name and found is None:
            raise self._wrong(self._line("header"), "control.file_name", "the file's name does not hold the pattern")
        named = found.groupdict() if found else {}
        for what, place, read in (("date", control.header_date, _day), ("sequence", control.header_sequence, _number)):
            if place is None:
                continue
            text, line = self._field("header", place), self._line("header")
            told = None if text is None else read(text)
            if told is None:
                raise self._wrong(line, f"control.header_{what}", f"the header has no {what} in {place}")
            if named.get(what) is not None and not _same(told, read(named[what])):
                problem = f"{what}: the header says {str(text).strip()}, the file's name {named[what]}"
                raise self._wrong(line, f"control.header_{what}", problem)

    def _field(self, record: str, place: str) -> str | None:
        kept = self.header if record == "header" else self.trailer
        at = int(place[2:])
        return kept[1][at] if kept is not None and at < len(kept[1]) else None

    def _line(self, record: str) -> int:
        kept = self.header if record == "header" else self.trailer
        return kept[0] if kept is not None else 1

    def _headless(self, line: int) -> UtilityFlowError:
        prefix = self.control.header_prefix if self.control else ""
        return self._wrong(line, "control.header_prefix", f"the file begins without its header '{prefix}'")

    def _wrong(self, line: int, rule: str, problem: str) -> UtilityFlowError:
        return UtilityFlowError("UF-2006", f"{self.name}: line {line}: {problem} ('{rule}')")


_DAY = re.compile(r"(\d{4})-?(\d{2})(?:-?(\d{2}))?(?:[T ].*)?\Z", re.ASCII)
_WHOLE = re.compile(r"\d{1,18}\Z", re.ASCII)


def _day(text: str) -> str | None:
    """A day as eight digits, or a month as six; None for what is no date. A time of day after it does not matter."""
    found = _DAY.match(text.strip())
    if found is None:
        return None
    try:
        dt.date(int(found[1]), int(found[2]), int(found[3] or 1))
    except ValueError:
        return None
    return "".join(part for part in found.groups() if part)


def _number(text: str) -> str | None:
    """A whole number without leading zeros."""
    return str(int(text)) if _WHOLE.match(text.strip()) else None


def _same(told: str, named: str | None) -> bool:
    """Whether two days or numbers are one; a month agrees with its days."""
    if named is None or len(told) == len(named):
        return told == named
    return {len(told), len(named)} == {6, 8} and (told.startswith(named) or named.startswith(told))


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def csv_reader(feed: Feed, lines: Iterable[str], limits: Limits) -> Iterator[list[str]]:
    """Python's strict CSV reader with the feed's options."""
    csv.field_size_limit(limits.max_record_bytes)
    options = feed.options
    return csv.reader(
        lines, strict=True, delimiter=options.delimiter,
        quoting=csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
        quotechar=options.quote or None, doublequote=options.escape == options.quote,
        escapechar=None if options.escape == options.quote or not options.quote else options.escape,
    )  # fmt: skip


def csv_records(feed: Feed, stream: Iterable[str], name: str, limits: Limits) -> Iterator[Record]:
    """Records of a CSV text.

    :raises UtilityFlowError: UF-2001 no header, UF-2005 unclosed quote, UF-2006 control totals, UF-2009 field too long.
    """
    lines = Lines(stream)
    reader = csv_reader(feed, lines, limits)
    names = tuple(clean_names(feed.options.names)) if feed.options.names else None
    controls = Controls(feed, name)
    while True:
        lines.taken.clear()
        start = lines.count + 1
        try:
            row: list[str] | None = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            _reject(str(error), name, controls.rows + 1, start, lines)
            row = None
        raw = "".join(lines.taken)
        if row is not None and not row:
            continue
        if controls.take(raw, start, row or (), named=names is not None):
            continue
        if names is None:
            if row is None:
                raise UtilityFlowError("UF-2001", f"{name}: the header on line {start} cannot be read")
            names = tuple(clean_names(row))
        elif row is None or len(row) != len(names):
            controls.add(names, None)
            yield names, None, raw.rstrip("\r\n")
        else:
            controls.add(names, row)
            yield names, list(row), None
    if names is None:
        what = "is empty" if controls.header is None else "holds a header record and no column names"
        raise UtilityFlowError("UF-2001", f"{name}: the file {what}")
    controls.check()


def _reject(problem: str, name: str, record: int, line: int, lines: Lines) -> None:
    """Raise when a record that the CSV reader refuses spoils the rest of the file."""
    if "field larger" in problem:
        raise UtilityFlowError("UF-2009", f"{name}: record {record} (line {line}) holds a field that is too long")
    if "unexpected end" in problem or len(lines.taken) > 1:
        raise UtilityFlowError("UF-2005", f"{name}: record {record} (line {line}) opens a quote that is never closed")


def fixed_width_records(feed: Feed, stream: Iterable[str], name: str, limits: Limits) -> Iterator[Record]:
    """Records of a fixed width text: each field without the blanks around it.

    :raises UtilityFlowError: UF-2006.
    """
    names = tuple(clean_names(list(feed.options.fields)))
    slices = [slice(start - 1, start - 1 + length) for start, length in feed.options.fields.values()]
    width = max(s.stop for s in slices)
    controls = Controls(feed, name)
    for number, line in enumerate(stream, 1):
        raw = line.rstrip("\r\n")
        if not raw:
            continue
        if controls.take(raw, number):
            continue
        short = len(raw) < width and feed.options.short_lines == "reject"
        if short or raw[width:].strip(" "):
            controls.add(names, None)
            yield names, None, raw
            continue
        values: list[str | None] = [raw[s].strip(" ") for s in slices]
        controls.add(names, values)
        yield names, values, None
    controls.check()


# -- JSON ------------------------------------------------------------------------------------------------------------


class _Number(str):
    """The text of a JSON number: it is never made a float, so no digit is lost."""

    __slots__ = ()


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_no_constant)


def json_text(value: Any) -> str | None:
    """A JSON value as text: texts and numbers as they stand, true and false, nested values as JSON; null is None."""
    if value is None or isinstance(value, str):
        return str(value) if value is not None else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_nested(value)


def exact_json(text: str) -> Any:
    """The value of a JSON text; numbers are texts of a type of their own, which ``json_nested`` writes as they stood.

    :raises ValueError: it is no JSON. :raises RecursionError: it is nested too deeply.
    """
    return _DECODER.decode(text)


def is_number(value: Any) -> bool:
    """Whether a value of ``exact_json`` is a number."""
    return isinstance(value, _Number)


def json_nested(value: Any) -> str:
    """A value of ``exact_json`` as JSON, on one line, texts in quotes."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{json_nested(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_nested, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_HALVES = re.compile("[\ud800-\udfff]")


class _Keys:
    """Raw keys in the order of their first appearance, with their cleaned names."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.names = Names()

    def row(self, record: dict[str, Any]) -> list[str | None]:
        if not record.keys() <= self.places.keys():
            for key in record:
                self.places.setdefault(key, len(self.places))
            self.names = Names.of(list(self.places))
        values: list[str | None] = [None] * len(self.names)
        for key, value in record.items():
            values[self.places[key]] = json_text(value)
        return values


def _is_text(value: Any, raw: str) -> bool:
    """Whether all texts of a JSON value can be written: an escape may stand for half a character."""
    return _HALF.search(raw) is None or not _HALVES.search(json_nested(value))


BEGINNING = 1000  # characters of a line that is too long


def _bounded_lines(stream: TextIO, bound: int) -> Iterator[tuple[str, int]]:
    """Lines; of one that has more characters than the bound only its BEGINNING is kept, and their number is told beside."""
    while line := stream.readline(bound + 1):
        if len(line) <= bound or line.endswith(("\n", "\r")):
            yield line, 0
            continue
        beginning, size = line[:BEGINNING], len(line)
        while not line.endswith(("\n", "\r")) and (line := stream.readline(65536)):
            size += len(line)
        yield beginning, size


def jsonl_records(feed: Feed, stream: TextIO, name: str, limits: Limits) -> Iterator[Record]:
    """Records of JSON lines: one object per line; anything else is a corrupt record, and so is a line beyond the bound."""
    keys, bound = _Keys(), limits.max_record_bytes
    for line, size in _bounded_lines(stream, bound):
        raw = line.strip()
        if size:
            yield keys.names, None, f"{raw} ... (the beginning of a line of {size:,} characters; {bound:,} are the bound)"
            continue
        if not raw:
            continue
        try:
            value = _DECODER.decode(raw)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and _is_text(value, raw):
            values = keys.row(value)
            yield keys.names, values, None
        else:
            yield keys.names, None, raw


def json_records(feed: Feed, stream: TextIO, name: str, limits: Limits) -> Iterator[Record]:
    """Records of a JSON file: the objects of one array, or one object.

    :raises UtilityFlowError: UF-2009 when it is neither, or broken, naming the element.
    """
    keys, number = _Keys(), 0
    for value, raw in _elements(stream, name, limits):
        number += 1
        if isinstance(value, dict) and _is_text(value, raw):
            values = keys.row(value)
            yield keys.names, values, None
        else:
            yield keys.names, None, raw
    if number == 0:
        raise UtilityFlowError("UF-2001", f"{name}: the array holds no objects")


def _elements(stream: TextIO, name: str, limits: Limits) -> Iterator[tuple[Any, str]]:
    text = stream.read(65536).lstrip()
    if not text:
        raise UtilityFlowError("UF-2001", f"{name}: the file is empty")
    array = text[0] == "["
    if not array and text[0] != "{":
        raise UtilityFlowError("UF-2009", f"{name}: JSON begins with an array or an object, not with {text[0]!r}")
    text = text[1:] if array else text
    for number in itertools.count(1):
        text = _more(stream, text.lstrip())
        if array and text[:1] == "]":
            text = text[1:]
            break
        value, end, text = _element(stream, text, name, number, limits)
        yield value, text[:end]
        text = _more(stream, text[end:].lstrip())
        if not array:
            break
        if text[:1] == ",":
            text = text[1:]
        elif text[:1] != "]":
            raise UtilityFlowError("UF-2009", f"{name}: after element {number} of the array: ',' or ']' expected")
    if (text + stream.read(65536)).strip():
        raise UtilityFlowError("UF-2009", f"{name}: text follows the end of the JSON value")


def _more(stream: TextIO, text: str) -> str:
    while not text and (piece := stream.read(65536)):
        text = piece.lstrip()
    return text


def _element(stream: TextIO, text: str, name: str, number: int, limits: Limits) -> tuple[Any, int, str]:
    """(value, where it ends, the text read so far); reads on until the element is whole."""
    size = 65536
    while True:
        try:
            value, end = _DECODER.raw_decode(text)
            if end < len(text) or not (piece := stream.read(size)):
                return value, end, text
        except RecursionError:
            raise UtilityFlowError("UF-2009", f"{name}: element {number} is nested too deeply") from None
        except ValueError as error:
            if len(text) > limits.max_record_bytes or not (piece := stream.read(size)):
                problem = getattr(error, "msg", str(error))
                raise UtilityFlowError("UF-2009", f"{name}: element {number} is no JSON: {problem}") from None
        text += piece
        size *= 2
