"""AEMO's Meter Data File Format: NEM12 becomes one record per interval, NEM13 one per 250 record.

A file is a 100 record (which version), blocks (``nem12_blocks``), and a 900 record. A block is taken whole or not at all:
where one part is wrong, its lines are one corrupt record, whose column ``problem`` says line, rule (docs/feeds.md lists
them) and what is wrong; the others load. Texts stay as delivered, blanks around them aside; an empty field is None.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.nem12_blocks import (
    CHILDREN,
    COLUMNS,
    HEADER,
    KNOWN,
    VERSIONS,
    Block,
    BrokenError,
    Line,
    Stream,
    accumulated,
    day_of,
    fields_of,
    stream_of,
    told,
)
from utilityflow.bronze.records import PROBLEM, Record, is_gzip, not_in_encoding, open_binary
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.zipped import is_zip, open_zipped
from utilityflow.errors import UtilityFlowError

_PLACE = {name: place for place, name in enumerate(COLUMNS)}


def nem12_records(feed: Feed, path: Path, name: str, limits: Limits) -> Iterator[Record]:
    """Records of a NEM12 or NEM13 file, plain, gzip or the only file of a zip, in their order.

    :raises UtilityFlowError: UF-2001 without a 100 record or without data, UF-2003, UF-2008 and UF-2009 as ``open_zipped``,
        UF-2004 for bytes that are no text, UF-2009 for what is neither NEM12 nor NEM13 or a block without end.
    """
    encoding = feed.options.encoding
    try:
        with _text(path, encoding, name, limits) as text:
            yield from _Parser(name, limits).records(_lines(text, name, limits))
    except UnicodeError:
        with _open(path, name, limits) as stream:
            raise not_in_encoding(stream, encoding, name) from None


def _open(path: Path, name: str, limits: Limits) -> IO[bytes]:
    return open_zipped(path, name, limits) if not is_gzip(path) and is_zip(path) else open_binary(path)


def _text(path: Path, encoding: str, name: str, limits: Limits) -> io.TextIOWrapper:
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    return io.TextIOWrapper(_open(path, name, limits), encoding=codec, errors="strict", newline="")


def _lines(text: io.TextIOWrapper, name: str, limits: Limits) -> Iterator[Line]:
    """The lines that hold something; a line of commas alone is as blank as an empty one."""
    number, bound = 0, limits.max_record_bytes
    while raw := text.readline(bound + 1):
        number += 1
        if len(raw) > bound:
            raise UtilityFlowError("UF-2009", f"{name}: line {number} is longer than {bound} characters")
        if "\0" in raw:
            raise UtilityFlowError("UF-2004", f"{name}: line {number} holds a NUL byte, so this is no text")
        raw = raw.rstrip("\r\n")
        fields, sound = fields_of(raw)
        if any(fields):
            yield Line(number, raw, fields, sound)


class _Parser:
    """Walks the lines of one file and gives the records of each block when it has ended."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.bound = name, limits.max_record_bytes
        self.header: dict[str, str | None] = {}
        self.stream: Stream | None = None
        self.block: Block | None = None
        self.ended = False

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """All records.

        :raises UtilityFlowError: UF-2001, UF-2009.
        """
        line, count = self._begin(next(lines, None)), 0
        for following in lines:
            line = following
            for record in self._take(line):
                count += 1
                yield record
        for record in [*self._close(), *self._leave_stream()]:
            count += 1
            yield record
        if count == 0:
            problem = told(line, "MDFF-03", "the file ends without a data record after its header")
            raise UtilityFlowError("UF-2001", f"{self.name}: {problem}")
        if not self.ended:
            yield self._corrupt([line], told(line, "MDFF-12", "the file ends here without a 900 record: it is cut off"))

    def _begin(self, line: Line | None) -> Line:
        if line is None:
            raise UtilityFlowError("UF-2001", f"{self.name}: MDFF-01: the file holds nothing but blank lines")
        if line.kind != "100":
            if line.kind in KNOWN:
                problem = told(
                    line, "MDFF-01", f"the first record is {line.kind}: the 100 record, the header, is missing"
                )
                raise UtilityFlowError("UF-2001", f"{self.name}: {problem}")
            problem = told(line, "MDFF-01", "no 100 record begins it, so this is no NEM12 or NEM13 file")
            raise UtilityFlowError("UF-2009", f"{self.name}: {problem}")
        columns = {name: line.at(place) for place, name in enumerate(HEADER, start=1)}
        version = (line.at(1) or "").upper()
        if version not in VERSIONS:
            problem = told(line, "MDFF-02", "the header names neither NEM12 nor NEM13")
            raise UtilityFlowError("UF-2009", f"{self.name}: {problem}")
        self.header = {**columns, "version": version}
        return line

    def _take(self, line: Line) -> Iterator[Record]:
        block = self.block
        if block is not None and line.kind in CHILDREN[block.first.kind]:
            block.children.append(line)
            block.size += len(line.raw)
            if block.size > self.bound:
                endless = f"the block of line {block.first.number} is longer than {self.bound} characters"
                raise UtilityFlowError("UF-2009", f"{self.name}: line {line.number}: {endless}")
            return
        yield from self._close()
        problem = self._out_of_place(line)
        if problem is not None:
            yield self._corrupt([line], problem)
            if line.kind not in KNOWN or line.kind == "100":  # it may have been a 200 record: what follows is nobody's
                yield from self._leave_stream()
                self.stream = Stream(line, lost=True)
        elif line.kind == "900":
            yield from self._leave_stream()
            self.ended = True
        elif line.kind == "200":
            yield from self._leave_stream()
            self.stream = stream_of(line)
        else:
            self.block = Block(line, self.stream, size=len(line.raw))
            if self.stream is not None:
                self.stream.days += 1

    def _out_of_place(self, line: Line) -> str | None:
        if self.ended:
            return told(line, "MDFF-05", "a record after the 900 record, which ends the file")
        if line.kind == "100":
            return told(line, "MDFF-05", "a second 100 record")
        if line.kind == "900":
            return None
        if line.kind not in KNOWN:
            return told(line, "MDFF-04", "its first field is no record indicator of the format")
        version = self.header["version"] or ""
        if line.kind not in VERSIONS[version]:
            return told(line, "MDFF-04", f"a {line.kind} record does not belong into a {version} file")
        if line.kind in ("400", "500", "550"):
            owner = "250" if line.kind == "550" else "300"
            return told(line, "MDFF-05", f"a {line.kind} record that follows no {owner} record")
        return None

    def _close(self) -> Iterator[Record]:
        """The records of the block that has ended."""
        block, self.block = self.block, None
        if block is None:
            return
        try:
            for line in block.lines:
                if not line.sound:
                    raise BrokenError(line.number, "MDFF-04", "a quote is opened and never closed")
            rows = day_of(block) if block.first.kind == "300" else [accumulated(block)]
        except BrokenError as error:
            yield self._corrupt(block.lines, str(error), block.stream)
            return
        for columns in rows:
            yield COLUMNS, self._row(columns, block.first), None

    def _leave_stream(self) -> Iterator[Record]:
        """A 200 record that is broken, or of which no day came, is a corrupt record of its own."""
        stream, self.stream = self.stream, None
        if stream is None or stream.lost:
            return
        problem = stream.problem or ("no 300 record follows it" if not stream.days else None)
        if problem is not None:
            yield self._corrupt([stream.line], told(stream.line, "MDFF-06", f"the 200 record: {problem}"))

    def _corrupt(self, lines: Sequence[Line], problem: str, stream: Stream | None = None) -> Record:
        columns = {**(stream.columns if stream else {}), PROBLEM: problem}
        return COLUMNS, self._row(columns, lines[0]), "\n".join(line.raw for line in lines)

    def _row(self, columns: dict[str, str | None], line: Line) -> list[str | None]:
        row: list[str | None] = [None] * len(COLUMNS)
        for source in (self.header, {"record": line.kind, "line": str(line.number)}, columns):
            for name, value in source.items():
                row[_PLACE[name]] = value
        return row
