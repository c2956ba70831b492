"""Writing extracts under the landing root: whole files beside, then renamed into place; disk checked, progress told."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pyspark.sql import DataFrame, SparkSession

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate.extract import Extract, Form, Trailer
from utilityflow.simulate.progress import reporting

ReadsFormat = Literal["csv", "parquet"]
STAGING = ".simulate-staging"
PARQUET_SHARE = 0.25  # of the CSV bytes, rounded up from what was measured
LEDGER_ROW_BYTES = 120
LEDGER_SHARE = 0.02  # ledger rows per row; the shipped profile plants fewer
# The expressions stay far inside their types; without ANSI's checks a row costs a third less.
ENGINE = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    # Spark 3.5 resolves the nested layers of one query a few at a time
    "spark.sql.analyzer.maxIterations": "1000",
    "spark.sql.optimizer.maxIterations": "1000",
}
RESERVE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Written:
    """What one extract became."""

    files: tuple[Path, ...]
    rows: int
    bytes: int
    defects: dict[str, int]


def free_bytes(folder: Path) -> int:
    """Free bytes of the file system that holds a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def volume(folder: Path) -> Hashable:
    """Which file system holds a folder, which need not exist yet."""
    return _existing(folder).stat().st_dev


@dataclass(frozen=True)
class Need:
    """What shall be written into a folder, in words and bytes."""

    folder: Path
    what: str
    bytes: int


def needs(
    landed: Sequence[tuple[Extract, Form]], asked: Sequence[Extract], landing: Path, defects: Path, sources: Path, more: int
) -> list[Need]:
    """What the extracts take of the landing root, of the ledger's folder and, where some fill sources, of these sources' folder.

    :param asked: those that fill sources. :param more: bytes of landed files that are no extract's.
    """
    rows, rows_asked = sum(e.expected_rows for e, _ in landed), sum(e.expected_rows for e in asked)
    told = round((rows + rows_asked) * LEDGER_SHARE * LEDGER_ROW_BYTES)
    found = [
        Need(landing, f"{rows:,} rows", sum(_expected_bytes(e, form) for e, form in landed) + more),
        Need(defects, "the ledger of defects", told),
        # a database does not compress its rows, nor do JSON lines
        Need(sources, f"{rows_asked:,} rows of sources that are asked", sum(_expected_bytes(e, "csv") for e in asked)),
    ]
    return [need for need in found if need.bytes]


def check_disk(wanted: Sequence[Need], free: Callable[[Path], int], progress: Callable[[str], None]) -> None:
    """State what is needed of each file system and refuse what does not fit.

    :raises UtilityFlowError: UF-1013.
    """
    systems: dict[Hashable, list[Need]] = {}
    for need in wanted:
        systems.setdefault(volume(need.folder), []).append(need)
    short = []
    for some in systems.values():
        what, under = " and ".join(n.what for n in some), ", ".join(str(n.folder) for n in some)
        size, have = sum(n.bytes for n in some) + RESERVE_BYTES, free(some[0].folder)
        progress(f"disk: about {_size(size)} for {what}; {_size(have)} free under {under}")
        if size > have:
            short.append(f"simulating {what} needs about {_size(size)}, and {under} has {_size(have)} free")
    if short:
        hint = "fewer customers or months, Parquet reads, or another landing root, --defects or --sources"
        raise UtilityFlowError("UF-1013", "; ".join(short), hint=hint)


def _expected_bytes(extract: Extract, form: Form) -> int:
    return round(extract.expected_rows * extract.row_bytes * (PARQUET_SHARE if form == "parquet" else 1))


def _size(count: float) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.0f} MiB"


def write_extract(
    spark: SparkSession,
    extract: Extract,
    form: Form,
    landing: Path,
    defects: Path,
    progress: Callable[[str], None],
) -> Written:
    """Write one extract's files and their ledgers; files of the same names are replaced, each at once."""
    staging = landing / STAGING / extract.feed
    session = own_session(spark, extract)
    progress(f"{extract.feed}: writing {len(extract.files)} files, about {extract.expected_rows:,} rows")
    expected = max(1, _expected_bytes(extract, form))
    with reporting(extract.feed, extract.expected_rows, lambda: _bytes_under(staging) / expected, progress):
        rows = session.sql(extract.query)
        files = _write(extract.lines(rows, form), form, staging, landing / extract.feed, extract.files, extract)
    progress(f"{extract.feed}: writing the ledger of planted defects")
    ledger_staging, what = defects / STAGING / extract.feed, f"{extract.feed}, ledger of planted defects"
    # all rows are drawn once more, few are told of: bytes would say little
    with reporting(what, extract.expected_rows, lambda: _done_under(ledger_staging) / len(extract.files), progress):
        ledger = _write(extract.ledger_lines(rows, form), "csv", ledger_staging, defects / extract.feed, extract.files)
    written = tally(files, form, _kinds(ledger))
    around = bool(extract.headers) + bool(extract.trailer)
    return replace(written, rows=written.rows - around * len(files))


def tally(files: tuple[Path, ...], form: Form, defects: dict[str, int]) -> Written:
    """What landed, counted; a header record and a trailer count as records."""
    rows, size = sum(_rows(file, form) for file in files), sum(file.stat().st_size for file in files)
    return Written(files, rows, size, defects)


def own_session(spark: SparkSession, extract: Extract) -> SparkSession:
    """A session of the same application with settings of its own, so that the caller's stay as they are."""
    session = spark.newSession()
    for key, value in ENGINE.items():
        session.conf.set(key, value)
    session.conf.set("spark.sql.codegen.wholeStage", str(extract.whole_stage).lower())
    # HotSpot does not compile larger methods: such a stage falls apart into operators with code of their own
    session.conf.set("spark.sql.codegen.hugeMethodLimit", "8000")
    return session


def _write(
    frame: DataFrame, form: Form, staging: Path, target: Path, names: tuple[str, ...], extract: Extract | None = None
) -> tuple[Path, ...]:
    """Write the files beside and rename them into place; with the trailers of an extract that has some."""
    writer = frame.write.mode("overwrite")
    if form == "parquet":
        writer.parquet(staging.as_uri())
    else:
        writer.text(staging.as_uri())
    parts = {int(part.name.split("-")[1]): part for part in staging.glob("part-*")}
    if form != "jsonl" and sorted(parts) != list(range(len(names))):  # a day without JSON lines has no file
        raise UtilityFlowError(
            "UF-4001", f"the simulator wrote {len(parts)} files under {staging} instead of {len(names)}"
        )
    target.mkdir(parents=True, exist_ok=True)
    landed = [(part, names[number]) for number, part in sorted(parts.items()) if form != "jsonl" or part.stat().st_size]
    if extract and extract.trailer:
        add_trailers([part for part, _ in landed], extract.trailer, extract.planter.columns, skip=bool(extract.headers))
    files = tuple(part.replace(target / f"{name}.{form}") for part, name in landed)
    shutil.rmtree(staging)
    return files


def add_trailers(files: Sequence[Path], trailer: Trailer, columns: Sequence[str], *, skip: int = 0) -> None:
    """Add to CSV files with column names their control totals, from one streaming pass over each.

    :param skip: lines before the column names.
    """
    import duckdb

    shape = ", ".join(f"'{c}': 'VARCHAR'" for c in columns)
    marks = "delim = ',', quote = '\"', escape = '\"'"
    # 30 digits hold a sum of any file; DuckDB refuses what overflows
    sums = f"count(*), coalesce(sum(TRY_CAST({trailer.sum} AS DECIMAL(18,4))), 0)::DECIMAL(30,2)::VARCHAR"
    with duckdb.connect(config={"threads": 2, "memory_limit": "512MB"}) as engine:
        for file in files:
            source = f"read_csv(?, header = true, skip = {skip:d}, auto_detect = false, {marks}, columns = {{{shape}}})"
            rows, total = engine.execute(f"SELECT {sums} FROM {source}", [str(file)]).fetchall()[0]
            with file.open("a", encoding="utf-8", newline="") as stream:
                stream.write(f"{trailer.prefix},{rows},{total}\n")


def _rows(file: Path, form: Form) -> int:
    """Records of a landed file: its lines without the header (no field holds a line end); its footer's count, or 0."""
    if form == "parquet":
        from pyarrow import ArrowInvalid, parquet

        try:
            return int(parquet.read_metadata(file).num_rows)
        except ArrowInvalid:
            return 0
    lines = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            lines += block.count(b"\n")
    return lines - (file.suffix == ".csv")


def _kinds(ledgers: tuple[Path, ...]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for file in ledgers:
        with file.open(newline="", encoding="utf-8") as stream:
            counts.update(row["kind"] for row in csv.DictReader(stream))
    return dict(sorted(counts.items()))


def _bytes_under(folder: Path) -> int:
    """Bytes of the data files under a folder whose files come and go."""
    total = 0
    for part in _parts(folder):
        with suppress(FileNotFoundError):
            total += part.stat().st_size
    return total


def _done_under(folder: Path) -> int:
    """How many data files under a staging folder are whole: those that a task still writes lie in its attempt's folder."""
    return sum(not part.parent.name.startswith("attempt_") for part in _parts(folder))


def _parts(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if name.startswith("part-"))
