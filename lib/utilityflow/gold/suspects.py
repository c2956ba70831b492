"""Payments that may be one payment told twice under two numbers: found and marked, never taken away.

A rule sees one record, and exact repeats leave in silver; two payments that are alike in all but their number show up among the
facts alone. Whether one is marked depends on those of at most ``DAYS`` before it, so a change is followed in the days around it.
"""

from __future__ import annotations

import datetime as dt

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.control.run import Run
from utilityflow.gold.changes import Grain, small
from utilityflow.gold.days import day_of, number

COLUMN, DAYS = "is_suspected_duplicate", 1
_ALIKE = ("account_id", "customer_id", "amount", "currency", "payment_method_key", "bill_id")
_READ = ("payment_id", "kind", "status", "date_key", *_ALIKE)
Days = tuple[dt.date, dt.date]


def suspected(payments: DataFrame, key: str) -> DataFrame:
    """Keys of the posted payments that have a like one, under another number, on their day or up to ``DAYS`` before it.

    Alike are account (or customer, where none is named), amount, currency, method with channel, and the bill that is named, if
    any. Of two on one day the one with the greater number counts as the later.

    :param payments: facts.
    """
    who = F.coalesce(F.concat(F.lit("A"), "account_id"), F.concat(F.lit("C"), "customer_id"))
    posted = payments.where("kind = 'payment' AND status = 'posted'").withColumn("_who", who).where("_who IS NOT NULL")
    of_one = Window.partitionBy("_who", *_ALIKE[2:]).orderBy("date_key", "payment_id")
    before = posted.withColumn("_before", F.lag("date_key").over(of_one))
    return before.where(F.datediff(day_of("date_key"), day_of("_before")) <= DAYS).select(key)


def with_suspects(payments: DataFrame, key: str, found: DataFrame | None = None) -> DataFrame:
    """Facts with the column. :param found: keys as ``suspected`` gives them; None: those among these very facts."""
    found = suspected(payments, key) if found is None else small(found)
    seen = found.select(key, F.lit(True).alias("_suspected"))
    marked = payments.join(seen, key, "left").withColumn(COLUMN, F.coalesce("_suspected", F.lit(False)))
    return marked.select(*dict.fromkeys([*payments.columns, COLUMN]))


def days_told(changed: DataFrame) -> Days | None:
    """First and last day of payments that came, went or changed; None: there are none.

    :param changed: as ``changes.differing`` gives them: ``_place`` is the day on which a fact stood until now.
    """
    when = changed.select(F.explode(F.array("date_key", "_place")).alias("day")).where("day > 0")
    low, high = when.agg(F.min(day_of("day")), F.max(day_of("day"))).collect()[0]
    return None if low is None else (low, high)


def follow(run: Run, grain: Grain, changed: DataFrame, days: Days | None) -> DataFrame:
    """The changes with the column, and the facts beside them that are suspected, or are no longer, because of them.

    :param changed: complete rows as ``changes.differing`` gives them, staged. :param days: what changed lies between them;
        others among ``changed`` (facts that only got another key) keep their mark. None: all facts are looked at.
    """
    key = grain.key
    # a payment's mark depends on those of DAYS before it: what is marked anew, and what is looked at for that
    own, around = _near(days, DAYS), _near(days, 2 * DAYS)
    replaced = small(changed.where("_action <> 'I'").select(key))
    others = run.house.table(grain.name).read().where(around).join(replaced, key, "left_anti")
    now = [rows.where(around).select(key, *_READ) for rows in (changed.where("_action <> 'D'"), others)]
    found = run.staged(suspected(now[0].unionByName(now[1]), key), "payment_suspects")
    beside = with_suspects(others.where(own).withColumn("_was", F.col(COLUMN)), key, found)
    beside = beside.where(f"NOT ({COLUMN} <=> _was)").drop("_was").selectExpr("*", "'U' AS _action", f"{grain.place} AS _place")
    marked = with_suspects(changed.withColumn("_was", F.col(COLUMN)), key, found)
    marked = marked.withColumn(COLUMN, F.when(own, F.col(COLUMN)).otherwise(F.col("_was"))).drop("_was")
    return marked.unionByName(run.staged(beside, "payment_beside"))


def _near(days: Days | None, reach: int) -> Column:
    """Condition for facts between these days, or so many days beside them."""
    if days is None:
        return F.lit(True)
    low, high = days[0] - dt.timedelta(days=reach), days[1] + dt.timedelta(days=reach)
    return F.col("date_key").between(number(low), number(high))
