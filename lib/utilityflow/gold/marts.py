"""What tables made anew share: which months an input's changes touch, and the replacing of rows that came out differently."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import sql_text
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.days import date
from utilityflow.lakehouse import Table

MONTH = "billing_period"  # yyyy-MM, of every mart


def moved(month: str, by: int) -> str:
    """The month so many months later."""
    number = int(month[:4]) * 12 + int(month[5:]) - 1 + by
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def days_changed(fact: Table, since: int, until: int) -> list[dt.date]:
    """The days (``date_key``) of which facts came or went between two versions."""
    if since == until:
        return []
    return sorted(date(r[0]) for r in fact.changes(since, until).select("date_key").distinct().collect())


def definition(parameters: Mapping[str, Any]) -> str:
    """The parameters of a mart as text: others make it anew."""
    return json.dumps(parameters, sort_keys=True)


def as_it_is(frame: DataFrame, _: str) -> DataFrame:
    """The frame: what takes the place of ``Run.staged`` where nothing is stored on the way."""
    return frame


def unequal(held: DataFrame, wanted: DataFrame) -> DataFrame:
    """Rows that only one of two frames without repeats has; both have the columns of the first."""
    return held.unionByName(wanted).groupBy(*held.columns).count().where("count <> 2")


def replace_months(run: Run, table: Table, wanted: DataFrame, months: Collection[str] | None, now: Mapping[str, Any],
                   ) -> StepResult:  # fmt: skip
    """Write the rows of these months (None: of all) where they are others than those that stand."""
    where = None if months is None else f"{MONTH} IN ({', '.join(map(sql_text, sorted(months)))})"
    return replace_rows(run, table, wanted, where, now)


def replace_rows(run: Run, table: Table, wanted: DataFrame, where: str | None, now: Mapping[str, Any]) -> StepResult:
    """Write rows in the place of those that satisfy ``where`` (None: of all), if they are others."""
    wanted = run.staged(wanted.select(*table.contract.column_names), table.contract.table)
    held = table.read().select(*wanted.columns)
    held = held.where(where) if where else held
    if table.version() > 0 and unequal(held, wanted).isEmpty():
        return StepResult(table.name, "skipped", version=table.version(), consumed=now)
    count = wanted.count()
    table.overwrite(wanted.coalesce(1), where=where if table.version() > 0 else None, note={"consumed": now})
    return StepResult(table.name, "ok", count, version=table.version(), consumed=now)


def estimated(words: Sequence[str]) -> str:
    """SQL condition, over a usage fact, that its value was not wholly measured: its ``read_quality`` is one of the words.

    The one meaning of estimated that marts share; each lists the words in its contract (parameter ``estimated``).
    """
    return f"read_quality IN ({', '.join(map(sql_text, words))})"


def ratio(part: str, whole: str, name: str, kind: str = "decimal(9,6)") -> Any:
    """SQL column ``part / whole``, null where the whole is null or 0."""
    return F.expr(f"CAST(CAST({part} AS decimal(30,6)) / nullif({whole}, 0) AS {kind}) AS {name}")
