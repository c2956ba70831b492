"""payment_application: which money paid which bill, and what is open on it.

The rules are those of ``receivables``: what names a bill pays that bill, all that is left of an account pays its bills from the
oldest on. Here each bill keeps what came of it, so that the ageing of an account can be followed to its bills. Source: reference
of the domain, "Billing and payment rules", and number 11 of its features (payments in = applied + unapplied).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.gold.days import day_key, day_of
from utilityflow.gold.marts import as_it_is
from utilityflow.gold.receivables import ACCOUNT, BILLS, MONEY, PAYMENTS, items_of, located, shared, until
from utilityflow.gold.replacing import replace
from utilityflow.gold.touched import NEEDED, touched
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from utilityflow.contracts import Contract
    from utilityflow.lakehouse import Table

NAME = "gold.payment_application"
INPUTS = (BILLS, PAYMENTS)
_BILL = (*ACCOUNT, "bill_id")


def run_application(run: Run) -> StepResult:
    """Bring the table to the present bills, money and day: touched accounts are made anew, of them is written what differs."""
    house, table = run.house, run.house.table(NAME)
    now: dict[str, Any] = {n: house.table(n).version() for n in INPUTS}
    now |= {"as_of": run.as_of.isoformat(), "contract": table.contract.version}
    was = run.consumed.get(NAME, {}) if table.version() > 0 else {}
    if was == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    held, wanted = renewed(run, table, was, now)
    written = replace(run, table, held, wanted, now) if wanted is not None else 0
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)


def renewed(run: Run, table: Table, was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[DataFrame, DataFrame | None]:
    """Rows of the table, and those that take their place: of the accounts that are touched, or of all (see ``touched``).

    What is stored on the way is shared with receivables_ageing where it is of all accounts. None: nothing is touched.
    """
    bills, payments = (run.house.table(n).read(now[n]).select(*columns) for n, columns in NEEDED.items())
    held, keep, those = table.read(), shared(run, now), touched(run, was, now, table.read(), (bills, payments))
    run.say(f"{NAME}: as of {run.as_of}, {'all' if those is None else those.accounts} account(s)", step=NAME)
    if those is not None:
        if not those.accounts:
            return held.limit(0), None
        held, keep = those.of(held, "bill_id"), run.staged
        # the rules read them a dozen times
        bills = run.staged(those.of(bills, "bill_id"), "application_bills")
        payments = run.staged(those.of(payments, "payment_id"), "application_payments")
    return held, run.staged(application(bills, payments, table.contract, run.as_of, keep), table.contract.table)


def application(bills: DataFrame, payments: DataFrame, contract: Contract, as_of: dt.date,
                keep: Callable[[DataFrame, str], DataFrame] = as_it_is) -> DataFrame:  # fmt: skip
    """Rows of the table, one per bill.

    :param bills: rows of fact_billing. :param payments: rows of fact_payment.
    :param as_of: bills dated and money received until this day count.
    :param keep: how a step on the way is stored.
    """
    lines, moved = located(*until(bills, payments, as_of))
    rows = keep(parts(items_of(lines, moved, keep), moved), "application_parts")
    days = rows.join(paid_by(rows, moved), list(_BILL), "left").withColumn("_named", F.expr("IF(paid_directly > 0, _came, NULL)"))
    return days.withColumns({
        "application_key": hash64(contract, _BILL, domain=contract.table),
        "date_key": F.coalesce(day_key("bill_date"), F.lit(UNKNOWN_KEY)),
        "last_payment_date": F.greatest(day_of("_named"), day_of("_pool_day")),
    }).select(*contract.column_names)  # fmt: skip


def parts(items: DataFrame, moved: DataFrame) -> DataFrame:
    """The bills with ``paid_directly``, ``paid_from_pool`` and ``credit_used``, each DECIMAL(18,4) and 0 at least.

    An account's pool is the money that no bill took because it named it, and the credit of its bills below zero. Bills take of it
    from the oldest on, and credit is used before money.

    :param items: as ``queued`` gives them. :param moved: money as ``located`` gives it.
    :return: beside ``items``: ``_came`` and ``_last`` (date_key of the newest money in, and of the newest transaction, that names
        the bill), ``_end`` (how much money of the pool this bill and those before it took; null where this one took none).
    """
    named = moved.where("_bill IS NOT NULL").groupBy(*ACCOUNT, F.col("_bill").alias("bill_id")).agg(
        F.max(F.expr("IF(amount > 0, date_key, NULL)")).alias("_came"), F.max("date_key").alias("_last"),
    )  # fmt: skip
    bills = items.where("amount IS NOT NULL").drop("_last")  # the rest is money of no bill that is known
    rows = bills.join(named, list(_BILL), "left").withColumns({
        "paid_directly": F.col("_direct").cast(MONEY), "paid_from_pool": F.col("_share").cast(MONEY),
    })  # fmt: skip
    of_account = Window.partitionBy(*ACCOUNT)
    in_order = of_account.orderBy(F.coalesce("due_date", "bill_date"), "bill_date", "bill_id")
    queue = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    rows = rows.withColumns({
        "_credit": -F.sum(F.expr("least(amount, 0)")).over(of_account),
        "_until": F.sum("paid_from_pool").over(queue),
    })  # fmt: skip
    used = "least(_until, _credit) - least(_until - paid_from_pool, _credit)"
    rows = rows.withColumn("credit_used", F.expr(f"CAST({used} AS {MONEY})"))
    return rows.withColumn("_end", F.expr("IF(paid_from_pool > credit_used, _until - _credit, NULL)"))


def paid_by(rows: DataFrame, moved: DataFrame) -> DataFrame:
    """The bills that took money of the pool, with ``_pool_day``: date_key of the day since which enough had come for good.

    Money that is given back or returned lowers what had come, so a day counts from which on the pool never fell below what the
    bill and those before it took. Days and bills of an account are merged in one order instead of being compared each with each.

    :param rows: as ``parts`` gives them. :param moved: money as ``located`` gives it.
    """
    loose = moved.select(*ACCOUNT, F.col("_bill").alias("bill_id"), "date_key", "amount").join(
        rows.select(*_BILL), list(_BILL), "left_anti"
    )
    over = rows.where("_in IS NOT NULL").select(*ACCOUNT, F.col("_last").alias("date_key"),
                                                F.expr("_in - paid_directly AS amount"))  # fmt: skip
    came = loose.drop("bill_id").unionByName(over).groupBy(*ACCOUNT, "date_key").agg(F.sum("amount").alias("_amount"))
    by_day = Window.partitionBy(*ACCOUNT).orderBy("date_key")
    sums = came.withColumn("_sum", F.sum("_amount").over(by_day.rowsBetween(Window.unboundedPreceding, Window.currentRow)))
    kept = F.min("_sum").over(by_day.rowsBetween(Window.currentRow, Window.unboundedFollowing))
    days = sums.select(*ACCOUNT, kept.alias("_value"), F.lit(None).cast("string").alias("bill_id"), "date_key")
    taken = rows.where("_end IS NOT NULL").select(*ACCOUNT, F.col("_end").alias("_value"), "bill_id",
                                                  F.lit(None).cast("int").alias("date_key"))  # fmt: skip
    falling = Window.partitionBy(*ACCOUNT).orderBy(F.desc("_value"), F.asc_nulls_first("bill_id"))
    first = F.min("date_key").over(falling.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    found = days.unionByName(taken).withColumn("_pool_day", first)
    return found.where("bill_id IS NOT NULL").select(*_BILL, "_pool_day")
