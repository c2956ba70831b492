"""The checksums of a Parquet file's pages, compared without decoding a value: some 1 GB in a second, and no engine.

DuckDB does not compare them, and what Hadoop keeps beside a file (``.<name>.crc``) is lost when a table is copied.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from utilityflow.errors import UtilityFlowError

_STRUCT, _STOP = 12, 0


def damage(file: Path) -> str | None:
    """What is wrong with the bytes of a Parquet file, in words; None when all of them are what was written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    beside = file.with_name(f".{file.name}.crc")
    try:
        text = file.read_bytes()
        if beside.is_file() and not _agrees(text, beside.read_bytes()):
            return "its bytes are not those that were written (checksum beside it)"
        with pq.ParquetFile(pa.BufferReader(text)) as parquet:
            footer = parquet.metadata
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        for chunk in (group.column(i) for group in groups for i in range(group.num_columns)):
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            for at, size, wanted in _pages(text, start, start + chunk.total_compressed_size):
                if wanted is not None and zlib.crc32(memoryview(text)[at : at + size]) != wanted & 0xFFFFFFFF:
                    return f"a page of the column {chunk.path_in_schema} does not agree with its checksum"
    except (pa.ArrowException, OSError, ValueError, IndexError, KeyError, RecursionError) as error:
        return f"it is no whole Parquet file ({type(error).__name__})"
    return None


def require(table: str, files: Iterator[Path] | list[Path]) -> None:
    """Pass when the bytes of all files are what was written.

    :raises UtilityFlowError: UF-3003 naming table and file.
    """
    for file in files:
        if (says := damage(file)) is not None:
            hint = "utilityflow doctor names all damage and the way out: rebuild the table or restore it"
            raise UtilityFlowError("UF-3003", f"{table}: the file {file} cannot be read: {says}", hint=hint)


def _agrees(content: bytes, sums: bytes) -> bool:
    """Hadoop's sums: a magic word, the bytes per sum, and a CRC-32 for each so many bytes."""
    if sums[:4] != b"crc\0":
        return True  # of another kind: nothing can be said
    step = int.from_bytes(sums[4:8], "big")
    text = memoryview(content)
    found = b"".join(zlib.crc32(text[i : i + step]).to_bytes(4, "big") for i in range(0, len(text), step))
    return found == sums[8:]


def _pages(text: bytes, at: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Place, length and checksum of each page of a column chunk."""
    if not 0 < at <= end <= len(text):
        raise ValueError("a column lies outside of the file")
    while at < end:
        header, at = _header(text, at)
        size = header[3]
        if not 0 <= size <= end - at:
            raise ValueError("a page lies outside of its column")
        yield at, size, header.get(4)
        at += size


def _header(text: bytes, at: int) -> tuple[dict[int, int], int]:
    """The whole numbers of a page's header by field (Thrift's compact protocol), and where it ends."""
    fields: dict[int, int] = {}
    field = 0
    while True:
        kind = text[at]
        at += 1
        if kind == _STOP:
            return fields, at
        if kind >> 4:
            field += kind >> 4
        else:
            field, at = _number(text, at)
        if kind & 15 in (4, 5, 6):
            fields[field], at = _number(text, at)
        else:
            at = _skip(text, at, kind & 15)


def _number(text: bytes, at: int) -> tuple[int, int]:
    raw, at = _varint(text, at)
    return (raw >> 1) ^ -(raw & 1), at


def _varint(text: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = text[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _skip(text: bytes, at: int, kind: int) -> int:
    """Past a value that says nothing of the page's place."""
    if kind in (1, 2):  # a truth value, told by its kind
        return at
    if kind == 3:
        return at + 1
    if kind in (4, 5, 6):
        return _varint(text, at)[1]
    if kind == 7:
        return at + 8
    if kind == 8:
        size, at = _varint(text, at)
        return at + size
    if kind == _STRUCT:
        return _header(text, at)[1]
    if kind in (9, 10):
        size, inner = text[at] >> 4, text[at] & 15
        at += 1
        if size == 15:
            size, at = _varint(text, at)
        for _ in range(size):
            at = at + 1 if inner in (1, 2) else _skip(text, at, inner)
        return at
    raise ValueError(f"a page's header holds a value of kind {kind}")
