"""What steps that run at once share: staged frames never meet, and what several need is made once."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.control.home import open_home
from utilityflow.control.run import Run, StepResult
from utilityflow.graph import Step
from utilityflow.lakehouse import Lakehouse
from utilityflow.session import in_parallel
from utilityflow.settings import Settings, SparkSettings

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


def test_a_step_is_planned_by_the_size_of_its_own_tables_and_files(spark: SparkSession, tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path / "home"), spark=SparkSettings(small_bytes=1000))
    home = open_home(settings, create=True)
    for table, size in {"silver/bills": 900, "gold/fact_billing": 90, "silver/meter_reads": 2000}.items():
        (home.lakehouse / table).mkdir(parents=True)
        (home.lakehouse / table / "part-0.parquet").write_bytes(b"x" * size)
    house = Lakehouse(spark, str(home.lakehouse), load_contracts(), environment="test", run_id="run")
    run = Run(settings, home, house, None, {}, dt.date(2025, 1, 1), "run", {})  # type: ignore[arg-type]
    before, found = spark.conf.get("spark.sql.codegen.wholeStage"), {}

    def done(step: str, *inputs: str, settings: Settings = settings) -> str:
        def look(state: Run) -> StepResult:
            found[step] = state.house.spark.conf.get("spark.sql.codegen.wholeStage")
            return StepResult(step, "ok")

        pipeline._run_member(replace(run, settings=settings), {step: Step(step, inputs, step, look)}, step)
        return found[step]

    assert done("gold.fact_billing", "silver.bills") == "false"  # 990 bytes
    assert done("gold.fact_usage", "silver.meter_reads") == "true"
    assert done("silver.meter_reads") == "true", "the table that it writes counts too"
    never = replace(settings, spark=SparkSettings(small_bytes=0))
    assert done("gold.fact_billing", "silver.bills", settings=never) == "true"
    assert spark.conf.get("spark.sql.codegen.wholeStage") == before, "the run's own session stays as it is"
