"""What steps that run at once share: staged frames never meet, and what several need is made once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.control.run import Run
from utilityflow.parallel import in_parallel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path) -> Any:
    """A run of which only the scratch folder and the session are used."""
    home, house = SimpleNamespace(tmp=tmp_path, zone="UTC"), SimpleNamespace(spark=spark)
    return Run(None, home, house, None, {}, dt.date(2025, 1, 1), "run", {})  # type: ignore[arg-type]


def test_frames_that_are_staged_under_one_name_stay_apart(run: Run, spark: SparkSession) -> None:
    first, second = in_parallel(spark, lambda n: run.staged(spark.range(n), "rows"), [3, 5])
    assert (first.count(), second.count()) == (3, 5)


def test_what_two_steps_need_is_made_once(run: Run, spark: SparkSession) -> None:
    made = []

    def make() -> DataFrame:
        made.append(1)
        return run.staged(spark.range(4), "shared")

    found = in_parallel(spark, lambda _: run.once("shared", make), [1, 2, 3])
    assert [frame.count() for frame in found] == [4, 4, 4] and len(made) == 1
