"""kpi_operational_efficiency: estimated reads, payment processing and response to urgent requests, by month.

Definitions and parameters: schemas/gold/kpi_operational_efficiency.yaml. What the suite's own runs say (success rate,
processing time) is no part of it, since it differs from run to run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import sql_text
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.days import month_of
from utilityflow.gold.marts import MONTH, definition, ratio, replace_months
from utilityflow.lakehouse import Table

NAME = "gold.kpi_operational_efficiency"
USAGE, PAYMENTS, REQUESTS = "gold.fact_usage", "gold.fact_payment", "gold.fact_service_request"
INPUTS = (USAGE, PAYMENTS, REQUESTS)
_SUMS = ("usage_facts", "estimated_facts", "booked_payments", "processing_days", "urgent_requests", "response_hours")


def run_efficiency(run: Run) -> StepResult:
    """Bring the mart to the present facts: the months that they touch are made anew."""
    house, table = run.house, run.house.table(NAME)
    inputs = [house.table(n) for n in INPUTS]
    parameters = table.contract.property("parameters")
    now: dict[str, Any] = {t.name: t.version() for t in inputs} | {"parameters": definition(parameters)}
    was = run.consumed.get(NAME, {}) if table.version() > 0 else {}
    if was == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    months = None
    if all(n in was for n in INPUTS) and was.get("parameters") == now["parameters"]:
        months = {m for t in inputs if was[t.name] != now[t.name] for m in _months(t, was[t.name], now[t.name])}
        if not months:
            return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: {'all months' if months is None else f'{len(months)} month(s)'}", step=NAME)
    frames = {t.name: t.read(now[t.name]) for t in inputs}
    return replace_months(run, table, efficiency(frames, parameters, months), months, now)


def _months(table: Table, since: int, until: int) -> set[str]:
    """The months of which facts came or went."""
    rows = table.changes(since, until).select(_month_of(table.name).alias(MONTH)).distinct()
    return {r[0] for r in rows.collect()}


def _month_of(table: str) -> Column:
    return F.col(MONTH) if table == USAGE else month_of("date_key")


def efficiency(facts: Mapping[str, DataFrame], parameters: Mapping[str, Any], months: Collection[str] | None) -> DataFrame:
    """Rows of the mart.

    :param facts: of INPUTS, by name. :param parameters: ``urgent``: the priorities that ask for a response at once.
    :param months: yyyy-MM; None: all.
    """

    def of(name: str) -> DataFrame:
        rows = facts[name].withColumn("_month", _month_of(name))
        return rows if months is None else rows.where(F.col("_month").isin(sorted(months)))

    urgent = ", ".join(map(sql_text, parameters["urgent"]))
    parts = [
        _part(of(USAGE), {"usage_facts": "count(1)", "estimated_facts": "count_if(read_quality = 'estimated')"}),
        _part(of(PAYMENTS).where("kind = 'payment' AND status = 'posted' AND posted_date_key > 0"), {
            "booked_payments": "count(1)",
            "processing_days": "sum(greatest(datediff(to_date(cast(posted_date_key AS string), 'yyyyMMdd'), "
                               "to_date(cast(date_key AS string), 'yyyyMMdd')), 0))",
        }),
        _part(of(REQUESTS).where(f"priority IN ({urgent}) AND NOT is_open AND resolution_hours IS NOT NULL"), {
            "urgent_requests": "count(1)", "response_hours": "sum(resolution_hours)",
        }),
    ]  # fmt: skip
    united = reduce(lambda one, two: one.unionByName(two, allowMissingColumns=True), parts)
    kinds = {"response_hours": "decimal(18,2)"}
    sums = united.groupBy("_month").agg(
        *[F.coalesce(F.sum(n), F.lit(0)).cast(kinds.get(n, "bigint")).alias(n) for n in _SUMS]
    )
    return sums.select(
        F.col("_month").alias(MONTH), F.expr("cast(replace(_month, '-', '') AS int) * 100 + 1").alias("date_key"), *_SUMS,
        ratio("estimated_facts", "usage_facts", "estimated_share"),
        ratio("processing_days", "booked_payments", "average_processing_days", "decimal(12,2)"),
        ratio("response_hours", "urgent_requests", "average_response_hours", "decimal(12,2)"),
        F.expr("xxhash64('kpi_operational_efficiency', _month) AS efficiency_key"),
    )  # fmt: skip


def _part(rows: DataFrame, sums: Mapping[str, str]) -> DataFrame:
    return rows.groupBy("_month").agg(*[F.expr(f"{what} AS {name}") for name, what in sums.items()])
