"""Profiles of steps: what threads and broadcasts of a block did is counted, of other blocks not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow.control.profile import Profile, profiled
from utilityflow.operate import profiles
from utilityflow.parallel import in_parallel

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine


def test_rows_and_bytes_of_a_block_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    with profiled(spark, "run one") as written:
        spark.range(0, 5000, 1, 2).write.parquet(str(tmp_path / "a"))
    held = sum(f.stat().st_size for f in (tmp_path / "a").glob("*.parquet"))
    with profiled(spark, "run two") as read:
        rows = spark.read.parquet(str(tmp_path / "a"))
        assert rows.selectExpr("id % 10 AS k").repartition(2, "k").groupBy("k").count().count() == 10
    assert (written.rows_read, written.bytes_written, written.shuffle_bytes) == (5000, held, 0)
    assert read.rows_read == 5000
    assert read.bytes_written == read.spill_bytes == 0
    assert read.bytes_read is not None and read.shuffle_bytes is not None
    assert min(read.bytes_read, read.shuffle_bytes) > 0


def test_blocks_that_run_at_once_are_told_apart_and_their_threads_count(spark: SparkSession, tmp_path: Path) -> None:
    def one(rows: int) -> Profile:
        with profiled(spark, f"at once {rows}") as profile:
            halves = [(f"{rows}-{n}", rows // 2) for n in range(2)]
            in_parallel(spark, lambda half: spark.range(half[1]).write.parquet(str(tmp_path / half[0])), halves)
        return profile

    found = in_parallel(spark, one, [1000, 2000, 4000])
    assert [p.rows_read for p in found] == [1000, 2000, 4000]
    assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") is None


def test_threads_started_together_have_properties_of_their_own(spark: SparkSession) -> None:
    """Shared ones let a query take away the execution id of another: "Cannot parse null string", seen once in many runs."""
    all_set = threading.Barrier(3, timeout=60)

    def one(name: str) -> str | None:
        spark.sparkContext.setLocalProperty("utilityflow.test", name)
        all_set.wait()
        return spark.sparkContext.getLocalProperty("utilityflow.test")

    assert in_parallel(spark, one, ["a", "b", "c"]) == ["a", "b", "c"]
    assert spark.sparkContext.getLocalProperty("utilityflow.test") is None


def test_the_table_leaves_out_what_was_skipped_and_shows_what_is_not_known() -> None:
    step = {"step": "silver.meter_reads", "status": "ok", "rows_written": 1200, "seconds": 3.0}
    known = step | {"rows_read": 2400, "bytes_read": 1_500_000, "bytes_written": 0, "shuffle_bytes": 0, "spill_bytes": 0,
                    "task_seconds": 4.25, "seconds": 1.0}  # fmt: skip
    shown = profiles.cells([known, step, step | {"status": "skipped"}])
    assert shown[1:] == [
        ("silver.meter_reads", "1,200", "2,400", "1.5", "0.0", "0.0", "0.0", "4.2", "1.0", "25%"),
        ("silver.meter_reads", "1,200", "-", "-", "-", "-", "-", "-", "3.0", "75%"),
    ]
    assert [len(line) for line in profiles.lines([known])] == [len(profiles.lines([known])[0])] * 2
    assert profiles.markdown([known]).splitlines()[2].startswith("| silver.meter_reads | 1,200 | 2,400 | 1.5 |")
