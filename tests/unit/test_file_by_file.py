"""Large files are read by a task of their own while the block runs, and only then; the setting of before comes back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow.session import LARGE_FILE, file_by_file

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COST = "spark.sql.files.openCostInBytes"


@pytest.mark.engine
def test_each_large_file_has_its_task(spark: SparkSession, tmp_path: Path) -> None:
    for number in range(6):
        spark.range(number * 100, number * 100 + 100).coalesce(1).write.parquet(str(tmp_path / f"day={number}"))

    def tasks() -> int:
        return spark.read.parquet(str(tmp_path)).rdd.getNumPartitions()

    usual, before = tasks(), spark.conf.get(COST)
    with file_by_file(spark, 6 * LARGE_FILE, 6):
        assert tasks() == 6
    with file_by_file(spark, 6 * LARGE_FILE - 6, 6):
        assert tasks() == usual < 6, "small files are read together"
    with file_by_file(spark, LARGE_FILE, 1):
        assert spark.conf.get(COST) == before
    spark.conf.set(COST, "1234567b")
    try:
        with pytest.raises(RuntimeError, match="half way"), file_by_file(spark, 6 * LARGE_FILE, 6):
            raise RuntimeError("half way")
        assert spark.conf.get(COST) == "1234567b"
    finally:
        spark.conf.unset(COST)
