"""What a landed file is, before anything is loaded: identity, stability, structure, and the reason to reject it.

Nothing here raises for a file: whatever is wrong with it becomes ``Inspection.reason``, so that the other files load.
No Spark; one pass over the bytes, a second one only for files that Spark does not read line by line.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.names import Names, clean_names
from utilityflow.bronze.records import Controls, Lines, bad_line, csv_reader, is_gzip, lines_before
from utilityflow.bronze.scan import HEAD, Block, Limits, LineScan, chunks, line_blocks, quoted_fields
from utilityflow.bronze.staging import Part, count_records, parquet_columns, stage_records
from utilityflow.errors import UtilityFlowError, nearest

__all__ = ["Inspection", "Limits", "find_files", "inspect_file", "unchanged"]

TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".filepart", "~")


@dataclass(frozen=True)
class Inspection:
    """What was found out about one file.

    ``path``: real path, once ``located``; ``file_name``: path under the landing root with ``/``. ``kind``: how it is
    read: ``lines`` (Spark, line by line), ``parquet`` (Spark), ``staged`` (plain Python). ``records``: headers and
    trailer not counted. ``stable``: False for a file that is still being written; then nothing else need be set.
    ``reason``: why the file is rejected (or, unstable, not taken now). ``notes``: what is odd but harmless.
    """

    feed: str
    path: Path
    file_name: str
    size: int = 0
    mtime_ns: int = 0
    located: bool = False
    sha256: str = ""
    stable: bool = True
    kind: Literal["lines", "parquet", "staged"] = "staged"
    raw_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    records: int | None = None
    blocks: tuple[Block, ...] = ()
    crlf: bool = False
    parts: tuple[Part, ...] = ()
    reason: UtilityFlowError | None = None
    notes: tuple[str, ...] = ()

    def drift(self, known: Sequence[str]) -> tuple[str, ...]:
        """Notes about how the columns differ from those known of the feed: new ones, lost ones, another order."""
        new = [n for n in self.names if n not in known]
        lost = [n for n in known if n not in self.names] if self.names else []
        order = [n for n in self.names if n in known] != [n for n in known if n in self.names]
        return tuple(
            [f"{self.file_name}: new column '{n}'" for n in new]
            + [f"{self.file_name}: column '{n}' is not in this file" for n in lost]
            + ([f"{self.file_name}: columns come in another order"] if order else [])
        )


def find_files(feed: Feed, landing: Path) -> list[Path]:
    """The files that a feed's path matches under the landing root, sorted by name; folders are not files.

    :raises UtilityFlowError: UF-1008 when the landing root is not a readable folder.
    """
    if not landing.is_dir():
        raise UtilityFlowError("UF-1008", f"the landing root {landing} is not a folder")
    try:
        found = [p for p in landing.glob(feed.path) if not p.is_dir()]
    except OSError as error:
        raise UtilityFlowError("UF-1008", f"the landing root {landing} cannot be read: {error.strerror}") from None
    return sorted(found)


def inspect_file(
    feed: Feed, path: Path, landing: Path, limits: Limits | None = None, *, stage: Path | None = None,
    now: float | None = None,
) -> Inspection:  # fmt: skip
    """Inspect one file.

    :param path: as ``find_files`` gives it, under ``landing``.
    :param stage: folder for staged Parquet; without it such a file is checked now and staged when it is read.
    :param now: seconds since 1970, for ``settle_seconds``; the clock by default.
    """
    name = path.relative_to(landing).as_posix()
    shown = "".join(c if c.isprintable() else "?" for c in name)
    found = Inspection(feed.feed, path, name)
    try:
        found = _locate(found, shown, landing)
        if path.name.lower().endswith(TEMPORARY) or path.name.startswith((".", "_")):
            return dataclasses.replace(found, stable=False)
        age = (time.time() if now is None else now) - found.mtime_ns / 1e9
        if feed.settle_seconds and age < feed.settle_seconds:  # without a bound the sender's clock does not matter
            return dataclasses.replace(found, stable=False)
        found = _read(feed, found, shown, limits or Limits(), stage)
    except UtilityFlowError as error:
        found = dataclasses.replace(found, reason=error, sha256=found.sha256 or _sha_of(found))
        if error.code == "UF-2007":
            return dataclasses.replace(found, stable=False)
    except FileNotFoundError:
        vanished = UtilityFlowError("UF-2007", f"{shown}: vanished while it was read")
        return dataclasses.replace(found, stable=False, reason=vanished)
    except OSError as error:
        refused = UtilityFlowError("UF-2011", f"{shown}: cannot be read: {error.strerror or error}")
        return dataclasses.replace(found, size=0, mtime_ns=0, reason=refused, sha256=_pseudo_sha(name))
    if found.located and not unchanged(found):
        return dataclasses.replace(found, stable=False, reason=_changed(shown))
    return found


def _changed(shown: str) -> UtilityFlowError:
    return UtilityFlowError("UF-2007", f"{shown}: changed while it was read; it is looked at again in the next run")


def unchanged(found: Inspection) -> bool:
    """Whether the file still has the size and mtime that it had when it was inspected."""
    try:
        state = found.path.stat()
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (found.size, found.mtime_ns)


def _pseudo_sha(name: str) -> str:
    """Stands for the content of a file that could not be read, so that each has an entry of its own."""
    return hashlib.sha256(b"unreadable\0" + name.encode("utf-8", "surrogateescape")).hexdigest()


def _sha_of(found: Inspection) -> str:
    """The hash of a file that was rejected before its end was read; what lies outside the root is not opened."""
    if not found.located:
        return _pseudo_sha(found.file_name)
    digest = hashlib.sha256()
    try:
        with found.path.open("rb") as stream:
            while piece := stream.read(4 * 1024 * 1024):
                digest.update(piece)
    except OSError:
        return _pseudo_sha(found.file_name)
    return digest.hexdigest()


def _locate(found: Inspection, shown: str, landing: Path) -> Inspection:
    """The real path, size and mtime.

    :raises UtilityFlowError: UF-2008 for a path that leads out of the landing root or a name with control characters,
        UF-2011 for what is no plain file.
    """
    link = found.path.lstat()
    found = dataclasses.replace(found, size=link.st_size, mtime_ns=link.st_mtime_ns)
    if shown != found.file_name:
        raise UtilityFlowError("UF-2008", f"{shown}: its name holds control characters")
    try:
        real = found.path.resolve(strict=True)
    except RuntimeError:  # a circle of links (Python before 3.13)
        raise UtilityFlowError("UF-2008", f"{shown}: its links lead in a circle") from None
    if not real.is_relative_to(landing.resolve()):
        raise UtilityFlowError("UF-2008", f"{shown}: leads out of the landing root")
    state = real.stat()
    if not stat.S_ISREG(state.st_mode):
        raise UtilityFlowError("UF-2011", f"{shown}: is no plain file")
    return dataclasses.replace(found, path=real, located=True, size=state.st_size, mtime_ns=state.st_mtime_ns)


def _read(feed: Feed, found: Inspection, shown: str, limits: Limits, stage: Path | None) -> Inspection:
    if found.size == 0:
        raise UtilityFlowError("UF-2001", f"{shown}: the file is empty")
    scan = _scanner(feed, shown, limits)
    digest = hashlib.sha256()
    with found.path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        if (before.st_size, before.st_mtime_ns) != (found.size, found.mtime_ns):
            raise _changed(shown)
        for piece in chunks(stream, digest, gzipped=is_gzip(found.path), name=shown, limits=limits, scan=scan):
            scan.feed(piece)
        scan.finish()
    if scan.size == 0:
        raise UtilityFlowError("UF-2001", f"{shown}: the file is empty")
    found = dataclasses.replace(found, sha256=digest.hexdigest(), crlf=scan.crlf)
    if feed.file_format == "parquet":
        found, spark_reads = _parquet(found, shown)
        if spark_reads:
            return _judged(feed, found, shown)
    simple = feed.format in ("csv", "fixed_width") and not scan.odd and scan.utf8
    if simple and feed.control is None:
        return _judged(feed, _lines(feed, found, scan, shown), shown)
    if feed.format == "csv":
        found = dataclasses.replace(found, raw_names=_header(feed, scan, shown, found.path))
        _check_columns(feed, found, shown)
    if feed.format == "fixed_width":
        found = dataclasses.replace(found, raw_names=tuple(feed.options.fields))
    if simple:  # one pass more for what the header and the trailer say, and the engine reads the records
        count_records(feed, found.path, shown, limits)
        return _judged(feed, _lines(feed, found, scan, shown), shown)
    notes = [f"{shown}: read by the slow parser: {scan.odd}"] if scan.odd and feed.format == "csv" else []
    if stage is not None:
        count, names, parts = stage_records(feed, found.path, shown, found.sha256, stage, limits, notes)
        found = dataclasses.replace(found, parts=parts)
    else:
        count, names = count_records(feed, found.path, shown, limits, notes)
    if isinstance(names, Names):
        found = dataclasses.replace(found, raw_names=names.raw)
    return _judged(feed, dataclasses.replace(found, names=names, records=count, notes=tuple(notes)), shown)


def _scanner(feed: Feed, shown: str, limits: Limits) -> LineScan:
    options = feed.options
    utf8 = feed.file_format in ("csv", "jsonl", "json", "fixed_width") and options.encoding == "utf-8"
    scan = LineScan(shown, limits, utf8=utf8, text=feed.file_format in ("csv", "fixed_width"))
    if feed.format == "csv" and utf8:
        if not (options.delimiter + options.quote).isascii():
            scan.odd = "a delimiter or quote outside ASCII"
        elif options.delimiter == "\\":
            scan.odd = "a delimiter that the engine does not take"
        elif options.quote:
            scan.quoted, scan.quote = quoted_fields(options.delimiter, options.quote), options.quote.encode()
            scan.forbidden = b"" if options.escape == options.quote else options.escape.encode()
    elif feed.format != "fixed_width" or not utf8:
        scan.odd = "format"
    return scan


def _header(feed: Feed, scan: LineScan, shown: str, path: Path) -> tuple[str, ...]:
    """Raw column names: of the feed file, or the first record after a header record.

    :raises UtilityFlowError: UF-2001 where there is none, UF-2005, UF-2006 (as ``Controls.take``), UF-2009 for one beyond HEAD.
    """
    if feed.options.names:
        return feed.options.names
    encoding = feed.options.encoding
    text = scan.head.decode("utf-8-sig" if scan.utf8 else encoding, "ignore")
    lines, controls = Lines(io.StringIO(text, newline="")), Controls(feed, shown)
    try:
        for row in csv_reader(feed, lines, scan.limits):
            raw = "".join(lines.taken)
            if scan.size > HEAD and not raw.endswith(("\n", "\r")):
                raise UtilityFlowError("UF-2009", f"{shown}: line {lines.count}: the header goes on after {HEAD} bytes")
            lines.taken.clear()
            if row and not controls.take(raw, lines.count, row, named=False):
                return tuple(row)
    except csv.Error:
        problem = "holds a quote that is never closed"
        raise UtilityFlowError("UF-2005", f"{shown}: the header {problem}") from None
    if not scan.utf8 and text.strip():
        raise bad_line(path, encoding, shown)
    raise UtilityFlowError("UF-2001", f"{shown}: the file has no header")


def _lines(feed: Feed, found: Inspection, scan: LineScan, shown: str) -> Inspection:
    raw = _header(feed, scan, shown, found.path) if feed.format == "csv" else tuple(feed.options.fields)
    records = scan.lines - scan.blank_lines - lines_before(feed)
    records -= feed.control is not None and feed.control.trailer_prefix is not None
    blocks = line_blocks(scan, single=is_gzip(found.path))
    names = tuple(clean_names(raw))
    kind: Literal["lines", "staged"] = "lines" if _plain_path(found.path) else "staged"
    return dataclasses.replace(found, kind=kind, raw_names=raw, names=names, records=records, blocks=blocks)


def _plain_path(path: Path) -> bool:
    """Whether Spark takes the path as it stands: no characters of patterns or addresses, and .gz in lower case."""
    text = str(path)
    return text.isascii() and not set("{}[]*?\\%#:") & set(text) and is_gzip(path) == text.endswith(".gz")


def _parquet(found: Inspection, shown: str) -> tuple[Inspection, bool]:
    raw, rows, spark_reads = parquet_columns(found.path, shown)
    kind: Literal["parquet", "staged"] = "parquet" if spark_reads and _plain_path(found.path) else "staged"
    names = tuple(clean_names(raw))
    return dataclasses.replace(found, kind=kind, raw_names=tuple(raw), names=names, records=rows), kind == "parquet"


def _judged(feed: Feed, found: Inspection, shown: str) -> Inspection:
    """The file as a whole: it has records and every column that the mapping reads.

    :raises UtilityFlowError: UF-2001, UF-2002.
    """
    if not found.records:
        what = "a header and no records" if found.raw_names and feed.format == "csv" else "no records"
        raise UtilityFlowError("UF-2001", f"{shown}: the file holds {what}")
    _check_columns(feed, found, shown)
    return found


def _check_columns(feed: Feed, found: Inspection, shown: str) -> None:
    names = found.names or tuple(clean_names(found.raw_names))
    for column, reader in _missing(feed, names):
        problem = f"no column '{column}', which '{reader}' reads (the header is record 0)"
        raise UtilityFlowError("UF-2002", f"{shown}: {problem}", hint=nearest(column, names))


def _missing(feed: Feed, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((c, r) for c, r in feed.columns_read().items() if c not in names)
