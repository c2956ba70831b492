"""receivables_ageing: bills against money, oldest first, and how long the rest has been due.

Source of the rules: reference of the domain, "Billing and payment rules": cash application oldest first, partial payments,
over-payment as credit, a return that opens the item again, arrears by days from the due day.
"""

from __future__ import annotations

import datetime as dt
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import CUSTOMERS, customers_of
from utilityflow.gold.days import day_of, number
from utilityflow.gold.marts import replace_rows
from utilityflow.scd2 import version_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from utilityflow.scd2 import Dimension

NAME, BILLS, PAYMENTS = "gold.receivables_ageing", "gold.fact_billing", "gold.fact_payment"
INPUTS = (BILLS, PAYMENTS, CUSTOMERS)
BUCKETS: Mapping[str, str] = {
    "not_due": "_late <= 0", "due_1_30": "_late BETWEEN 1 AND 30", "due_31_60": "_late BETWEEN 31 AND 60",
    "due_61_90": "_late BETWEEN 61 AND 90", "due_over_90": "_late > 90",
}  # fmt: skip
_MONEY = "decimal(18,4)"
_ACCOUNT = ("account_id", "is_account", "currency")


def run_receivables(run: Run) -> StepResult:
    """Make the mart anew as of the run's day, and write it where it differs."""
    house, table = run.house, run.house.table(NAME)
    inputs = [house.table(n) for n in INPUTS]
    now: dict[str, Any] = {t.name: t.version() for t in inputs} | {"as_of": run.as_of.isoformat()}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: as of {run.as_of}", step=NAME)
    bills, payments, customers = (t.read(now[t.name]) for t in inputs)
    rows = receivables(bills, payments, customers, customers_of(run), run.as_of)
    return replace_rows(run, table, rows, None, now)


def receivables(bills: DataFrame, payments: DataFrame, customers: DataFrame, dimension: Dimension, as_of: dt.date) -> DataFrame:
    """Rows of the mart.

    :param bills: rows of fact_billing. :param payments: rows of fact_payment. :param customers: rows of dim_customer.
    :param as_of: bills dated and money received until this day count.
    """
    lines, moved = located(*until(bills, payments, as_of))
    due, money = net_bills(lines), cash(moved)
    open_items = applied(due, money)
    late = F.datediff(F.lit(as_of), F.coalesce("due_date", "bill_date"))
    open_bills = open_items.where("open_amount > 0").withColumn("_late", late).groupBy(*_ACCOUNT).agg(
        F.count(F.lit(1)).alias("open_bills"), _sum("open_amount"),
        *[F.sum(F.expr(f"IF({test}, open_amount, 0)")).cast(_MONEY).alias(name) for name, test in BUCKETS.items()],
        F.min(F.coalesce("due_date", "bill_date")).alias("oldest_due_date"),
    )  # fmt: skip
    used = open_items.groupBy(*_ACCOUNT).agg(F.sum("_paid").alias("_used"))
    billed = due.groupBy(*_ACCOUNT).agg(_sum("amount", "billed"))
    received = money.groupBy(*_ACCOUNT).agg(_sum("amount", "received"))
    every = [_whose(lines, "billing_key"), _whose(moved, "payment_key")]
    who = reduce(DataFrame.unionByName, every).groupBy(*_ACCOUNT).agg(F.max_by("customer_id", "_order").alias("customer_id"))
    parts = [who, billed, received, used, open_bills]
    known = reduce(lambda left, right: left.join(right, list(_ACCOUNT), "left"), parts)
    zeros = ("billed", "received", "open_amount", *BUCKETS)
    rows = known.withColumns({
        **{n: F.coalesce(F.col(n), F.lit(0)).cast(_MONEY) for n in zeros},
        "open_bills": F.coalesce("open_bills", F.lit(0)).cast("bigint"),
        "as_of_date": F.lit(as_of),
        "receivables_key": F.expr("xxhash64('receivables_ageing', account_id, is_account, currency)"),
    }).withColumn("unapplied", (F.col("received") - F.coalesce("_used", F.lit(0))).cast(_MONEY))  # fmt: skip
    return version_of(rows, customers, dimension, day="as_of_date")


def until(bills: DataFrame, payments: DataFrame, as_of: dt.date) -> tuple[DataFrame, DataFrame]:
    """The bills dated, and the posted money received, until a day."""
    day = number(as_of)
    return bills.where(F.col("date_key") <= day), payments.where((F.col("date_key") <= day) & (F.col("status") == "posted"))


def located(bills: DataFrame, payments: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Bill lines and transactions with the account that they concern: ``account_id``, ``is_account``, ``customer_id``.

    Sources do not name both everywhere. A line belongs to the account of its bill (a cancellation to that of the bill that it
    takes back), a transaction to its own, that of the one that it reverses or gives back, or that of the bill which either names;
    where there is none, to the account of the customer, if bills know exactly one; else the customer himself stands for
    it (``is_account`` false). Rows that name nobody are left out.

    :return: the rows with ``_bill`` beside: of a line, the bill that it counts for; of a transaction, the bill that it pays.
    """
    own = bills.withColumn("_bill", F.coalesce("cancels_bill_id", "bill_id"))
    of_bill = bills.where("kind = 'bill'").groupBy(F.col("bill_id").alias("_bill")).agg(
        F.max("account_id").alias("_account"), F.max("customer_id").alias("_customer")
    )
    of_customer = bills.where("account_id IS NOT NULL AND customer_id IS NOT NULL").groupBy("customer_id").agg(
        F.min("account_id").alias("_only"), F.max("account_id").alias("_last")
    ).where("_only = _last").drop("_last")  # fmt: skip
    related = payments.select(F.col("payment_id").alias("related_payment_id"), F.col("bill_id").alias("_of_bill"),
                              F.col("account_id").alias("_of_account"), F.col("customer_id").alias("_of_customer"))  # fmt: skip
    money = payments.join(related, "related_payment_id", "left").withColumn("_bill", F.coalesce("bill_id", "_of_bill"))

    def settled(rows: DataFrame, account: Column, customer: Column) -> DataFrame:
        named = rows.withColumns({"_mine": account, "customer_id": customer}).join(of_customer, "customer_id", "left")
        at = F.coalesce("_mine", "_only")
        found = named.withColumns({"is_account": at.isNotNull(), "account_id": F.coalesce(at, F.col("customer_id"))})
        return found.where("account_id IS NOT NULL")

    lines = settled(own.join(of_bill, "_bill", "left"), F.coalesce("_account", "account_id"),
                    F.coalesce("_customer", "customer_id"))  # fmt: skip
    moved = settled(money.join(of_bill, "_bill", "left"), F.coalesce("account_id", "_of_account", "_account"),
                    F.coalesce("customer_id", "_of_customer", "_customer"))  # fmt: skip
    return lines, moved


def net_bills(lines: DataFrame) -> DataFrame:
    """One row per bill: account, currency, bill_id, bill_date, due_date and ``amount``, cancellations taken off.

    :param lines: as ``located`` gives them. A cancellation of a bill that is not known stands as a bill of its own.
    """
    own = lines.withColumns({
        "_own": F.expr("kind = 'bill'"),
        "bill_date": day_of("date_key"), "due_date": day_of("due_date_key"),
    })  # fmt: skip
    first = F.expr("min(struct(NOT _own, bill_date, due_date))")
    bills = own.groupBy(*_ACCOUNT, F.col("_bill").alias("bill_id")).agg(_sum("amount"), first.alias("_first"))
    return bills.select(*_ACCOUNT, "bill_id", "_first.bill_date", "_first.due_date", "amount")


def cash(payments: DataFrame) -> DataFrame:
    """Money by account, currency and the bill that it pays (null: none): ``amount``.

    :param payments: as ``located`` gives them: a reversal is of the bill of what it reverses, so it opens that again.
    """
    return payments.groupBy(*_ACCOUNT, F.col("_bill").alias("bill_id")).agg(_sum("amount"))


def applied(bills: DataFrame, money: DataFrame) -> DataFrame:
    """The bills with ``_paid`` (what was applied to them) and ``open_amount``.

    First each bill takes what names it, up to its amount; then all that is left of an account pays its bills from the oldest
    on. A bill of zero or less is never open: what it owes the customer pays other bills.

    :param bills: as ``net_bills`` gives them. :param money: as ``cash`` gives it.
    """
    named = money.where("bill_id IS NOT NULL").select(*_ACCOUNT, "bill_id", F.col("amount").alias("_named"))
    direct = bills.join(named, [*_ACCOUNT, "bill_id"], "left").withColumn(
        "_direct", F.expr("greatest(least(coalesce(_named, 0), amount), 0)")
    )
    pool = money.groupBy(*_ACCOUNT).agg(F.sum("amount").alias("_all"))
    taken = direct.groupBy(*_ACCOUNT).agg(F.sum("_direct").alias("_taken"), F.sum(F.expr("least(amount, 0)")).alias("_credit"))
    rest = taken.join(pool, list(_ACCOUNT), "left").selectExpr(
        *_ACCOUNT, "greatest(coalesce(_all, 0) - _taken - _credit, 0) AS _rest"
    )
    order = Window.partitionBy(*_ACCOUNT).orderBy(F.coalesce("due_date", "bill_date"), "bill_date", "bill_id")
    before = order.rowsBetween(Window.unboundedPreceding, -1)
    wanting = direct.withColumn("_want", F.expr("greatest(amount - _direct, 0)"))
    queued = wanting.withColumn("_before", F.coalesce(F.sum("_want").over(before), F.lit(0))).join(rest, list(_ACCOUNT))
    share = F.expr("greatest(least(_want, _rest - _before), 0)")
    return queued.withColumn("_share", share).select(
        *_ACCOUNT, "bill_id", "bill_date", "due_date", "amount",
        F.expr(f"CAST(_direct + _share + least(amount, 0) AS {_MONEY}) AS _paid"),
        F.expr(f"CAST(_want - _share AS {_MONEY}) AS open_amount"),
    )  # fmt: skip


def _whose(facts: DataFrame, key: str) -> DataFrame:
    """Account, currency and customer of the facts, with what orders them."""
    order = F.struct(F.col("customer_id").isNotNull(), "date_key", key).cast("struct<known:boolean,date_key:int,key:bigint>")
    return facts.select(*_ACCOUNT, "customer_id", order.alias("_order"))


def _sum(column: str, name: str | None = None) -> Column:
    return F.sum(column).cast(_MONEY).alias(name or column)
