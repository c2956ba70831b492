"""Bring rows of a gold table that is small enough for it to what they should be: find the differences, write only those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.control.run import Run
from utilityflow.lakehouse import Table

_CLAUSES = """WHEN MATCHED AND source._action = 'D' THEN DELETE
    WHEN MATCHED THEN UPDATE SET *
    WHEN NOT MATCHED THEN INSERT *"""


def differing(present: DataFrame, wanted: DataFrame, key: str) -> DataFrame:
    """What turns ``present`` into ``wanted``: complete rows with ``_action`` I, U or D; equal rows leave.

    :param present: the table's rows among which the wanted ones may have their former selves. Same columns as ``wanted``.
    :param key: the primary key, a column that both have once.
    """
    columns = wanted.columns
    old = present.select(*[F.col(n).alias(f"_old_{n}") for n in columns])
    rows = old.join(wanted, F.col(f"_old_{key}") == F.col(key), "full_outer")
    differs = F.expr(" OR ".join(f"NOT ({n} <=> _old_{n})" for n in columns if n != key))
    action = (
        F.when(F.col(f"_old_{key}").isNull(), "I").when(F.col(key).isNull(), "D").when(differs, "U").otherwise("=")
    )
    kept = [F.expr(f"IF(_action = 'D', _old_{n}, {n}) AS {n}") for n in columns]
    return rows.withColumn("_action", action).where("_action <> '='").select(*kept, "_action")


def replace(run: Run, table: Table, present: DataFrame, wanted: DataFrame, now: Mapping[str, Any],
            within: str | None = None) -> int:  # fmt: skip
    """Write the differences of ``wanted`` to ``present`` in one commit, or none; returns how many rows they are.

    :param present: the rows of the table that ``wanted`` takes the place of.
    :param now: the input versions that the table reflects afterwards.
    :param within: SQL condition over columns of the table that all these rows satisfy, so that no others are searched for them.
    """
    columns, key = table.contract.column_names, table.contract.primary_key[0]
    note = {"consumed": dict(now)}
    if table.version() <= 0:
        table.append(wanted.select(*columns), note=note)
        return table.rows_appended()
    changes = differing(present.select(*columns), wanted.select(*columns), key)
    changed = run.staged(changes, f"changed_{table.contract.table}")
    counts = {row[0]: int(row[1]) for row in changed.groupBy("_action").count().collect()}
    if set(counts) == {"I"}:  # nothing that stands is touched, so the table need not be searched
        table.append(changed.select(*columns), note=note, rows_expected=counts["I"])
    elif counts:
        place = f" AND target.{within}" if within else ""
        table.merge(changed, on=f"target.{key} = source.{key}{place}", clauses=_CLAUSES, note=note)
    return sum(counts.values())
