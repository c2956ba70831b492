"""agg_usage_monthly: what each register of a meter measured in a month, for the customer who used it.

Grain, columns and parameters: schemas/gold/agg_usage_monthly.yaml.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from utilityflow.contracts import sql_text
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.marts import MONTH, definition, estimated
from utilityflow.gold.replacing import replace
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN_KEY

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from utilityflow.contracts import Contract

NAME, USAGE = "gold.agg_usage_monthly", "gold.fact_usage"
INPUTS = (USAGE,)
GRAIN = (MONTH, "customer_id", "meter_id", "commodity", "register", "direction", "unit")


def run_usage_monthly(run: Run) -> StepResult:
    """Bring the mart to the present facts: the months of which facts came or went are made anew, what differs is written."""
    table, fact = run.house.table(NAME), run.house.table(USAGE)
    now: dict[str, Any] = {USAGE: fact.version(), "parameters": definition(table.contract.property("parameters"))}
    now |= {"contract": table.contract.version}
    was = run.consumed.get(NAME, {}) if table.version() > 0 else {}
    if was == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    months = None
    # another contract may have gained a column, which rows that stand lack; version 1.0.0 was not noted
    if USAGE in was and all(was.get(n) == now[n] for n in ("parameters", "contract")):
        rows = fact.changes(was[USAGE], now[USAGE]).select(MONTH).distinct().collect()
        months = sorted(r[0] for r in rows)
        if not months:
            return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: {'all months' if months is None else f'{len(months)} month(s)'}", step=NAME)
    within = None if months is None else f"{MONTH} IN ({', '.join(map(sql_text, months))})"
    present = table.read() if within is None else table.read().where(within)
    written = replace(run, table, present, usage_monthly(fact.read(now[USAGE]), table.contract, months), now, within=within)
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)


def usage_monthly(facts: DataFrame, contract: Contract, months: Collection[str] | None) -> DataFrame:
    """Rows of the mart, in the contract's columns.

    One pass over the facts of the months: they are shuffled as they are, in narrow columns, and added up afterwards. Added up
    before it as well, they would fill a task's memory for nothing, since a file holds a day, and a day has one fact of most
    registers. Only values of fixed width are aggregated, which is what the engine can do without sorting.

    :param facts: rows of fact_usage. :param months: yyyy-MM; None: all.
    """
    mine = facts if months is None else facts.where(F.col(MONTH).isin(sorted(months)))
    guessed = estimated(contract.property("parameters")["estimated"])
    narrow = mine.select(
        *GRAIN, "customer_key", "meter_key", "date_key", "quantity", "usage_kwh", "peak_demand", "period_start", "period_end",
        F.expr(f"{guessed} AS _estimated"), F.expr("size(quality_flags) > 0 AS _flagged"),
        F.expr("datediff(period_end, period_start) AS _days"),
    )  # fmt: skip
    sums = narrow.repartition(MONTH, "meter_id").groupBy(*GRAIN).agg(
        _latest("customer_key"), _latest("meter_key"),
        F.expr("CAST(sum(quantity) AS decimal(24,6)) AS quantity"),
        F.expr("CAST(sum(IF(_estimated, quantity, 0)) AS decimal(24,6)) AS estimated_quantity"),
        F.expr("CAST(sum(usage_kwh) AS decimal(18,2)) AS usage_kwh"), F.max("peak_demand").alias("peak_demand"),
        F.count(F.lit(1)).alias("facts"), F.expr("count_if(_flagged) AS flagged_facts"),
        F.expr("CAST(sum(_days) AS int) AS days_with_reads"),
        F.expr("CAST(sum(IF(_estimated, _days, 0)) AS int) AS estimated_days"),
        F.min("period_start").alias("first_date"), F.max("period_end").alias("last_date"),
    )  # fmt: skip
    return sums.withColumns({
        "usage_month_key": hash64(contract, GRAIN, domain=contract.table),
        "date_key": F.expr(f"CAST(replace({MONTH}, '-', '') AS int) * 100 + 1"),
        # facts count whole in their month, a billed period too, and so do the first and the last day: nothing is cut
        "overlapping_days": F.expr("greatest(days_with_reads - datediff(last_date, first_date), 0)"),
    }).select(*contract.column_names)  # fmt: skip


def _latest(key: str) -> Column:
    """The key of the last fact; of several on one day (a billed period ends on a day with a read of its own) always the same.

    The day fills the upper bits of the number that orders them, the upper bits of the key the others; unknown is lowest.
    """
    upper = f"IF({key} = {UNKNOWN_KEY}, 0, greatest(shiftrightunsigned({key}, 28), 1))"
    order = f"shiftleft(CAST(date_key AS bigint), 36) + {upper}"
    return F.expr(f"max_by({key}, {order}) AS {key}")
