"""kpi_operational_efficiency: estimated reads, payment processing, bills in time and response to requests, by month.

Definitions and parameters: schemas/gold/kpi_operational_efficiency.yaml, after the reference of the domain, sections 1.5 (bills
rendered, response from call to work, split into emergency and routine) and 2.3 (estimates). What the suite's own runs say
(success rate, processing time) is no part of it, since it differs from run to run.

Frames are those of tables by name; of tables that a home does not have the columns are null.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import sql_text
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import final_states
from utilityflow.gold.days import day_of, month_of
from utilityflow.gold.marts import MONTH, definition, estimated, ratio, replace_months

NAME = "gold.kpi_operational_efficiency"
USAGE, PAYMENTS, REQUESTS, BILLS = "gold.fact_usage", "gold.fact_payment", "gold.fact_service_request", "gold.fact_billing"
STATES = "silver.service_requests"  # when work began is told by a state that is not the final one
INPUTS = (USAGE, PAYMENTS, REQUESTS, BILLS, STATES)
BRINGING = (PAYMENTS, REQUESTS, BILLS)  # one of these brings the mart
_HOURS = "decimal(18,2)"
# input -> what is counted of it, by column
SUMS: Mapping[str, Mapping[str, str]] = {
    USAGE: {"usage_facts": "bigint", "estimated_facts": "bigint", "usage_kwh": _HOURS, "estimated_kwh": _HOURS},
    PAYMENTS: {"booked_payments": "bigint", "processing_days": "bigint"},
    REQUESTS: {"urgent_requests": "bigint", "response_hours": _HOURS},
    BILLS: {"issued_bills": "bigint", "bills_in_time": "bigint"},
    STATES: {
        "maintenance_requests": "bigint", "begun_requests": "bigint", "hours_to_begin": _HOURS,
        "urgent_begun_requests": "bigint", "urgent_hours_to_begin": _HOURS,
        "routine_begun_requests": "bigint", "routine_hours_to_begin": _HOURS,
    },
}  # fmt: skip


def inputs_of(made: Collection[str]) -> tuple[str, ...]:
    """Those of INPUTS that steps make; none where none of them brings the mart."""
    there = tuple(n for n in INPUTS if n in made)
    return there if set(BRINGING).intersection(there) else ()


def run_efficiency(run: Run, inputs: Sequence[str]) -> StepResult:
    """Bring the mart to what its inputs say now: the months that their changes touch are made anew.

    :param inputs: as ``inputs_of`` gives them.
    """
    house, table = run.house, run.house.table(NAME)
    parameters = table.contract.property("parameters")
    now: dict[str, Any] = {n: house.table(n).version() for n in inputs} | {"parameters": definition(parameters)}
    was = run.consumed.get(NAME, {}) if table.version() > 0 else {}
    if was == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    frames = {n: house.table(n).read(now[n]) for n in inputs}
    months = None
    if was.keys() == now.keys() and was["parameters"] == now["parameters"]:
        changed = {n: house.table(n).changes(was[n], now[n]) for n in inputs if was[n] != now[n]}
        months = {m for n, changes in changed.items() for m in touched(n, changes, frames[n])}
        if not months:
            return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: {'all months' if months is None else f'{len(months)} month(s)'}", step=NAME)
    return replace_months(run, table, efficiency(frames, parameters, months), months, now)


def touched(name: str, changes: DataFrame, standing: DataFrame) -> set[str]:
    """The months whose rows can change when these rows of a table came or went.

    A cancellation takes a bill out of the month of the bill; a state can bring a request, or its beginning, to another month.

    :param standing: all rows of the table.
    """
    months = changes.select(_month_of(name))
    if name == BILLS:
        named = changes.where("cancels_bill_id IS NOT NULL").select(F.col("cancels_bill_id").alias("bill_id"))
        months = months.unionAll(standing.join(named.distinct(), "bill_id", "left_semi").select(_month_of(name)))
    if name == STATES:
        named = changes.select("request_id").distinct()
        months = months.unionAll(standing.join(named, "request_id", "left_semi").select(_month_of(name)))
    return {r[0] for r in months.distinct().collect()}


def _month_of(table: str) -> Column:
    if table == USAGE:
        return F.col(MONTH)
    return F.date_format("opened_date", "yyyy-MM") if table == STATES else month_of("date_key")


def efficiency(frames: Mapping[str, DataFrame], parameters: Mapping[str, Any], months: Collection[str] | None) -> DataFrame:
    """Rows of the mart.

    :param frames: rows of some of INPUTS, by name. :param parameters: of the mart, as its contract explains them.
    :param months: yyyy-MM; None: all.
    """
    made = {USAGE: _usage, PAYMENTS: _payments, REQUESTS: _requests, BILLS: _bills, STATES: _begun}
    parts = [made[name](rows, parameters, _within(name, months)) for name, rows in frames.items()]
    united = reduce(lambda one, two: one.unionByName(two, allowMissingColumns=True), parts)
    kinds = {n: (kind, name in frames) for name, columns in SUMS.items() for n, kind in columns.items()}
    sums = united.groupBy("_month").agg(*[
        (F.coalesce(F.sum(n), F.lit(0)) if there else F.lit(None)).cast(kind).alias(n) for n, (kind, there) in kinds.items()
    ])  # fmt: skip
    mean = "decimal(12,2)"
    return sums.select(
        F.col("_month").alias(MONTH), F.expr("cast(replace(_month, '-', '') AS int) * 100 + 1").alias("date_key"), *kinds,
        ratio("estimated_facts", "usage_facts", "estimated_share"),
        ratio("estimated_kwh", "usage_kwh", "estimated_energy_share"),
        ratio("processing_days", "booked_payments", "average_processing_days", mean),
        ratio("response_hours", "urgent_requests", "average_response_hours", mean),
        ratio("bills_in_time", "issued_bills", "bills_in_time_share"),
        *[ratio(f"{kind}hours_to_begin", f"{kind}begun_requests", f"average_{kind}hours_to_begin", mean)
          for kind in ("", "urgent_", "routine_")],
        F.expr("xxhash64('kpi_operational_efficiency', _month) AS efficiency_key"),
    )  # fmt: skip


# -- parts: one row per _month -----------------------------------------------------------------------------------------


def _within(name: str, months: Collection[str] | None) -> Column:
    """Condition for rows of these months; of facts by their days too, which their files are told apart by."""
    if not months:
        return F.lit(months is None)
    low, high = (int(m.replace("-", "")) * 100 for m in (min(months), max(months)))
    own = _month_of(name).isin(sorted(months))
    return own if name == STATES else own & F.col("date_key").between(low, high + 31)


def _usage(facts: DataFrame, parameters: Mapping[str, Any], within: Column) -> DataFrame:
    guessed = estimated(parameters["estimated"])
    return _part(facts.where(within).withColumn("_month", _month_of(USAGE)), {
        "usage_facts": "count(1)", "estimated_facts": f"count_if({guessed})", "usage_kwh": "sum(usage_kwh)",
        "estimated_kwh": f"sum(IF({guessed}, usage_kwh, 0))",
    })  # fmt: skip


def _payments(facts: DataFrame, parameters: Mapping[str, Any], within: Column) -> DataFrame:
    booked = facts.where(within).where("kind = 'payment' AND status = 'posted' AND posted_date_key > 0")
    days = booked.withColumns({"_month": _month_of(PAYMENTS), "_days": F.datediff(day_of("posted_date_key"), day_of("date_key"))})
    return _part(days, {"booked_payments": "count(1)", "processing_days": "sum(greatest(_days, 0))"})


def _requests(facts: DataFrame, parameters: Mapping[str, Any], within: Column) -> DataFrame:
    closed = facts.where(within).where(f"{_urgent(parameters)} AND NOT is_open AND resolution_hours IS NOT NULL")
    sums = {"urgent_requests": "count(1)", "response_hours": "sum(resolution_hours)"}
    return _part(closed.withColumn("_month", _month_of(REQUESTS)), sums)


def _urgent(parameters: Mapping[str, Any]) -> str:
    return f"priority IN ({', '.join(map(sql_text, parameters['urgent']))})"


def _bills(lines: DataFrame, parameters: Mapping[str, Any], within: Column) -> DataFrame:
    """Bills that stand, by the month of their day: cancelled ones are out, whenever they were cancelled."""
    cancelled = lines.where("kind = 'cancellation'").select(F.col("cancels_bill_id").alias("bill_id")).distinct()
    own = lines.where(within).where("kind = 'bill'").withColumn("_month", _month_of(BILLS))
    bills = own.groupBy("_month", "bill_id").agg(F.min("date_key").alias("_day"), F.max("period_end").alias("_end"))
    known = bills.where("_end IS NOT NULL").join(cancelled, "bill_id", "left_anti")
    late = known.withColumn("_days", F.datediff(day_of("_day"), F.col("_end")))
    return _part(late, {"issued_bills": "count(1)", "bills_in_time": f"count_if(_days <= {int(parameters['bill_days'])})"})


def _begun(states: DataFrame, parameters: Mapping[str, Any], within: Column) -> DataFrame:
    """Requests for maintenance by the month of their opening, and how long it took until work began."""
    named = states.where(within).select("request_id").distinct()
    rows = first_responses(states.join(named, "request_id", "left_semi"), parameters).where(within)
    sums = {"maintenance_requests": "count(1)"}
    for kind, test in {"": "true", "urgent_": _urgent(parameters), "routine_": f"NOT {_urgent(parameters)}"}.items():
        sums[f"{kind}begun_requests"] = f"count_if({test} AND _hours IS NOT NULL)"
        sums[f"{kind}hours_to_begin"] = f"sum(IF({test}, _hours, NULL))"
    return _part(rows.withColumn("_month", _month_of(STATES)), sums)


def first_responses(states: DataFrame, parameters: Mapping[str, Any]) -> DataFrame:
    """The final state of each request for maintenance, with ``first_response_at`` and ``_hours`` until it.

    The first response is the earliest state that shows that work began. It is null where no state told of one, or only after
    the request had been closed once: then it was begun unseen. Both instants must be known, and in this order.

    :param states: rows of silver.service_requests, of whole requests.
    """
    of_one = Window.partitionBy("request_id")
    begun = F.when(F.col("status").isin(*parameters["begun"]), F.col("updated_at"))
    ended = F.when(F.col("status").isin("closed", "cancelled"), F.coalesce("closed_at", "updated_at"))
    told = states.withColumns({"_begun": F.min(begun).over(of_one), "_ended": F.min(ended).over(of_one)})
    words = sql_text("|".join(parameters["maintenance_words"]))
    final = final_states(told, "request_id").where(f"lower(concat_ws(' ', request_type, request_detail)) RLIKE {words}")
    first = F.when(F.col("_ended").isNull() | (F.col("_begun") <= F.col("_ended")), F.col("_begun"))
    hours = f"CAST((unix_micros(first_response_at) - unix_micros(opened_at)) / 3600000000BD AS {_HOURS})"
    return final.withColumn("first_response_at", first).withColumn(
        "_hours", F.expr(f"IF(first_response_at >= opened_at, {hours}, NULL)")
    )


def _part(rows: DataFrame, sums: Mapping[str, str]) -> DataFrame:
    return rows.groupBy("_month").agg(*[F.expr(f"{what} AS {name}") for name, what in sums.items()])
