"""What is touched when bills or money come, go or change: only of that must it be found out anew which money paid which bill.

Bill lines and transactions name accounts, customers, bills and transactions. Rows that share a name may decide for each other
to which account they belong (see ``receivables.located``), so a change is followed from name to name until no row names
another. What was not reached has the same rows, found in the same way, in both states: see ``followed``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.control.run import Run
from utilityflow.gold.changes import MANY_ROWS, small
from utilityflow.gold.days import number
from utilityflow.gold.receivables import BILLS, PAYMENTS, until

# the columns of the two facts that decide which money paid which bill: all that payment_application is given
LINE = ("billing_key", "bill_id", "cancels_bill_id", "kind", "account_id", "customer_id", "currency", "date_key",
        "due_date_key", "amount")  # fmt: skip
TRANSACTION = ("payment_key", "payment_id", "related_payment_id", "bill_id", "account_id", "customer_id", "currency", "date_key",
               "status", "amount")  # fmt: skip
NEEDED: Mapping[str, tuple[str, ...]] = {BILLS: LINE, PAYMENTS: TRANSACTION}
_ACCOUNT, _CUSTOMER, _BILL, _TRANSACTION = range(4)
# column -> of which kind the name is that stands there
NAMES: Mapping[str, int] = {
    "account_id": _ACCOUNT, "customer_id": _CUSTOMER, "bill_id": _BILL, "cancels_bill_id": _BILL,
    "payment_id": _TRANSACTION, "related_payment_id": _TRANSACTION,
}  # fmt: skip
FEW = 100_000  # bills: of fewer, all is made sooner than it is found what is touched
SHARE = 0.25  # of the accounts: where more are touched, making all costs no more
ROUNDS = 12  # so often names are followed; two or three times is usual


@dataclass(frozen=True)
class Touched:
    """``names``: numbers (``name``) of all that is touched. ``accounts``: how many of them are accounts, or customers who
    are named without one.
    """  # noqa: D205

    names: DataFrame
    accounts: int

    def of(self, rows: DataFrame, column: str) -> DataFrame:
        """The rows that are touched. :param column: the one of which each row has a name: its bill, or its transaction."""
        return rows.withColumn("name", _name(column)).join(F.broadcast(self.names), "name", "left_semi").select(*rows.columns)


def touched(run: Run, was: Mapping[str, Any], now: Mapping[str, Any], held: DataFrame,
            facts: tuple[DataFrame, DataFrame]) -> Touched | None:  # fmt: skip
    """What may come out differently now than in a table made of ``was``; None: look at everything.

    Everything is looked at where nothing tells of what the table was made (or by the same contract), where the history of a
    fact cannot be read any more, where the table is small, and where much is touched.

    :param was: versions, as-of date and contract that the table reflects. :param now: those that it is to reflect.
    :param held: rows of the table: ``account_id``. :param facts: bills and payments of ``now``, the columns of NEEDED.
    """
    known = was.keys() == now.keys() and was["contract"] == now["contract"]
    if not known or any(was[name] > now[name] for name in NEEDED) or held.count() < FEW:
        return None
    changes = _changes_between(run, was, now, facts)
    if changes is None:
        return None
    rows = _named(until(*facts, dt.date.fromisoformat(now["as_of"]))).unionByName(changes)
    return followed(run, changes, rows, SHARE * held.select("account_id").distinct().count())


# -- what changed ------------------------------------------------------------------------------------------------------


def _changes_between(run: Run, was: Mapping[str, Any], now: Mapping[str, Any],
                     facts: tuple[DataFrame, DataFrame]) -> DataFrame | None:  # fmt: skip
    """The names of the rows that count in only one of the two states; None: the history does not tell."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    try:
        return run.staged(changed(run, was, now, facts), "application_changes")
    except (PySparkException, Py4JJavaError):  # vacuumed, or from before there was a change feed: read all, which tells of damage
        run.say("what changed of bills or money cannot be read any more: all accounts are looked at")
        return None


def changed(run: Run, was: Mapping[str, Any], now: Mapping[str, Any], facts: tuple[DataFrame, DataFrame]) -> DataFrame:
    """The columns of NAMES of bill lines and transactions that came, went or changed, or whose day an as-of date passed.

    A row of which only other columns changed, as its customer has another version, is none of them.
    """
    early, late = sorted(dt.date.fromisoformat(told["as_of"]) for told in (was, now))
    passed = [rows.where(F.col("date_key") > number(early)) for rows in facts] if early < late else []
    moved = [_moved(run, name, was[name], now[name], rows) for name, rows in zip(NEEDED, facts, strict=True)]
    pairs = [(moved[0], moved[1]), *([(passed[0], passed[1])] if passed else [])]
    return reduce(DataFrame.unionByName, [_named(until(*pair, late)) for pair in pairs])


def _moved(run: Run, fact: str, since: int, until_version: int, rows: DataFrame) -> DataFrame:
    """Rows of a fact, by the columns of NEEDED, that only one of two versions has."""
    if since == until_version:
        return rows.limit(0)
    sign = F.expr("IF(_change_type IN ('insert', 'update_postimage'), 1, -1)").alias("_sign")
    changes = run.house.table(fact).changes(since, until_version).select(*NEEDED[fact], sign)
    return changes.groupBy(*NEEDED[fact]).agg(F.sum("_sign").alias("_more")).where("_more <> 0").drop("_more")


# -- what hangs together -----------------------------------------------------------------------------------------------


def followed(run: Run, changes: DataFrame, rows: DataFrame, most: float) -> Touched | None:
    """All names that hang together with those of the changes; None where they are too many.

    A row belongs to the account that it names, or the bill or transaction that it names, or its customer's only one. So rows
    that share an account, a bill or a transaction are followed, and of customers those who are named somewhere without an
    account: nobody asks which account is another's only one. One who has many accounts does not tie them together then.

    :param changes: columns of NAMES of the rows that one of two states lacks.
    :param rows: those of the newer state, and the changes. :param most: so many accounts (and customers) are not too many.
    """
    alone = rows.where("account_id IS NULL AND customer_id IS NOT NULL").select(_name("customer_id").alias("name")).distinct()
    asked = small(run.staged(alone.withColumn("_asked", F.lit(True)), "application_customers"))

    def of_them(found: DataFrame) -> DataFrame:
        rows = found.join(asked, "name", "left").where(f"name & 3 <> {_CUSTOMER} OR _asked")
        return run.staged(rows.select("name"), "application_names")

    names = new = of_them(changes.select(F.explode(_names()).alias("name")).where("name IS NOT NULL").distinct())
    every, accounts = 0, 0
    for _ in range(ROUNDS):
        count, of_accounts = new.agg(F.count(F.lit(1)), F.expr(f"count_if(name & 3 <= {_CUSTOMER})")).collect()[0]
        every, accounts = every + count, accounts + of_accounts
        if not count:
            return Touched(names, accounts)
        if accounts > most or every > MANY_ROWS:
            return None
        hit = rows.select(_names().alias("_names")).select("_names", F.explode("_names").alias("name"))
        found = hit.join(F.broadcast(new), "name", "left_semi").select(F.explode("_names").alias("name")).distinct()
        new = of_them(found.where("name IS NOT NULL").join(F.broadcast(names), "name", "left_anti"))
        names = names.unionByName(new)
    return None


def _named(facts: tuple[DataFrame, DataFrame]) -> DataFrame:
    """Both facts' rows, by their columns of NAMES."""
    bills, payments = (rows.select(*[c for c in NAMES if c in rows.columns]) for rows in facts)
    return bills.unionByName(payments, allowMissingColumns=True)


def _names() -> Column:
    """The numbers of all that a row of ``_named`` names, null among them."""
    return F.array(*[_name(column) for column in NAMES])


def _name(column: str) -> Column:
    """A number for what a column names, its kind in the last two bits. Two that share one are looked at together, no more."""
    return F.expr(f"IF({column} IS NULL, NULL, shiftleft(xxhash64({column}), 2) | {NAMES[column]})")
