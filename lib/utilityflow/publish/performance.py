"""What the suite's own run tables say, in the warehouse: tables of schema ``ops`` and views over them in ``gold``.

They are no gold tables and no part of a publication's content, as they differ from run to run. They tell of the runs before the
one that publishes, whose row is written after it; months are cut in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from utilityflow.contracts import Contract
from utilityflow.publish.commits import whole_files
from utilityflow.publish.pages import damage
from utilityflow.sqltypes import duckdb_type

if TYPE_CHECKING:
    from utilityflow.lakehouse import Lakehouse

# columns of the run tables that the warehouse gets; the texts of errors stay in the lakehouse
COLUMNS = {
    "ops.run": ("run_id", "command", "status", "as_of", "started_at", "finished_at", "suite_version", "publication"),
    "ops.step": ("run_id", "step", "status", "rows_written", "seconds", "version", "finished_at"),
}
# Jobs run steps apart, so a good run says nothing of a step that it did not do. An incident is a step that fails, until it
# succeeds next; the failures in between belong to it. A step that was left out because one before it had failed (skipped, with
# no version of its gold table) has not succeeded. A run that failed though no step of it did (its rows were too bad, what it held
# was lost) is an incident of its own, without a step, until a good run has done all that it had done (anything, if nothing).
_INCIDENTS = """
        runs AS (SELECT * FROM ops.run WHERE command IN ('run', 'resume')),
        steps AS (
            SELECT s.*, r.started_at,
                s.status = 'ok' OR (s.status = 'skipped' AND (s.version IS NOT NULL OR s.step NOT LIKE 'gold.%')) AS good
            FROM ops.step s JOIN runs r USING (run_id)),
        done AS (SELECT run_id, list(step) FILTER (good) AS names, bool_or(status = 'failed') AS failed
            FROM steps GROUP BY run_id),
        failures AS (
            SELECT f.step, f.started_at, f.finished_at, (SELECT min(g.finished_at) FROM steps g
                WHERE g.step = f.step AND g.good AND g.finished_at > f.finished_at) AS mended_at
            FROM steps f WHERE f.status = 'failed'
            UNION ALL
            SELECT NULL, f.started_at, f.finished_at, (SELECT min(g.finished_at) FROM runs g LEFT JOIN done h USING (run_id)
                WHERE g.status <> 'failed' AND g.started_at > f.started_at
                    AND list_has_all(coalesce(h.names, []), coalesce(d.names, [])))
            FROM runs f LEFT JOIN done d USING (run_id) WHERE f.status = 'failed' AND NOT coalesce(d.failed, false)),
        incidents AS (
            SELECT step, min(started_at) AS started_at, min(finished_at) AS began_at, mended_at, count(*) AS failures
            FROM failures GROUP BY step, mended_at)"""
VIEWS = {
    "pipeline_performance": f"""
        WITH {_INCIDENTS},
        judged AS (
            SELECT strftime(started_at AT TIME ZONE 'UTC', '%Y-%m') AS month, status <> 'failed' AS good,
                epoch(finished_at) - epoch(started_at) AS seconds FROM runs),
        by_month AS (
            SELECT month, count(*) AS runs, count(*) FILTER (good) AS good_runs, avg(seconds) AS average_seconds,
                max(seconds) AS longest_seconds FROM judged GROUP BY month),
        mended AS (
            SELECT strftime(started_at AT TIME ZONE 'UTC', '%Y-%m') AS month, count(*) AS incidents,
                count(mended_at) AS mended_incidents, avg((epoch(mended_at) - epoch(began_at)) / 3600) AS average_hours_to_mend
            FROM incidents GROUP BY month)
        SELECT month, runs, good_runs, good_runs / runs AS success_rate, average_seconds, longest_seconds,
            coalesce(incidents, 0) AS incidents, coalesce(mended_incidents, 0) AS mended_incidents, average_hours_to_mend
        FROM by_month LEFT JOIN mended USING (month)""",
    "pipeline_incidents": f"""
        WITH {_INCIDENTS}
        SELECT step, began_at, mended_at, (epoch(mended_at) - epoch(began_at)) / 3600 AS hours_to_mend, failures
        FROM incidents""",
    "pipeline_steps": """
        SELECT strftime(finished_at AT TIME ZONE 'UTC', '%Y-%m') AS month, step, count(*) AS runs,
            count(*) FILTER (status = 'failed') AS failed_runs, count(*) FILTER (status = 'ok') AS worked_runs,
            sum(rows_written) AS rows_written, avg(seconds) FILTER (status = 'ok') AS average_seconds,
            max(seconds) AS longest_seconds
        FROM ops.step GROUP BY ALL""",
}


RunTable = tuple[Contract, list[Path]]  # a run table's contract and the Parquet files that hold it


def run_tables(house: Lakehouse, staging: Path) -> list[RunTable]:
    """The run tables as they are now: their own files, or copies where rows of a file have gone.

    :param staging: folder for copies; it must live until the warehouse is built.
    """
    found = []
    for name in COLUMNS:
        table = house.table(name)
        version = table.version()
        files = [file.path for file in whole_files(table, version)]
        if any(map(damage, files)):  # what rots there is no reason to withhold gold: doctor tells of it
            files, version = [], 0
        if not files and version > 0:
            table.read(version).coalesce(1).write.parquet(str(staging / name))
            files = sorted((staging / name).glob("*.parquet"))
        found.append((table.contract, files))
    return found


def put(db: duckdb.DuckDBPyConnection, schema: str, tables: Sequence[RunTable]) -> None:
    """Replace the run tables by what their files hold, and make the views in a schema, which has none of them yet."""
    db.execute("CREATE SCHEMA IF NOT EXISTS ops")
    for contract, files in tables:
        columns = [contract.column(name) for name in COLUMNS[contract.name]]
        shape = ", ".join(f'"{c.name}" {duckdb_type(c.physical_type)}' for c in columns)
        db.execute(f'CREATE OR REPLACE TABLE ops."{contract.table}" ({shape})')
        if files:
            names = ", ".join(f'"{c.name}"' for c in columns)
            db.execute(f'INSERT INTO ops."{contract.table}" SELECT {names} FROM read_parquet(?, union_by_name = true)',
                       [[str(file) for file in files]])  # fmt: skip
    for name, query in VIEWS.items():
        db.execute(f'CREATE VIEW {schema}."{name}" AS {query}')
