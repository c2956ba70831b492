"""The views over the run tables: success rates, processing times, incidents from their first failure to their end."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb

from utilityflow.contracts import load_contracts
from utilityflow.publish import performance

ZERO = dt.datetime(2025, 1, 31, 12, tzinfo=dt.timezone.utc)
# hours after ZERO, minutes that it took, status; two incidents, of which the second is not over
RUNS = [(0, 10, "succeeded"), (1, 20, "failed"), (2, 30, "failed"), (3, 60, "nothing_to_do"), (24, 5, "failed")]


def test_incidents_end_with_the_next_good_run(tmp_path: Path) -> None:
    catalog = load_contracts()
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("CREATE SCHEMA gold")
        db.execute("CREATE TABLE told (run_id TEXT, command TEXT, status TEXT, as_of DATE, started_at TIMESTAMPTZ, "
                   "finished_at TIMESTAMPTZ, suite_version TEXT, publication BIGINT, error TEXT)")  # fmt: skip
        for number, (hours, minutes, status) in enumerate(RUNS):
            start = ZERO + dt.timedelta(hours=hours)
            for command in ("run", "verify"):  # another command's rows do not count
                row = [f"{number}", command, status, ZERO.date(), start, start + dt.timedelta(minutes=minutes)]
                db.execute("INSERT INTO told VALUES (?, ?, ?, ?, ?, ?, '0', NULL, 'a text')", row)
        db.execute(f"COPY told TO '{tmp_path / 'run.parquet'}'")
        for _ in range(2):  # a warehouse that is built upon the one before has the tables already
            for view in performance.VIEWS:
                db.execute(f"DROP VIEW IF EXISTS gold.{view}")
            performance.put(db, "gold", [(catalog["ops.run"], [tmp_path / "run.parquet"]), (catalog["ops.step"], [])])
        found = db.execute("SELECT * FROM gold.pipeline_performance ORDER BY month").fetchall()
        columns = {row[0] for row in db.execute("DESCRIBE ops.run").fetchall()}
        assert db.execute("SELECT count(*) FROM gold.pipeline_steps").fetchone() == (0,)
    assert columns == set(performance.COLUMNS["ops.run"]), "no texts of errors"
    january, february = found
    assert january[:4] == ("2025-01", 4, 2, 0.5)
    assert (january[4], january[5]) == (1800.0, 3600.0)
    # the incident: found at 13:20, over when the run of 15:00 had ended at 16:00
    assert (january[6], january[7], round(january[8], 6)) == (1, 1, round(2 + 40 / 60, 6))
    assert february[:4] == ("2025-02", 1, 0, 0.0) and february[6:] == (1, 0, None)
