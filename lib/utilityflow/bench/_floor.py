"""The floor of a month: one plain Spark job per feed that reads its files with explicit types and writes them once to Delta.

Rows that are no data stay out: the record before the column names, the names, and a trailer with totals. Workbooks and XML (a few
hundred rows) are not copied, as no plain Spark job reads them.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow import pipeline
from utilityflow.bench._world import World
from utilityflow.bronze.feeds import Feed

COPIED = (".csv", ".jsonl", ".parquet")
ROUNDS = 3
_TYPED = re.compile(r"\b(?:cast\((?P<cast>\w+) as (?P<type>\w+(?:\([\d, ]+\))?)\)|to_(?P<time>timestamp|date)\((?P<text>\w+)\))")
_LOOKED_AT = 100  # JSON lines: a field may be null in the first ones


def floor(world: World, files: Sequence[Path]) -> dict[str, Any]:
    """Copy a month's files, one feed after the other, best of three.

    :return: ``seconds`` of the best round, ``all`` of them, ``bytes`` written, ``rows`` by feed's folder.
    """
    spark, target = _session(world), world.settings.home_path / "floor"
    given = by_folder(world, files)
    seconds = []
    for _ in range(ROUNDS):
        shutil.rmtree(target, ignore_errors=True)
        began = time.monotonic()
        for folder, (feed, landed) in sorted(given.items()):
            read(spark, feed, landed).write.format("delta").mode("overwrite").save(str(target / folder))
        seconds.append(round(time.monotonic() - began, 2))
    rows = {folder: spark.read.format("delta").load(str(target / folder)).count() for folder in sorted(given)}
    size = sum(f.stat().st_size for f in target.rglob("*.parquet"))
    shutil.rmtree(target)
    return {"seconds": min(seconds), "all": seconds, "bytes": size, "rows": rows}


def _session(world: World) -> SparkSession:
    """The fastest settings that were found for a copy; those of the runs stay as they are."""
    spark: SparkSession = world.spark.newSession()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.parquet.compression.codec", "zstd")
    spark.conf.set("spark.databricks.delta.stats.collect", "false")
    for kind in ("column", "size"):
        spark.conf.set(f"parquet.{kind}.statistics.enabled", "false")
    spark.conf.set("spark.sql.ansi.enabled", "false")
    # as many tasks as there are cores would wait for the slowest; blocks of 32 MiB come to their end together
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(32 * 1024**2))
    return spark


def by_folder(world: World, files: Sequence[Path]) -> dict[str, tuple[Feed, list[str]]]:
    """The files that are copied, by the folder of the landing root that they lie in, with the feed that reads it."""
    feeds = {Path(feed.path).parts[0]: feed for feed in pipeline.read_feeds(world.settings).values()}
    found: dict[str, tuple[Feed, list[str]]] = {}
    for file in files:
        if file.suffix in COPIED:
            found.setdefault(file.parent.name, (feeds[file.parent.name], []))[1].append(str(file))
    return found


def read(spark: SparkSession, feed: Feed, files: list[str]) -> DataFrame:
    """The records of a feed's files, typed."""
    shape = types(feed, Path(files[0]))
    ddl = ", ".join(f"`{name}` {kind}" for name, kind in shape.items())
    if feed.format == "csv":
        how = {"sep": feed.options.delimiter, "quote": feed.options.quote, "escape": feed.options.escape}
        frame = spark.read.schema(ddl).option("header", "true").options(**how).csv(files)
        return _without_control(frame, feed)
    if feed.format == "jsonl":
        return spark.read.schema(ddl).json(files)
    return spark.read.parquet(*files).selectExpr(*[f"CAST(`{name}` AS {kind}) AS `{name}`" for name, kind in shape.items()])


def _without_control(frame: DataFrame, feed: Feed) -> DataFrame:
    """Leave out what is no record. The reader drops the first line of a file, be it the names or the record before them."""
    if feed.control is None:
        return frame
    first, left_out = frame.columns[0], []
    if feed.control.header_prefix:
        left_out.append(first)
    if feed.control.trailer_prefix:
        left_out.append(feed.control.trailer_prefix.split(feed.options.delimiter)[0])
    return frame.where(~F.coalesce(F.col(first), F.lit("")).isin(left_out))


def types(feed: Feed, file: Path) -> dict[str, str]:
    """Raw column -> type: the one to which the feed casts the column as it stands; what it takes apart or compares is text.

    Numbers of JSON lines that the feed does not read are decimals.
    """
    found, cast = _found(feed, file), _cast(feed)
    return {name: cast.get(name, kind) for name, kind in found.items()}


def _cast(feed: Feed) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for text in (*feed.columns.values(), *feed.event_columns().values()):
        for told in _TYPED.finditer(text):
            kinds.setdefault(told["cast"] or told["text"], told["type"] or told["time"])
    return kinds


def _found(feed: Feed, file: Path) -> dict[str, str]:
    """Names of a landed file's columns; what is no number of JSON is text."""
    if feed.format == "parquet":
        from pyarrow import parquet

        return dict.fromkeys(parquet.read_schema(file).names, "string")
    with file.open(encoding="utf-8") as stream:
        if feed.format == "csv":
            before = feed.control is not None and feed.control.header_prefix is not None
            (names,) = islice(stream, int(before), int(before) + 1)
            return dict.fromkeys(names.rstrip("\n").split(feed.options.delimiter), "string")
        told: list[Mapping[str, Any]] = [json.loads(line, parse_float=Decimal) for line in islice(stream, _LOOKED_AT)]
    numbers = {name for record in told for name, value in record.items() if type(value) in (int, Decimal)}
    return {name: "decimal(18,4)" if name in numbers else "string" for record in told for name in record}
