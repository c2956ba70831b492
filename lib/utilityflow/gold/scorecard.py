"""kpi_regulatory_scorecard: the reliability metrics of the whole system in the shape that regulators ask for.

Source of the shape: reference of the domain, section 1.5 (numerator, denominator, value, target, met, exclusions; by month with
the twelve months that end with it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.gold.reliability import EXCLUSIONS, MONTHS_BACK
from utilityflow.gold.replacing import replace
from utilityflow.gold.service_reliability import KPI
from utilityflow.keys import hash64
from utilityflow.settings import ReliabilitySettings

NAME = "gold.kpi_regulatory_scorecard"
_POINTS = "service_point_days / days"
# metric -> numerator and denominator over the sums of a span, whether the value may be at most or at least the target
METRICS: Mapping[str, tuple[str, str, str]] = {
    "saidi": ("customer_minutes", _POINTS, "at_most"),
    "saifi": ("customer_interruptions", _POINTS, "at_most"),
    "caidi": ("customer_minutes", "customer_interruptions", "at_most"),
    "asai": ("service_point_hours - customer_minutes / 60", "service_point_hours", "at_least"),
    "maifi": ("momentary_interruptions", _POINTS, "at_most"),
    "cemi": ("cemi_customers", "service_points_at_end", "at_most"),
    "celid": ("celid_customers", "service_points_at_end", "at_most"),
}
LOOK_BACK = ("cemi", "celid")  # they look back over twelve months themselves, so a month alone has none
_ADDED = ("customer_interruptions", "customer_minutes", "momentary_interruptions", "service_point_days", "service_point_hours")
_AT_END = ("service_points_at_end", "cemi_customers", "celid_customers")


def spans(rows: DataFrame) -> DataFrame:
    """The figures of the whole system by month, and by the twelve months that end with it.

    :param rows: rows of kpi_service_reliability.
    :return: period, date_key, exclusions, ``span``, ``months``, ``days`` and the sums as DOUBLE; what is counted at the end is
        that of the last month.
    """
    sums = [F.sum(F.col(n).cast("double")).alias(n) for n in (*_ADDED, *_AT_END)]
    monthly = rows.groupBy("period", "date_key", "exclusions").agg(F.max("days").alias("days"), *sums)
    number = F.expr("date_key div 10000 * 12 + date_key div 100 % 100")
    one = monthly.withColumns({"_number": number, "span": F.lit("month"), "months": F.lit(1)})
    ends = one.select("period", "date_key", "exclusions", F.col("_number").alias("_end"), *_AT_END)
    parts = one.select("exclusions", "_number", "days", *_ADDED)
    within = f"_number <= _end AND _number > _end - {MONTHS_BACK}"
    year = ends.join(parts, "exclusions").where(within).groupBy("period", "date_key", "exclusions", *_AT_END).agg(
        F.count(F.lit(1)).cast("int").alias("months"), F.sum("days").alias("days"), *[F.sum(n).alias(n) for n in _ADDED],
    )  # fmt: skip
    return one.drop("_number").unionByName(year.withColumn("span", F.lit("twelve_months")))


def scorecard(figures: DataFrame, targets: Mapping[str, float], of_exclusions: str) -> DataFrame:
    """One row per metric, period, span and set of exclusions: numerator, denominator, value, target, direction, met.

    :param figures: as ``spans`` gives them.
    :param targets: metric -> what its value over twelve months is held to, where ``of_exclusions`` are left out.
    """
    told = []
    for metric, (above, below, direction) in METRICS.items():
        rows = figures.where("span = 'twelve_months'") if metric in LOOK_BACK else figures
        held = (F.col("span") == "twelve_months") & (F.col("exclusions") == of_exclusions)
        target = F.when(held, F.lit(targets.get(metric)).cast("double"))
        told.append(rows.select(
            F.lit(metric).alias("metric_code"), "period", "date_key", "span", "months", "exclusions",
            F.expr(f"{above} AS numerator"), F.expr(f"{below} AS denominator"), target.alias("target"),
            F.lit(direction).alias("direction"),
        ))  # fmt: skip
    rows = reduce(DataFrame.unionByName, told).withColumn("value", F.expr("numerator / nullif(denominator, 0)"))
    kept = "IF(direction = 'at_most', value <= target, value >= target)"
    return rows.withColumn("met", F.expr(kept)).withColumns({
        **{n: F.col(n).cast("decimal(24,6)") for n in ("numerator", "denominator")},
        **{n: F.col(n).cast("decimal(18,10)") for n in ("value", "target")},
    })  # fmt: skip


def check_reliability(given: ReliabilitySettings) -> None:
    """Whether the settings under ``reliability`` can be computed with, and name metrics and exclusions that there are.

    :raises UtilityFlowError: UF-1002.
    """
    for name in ("momentary_minutes", "cemi_interruptions", "celid_hours", "beta_factor", "history_years", "least_days"):
        if getattr(given, name) <= 0:
            raise UtilityFlowError("UF-1002", f"'reliability.{name}' must be above 0, not {getattr(given, name)}")
    for metric in given.targets:
        if metric not in METRICS:
            what = f"'reliability.targets': there is no metric '{metric}'"
            raise UtilityFlowError("UF-1002", what, hint=nearest(metric, METRICS))
    if given.targets_exclude not in EXCLUSIONS:
        what = f"'reliability.targets_exclude': there is no '{given.targets_exclude}'"
        raise UtilityFlowError("UF-1002", what, hint=nearest(given.targets_exclude, EXCLUSIONS))


def held_to(given: ReliabilitySettings) -> str:
    """The targets and what is left out of what they are held to, as text."""
    return json.dumps([given.targets, given.targets_exclude], sort_keys=True)


def run_kpi_regulatory_scorecard(run: Run) -> StepResult:
    """Bring the scorecard to kpi_service_reliability and the targets in the settings; only rows that differ are written."""
    table, given = run.house.table(NAME), run.settings.reliability
    now: dict[str, Any] = {KPI: run.house.table(KPI).version(), "targets": held_to(given)}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    rows = scorecard(spans(run.house.table(KPI).read(now[KPI])), given.targets, given.targets_exclude)
    key = hash64(table.contract, ["metric_code", "period", "span", "exclusions"], domain=table.contract.table)
    wanted = run.staged(rows.withColumn("scorecard_key", key).select(*table.contract.column_names), "scorecard")
    written = replace(run, table, table.read(), wanted, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)
