"""Reliability filings: the indices that one utility filed for one state and year, in the columns of its method.

How the columns are meant, and which revision is final: schemas/silver/reliability_filings.yaml. Source: reference of the
domain, section 1.3 and vector V3 (the rules; nothing is corrected).
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame

from utilityflow.silver.words import spelled

METHODS = ("ieee", "other")
# the indices of each method: only that of IEEE 1366 knows of losses of supply
_VARIANTS = {"ieee": ("with_med", "without_med", "without_los"), "other": ("with_med", "without_med")}
INDICES = {m: tuple(f"{i}_{v}" for v in _VARIANTS[m] for i in ("saidi", "saifi", "caidi")) for m in METHODS}
FILLED = (
    "report_year", "utility_number", "utility_name", "state", "ownership_type",
    *(f"{m}_{n}" for m in METHODS for n in (*INDICES[m], "customers", "highest_voltage_kv", "automatic")),
    "other_inactive_included", "other_momentary",
    "updated_at",
)  # fmt: skip


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - there are no defaults, no days
    """Canonical filings from typed columns. There are no defaults: what a feed does not map stays null.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps (not used).
    :param zone: the utility's zone (not used: a filing is of a year).
    """
    return typed.withColumn("other_momentary", spelled("other_momentary"))
