"""kpi_customer_satisfaction: how requests and complaints were dealt with, by month, district and type of request.

The definitions and their parameters are those of the table's contract (schemas/gold/kpi_customer_satisfaction.yaml), after
the reference of the domain, "Customer-service metrics regulators ask for": first contact resolution has no single
definition, so that the days and the topic are parameters; no score of a survey is made up here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import sql_text
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.days import day_of, month_of, number
from utilityflow.gold.marts import MONTH, as_it_is, days_changed, definition, moved, ratio, replace_months

NAME, REQUESTS, TYPES = "gold.kpi_customer_satisfaction", "gold.fact_service_request", "gold.dim_request_type"
_GROUP = (MONTH, "district", "request_type")
_SUMS = ("requests", "open_requests", "resolved_requests", "resolution_hours", "due_requests", "on_time_requests",
         "complaints", "contact_requests", "first_contact_requests")  # fmt: skip


def run_satisfaction(run: Run) -> StepResult:
    """Bring the mart to the present facts: the months that they touch are made anew."""
    house, table = run.house, run.house.table(NAME)
    facts, types = house.table(REQUESTS), house.table(TYPES)
    parameters = table.contract.property("parameters")
    now: dict[str, Any] = {t.name: t.version() for t in (facts, types)}
    now |= {"parameters": definition(parameters), "contract": table.contract.version}
    was = run.consumed.get(NAME, {}) if table.version() > 0 else {}
    if was == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    months = None
    # facts that name another type got another key by themselves; but other words may belong to facts that had none
    if {n: v for n, v in was.items() if n != REQUESTS} == {n: v for n, v in now.items() if n != REQUESTS}:
        days = days_changed(facts, was[REQUESTS], now[REQUESTS])
        months = touched(facts.read(now[REQUESTS]), days, int(parameters["contact_days"]))
        if not months:
            return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: {'all months' if months is None else f'{len(months)} month(s)'}", step=NAME)
    rows = satisfaction(facts.read(now[REQUESTS]), types.read(now[TYPES]), parameters, months, run.staged)
    return replace_months(run, table, rows, months, now)


def touched(requests: DataFrame, days: Collection[dt.date], contact_days: int) -> set[str]:
    """The months whose rows can change when requests of these days do.

    A request is a second contact for one that was closed up to ``contact_days`` before it, which counts in the month in which
    it was opened. The month after each compares its complaints with it.

    :param requests: all facts.
    """
    own = {f"{d:%Y-%m}" for d in days}
    before = {d - dt.timedelta(days=n) for d in days for n in range(contact_days + 1)}
    closed = requests.where(F.col("closed_date_key").isin(sorted(map(number, before)))) if before else None
    opened = closed.select(F.expr("date_key div 100")).distinct().collect() if closed is not None else []
    own |= {f"{r[0] // 100:04d}-{r[0] % 100:02d}" for r in opened}
    return own | {moved(month, 1) for month in own}


def satisfaction(requests: DataFrame, types: DataFrame, parameters: Mapping[str, Any], months: Collection[str] | None,
                 keep: Callable[[DataFrame, str], DataFrame] = as_it_is) -> DataFrame:  # fmt: skip
    """Rows of the mart.

    :param requests: facts. :param types: dim_request_type. :param parameters: ``contact_days`` (days within which a further
        request of the customer, of the same type, is a second contact), ``complaint_words`` (a type or detail that holds one
        is a complaint), ``weights`` of the score: on_time, first_contact, no_complaint.
    :param months: yyyy-MM; None: all. :param keep: how the sums, which are read several times, are stored.
    """
    every = requests.join(F.broadcast(types), "request_type_key").select(
        month_of("date_key").alias(MONTH), F.coalesce("district", F.lit("?")).alias("district"), "request_type",
        "request_type_key", "request_key", "customer_id", "request_detail", "status", "is_open", "resolution_hours",
        "closed_late", "date_key",
        day_of("date_key").alias("_opened"), day_of("closed_date_key").alias("_closed"), "opened_at", "closed_at",
    )  # fmt: skip
    wanted = None if months is None else sorted({*months, *(moved(m, -1) for m in months)})
    own = every if wanted is None else every.where(F.col(MONTH).isin(wanted))
    judged = _with_contacts(own, every, int(parameters["contact_days"]))
    is_complaint = complaint(parameters["complaint_words"])
    sums = judged.groupBy(*_GROUP, "request_type_key").agg(
        F.expr("count(1) AS requests"), F.expr("count_if(is_open) AS open_requests"),
        F.expr("count(resolution_hours) AS resolved_requests"),
        F.expr("CAST(coalesce(sum(resolution_hours), 0) AS decimal(18,2)) AS resolution_hours"),
        F.expr("count(closed_late) AS due_requests"), F.expr("count_if(NOT closed_late) AS on_time_requests"),
        F.expr(f"count_if({is_complaint}) AS complaints"), F.expr("count(_again) AS contact_requests"),
        F.expr("count_if(NOT _again) AS first_contact_requests"),
    )  # fmt: skip
    rows = _scored(_compared(keep(sums, "satisfaction_sums")), parameters["weights"])
    return rows if months is None else rows.where(F.col(MONTH).isin(sorted(months)))


def complaint(words: Sequence[str]) -> str:
    """SQL condition, over a request with its type, that it is a complaint: its type or detail holds one of the words."""
    return f"lower(concat_ws(' ', request_type, request_detail)) RLIKE {sql_text('|'.join(words))}"


def _with_contacts(own: DataFrame, every: DataFrame, days: int) -> DataFrame:
    """With ``_again``: whether the customer came again with the same type, up to so many days after the request was closed.

    Null where it cannot be said: the request is open or was cancelled, its day of closing or its customer is unknown. One that
    was cancelled is a contact, all the same: the customer did come.
    """
    later = every.select(F.col("customer_id").alias("_who"), F.col("request_type_key").alias("_what"),
                         F.col("_opened").alias("_when"), F.col("opened_at").alias("_at"),
                         F.col("request_key").alias("_other"))  # fmt: skip
    # of two on one day without instants the one with the greater key counts as the later
    after = F.expr("""IF(closed_at IS NOT NULL AND _at IS NOT NULL, _at >= closed_at,
        _when > _opened OR (_when = _opened AND _other > request_key))""")
    second = (
        (F.col("customer_id") == F.col("_who")) & (F.col("request_type_key") == F.col("_what"))
        & (F.col("request_key") != F.col("_other")) & after
        & F.col("_when").between(F.col("_closed"), F.date_add("_closed", days))
    )  # fmt: skip
    again = own.join(later, second, "left_semi").select("request_key", F.lit(True).alias("_seen"))
    can = F.expr("status = 'closed' AND _closed IS NOT NULL AND customer_id IS NOT NULL")
    return own.join(again, "request_key", "left").withColumn("_again", F.when(can, F.coalesce("_seen", F.lit(False))))


def _compared(sums: DataFrame) -> DataFrame:
    """With ``complaints_before``: those of the month before, 0 where it had none; null where no request of that month is known.

    A group that had requests in the month before and has none now gets a row of zeros, or its complaints would never fall to
    nothing. In a month of which no request is known at all nobody gets one: that they ended there would be a guess.
    """
    key = [*_GROUP, "request_type_key"]
    months = sums.select(MONTH).distinct()
    next_month = F.expr(f"date_format(add_months(to_date(concat({MONTH}, '-01')), 1), 'yyyy-MM')").alias(MONTH)
    before = sums.select(next_month, *key[1:], F.col("complaints").alias("_complaints")).join(months, MONTH, "left_semi")
    after = months.select(next_month, F.lit(True).alias("_known"))
    both = sums.join(before, key, "full_outer").join(after, MONTH, "left")
    filled = [F.coalesce(name, F.lit(0)).alias(name) for name in _SUMS]
    return both.select(*key, *filled, F.expr("IF(_known, coalesce(_complaints, 0), NULL) AS complaints_before"))


def _scored(sums: DataFrame, weights: Mapping[str, float]) -> DataFrame:
    """With the ratios, and the score of 0 to 100: the weighted mean of the shares that are known."""
    shares = sums.select(
        *_GROUP, "request_type_key", *_SUMS, "complaints_before",
        ratio("resolution_hours", "resolved_requests", "average_resolution_hours", "decimal(12,2)"),
        ratio("on_time_requests", "due_requests", "on_time_share"),
        ratio("first_contact_requests", "contact_requests", "first_contact_share"),
        ratio("complaints", "requests", "complaint_share"),
        F.expr("complaints - complaints_before AS complaints_change"),
    )  # fmt: skip
    parts = {"on_time_share": ("on_time", "on_time_share"), "first_contact_share": ("first_contact", "first_contact_share"),
             "complaint_share": ("no_complaint", "1 - complaint_share")}  # fmt: skip
    weighted = " + ".join(f"coalesce({weights[w]}BD * ({value}), 0)" for w, value in parts.values())
    known = " + ".join(f"IF({column} IS NULL, 0BD, {weights[w]}BD)" for column, (w, _) in parts.items())
    first = F.expr(f"CAST(replace({MONTH}, '-', '') AS int) * 100 + 1").alias("date_key")
    key = F.expr(f"xxhash64('kpi_customer_satisfaction', {MONTH}, district, request_type)").alias("satisfaction_key")
    score = F.expr(f"CAST(100 * ({weighted}) / nullif({known}, 0) AS decimal(6,2)) AS service_quality_score")
    return shares.select("*", key, first, score)
