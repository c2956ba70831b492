"""Inspected files become one DataFrame: provenance, exact record numbers, corrupt records, raw columns as strings.

Line-safe files are read by Spark in blocks of a fixed size. Spark cuts them where the inspection counted, so a record's
number is the first line of its block plus its place within the block. Every row is checked against the inspection's
counts: were a block cut otherwise, or had the file changed, reading fails; a wrong number never comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pyspark.sql import Column
from pyspark.sql import functions as F

from utilityflow.bronze.expressions import in_zone
from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.inspect import Inspection
from utilityflow.bronze.names import PROVENANCE
from utilityflow.bronze.records import lines_before
from utilityflow.bronze.scan import BLOCK, Limits
from utilityflow.bronze.staging import Part, stage_records
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# With both equal Spark makes one task of each block of each file (the packing of small files never joins two).
BLOCK_CONF = {"spark.sql.files.maxPartitionBytes": str(BLOCK), "spark.sql.files.openCostInBytes": str(BLOCK)}

_CORRUPT = "_corrupt_record"
_BLOCKS = (
    "_uf_path string, _uf_start bigint, _uf_first bigint, _uf_lines bigint, _uf_records bigint, "
    "_file_sha256 string, _file_name string"
)


@contextmanager
def block_reading(spark: SparkSession) -> Iterator[None]:
    """The settings that ``read_files`` needs while its rows are computed; afterwards they are as before."""
    before = {key: spark.conf.get(key) for key in BLOCK_CONF}
    try:
        for key, value in BLOCK_CONF.items():
            spark.conf.set(key, value)
        yield
    finally:
        for key, old in before.items():
            spark.conf.set(key, str(old))


def read_files(spark: SparkSession, feed: Feed, files: Sequence[Inspection], stage: Path) -> DataFrame:
    """The records of inspected files of one feed.

    Sets BLOCK_CONF on the session and leaves it: the rows are computed later, when the caller writes them. Files of
    kind ``staged`` that were not staged by the inspection are staged now.

    :param files: stable files without reason, at least one.
    :param stage: folder for staged Parquet; it must live until the rows are computed.
    :return: PROVENANCE (``_row_number`` BIGINT from 1, header and trailer not counted; ``_corrupt_record`` the raw text
        of a record that does not fit, whose raw columns are null), then the raw columns under cleaned names; a column
        that a file lacks is null.
    :raises OSError: a file vanished since its inspection; other changes fail while the rows are computed.
    """
    for key, value in BLOCK_CONF.items():
        spark.conf.set(key, value)
    frames: list[DataFrame] = []
    for shape, group in _groups((f for f in files if f.kind == "lines"), lambda f: (f.names, f.crlf)):
        frames.append(_read_lines(spark, feed, group, *shape))
    for _, group in _groups((f for f in files if f.kind == "parquet"), lambda f: f.raw_names):
        frames += [_read_parquet(spark, same) for same in _by_types(group)]
    parts = [part for f in files if f.kind == "staged" for part in _staged(feed, f, stage)]
    for _, same_names in _groups(parts, lambda p: p.names):
        frames.append(spark.read.parquet(*[str(p.path) for p in same_names]))
    united = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)
    raw = [n for n in united.columns if n not in PROVENANCE]
    return united.withColumn("_feed", F.lit(feed.feed)).select(*PROVENANCE, *[F.col(f"`{n}`") for n in raw])


def _groups(items: Iterable, key) -> Iterator[tuple]:  # type: ignore[no-untyped-def, type-arg]
    """Items of equal key together, in the order of first appearance: many files, few plans."""
    found: dict = {}  # type: ignore[type-arg]
    for item in items:
        found.setdefault(key(item), []).append(item)
    yield from found.items()


def _staged(feed: Feed, file: Inspection, stage: Path) -> tuple[Part, ...]:
    if file.parts:
        return file.parts
    return stage_records(feed, file.path, file.file_name, file.sha256, stage, Limits())[2]


# -- lines -----------------------------------------------------------------------------------------------------------


def _addresses(path: Path) -> set[str]:
    """The forms in which Spark's versions name a file in ``_metadata.file_path``."""
    forms = {str(path), quote(str(path), safe="/!$&'()*+,;=@~")}
    return {f"{scheme}{form}" for scheme in ("file:", "file://") for form in forms}


def _read_lines(
    spark: SparkSession, feed: Feed, files: Sequence[Inspection], names: tuple[str, ...], crlf: bool
) -> DataFrame:
    text = spark.read.option("lineSep", "\n").text([str(f.path) for f in files])
    lines = text.select(
        "value",
        F.col("_metadata.file_path").alias("_uf_path"),
        F.col("_metadata.file_block_start").alias("_uf_start"),
        F.expr("monotonically_increasing_id() & 8589934591").alias("_uf_place"),  # its place within the task's block
    )
    rows = [(address, b.start, b.first_line, b.lines, f.records, f.sha256, f.file_name)
            for f in files for b in f.blocks for address in _addresses(f.path)]  # fmt: skip
    blocks = local_frame(spark, rows, _BLOCKS)
    before = lines_before(feed)
    joined = lines.join(F.broadcast(blocks), ["_uf_path", "_uf_start"], "left")
    strange = F.col("_uf_first").isNull() | (F.col("_uf_place") >= F.col("_uf_lines"))
    problem = "a file changed while it was read, or its blocks were not those that were inspected"
    number = F.when(strange, F.raise_error(F.lit(problem)).cast("bigint"))
    number = number.otherwise(F.col("_uf_first") + F.col("_uf_place") + (1 - before))
    value = F.col("value")
    if crlf:
        value = F.when(value.endswith("\r"), value.substr(F.lit(1), F.length(value) - 1)).otherwise(value)
    if not before:
        value = F.when(number == 1, F.regexp_replace(value, "^\ufeff", "")).otherwise(value)
    numbered = joined.select(
        "_file_sha256", "_file_name", number.alias("_row_number"), value.alias("_uf_value"), "_uf_records"
    )
    # after the last record there are a trailer, where the feed has one, and blank lines: the inspection has seen to that
    records = numbered.where((F.col("_row_number") > 0) & (F.col("_row_number") <= F.col("_uf_records")))
    return _fixed_width(records, feed, names) if feed.format == "fixed_width" else _csv(records, feed, names)


def _ddl(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}` string" for name in (*names, _CORRUPT))


def _csv(records: DataFrame, feed: Feed, names: tuple[str, ...]) -> DataFrame:
    """One line, one record. The engine gives null for an empty field, quoted or not; here that is the empty text."""
    options = {
        "mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT, "sep": feed.options.delimiter,
        "quote": feed.options.quote, "escape": feed.options.escape,
    }  # fmt: skip
    parsed = records.withColumn("_uf_record", F.from_csv("_uf_value", _ddl(names), options))
    corrupt = F.col(f"_uf_record.{_CORRUPT}")
    values = [F.when(corrupt.isNull(), F.coalesce(F.col(f"_uf_record.`{n}`"), F.lit(""))).alias(n) for n in names]
    return parsed.select("_file_sha256", "_file_name", "_row_number", corrupt.alias(_CORRUPT), *values)


def _fixed_width(records: DataFrame, feed: Feed, names: tuple[str, ...]) -> DataFrame:
    places = list(feed.options.fields.values())
    width = max(start + length - 1 for start, length in places)
    value = F.col("_uf_value")
    corrupt = F.trim(F.substring(value, width + 1, 1_000_000_000)) != ""
    if feed.options.short_lines == "reject":
        corrupt = corrupt | (F.length(value) < width)
    fields = [F.when(~corrupt, F.trim(F.substring(value, start, length))).alias(name)
              for name, (start, length) in zip(names, places, strict=True)]  # fmt: skip
    raw = F.when(corrupt, value).alias(_CORRUPT)
    return records.select("_file_sha256", "_file_name", "_row_number", raw, *fields)


# -- Parquet -----------------------------------------------------------------------------------------------------------


def _by_types(files: Sequence[Inspection]) -> Iterator[list[Inspection]]:
    """Files with equal column types together: one column may be a number here and a text there."""
    import pyarrow.parquet as pq

    for _, group in _groups(files, lambda f: tuple(str(t) for t in pq.read_schema(f.path).types)):
        yield group


def _read_parquet(spark: SparkSession, files: Sequence[Inspection]) -> DataFrame:
    frame = spark.read.parquet(*[str(f.path) for f in files])
    rows = [(address, f.sha256, f.file_name) for f in files for address in _addresses(f.path)]
    known = local_frame(spark, rows, "_uf_path string, _file_sha256 string, _file_name string")
    with in_zone(spark, "UTC", ansi=True):
        texts = [_text(f"`{raw.replace('`', '``')}`", kind).alias(name)
                 for (raw, kind), name in zip(frame.dtypes, files[0].names, strict=True)]  # fmt: skip
        numbered = frame.select(
            F.col("_metadata.file_path").alias("_uf_path"),
            (F.col("_metadata.row_index") + 1).alias("_row_number"),
            F.lit(None).cast("string").alias(_CORRUPT),
            *texts,
        )
        joined = numbered.join(F.broadcast(known), "_uf_path", "left").drop("_uf_path")
        problem = F.raise_error(F.lit("a Parquet file is read under another name than it was inspected"))
        sha = F.coalesce("_file_sha256", problem.cast("string"))
        joined = joined.withColumn("_file_sha256", sha)
        joined.schema  # noqa: B018 - forces the analysis in UTC
    return joined


def _text(column: str, kind: str) -> Column:
    """A value as text: instants in UTC with a Z, local stamps as they stand."""
    text = F.col(column).cast("string")
    return F.concat(text, F.lit("Z")) if kind == "timestamp" else text
