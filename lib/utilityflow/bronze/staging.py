"""Files that Spark does not read alike on both lanes become staged Parquet: strings, numbered, corrupt records kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.greenbutton import greenbutton_records
from utilityflow.bronze.names import PROVENANCE, clean_names
from utilityflow.bronze.nem12 import nem12_records
from utilityflow.bronze.records import (
    Record,
    bad_line,
    csv_records,
    fixed_width_records,
    json_records,
    jsonl_records,
    open_text,
)
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.xlsx import xlsx_records
from utilityflow.bronze.xmlrecords import xml_records
from utilityflow.errors import UtilityFlowError

ROWS_AT_ONCE = 20_000
CELLS_AT_ONCE = 4_000_000  # of wide records fewer at once, so that a file of few bytes cannot fill the memory
CHARACTERS_AT_ONCE = 128 * 1024 * 1024  # likewise of long ones: many cells of a workbook may share one text
_TEXT_FORMATS = {
    "csv": csv_records,
    "fixed_width": fixed_width_records,
    "jsonl": jsonl_records,
    "json": json_records,
}


@dataclass(frozen=True)
class Part:
    """A staged Parquet file and its raw columns; a file of which later records bring new columns has several."""

    path: Path
    names: tuple[str, ...]


def parse_records(
    feed: Feed, path: Path, name: str, limits: Limits, notes: list[str] | None = None
) -> Iterator[Record]:
    """The records of one file, by its feed's format, in their order.

    :param notes: is told what is odd but harmless, when the last record was given.
    :raises UtilityFlowError: UF-2001 to UF-2009 for what rejects the file.
    """
    if feed.format == "greenbutton":
        yield from greenbutton_records(feed, path, name, limits)
    elif feed.format == "nem12":
        yield from nem12_records(feed, path, name, limits)
    elif feed.format == "xml":
        yield from xml_records(feed, path, name, limits)
    elif feed.format == "xlsx":
        yield from xlsx_records(feed, path, name, limits, [] if notes is None else notes)
    elif feed.file_format == "parquet":
        yield from _parquet_records(path, name)
    else:
        with open_text(path, feed.options.encoding) as stream:
            try:
                yield from _TEXT_FORMATS[feed.file_format](feed, stream, name, limits)
            except UnicodeError:
                raise bad_line(path, feed.options.encoding, name) from None


def count_records(
    feed: Feed, path: Path, name: str, limits: Limits, notes: list[str] | None = None
) -> tuple[int, tuple[str, ...]]:
    """Number of records and cleaned names of one file, nothing stored; notes and errors as ``parse_records``."""
    count, names = 0, tuple(clean_names(feed.options.names))
    for record in parse_records(feed, path, name, limits, notes):
        count += 1
        names = record[0]
    return count, names


def stage_records(
    feed: Feed, path: Path, name: str, sha256: str, stage: Path, limits: Limits, notes: list[str] | None = None
) -> tuple[int, tuple[str, ...], tuple[Part, ...]]:
    """Write the records of one file under ``stage``; notes and errors as ``parse_records``, then nothing is left there.

    :returns: number of records, cleaned names, staged parts.
    """
    stage.mkdir(parents=True, exist_ok=True)
    constant = {"_feed": feed.feed, "_file_sha256": sha256, "_file_name": name}
    writer = _Writer(stage / feed.feed, sha256, constant)
    try:
        for names, values, corrupt in parse_records(feed, path, name, limits, notes):
            writer.add(names, values, corrupt)
        writer.close()
    except BaseException:
        writer.discard()
        raise
    return writer.count, writer.names, tuple(writer.parts)


class _Writer:
    """Buffers rows and writes them as row groups; a record with new columns begins a new part."""

    def __init__(self, folder: Path, stem: str, constant: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.stem, self.constant = folder, stem, constant
        self.names: tuple[str, ...] = ()
        self.count = 0
        self.parts: list[Part] = []
        self._rows: list[list[str | None] | None] = []
        self._corrupt: list[str | None] = []
        self._characters = 0
        self._file: Any = None

    def add(self, names: tuple[str, ...], values: list[str | None] | None, corrupt: str | None) -> None:
        if names is not self.names and names != self.names:
            self._flush()
            self._end()
            self.names = names
        self._rows.append(values)
        self._corrupt.append(corrupt)
        self._characters += sum(map(len, filter(None, values or (corrupt,))))
        rows = len(self._rows)
        if rows >= ROWS_AT_ONCE or rows * len(names) >= CELLS_AT_ONCE or self._characters >= CHARACTERS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        count, width = len(self._rows), len(self.names)
        empty: list[str | None] = [None] * width
        columns = list(zip(*[row if row is not None else empty for row in self._rows], strict=True))
        arrays = [pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int8()), [text])
                  for text in self.constant.values()]  # fmt: skip
        arrays.append(pa.array(range(self.count + 1, self.count + count + 1), pa.int64()))
        arrays.append(pa.array(self._corrupt, pa.string()))
        arrays += [pa.array(column, pa.string()) for column in columns]
        table = pa.Table.from_arrays(arrays, names=[*PROVENANCE, *self.names])
        if self._file is None:
            part = Part(self.folder / f"{self.stem}-{len(self.parts)}.parquet", self.names)
            self.parts.append(part)
            self._file = pq.ParquetWriter(part.path, table.schema, compression="zstd")
        self._file.write_table(table)
        self.count += count
        self._rows, self._corrupt, self._characters = [], [], 0

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        self._flush()
        self._end()

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._end()
        for part in self.parts:
            part.path.unlink(missing_ok=True)


# -- Parquet that Spark cannot read ------------------------------------------------------------------------------------


def parquet_columns(path: Path, name: str) -> tuple[list[str], int, bool]:
    """Raw names and number of rows from the footer, and whether both Spark lanes read all types.

    :raises UtilityFlowError: UF-2009 when the footer cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        problem = str(error).splitlines()[0]
        raise UtilityFlowError("UF-2009", f"{name}: no readable Parquet file: {problem}") from None
    lowered = [n.lower() for n in schema.names]
    plain = len(set(lowered)) == len(lowered) and "_metadata" not in lowered
    return list(schema.names), rows, plain and all(_spark_reads(t) for t in schema.types)


def _spark_reads(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return bool(kind.unit != "ns")
    refused = (pa.types.is_time, pa.types.is_duration, pa.types.is_null, pa.types.is_float16, pa.types.is_nested)
    return not any(test(kind) for test in refused)


def _parquet_records(path: Path, name: str) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = tuple(clean_names(file.schema_arrow.names))
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                columns = [_texts(column) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield names, list(values), None
    except (pa.ArrowException, OSError, UnicodeError) as error:
        problem = f"{name}: after record {number}: no readable Parquet file: {type(error).__name__}"
        raise UtilityFlowError("UF-2009", problem) from None


def _texts(column: Any) -> list[str | None]:
    """Values as texts: instants in UTC with a Z, local stamps as they stand, nested values as JSON."""
    import json

    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_nested(kind):
        return [None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in column.to_pylist()]
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    if not pa.types.is_timestamp(kind):
        return list(pc.cast(column, pa.string()).to_pylist())
    mark = "Z" if kind.tz is not None else ""
    texts = pc.cast(column.cast(pa.timestamp(kind.unit)), pa.string()).to_pylist()
    return [None if t is None else (t.rstrip("0").rstrip(".") if "." in t else t) + mark for t in texts]
