"""The views over the run tables: success rates, processing times, incidents from their first failure to their end."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb

from utilityflow.contracts import load_contracts
from utilityflow.publish import performance

ZERO = dt.datetime(2025, 1, 31, 12, tzinfo=dt.timezone.utc)
CATALOG = load_contracts()
SHAPES = {
    "ops.run": "run_id TEXT, command TEXT, status TEXT, as_of DATE, started_at TIMESTAMPTZ, finished_at TIMESTAMPTZ, "
               "suite_version TEXT, publication BIGINT, error TEXT",
    "ops.step": "run_id TEXT, step TEXT, status TEXT, rows_written BIGINT, seconds DOUBLE, version BIGINT, "
                "finished_at TIMESTAMPTZ, consumed TEXT",
}  # fmt: skip
# hours after ZERO, minutes that it took, status; two incidents, of which the second is not over
RUNS = [(0, 10, "succeeded"), (1, 20, "failed"), (2, 30, "failed"), (3, 60, "nothing_to_do"), (24, 5, "failed")]
Steps = dict[str, tuple[str, int | None]]


def warehouse(folder: Path, runs: list[tuple[float, int, str, Steps]]) -> duckdb.DuckDBPyConnection:
    """A warehouse with the run tables of such runs; each has its steps with status and version."""
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("CREATE SCHEMA gold")
    for name, shape in SHAPES.items():
        db.execute(f"CREATE TABLE {name.replace('.', '_')} ({shape})")
    for number, (hours, minutes, status, steps) in enumerate(runs):
        start, end = ZERO + dt.timedelta(hours=hours), ZERO + dt.timedelta(hours=hours, minutes=minutes)
        for command in ("run", "verify"):  # another command's rows do not count
            row = [f"{command}{number}", command, status, ZERO.date(), start, end]
            db.execute("INSERT INTO ops_run VALUES (?, ?, ?, ?, ?, ?, '0', NULL, 'a text')", row)
        for step, (told, version) in steps.items():
            db.execute("INSERT INTO ops_step VALUES (?, ?, ?, 1, 2.0, ?, ?, '{}')", [f"run{number}", step, told, version, end])
    files = []
    for name in SHAPES:
        files.append((CATALOG[name], [folder / f"{name}.parquet"]))
        db.execute(f"COPY {name.replace('.', '_')} TO '{folder / name}.parquet'")
    for _ in range(2):  # a warehouse that is built upon the one before has the tables already
        for view in performance.VIEWS:
            db.execute(f"DROP VIEW IF EXISTS gold.{view}")
        performance.put(db, "gold", files)
    return db


def incidents(db: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Step, hours after ZERO at which it began, hours to mend, failures."""
    rows = db.execute("SELECT step, began_at, hours_to_mend, failures FROM gold.pipeline_incidents ORDER BY ALL").fetchall()
    return [(step, (at - ZERO) / dt.timedelta(hours=1), hours and round(hours, 6), n) for step, at, hours, n in rows]


def test_runs_of_which_no_step_failed_are_incidents_until_the_next_good_one(tmp_path: Path) -> None:
    """As of homes of older versions too, whose failed runs left no steps."""
    with warehouse(tmp_path, [(*run, {}) for run in RUNS]) as db:
        january, february = db.execute("SELECT * FROM gold.pipeline_performance ORDER BY month").fetchall()
        columns = {row[0] for row in db.execute("DESCRIBE ops.run").fetchall()}
        assert db.execute("SELECT count(*) FROM gold.pipeline_steps").fetchone() == (0,)
    assert columns == set(performance.COLUMNS["ops.run"]), "no texts of errors"
    assert january[:4] == ("2025-01", 4, 2, 0.5)
    assert (january[4], january[5]) == (1800.0, 3600.0)
    # the incident: found at 13:20, over when the run of 15:00 had ended at 16:00
    assert (january[6], january[7], round(january[8], 6)) == (1, 1, round(2 + 40 / 60, 6))
    assert february[:4] == ("2025-02", 1, 0, 0.0) and february[6:] == (1, 0, None)


def test_a_job_that_succeeds_does_not_mend_what_another_one_failed_at(tmp_path: Path) -> None:
    """Bronze and gold are jobs of their own: gold fails twice, bronze succeeds in between."""
    usage, mart, bronze = "gold.fact_usage", "gold.agg_usage_monthly", "bronze.reads"
    with warehouse(tmp_path, [
        (0, 30, "failed", {usage: ("failed", None), mart: ("skipped", None)}),
        (1, 30, "succeeded", {bronze: ("ok", 3)}),
        (2, 30, "failed", {usage: ("failed", None), mart: ("skipped", None)}),
        (3, 30, "nothing_to_do", {bronze: ("skipped", None)}),
        (4, 30, "succeeded", {usage: ("ok", 7), mart: ("ok", 4)}),
    ]) as db:  # fmt: skip
        assert incidents(db) == [(usage, 0.5, 4.0, 2)]
        (january,) = db.execute("SELECT * FROM gold.pipeline_performance").fetchall()
    assert january[:3] == ("2025-01", 5, 3)
    assert january[6:] == (1, 1, 4.0)


def test_what_ends_an_incident(tmp_path: Path) -> None:
    usage, bills, desk, meters = "gold.fact_usage", "gold.fact_billing", "extract.desk", "gold.dim_meter"
    both = {"silver.bills": ("ok", 1), "silver.reads": ("ok", 1)}
    with warehouse(tmp_path, [
        (0, 30, "failed", {usage: ("failed", None), bills: ("failed", None)}),
        (1, 30, "failed", {meters: ("failed", None), usage: ("skipped", None), bills: ("skipped", 5)}),  # left out; nothing to do
        (2, 30, "succeeded", {desk: ("failed", None), usage: ("skipped", 6)}),  # a source that did not answer
        (3, 30, "succeeded", {desk: ("skipped", None)}),
        (4, 30, "failed", both),  # too many rows were quarantined
        (5, 30, "succeeded", {"silver.reads": ("ok", 1)}),
        (6, 30, "succeeded", {**both, meters: ("ok", 7)}),
        (7, 30, "failed", {"publish.duckdb": ("failed", None)}),
        (8, 30, "succeeded", both),
    ]) as db:  # fmt: skip
        found = incidents(db)
    assert found == [
        (desk, 2.5, 1.0, 1), (meters, 1.5, 5.0, 1), (bills, 0.5, 1.0, 1), (usage, 0.5, 2.0, 1),
        ("publish.duckdb", 7.5, None, 1), (None, 4.5, 2.0, 1),
    ]  # fmt: skip
