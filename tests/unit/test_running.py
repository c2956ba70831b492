"""The runner: how a step is planned, what a publication that fails leaves, and what a run tells when several things failed."""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import running
from utilityflow.contracts import load_contracts
from utilityflow.control.home import open_home
from utilityflow.control.run import Run, StepResult
from utilityflow.errors import UtilityFlowError
from utilityflow.graph import PUBLISH, Step
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish import publication
from utilityflow.settings import Settings, SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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

        running._run_member(replace(run, settings=settings), {step: Step(step, inputs, step, look)}, step)
        return found[step]

    assert done("gold.fact_billing", "silver.bills") == "false"  # 990 bytes
    assert done("gold.fact_usage", "silver.meter_reads") == "true"
    assert done("silver.meter_reads") == "true", "the table that it writes counts too"
    never = replace(settings, spark=SparkSettings(small_bytes=0))
    assert done("gold.fact_billing", "silver.bills", settings=never) == "true"
    assert spark.conf.get("spark.sql.codegen.wholeStage") == before, "the run's own session stays as it is"


@pytest.mark.parametrize(("code", "told"), [("UF-4007", [(PUBLISH, "failed")]), ("UF-4002", [])])
def test_a_publication_that_fails_leaves_a_step(monkeypatch: pytest.MonkeyPatch, code: str, told: list[Any]) -> None:
    """One that is held back, since what it needs failed, leaves none: that is no failure of its own."""

    def failing(*_: Any, **__: Any) -> None:
        raise UtilityFlowError(code, "planted")

    for name, value in {"prepare": failing, "profiled": lambda *_: nullcontext()}.items():
        monkeypatch.setattr(running, name, value)
    here = SimpleNamespace(path=Path(), lakehouse=None, spark=None, publish_memory="1GB")
    state: Any = SimpleNamespace(house=here, home=here, settings=here, feeds={}, as_of=None, zone="UTC", run_id="r", say=print,
                                 steps=[], broken={})  # fmt: skip
    with pytest.raises(UtilityFlowError, match="planted"):
        running._prepare(state, [])
    assert [(s.step, s.status) for s in state.steps] == told


@pytest.mark.parametrize(
    ("way", "figures"),
    [
        (publication.ON_COPY, {"built_on_copy": 1.0, "copy_given_up": 0.0}),
        (publication.GIVEN_UP, {"built_on_copy": 0.0, "copy_given_up": 1.0}),
        (publication.ANEW, {"built_on_copy": 0.0, "copy_given_up": 0.0}),
    ],
)
def test_in_which_way_the_warehouse_was_built_is_a_figure_of_the_run(
    monkeypatch: pytest.MonkeyPatch, way: str, figures: dict[str, float]
) -> None:
    done = SimpleNamespace(loaded={"gold.fact_usage": 3}, way=way)
    for name, value in {"prepare": lambda *_, **__: done, "profiled": lambda *_: nullcontext()}.items():
        monkeypatch.setattr(running, name, value)
    here = SimpleNamespace(path=Path(), lakehouse=None, spark=None, publish_memory="1GB")
    state: Any = SimpleNamespace(house=here, home=here, settings=here, feeds={}, as_of=None, zone="UTC", run_id="r", say=print,
                                 steps=[], broken={}, metrics=[])  # fmt: skip
    assert running._prepare(state, []) is done
    assert state.metrics == [(PUBLISH, name, value) for name, value in figures.items()]
    assert [(s.step, s.status, s.rows_written) for s in state.steps] == [(PUBLISH, "ok", 3)]
    monkeypatch.setattr(running, "prepare", lambda *_, **__: None)
    state.metrics.clear()
    assert running._prepare(state, []) is None
    assert state.metrics == [], "nothing was built"


@pytest.mark.parametrize(
    ("ended", "code", "says"),
    [
        ("UF-4002", "UF-4001", "the step; nothing was published: the end"),
        ("UF-4003", "UF-4003", "the end; before that UF-4001: the step"),
        ("UF-4007", "UF-4007", "the end; before that UF-4001: the step"),
    ],
)
def test_what_ends_a_run_does_not_hide_what_failed_before(ended: str, code: str, says: str) -> None:
    error = UtilityFlowError(ended, "the end")
    both = running._beside(error, UtilityFlowError("UF-4001", "the step"))
    assert (both.code, both.message) == (code, says)
    assert running._beside(error, None) is error
