"""The rows of one worksheet, streaming: each filled cell with its exact text, or with what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from utilityflow.bronze.cells import DateKind, NoValueError, date_kinds, date_text, number_text, plain_text
from utilityflow.bronze.safexml import feed_target
from utilityflow.bronze.workbook import Sheet, Workbook, cell_formats, shared_texts, tag_of
from utilityflow.errors import UtilityFlowError

LAST_ROW, LAST_COLUMN = 1_048_576, 16_384  # of the format itself
_MOST_MERGES = 65_536
_MOST_ARRAYS = 64
_SHOWN_FORMULA = 200
_CELL_COST = 32  # bytes that a cell is reckoned as beside its text
_PLACE = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})\Z")


class Cell(NamedTuple):
    """A filled cell: column from 1, text, and the problem that makes its record corrupt (empty: none)."""

    column: int
    text: str
    problem: str = ""


class Row(NamedTuple):
    """A row: number from 1 as the sheet shows it, and filled cells from left to right."""

    number: int
    cells: list[Cell]


class Range(NamedTuple):
    """Cells from one corner to the other, both included, counted from 1."""

    first_row: int
    first_column: int
    last_row: int
    last_column: int

    @classmethod
    def of(cls, text: str) -> Range:
        """``A1:B2``, or ``A1`` alone.

        :raises ValueError: when it is no range of a sheet.
        """
        first, _, last = text.replace("$", "").partition(":")
        (top, left), (bottom, right) = place_of(first), place_of(last or first)
        if bottom < top or right < left:
            raise ValueError(f"{text!r} is no range of cells")
        return cls(top, left, bottom, right)

    def holds(self, row: int, column: int) -> bool:
        """Whether a cell lies in it."""
        return self.first_row <= row <= self.last_row and self.first_column <= column <= self.last_column

    def __str__(self) -> str:
        first, last = cell_name(self.first_row, self.first_column), cell_name(self.last_row, self.last_column)
        return f"{first}:{last}"


def place_of(text: str) -> tuple[int, int]:
    """(row, column) of a cell's name such as ``B5``.

    :raises ValueError: when no sheet has such a cell.
    """
    from openpyxl.utils.cell import column_index_from_string

    found = _PLACE.match(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is no cell")
    row, column = int(found[2]), column_index_from_string(found[1])
    if row > LAST_ROW or column > LAST_COLUMN:
        raise ValueError(f"{text!r} lies outside of a sheet")
    return row, column


def cell_name(row: int, column: int) -> str:
    """``B5`` for row 5, column 2."""
    from openpyxl.utils.cell import get_column_letter

    return f"{get_column_letter(column)}{row}"


@dataclass(frozen=True)
class Reading:
    """How the values of a workbook are read: its shared texts, what its cell styles mean, and what the feed declares.

    ``cached``: the stored value of a formula is taken. ``missing``: texts that mean null, error texts among them.
    """

    texts: Sequence[str]
    kinds: Sequence[DateKind]
    cached: bool
    missing: frozenset[str]

    @classmethod
    def of(cls, book: Workbook, *, cached: bool, missing: Sequence[str]) -> Reading:
        """With the parts of an open workbook."""
        return cls(shared_texts(book), date_kinds(*cell_formats(book)), cached, frozenset(missing))


def merged_ranges(book: Workbook, sheet: Sheet) -> list[Range]:
    """The merged cells of a sheet, which stand behind its rows; as a side effect the whole part was seen to be sound.

    :raises UtilityFlowError: UF-2009 when a range is none or there are too many.
    """
    target = _Merges(_what(book, sheet))
    for _ in _fed(book, sheet, target):
        pass
    return target.ranges


def rows_of(book: Workbook, sheet: Sheet, reading: Reading) -> Iterator[Row]:
    """Rows that hold a filled cell, from top to bottom; the size that a sheet declares is not looked at.

    :raises UtilityFlowError: UF-2003 when texts together, UF-2009 when a row is larger than the bound, or the cells are
        not in order.
    """
    target = _Cells(book, sheet, reading)
    for _ in _fed(book, sheet, target):
        yield from target.done
        target.done = []


def _what(book: Workbook, sheet: Sheet) -> str:
    return f"{book.name}: sheet '{sheet.name}'"


def _fed(book: Workbook, sheet: Sheet, target: _Merges | _Cells) -> Iterator[int]:
    with book.part(sheet.part, book.limits.max_workbook_bytes) as stream:
        yield from feed_target(stream, target, _what(book, sheet), book.limits)


class _Merges:
    def __init__(self, what: str) -> None:
        self.what, self.tag = what, tag_of("mergeCell")
        self.ranges: list[Range] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != self.tag:
            return
        if len(self.ranges) >= _MOST_MERGES:
            raise UtilityFlowError("UF-2009", f"{self.what}: more than {_MOST_MERGES} merged ranges")
        try:
            self.ranges.append(Range.of(attributes.get("ref", "")))
        except ValueError as error:
            raise UtilityFlowError("UF-2009", f"{self.what}: a merged range cannot be read: {error}") from None


class _Cells:
    """Takes the tags of a sheet and collects rows."""

    def __init__(self, book: Workbook, sheet: Sheet, reading: Reading) -> None:
        self.what, self.limits, self.reading, self.from_1904 = _what(book, sheet), book.limits, reading, book.from_1904
        self.done: list[Row] = []
        self._tags = {tag_of(tag): tag for tag in ("row", "c", "v", "f", "is", "t", "rPh", "sheetData")}
        self._rows = False  # within sheetData: later parts of a sheet use some of these tags too
        self._row, self._column, self._cells = 0, 0, list[Cell]()
        self._size = self._total = 0
        self._arrays: list[Range] = []
        self._into: list[str] | None = None
        self._new_cell({})

    def _new_cell(self, attributes: dict[str, str]) -> None:
        self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "0")
        self._value: list[str] = []
        self._formula: list[str] | None = None
        self._has_value = self._inline = self._aside = False

    # -- what the parser tells --

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = self._tags.get(tag)
        self._into = None
        if kind == "sheetData":
            self._rows = True
        elif kind is None or not self._rows:
            return
        elif kind == "c":
            self._start_cell(attributes)
        elif kind == "v":
            self._has_value, self._into = True, self._value
        elif kind == "row":
            self._start_row(attributes)
        elif kind == "f":
            self._start_formula(attributes)
        elif kind == "is":
            self._has_value = self._inline = True
        elif kind == "rPh":
            self._aside = True
        elif kind == "t" and self._inline and not self._aside:
            self._into = self._value

    def end(self, tag: str) -> None:
        kind = self._tags.get(tag)
        self._into = None
        if kind == "c" and self._rows:
            self._end_cell()
        elif kind == "row" and self._rows:
            self._end_row()
        elif kind == "rPh":
            self._aside = False
        elif kind == "is":
            self._inline = False
        elif kind == "sheetData":
            self._rows = False

    def data(self, text: str) -> None:
        if self._into is not None:
            self._into.append(text)
            self._grow(len(text))

    # -- rows and cells --

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self.limits.max_record_bytes:
            bound = self.limits.max_record_bytes
            raise UtilityFlowError("UF-2009", f"{self.what}, row {self._row}: the row is longer than {bound} bytes")

    def _refuse(self, problem: str) -> UtilityFlowError:
        return UtilityFlowError("UF-2009", f"{self.what}, after row {self._row}, column {self._column}: {problem}")

    def _start_row(self, attributes: dict[str, str]) -> None:
        told = attributes.get("r")
        row = int(told) if told is not None and told.isdecimal() and len(told) < 8 else self._row + 1
        if row <= self._row or row > LAST_ROW or (told is not None and str(row) != told):
            raise self._refuse("rows are not in order")
        self._row, self._column, self._cells, self._size = row, 0, [], 0

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self._new_cell(attributes)
        told = attributes.get("r")
        try:
            row, column = (self._row, self._column + 1) if told is None else place_of(told)
        except ValueError as error:
            raise self._refuse(str(error)) from None
        if row != self._row or column <= self._column or column > LAST_COLUMN:
            raise self._refuse(f"cells are not in order: {told or 'too many'}")
        self._column = column

    def _start_formula(self, attributes: dict[str, str]) -> None:
        self._formula = self._into = []
        place = attributes.get("ref", "")
        if attributes.get("t") not in ("array", "dataTable") or ":" not in place or self.reading.cached:
            return
        try:
            array = Range.of(place)
        except ValueError as error:
            raise self._refuse(str(error)) from None
        if len(self._arrays) >= _MOST_ARRAYS:
            raise self._refuse(f"more than {_MOST_ARRAYS} formulas over several cells")
        self._arrays.append(array)

    def _end_cell(self) -> None:
        """A formula over several cells stands in its first one; the others look like plain values and are none."""
        computed = self._formula is not None or any(a.holds(self._row, self._column) for a in self._arrays)
        raw = "".join(self._value)
        text, problem = raw, ""
        if computed and not self.reading.cached:
            text, problem = "=" + "".join(self._formula or ["..."])[:_SHOWN_FORMULA], "a formula"
        elif computed and not raw and not (self._has_value and self._kind == "str"):
            text, problem = "=" + "".join(self._formula or [])[:_SHOWN_FORMULA], "a formula that was never calculated"
        elif not raw and self._kind != "s":
            return
        else:
            try:
                text = self._text(raw)
            except NoValueError as error:
                problem = str(error)
        self._grow(_CELL_COST + (len(text) if self._kind == "s" else 0))
        self._cells.append(Cell(self._column, text, problem))

    def _text(self, raw: str) -> str:
        """The text of a value.

        :raises NoValueError: saying what the content is instead.
        """
        kind = self._kind
        if kind == "n":
            style = int(self._style) if self._style.isdecimal() and len(self._style) < 8 else -1
            kinds = self.reading.kinds
            if not 0 <= style < max(len(kinds), 1):
                raise NoValueError("a cell style that the file does not define")
            date = kinds[style] if kinds else ""
            return date_text(raw, date, self.from_1904) if date else number_text(raw)
        if kind == "s":
            number = int(raw) if raw.isdecimal() and len(raw) < 10 else -1
            if not 0 <= number < len(self.reading.texts):
                raise NoValueError("a shared text that the file does not hold")
            return plain_text(self.reading.texts[number])
        if kind in ("str", "inlineStr"):
            return plain_text(raw)
        if kind == "d":
            return raw
        if kind == "b" and raw in ("0", "1"):
            return "true" if raw == "1" else "false"
        if kind == "e" and raw in self.reading.missing:
            return raw
        raise NoValueError(f"the error {raw[:20]}" if kind == "e" else "a value of no known type")

    def _end_row(self) -> None:
        self._total += self._size
        if self._total > self.limits.max_workbook_bytes:
            bound = self.limits.max_workbook_bytes
            raise UtilityFlowError("UF-2003", f"{self.what}, row {self._row}: its texts are more than {bound} bytes")
        self._arrays = [a for a in self._arrays if a.last_row > self._row]
        if self._cells:
            self.done.append(Row(self._row, self._cells))
        self._cells = []
