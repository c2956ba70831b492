"""receivables_ageing: bills against money, oldest first, and how long the rest has been due.

Source of the rules: reference of the domain, "Billing and payment rules": cash application oldest first, partial payments,
over-payment as credit, a return that opens the item again, arrears by days from the due day.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import CUSTOMERS, dimension_of, versions_at
from utilityflow.gold.days import day_of, number
from utilityflow.gold.marts import as_it_is, replace_rows
from utilityflow.scd2 import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from utilityflow.scd2 import Dimension

NAME, BILLS, PAYMENTS = "gold.receivables_ageing", "gold.fact_billing", "gold.fact_payment"
INPUTS = (BILLS, PAYMENTS, CUSTOMERS)
BUCKETS: Mapping[str, str] = {
    "not_due": "_late <= 0", "due_1_30": "_late BETWEEN 1 AND 30", "due_31_60": "_late BETWEEN 31 AND 60",
    "due_61_90": "_late BETWEEN 61 AND 90", "due_over_90": "_late > 90",
}  # fmt: skip
MONEY = "decimal(18,4)"
ACCOUNT = ("account_id", "is_account", "currency")


def run_receivables(run: Run) -> StepResult:
    """Make the mart anew as of the run's day, and write it where it differs."""
    house, table = run.house, run.house.table(NAME)
    now: dict[str, Any] = {n: house.table(n).version() for n in INPUTS} | {"as_of": run.as_of.isoformat()}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: as of {run.as_of}", step=NAME)
    bills, payments = (house.table(n).read(now[n]) for n in (BILLS, PAYMENTS))
    customers = versions_at(run, CUSTOMERS, now[CUSTOMERS])
    rows = receivables(bills, payments, customers, dimension_of(run, CUSTOMERS), run.as_of, shared(run, now))
    return replace_rows(run, table, rows, None, now)


def shared(run: Run, now: Mapping[str, Any]) -> Callable[[DataFrame, str], DataFrame]:
    """What stores a step on the way once in a run, for all tables that are made of these versions of bills and payments."""
    at = f"{now[BILLS]}_{now[PAYMENTS]}"
    return lambda frame, name: run.once(f"{name}_{at}", lambda: run.staged(frame, name))


def receivables(bills: DataFrame, payments: DataFrame, customers: DataFrame, dimension: Dimension, as_of: dt.date,
                keep: Callable[[DataFrame, str], DataFrame] = as_it_is) -> DataFrame:  # fmt: skip
    """Rows of the mart.

    :param bills: rows of fact_billing. :param payments: rows of fact_payment. :param customers: rows of dim_customer.
    :param as_of: bills dated and money received until this day count. :param keep: how a step on the way is stored.
    """
    lines, moved = located(*until(bills, payments, as_of))
    items = items_of(lines, moved, keep)
    due_day = F.coalesce("due_date", "bill_date")
    items = items.withColumns({"_open": F.expr("open_amount > 0"), "_due": due_day, "_late": F.datediff(F.lit(as_of), due_day)})
    known = items.groupBy(*ACCOUNT).agg(
        F.max("_last").alias("_last"), F.expr("count_if(_open) AS open_bills"), F.sum("_paid").alias("_used"),
        _sum("amount", "billed"), _sum("_in", "received"), _sum("open_amount"),
        *[F.sum(F.expr(f"IF(_open AND {test}, open_amount, 0)")).cast(MONEY).alias(name) for name, test in BUCKETS.items()],
        F.min(F.when(F.col("_open"), F.col("_due"))).alias("oldest_due_date"),
    )  # fmt: skip
    rows = known.withColumns({
        "customer_id": F.col("_last.customer_id"),
        **{n: F.coalesce(F.col(n), F.lit(0)).cast(MONEY) for n in ("billed", "received")},
        "as_of_date": F.lit(as_of),
        "receivables_key": F.expr("xxhash64('receivables_ageing', account_id, is_account, currency)"),
    }).withColumn("unapplied", (F.col("received") - F.col("_used")).cast(MONEY))  # fmt: skip
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
    """One row per bill: account, currency, bill_id, bill_date, due_date, ``amount``, cancellations taken off, and ``_last``.

    :param lines: as ``located`` gives them. A cancellation of a bill that is not known stands as a bill of its own.
    """
    own = lines.withColumns({
        "_own": F.expr("kind = 'bill'"),
        "bill_date": day_of("date_key"), "due_date": day_of("due_date_key"),
    })  # fmt: skip
    first = F.expr("min(struct(NOT _own, bill_date, due_date))")
    bills = own.groupBy(*ACCOUNT, F.col("_bill").alias("bill_id")).agg(
        _sum("amount"), first.alias("_first"), _whose("billing_key")
    )
    return bills.select(*ACCOUNT, "bill_id", "_first.bill_date", "_first.due_date", "amount", "_last")


def cash(payments: DataFrame) -> DataFrame:
    """Money by account, currency and the bill that it pays (null: none): ``amount`` and ``_last``.

    :param payments: as ``located`` gives them: a reversal is of the bill of what it reverses, so it opens that again.
    """
    return payments.groupBy(*ACCOUNT, F.col("_bill").alias("bill_id")).agg(_sum("amount"), _whose("payment_key"))


def items_of(lines: DataFrame, moved: DataFrame, keep: Callable[[DataFrame, str], DataFrame]) -> DataFrame:
    """``queued`` of lines and transactions as ``located`` gives them. :param keep: how bills and money are stored on the way."""
    return queued(keep(net_bills(lines), "receivables_due"), keep(cash(moved), "receivables_cash"))


def queued(bills: DataFrame, money: DataFrame) -> DataFrame:
    """Bills and money side by side: a row per account, currency and bill (of money also: a bill that is not known, or none).

    First each bill takes what names it, up to its amount; then all that is left of an account pays its bills from the oldest
    on. A bill of zero or less is never open: what it owes the customer pays other bills.

    :param bills: as ``net_bills`` gives them. :param money: as ``cash`` gives it.
    :return: with ``amount`` (null: no bill that is known), ``_in`` (the money that names it), ``_direct`` (what it took of that)
        and ``_share`` (of the account's rest), ``_paid`` (what was applied to it), ``open_amount`` and ``_last``. All of it takes
        one shuffle, by account.
    """
    no_day, nothing = F.lit(None).cast("date"), F.lit(None).cast(MONEY)
    sides = [
        bills.select(*ACCOUNT, "bill_id", "bill_date", "due_date", "amount", nothing.alias("_in"), "_last"),
        money.select(*ACCOUNT, "bill_id", no_day.alias("bill_date"), no_day.alias("due_date"), nothing.alias("amount"),
                     F.col("amount").alias("_in"), "_last"),
    ]  # fmt: skip
    values = ("bill_date", "due_date", "amount", "_in", "_last")  # of each side there is one row at most
    both = sides[0].unionByName(sides[1]).repartition(*ACCOUNT).groupBy(*ACCOUNT, "bill_id").agg(
        *[F.max(name).alias(name) for name in values]
    )  # fmt: skip
    of_account = Window.partitionBy(*ACCOUNT)
    in_order = of_account.orderBy(F.coalesce("due_date", "bill_date"), "bill_date", "bill_id")
    before = in_order.rowsBetween(Window.unboundedPreceding, -1)
    direct = both.withColumn("_direct", F.expr("IF(amount IS NULL, 0, greatest(least(coalesce(_in, 0), amount), 0))"))
    sums = direct.withColumns({
        "_want": F.expr("IF(amount IS NULL, 0, greatest(amount - _direct, 0))"),
        "_all": F.sum("_in").over(of_account),
        "_taken": F.sum(F.expr("_direct + IF(amount < 0, amount, 0)")).over(of_account),
    })  # fmt: skip
    queue = sums.withColumns({
        "_rest": F.expr("greatest(coalesce(_all, 0) - _taken, 0)"),
        "_before": F.coalesce(F.sum("_want").over(before), F.lit(0)),
    }).withColumn("_share", F.expr("greatest(least(_want, _rest - _before), 0)"))  # fmt: skip
    return queue.select(
        *ACCOUNT, "bill_id", *values, "_direct", "_share",
        F.expr(f"CAST(_direct + _share + IF(amount < 0, amount, 0) AS {MONEY}) AS _paid"),
        F.expr(f"CAST(_want - _share AS {MONEY}) AS open_amount"),
    )  # fmt: skip


def _whose(key: str) -> Column:
    """``_last``: the customer that the newest fact names, with what orders them."""
    last = F.struct(F.col("customer_id").isNotNull().alias("known"), F.col("date_key").cast("int").alias("day"),
                    F.col(key).cast("bigint").alias("key"), "customer_id")  # fmt: skip
    return F.max(last).alias("_last")


def _sum(column: str, name: str | None = None) -> Column:
    return F.sum(column).cast(MONEY).alias(name or column)
