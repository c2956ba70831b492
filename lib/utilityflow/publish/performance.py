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
    "ops.step": ("run_id", "step", "status", "rows_written", "seconds", "finished_at"),
}
# An incident begins with a failed run and ends with the next one that does not fail.
VIEWS = {
    "pipeline_performance": """
        WITH judged AS (
            SELECT *, status <> 'failed' AS good, epoch(finished_at) - epoch(started_at) AS seconds,
                coalesce(lag(status) OVER before_it = 'failed', false) AS was_failing,
                min(finished_at) FILTER (status <> 'failed') OVER after_it AS mended_at
            FROM ops.run WHERE command IN ('run', 'resume')
            WINDOW before_it AS (ORDER BY started_at, run_id),
                after_it AS (ORDER BY started_at, run_id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING))
        SELECT strftime(started_at AT TIME ZONE 'UTC', '%Y-%m') AS month, count(*) AS runs, count(*) FILTER (good) AS good_runs,
            count(*) FILTER (good) / count(*) AS success_rate, avg(seconds) AS average_seconds, max(seconds) AS longest_seconds,
            count(*) FILTER (NOT good AND NOT was_failing) AS incidents,
            count(mended_at) FILTER (NOT good AND NOT was_failing) AS mended_incidents,
            avg((epoch(mended_at) - epoch(finished_at)) / 3600) FILTER (NOT good AND NOT was_failing) AS average_hours_to_mend
        FROM judged GROUP BY ALL""",
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
