"""XLSX: one table of one sheet becomes records. What the feed declares decides where it begins and ends.

Options (docs/feeds.md): ``sheet``, ``header_rows``, ``names``, ``footnotes``, ``formulas``, ``merged``. Every row below
the header is a record, a note that the declared rule tells apart and that is counted, or blank; or the file is refused.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.names import Names
from utilityflow.bronze.records import Record
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.sheet import Cell, Range, Reading, Row, cell_name, merged_ranges, rows_of
from utilityflow.bronze.workbook import open_workbook
from utilityflow.errors import UtilityFlowError


def xlsx_records(feed: Feed, path: Path, name: str, limits: Limits, notes: list[str]) -> Iterator[Record]:
    """Records of the declared sheet.

    A row with a formula, an error or a cell outside of the table is corrupt: it keeps the reason, which names sheet and
    cell, and its texts as JSON.

    :param notes: is told how many rows are no records, and that a sheet is hidden, when the last record was given.
    :raises UtilityFlowError: UF-2001 when there is no header or no record, UF-2003 and UF-2009 when it is no sound
        workbook, has no such sheet, or does not end as ``footnotes`` says.
    """
    options = feed.options
    with open_workbook(path, name, limits) as book:
        sheet = book.sheet(options.sheet)
        reading = Reading.of(book, cached=options.formulas == "cached", missing=feed.null_values)
        table = _Table(feed, f"{name}: sheet '{sheet.name}'", sheet.name, limits, merged_ranges(book, sheet))
        for row in rows_of(book, sheet, reading):
            record = table.take(row)
            if record is not None:
                yield record
        table.finish()
        if sheet.hidden:
            notes.append(f"{name}: sheet '{sheet.name}' is hidden")
        notes.extend(table.notes())


class _Table:
    """Takes the rows of a sheet from top to bottom; gives a record for each row of the table."""

    def __init__(self, feed: Feed, what: str, sheet: str, limits: Limits, merged: Sequence[Range]) -> None:
        self.options, self.what, self.sheet, self.limits = feed.options, what, sheet, limits
        self.header_end = max(feed.options.header_rows, default=0)
        self.header: dict[int, list[Cell]] = {}
        self.merges = _Merges(merged)
        self.names: Names | None = Names.of(feed.options.names) if feed.options.names else None
        self.records = self.last = self.above = 0
        self.ended = 0  # row in which the table was found to have ended
        self.below: list[int] = []  # first row, last row, number of rows below the table
        self.seen = False

    def take(self, row: Row) -> Record | None:
        """The record of a row; None for header, blank rows and notes.

        :raises UtilityFlowError: UF-2001 for a header without names, UF-2009 for what stands below the end.
        """
        filled = [c for c in row.cells if c.text or c.problem]
        self.seen = self.seen or bool(filled)
        if row.number <= self.header_end:
            if row.number in self.options.header_rows:
                self.header[row.number] = filled
            elif filled:
                self.above += 1
            return None
        names = self.names = self.names or self._header()
        if len(names) == 1 and self.options.footnotes == "single_cell":
            problem = "'footnotes: single_cell' cannot tell notes from the records of a single column"
            raise UtilityFlowError("UF-2009", f"{self.what}: {problem}")
        if not filled:
            return None
        gap = self.records > 0 and row.number > self.last + 1
        self.last = row.number
        if self._is_note(row, filled, gap):
            self.below = [(self.below or [row.number])[0], row.number, (self.below or [0, 0, 0])[2] + 1]
            return None
        self.records += 1
        return self._record(names, row, filled)

    def _is_note(self, row: Row, filled: Sequence[Cell], gap: bool) -> bool:
        """Whether the row stands below the table, by the declared rule."""
        rule = self.options.footnotes
        if rule == "blank_row" and gap:
            self.ended = self.ended or row.number
        alone = len(filled) == 1
        if rule == "single_cell" and alone:
            self.ended = self.ended or row.number
        if self.ended and rule == "single_cell" and not alone:
            below = f"{len(filled)} filled cells below the note in row {self.ended}"
            hint = "by the rule 'footnotes: single_cell' nothing but notes may follow a note"
            raise UtilityFlowError("UF-2009", f"{self.what}, row {row.number}: {below}", hint=hint)
        return bool(self.ended)

    # -- the header --

    def _header(self) -> Names:
        """One name per column: the texts of the header rows from top to bottom, merged cells filled, repeats left out."""
        rows = self.options.header_rows
        texts: dict[int, dict[int, str]] = {}
        for number in rows:
            for cell in self.header.get(number, ()):
                if cell.problem:
                    place = cell_name(number, cell.column)
                    raise UtilityFlowError("UF-2009", f"{self.what}: cell {place} of the header is {cell.problem}")
            texts[number] = {c.column: c.text for c in self.header.get(number, ())}
        own = [c for found in texts.values() for c in found]
        self._fill_header(texts)
        width = max([*own, *texts[rows[-1]]], default=0)
        if width == 0:
            shown = ", ".join(map(str, rows))
            raise UtilityFlowError("UF-2001", f"{self.what}: no names in the header row(s) {shown}")
        if width > self.limits.max_columns:
            raise UtilityFlowError("UF-2009", f"{self.what}: more than {self.limits.max_columns} columns")
        stacks = ([texts[row].get(column, "").strip() for row in rows] for column in range(1, width + 1))
        joined = [" ".join(text for text, _ in itertools.groupby(filter(None, stack))) for stack in stacks]
        return Names.of(joined)

    def _fill_header(self, texts: dict[int, dict[int, str]]) -> None:
        room = (self.limits.max_columns + 1) * len(texts)  # cells that ranges which do not overlap can fill
        for merge in self.merges.all:
            text = texts.get(merge.first_row, {}).get(merge.first_column)
            if text is None:
                continue
            columns = range(merge.first_column, min(merge.last_column, self.limits.max_columns + 1) + 1)
            for number in range(merge.first_row, min(merge.last_row, self.header_end) + 1):
                if number in texts:
                    texts[number].update(dict.fromkeys(columns, text))
                    room -= len(columns)
            if room < 0:
                raise UtilityFlowError("UF-2009", f"{self.what}: merged ranges overlap")

    # -- records --

    def _record(self, names: Names, row: Row, filled: Sequence[Cell]) -> Record:
        values: list[str | None] = [None] * len(names)
        problem = ""
        for cell in filled:
            if cell.column > len(names):
                problem = problem or self._at(row, cell, f"outside of the table's {len(names)} columns")
            elif cell.problem:
                problem = problem or self._at(row, cell, cell.problem)
            if cell.column <= len(names):
                values[cell.column - 1] = cell.text
        merges = self.merges.at(row.number, len(names))
        if len(merges) > len(names):
            raise UtilityFlowError("UF-2009", f"{self.what}, row {row.number}: merged ranges overlap")
        if merges and self.options.merged == "reject":
            problem = problem or f"{self._place(row.number, merges[0].first_column)}: merged cells {merges[0]}"
            merges = []
        for merge in merges:
            anchor = self.merges.anchor(merge, row, filled)
            if anchor is not None and anchor.problem:
                problem = problem or self._at(row, anchor, f"{anchor.problem} (merged cells {merge})")
            for column in range(merge.first_column, min(merge.last_column, len(names)) + 1):
                values[column - 1] = anchor.text if anchor else None
        if not problem:
            return names, values, None
        shown = values + [c.text for c in filled if c.column > len(names)]
        return names, None, f"{problem}: {json.dumps(shown, ensure_ascii=False)}"

    def _at(self, row: Row, cell: Cell, problem: str) -> str:
        return f"{self._place(row.number, cell.column)}: {problem}"

    def _place(self, row: int, column: int) -> str:
        return f"sheet '{self.sheet}', cell {cell_name(row, column)}"

    # -- the end --

    def finish(self) -> None:
        """The sheet has ended.

        :raises UtilityFlowError: UF-2001 when the sheet is empty, has no header or no record.
        """
        if not self.seen:
            raise UtilityFlowError("UF-2001", f"{self.what} is empty")
        self.names = self.names or self._header()
        if self.records == 0:
            notes = f", and {self.below[2]} note(s)" if self.below else ""
            raise UtilityFlowError("UF-2001", f"{self.what} holds a header and no records{notes}")

    def notes(self) -> list[str]:
        """What was left out: rows above the header, rows below the table."""
        told = []
        if self.above:
            told.append(f"{self.what}: {self.above} row(s) above or within the header left out")
        if self.below:
            first, last, count = self.below
            rule = f"'footnotes: {self.options.footnotes}'"
            rows = f"row {first}" if first == last else f"rows {first} to {last}"
            told.append(f"{self.what}: {count} note(s) below the table left out, {rows}, by {rule}")
        return told


class _Merges:
    """The merged ranges of a sheet, found row by row on the way down."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.all = [r for r in ranges if (r.first_row, r.first_column) != (r.last_row, r.last_column)]
        self._waiting = sorted(self.all, reverse=True)
        self._active: list[Range] = []
        self._anchors: dict[Range, Cell] = {}
        self._until = 0  # the row in which the first of the active ranges ends

    def at(self, row: int, width: int) -> list[Range]:
        """The ranges that hold cells of a row of the table; rows are asked for from top to bottom."""
        if row > self._until or (self._waiting and self._waiting[-1].first_row <= row):
            self._active = [r for r in self._active if r.last_row >= row]
            while self._waiting and self._waiting[-1].first_row <= row:
                found = self._waiting.pop()
                if found.last_row >= row and found.first_column <= width:
                    self._active.append(found)
            self._until = min((r.last_row for r in self._active), default=row)
            self._anchors = {r: c for r, c in self._anchors.items() if r.last_row >= row}
        return self._active

    def anchor(self, merge: Range, row: Row, filled: Sequence[Cell]) -> Cell | None:
        """The cell whose value a range shows: its first one."""
        if merge.first_row == row.number:
            own = next((c for c in filled if c.column == merge.first_column), None)
            if own is not None:
                self._anchors[merge] = own
        return self._anchors.get(merge)
