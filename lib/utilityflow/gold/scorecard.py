"""kpi_regulatory_scorecard: the figures of the whole company in the shape that regulators ask for, of the systems that there are.

Source of the shape and of the metrics: reference of the domain, section 1.5 (numerator, denominator, value, target, met,
exclusions; by month with the twelve months that end with it; complaints per 1,000 customers, work and bills in time, meters not
read). The metrics of reliability come from kpi_service_reliability, the others from the marts and the facts that count them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.gold import efficiency, satisfaction
from utilityflow.gold.changes import CUSTOMERS
from utilityflow.gold.compliance import NAME as COMPLIANCE
from utilityflow.gold.days import day_of, month_of
from utilityflow.gold.events import ACCOUNTS
from utilityflow.gold.marts import MONTH
from utilityflow.gold.reliability import EXCLUSIONS, MONTHS_BACK
from utilityflow.gold.replacing import replace
from utilityflow.gold.service_reliability import KPI
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN_KEY
from utilityflow.settings import ReliabilitySettings

NAME = "gold.kpi_regulatory_scorecard"
REQUESTS, TOLD_OF = satisfaction.REQUESTS, "silver.accounts"
BRINGING = (KPI, satisfaction.NAME, efficiency.NAME, COMPLIANCE)  # each brings metrics of its own
INPUTS = (*BRINGING, REQUESTS, ACCOUNTS, CUSTOMERS)  # all that it can be made of
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
# metric -> the table that tells of it, and its direction
SERVICE: Mapping[str, tuple[str, str]] = {
    "complaint_rate": (satisfaction.NAME, "at_most"),
    "requests_in_time": (REQUESTS, "at_least"),  # the mart, which knows no day, lacks what is open and overdue
    "bills_in_time": (efficiency.NAME, "at_least"),
    "estimated_reads": (efficiency.NAME, "at_most"),
    "filings_in_time": (COMPLIANCE, "at_least"),
}
PER = 1000  # active accounts, or customers, that complaints are counted per
_AVERAGED = ("complaint_rate",)  # over twelve months the denominator is the average of the months, not their sum
_EXACT, _NUMBER = "decimal(30,6)", "date_key div 10000 * 12 + date_key div 100 % 100"
LOOK_BACK = ("cemi", "celid")  # they look back over twelve months themselves, so a month alone has none
_ADDED = ("customer_interruptions", "customer_minutes", "momentary_interruptions", "service_point_days", "service_point_hours")
_AT_END = ("service_points_at_end", "cemi_customers", "celid_customers")


def spans(rows: DataFrame) -> DataFrame:
    """The figures of the whole system by month, and by the twelve months that end with it.

    :param rows: rows of kpi_service_reliability.
    :return: period, date_key, exclusions, ``span``, ``months``, ``reaches``, ``days`` and the sums as DOUBLE; what is counted
        at the end is that of the last month.
    """
    # exact sums, so that the same rows in another order give the same figure
    sums = [F.sum(F.col(n).cast(_EXACT)).alias(n) for n in (*_ADDED, *_AT_END)]
    monthly = rows.groupBy("period", "date_key", "exclusions").agg(F.max("days").alias("days"), *sums)
    both = _with_year(monthly, "exclusions", ("days", *_ADDED), _AT_END)
    return both.withColumns({n: F.col(n).cast("double") for n in (*_ADDED, *_AT_END)})


def _with_year(monthly: DataFrame, of: str, added: Sequence[str], at_end: Sequence[str] = ()) -> DataFrame:
    """Figures by month, and by the twelve months that end with it: ``span``, and ``months``, how many of them there are.

    ``reaches``: whether there were figures in the first of the twelve months or before it.

    :param monthly: one row per period (with date_key) and ``of``. :param added: columns that are summed over the months.
    :param at_end: columns of which the last month's counts.
    """
    one = monthly.withColumns({"_number": F.expr(_NUMBER), "span": F.lit("month"), "months": F.lit(1)})
    first = F.min("_number").over(Window.partitionBy(of))
    one = one.withColumn("reaches", F.col("_number") - first >= MONTHS_BACK - 1)
    ends = one.select("period", "date_key", of, "reaches", F.col("_number").alias("_end"), *at_end)
    within = f"_number <= _end AND _number > _end - {MONTHS_BACK}"
    year = ends.join(one.select(of, "_number", *added), of).where(within).groupBy(
        "period", "date_key", of, "reaches", *at_end
    ).agg(
        F.count(F.lit(1)).cast("int").alias("months"), *[F.sum(n).alias(n) for n in added]
    )  # fmt: skip
    return one.drop("_number").unionByName(year.withColumn("span", F.lit("twelve_months")))


def scorecard(figures: DataFrame, targets: Mapping[str, float], of_exclusions: str, as_of: dt.date) -> DataFrame:
    """One row per metric, period, span and set of exclusions: numerator, denominator, value, target, direction, met.

    :param figures: as ``spans`` gives them.
    :param targets: metric -> what its value over twelve months is held to, where ``of_exclusions`` are left out.
    :param as_of: the day: twelve months are judged when the last of them is over, and none is missing.
    """
    told = []
    for metric, (above, below, direction) in METRICS.items():
        rows = figures.where("span = 'twelve_months'") if metric in LOOK_BACK else figures
        held = (F.col("span") == "twelve_months") & (F.col("exclusions") == of_exclusions)
        target = F.when(held, F.lit(targets.get(metric)).cast("double"))
        told.append(rows.select(
            F.lit(metric).alias("metric_code"), "period", "date_key", "span", "months", "exclusions",
            F.expr(f"{above} AS numerator"), F.expr(f"{below} AS denominator"), target.alias("target"),
            F.lit(direction).alias("direction"), (F.col("months") == MONTHS_BACK).alias("_whole"),
        ))  # fmt: skip
    return _judged(reduce(DataFrame.unionByName, told), as_of)


def _judged(rows: DataFrame, as_of: dt.date) -> DataFrame:
    """With ``value`` and ``met``, in the contract's types; what is not ``_whole``, or not over yet, is not judged."""
    kept = "IF(direction = 'at_most', value <= target, value >= target)"
    over = F.last_day(day_of("date_key")) <= F.lit(as_of)
    full = rows.withColumn("value", F.expr("numerator / nullif(denominator, 0)"))
    full = full.withColumn("met", F.when(F.col("_whole") & over, F.expr(kept))).drop("_whole")
    return full.withColumns({
        **{n: F.col(n).cast("decimal(24,6)") for n in ("numerator", "denominator")},
        **{n: F.col(n).cast("decimal(18,10)") for n in ("value", "target")},
    })  # fmt: skip


# -- metrics of service ------------------------------------------------------------------------------------------------


def service_figures(frames: Mapping[str, DataFrame], as_of: dt.date) -> DataFrame:
    """Numerator and denominator of each metric of SERVICE by month, where there is something to divide by.

    Columns: metric_code, period, date_key, numerator and denominator (DECIMAL).

    :param frames: rows of some of INPUTS, by name; with kpi_customer_satisfaction those of dim_account or dim_customer.
    :param as_of: what is due on this day or later, and not done, is not late yet.
    """
    told = []
    if satisfaction.NAME in frames:
        by_month = frames[satisfaction.NAME].groupBy(F.col(MONTH).alias("period"), "date_key")
        asked = by_month.agg(F.sum("complaints").alias("complaints"))
        told.append(_figure("complaint_rate", served_by_month(_served(frames), asked), "complaints", f"served / {PER}"))
    if REQUESTS in frames:
        told.append(_figure("requests_in_time", _requests(frames[REQUESTS], as_of), "on_time", "due"))
    if efficiency.NAME in frames:
        done = frames[efficiency.NAME].withColumn("period", F.col(MONTH))
        told.append(_figure("bills_in_time", done, "bills_in_time", "issued_bills"))
        told.append(_figure("estimated_reads", done, "estimated_facts", "usage_facts"))
    if COMPLIANCE in frames:
        told.append(_figure("filings_in_time", _filings(frames[COMPLIANCE], as_of), "on_time", "due"))
    return reduce(DataFrame.unionByName, told)


def _figure(metric: str, rows: DataFrame, above: str, below: str) -> DataFrame:
    exact = [F.expr(f"CAST({what} AS {_EXACT})").alias(name) for name, what in {"numerator": above, "denominator": below}.items()]
    return rows.select(F.lit(metric).alias("metric_code"), "period", "date_key", *exact).where("denominator > 0")


def _served(frames: Mapping[str, DataFrame]) -> DataFrame:
    """The versions of whom complaints are counted per: active accounts, or known customers where the home has no accounts.

    Sources word the status of a customer's account as they like, so of customers every status counts.
    """
    if ACCOUNTS in frames:
        return frames[ACCOUNTS].where("status = 'active'")
    return frames[CUSTOMERS].where((F.col("customer_key") != UNKNOWN_KEY) & ~F.col("is_inferred"))


def served_by_month(served: DataFrame, months: DataFrame) -> DataFrame:
    """The months with ``served``: how many of the versions are valid on the last day of each.

    A version that begins in a month or before adds one, one that ends then takes one away, so that few numbers are compared.
    Months before the first version are left out.

    :param served: ``effective_date`` and ``expiry_date`` of versions. :param months: ``date_key``: first day as yyyymmdd.
    """
    moves = served.select(F.inline(F.array(
        F.struct(F.trunc("effective_date", "MM").alias("_month"), F.lit(1).alias("_step")),
        F.struct(F.trunc("expiry_date", "MM").alias("_month"), F.lit(-1).alias("_step")),
    ))).groupBy("_month").agg(F.sum("_step").alias("_step"))  # fmt: skip
    until = months.select("date_key").join(F.broadcast(moves), F.col("_month") <= day_of("date_key"))
    return months.join(until.groupBy("date_key").agg(F.sum("_step").alias("served")), "date_key")


def _requests(requests: DataFrame, as_of: dt.date) -> DataFrame:
    """Requests by the month of their opening: those closed of which is known whether in time, and those open past their day.

    Left open they are late all the same: a growing backlog must not improve the figure.
    """
    overdue = F.col("is_open") & (day_of("due_date_key") < F.lit(as_of))
    return _in_time(requests.where(F.col("closed_late").isNotNull() | overdue), "NOT closed_late")


def _filings(filings: DataFrame, as_of: dt.date) -> DataFrame:
    """Filings by the month of their due day: those that are filed or due before the day, without those that were withdrawn."""
    due = filings.where("status <> 'withdrawn'").where(F.col("is_filed") | (day_of("date_key") < F.lit(as_of)))
    return _in_time(due, "on_time")


def _in_time(rows: DataFrame, kept: str) -> DataFrame:
    """``due`` and ``on_time``, how many rows there are and how many satisfy ``kept``, by month of ``date_key``."""
    by_month = rows.groupBy(month_of("date_key").alias("period")).agg(
        F.expr(f"count_if({kept}) AS on_time"), F.expr("count(1) AS due")
    )
    return by_month.withColumn("date_key", F.expr("CAST(replace(period, '-', '') AS int) * 100 + 1"))


def service_scorecard(figures: DataFrame, targets: Mapping[str, float], as_of: dt.date) -> DataFrame:
    """Rows of the scorecard, by month and by the twelve months that end with it; nothing is left out (exclusions none).

    A month in which there was nothing to divide by, as when no filing was due, does not keep twelve months from being judged.

    :param figures: as ``service_figures`` gives them. :param targets: metric -> what its twelve months are held to.
    :param as_of: as for ``scorecard``.
    """
    averaged = F.col("metric_code").isin(*_AVERAGED)
    rows = _with_year(figures, "metric_code", ("numerator", "denominator")).withColumns({
        "numerator": F.col("numerator").cast("double"),
        "denominator": F.col("denominator").cast("double") / F.when(averaged, F.col("months")).otherwise(1),
    })  # fmt: skip
    own = {metric: value for metric, value in targets.items() if metric in SERVICE}
    return _judged(rows.withColumns({
        "exclusions": F.lit("none"),
        "target": F.when(F.col("span") == "twelve_months", _by_metric(own, "double")),
        "direction": _by_metric({metric: direction for metric, (_, direction) in SERVICE.items()}, "string"),
        "_whole": F.col("reaches"),
    }).drop("reaches"), as_of)  # fmt: skip


def _by_metric(values: Mapping[str, Any], kind: str) -> Any:
    """What each metric has, null for others."""
    each = [F.when(F.col("metric_code") == metric, F.lit(value).cast(kind)) for metric, value in values.items()]
    return F.coalesce(F.lit(None).cast(kind), *each)


# -- the step ----------------------------------------------------------------------------------------------------------


def check_reliability(given: ReliabilitySettings) -> None:
    """Whether the settings under ``reliability`` can be computed with, and name metrics and exclusions that there are.

    :raises UtilityFlowError: UF-1002.
    """
    for name in ("momentary_minutes", "cemi_interruptions", "celid_hours", "beta_factor", "history_years", "least_days"):
        if getattr(given, name) <= 0:
            raise UtilityFlowError("UF-1002", f"'reliability.{name}' must be above 0, not {getattr(given, name)}")
    metrics = (*METRICS, *SERVICE)
    for metric in given.targets:
        if metric not in metrics:
            what = f"'reliability.targets': there is no metric '{metric}'"
            raise UtilityFlowError("UF-1002", what, hint=nearest(metric, metrics))
    if given.targets_exclude not in EXCLUSIONS:
        what = f"'reliability.targets_exclude': there is no '{given.targets_exclude}'"
        raise UtilityFlowError("UF-1002", what, hint=nearest(given.targets_exclude, EXCLUSIONS))


def held_to(given: ReliabilitySettings) -> str:
    """The targets and what is left out of what they are held to, as text."""
    return json.dumps([given.targets, given.targets_exclude], sort_keys=True)


def inputs_of(made: Collection[str]) -> tuple[str, ...]:
    """Those of BRINGING that steps make; where complaints are counted also the requests, and whom they are counted per.

    That is accounts where a feed tells of them, else customers.
    """
    there = tuple(n for n in BRINGING if n in made)
    if satisfaction.NAME not in there:
        return there
    return (*there, REQUESTS, ACCOUNTS if TOLD_OF in made else CUSTOMERS)  # else dim_account knows no account's status


def whole_scorecard(frames: Mapping[str, DataFrame], targets: Mapping[str, float], exclude: str, as_of: dt.date) -> DataFrame:
    """All rows of the mart, but for their key. :param frames: those of ``inputs_of``, by name."""
    parts = [scorecard(spans(frames[KPI]), targets, exclude, as_of)] if KPI in frames else []
    if set(frames) - {KPI}:
        parts.append(service_scorecard(service_figures(frames, as_of), targets, as_of))
    return reduce(DataFrame.unionByName, parts)


def keyed(rows: DataFrame, contract: Contract) -> DataFrame:
    """The rows with their key, in the contract's columns."""
    key = hash64(contract, ["metric_code", "period", "span", "exclusions"], domain=contract.table)
    return rows.withColumn("scorecard_key", key).select(*contract.column_names)


def run_kpi_regulatory_scorecard(run: Run, inputs: Sequence[str]) -> StepResult:
    """Bring the scorecard to its inputs and to the targets in the settings; only rows that differ are written.

    The day says which open requests and filings are late, and which twelve months are over.

    :param inputs: as ``inputs_of`` gives them.
    """
    house, table, given = run.house, run.house.table(NAME), run.settings.reliability
    now: dict[str, Any] = {n: house.table(n).version() for n in inputs} | {"targets": held_to(given)}
    now |= {"as_of": run.as_of.isoformat()}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    frames = {n: house.table(n).read(now[n]) for n in inputs}
    rows = whole_scorecard(frames, given.targets, given.targets_exclude, run.as_of)
    wanted = run.staged(keyed(rows, table.contract), "scorecard")
    written = replace(run, table, table.read(), wanted, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)
