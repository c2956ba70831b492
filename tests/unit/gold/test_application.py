"""Which money paid which bill, worked by hand, day by day; and the sums by which verify holds the table to what came in."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.gold import receivables
from utilityflow.gold.application import BILLS as FACTS
from utilityflow.gold.application import NAME, PAYMENTS, application
from utilityflow.operate.checks.base import Evidence
from utilityflow.operate.checks.marts import money_is_accounted_for, unbalanced_accounts, unbalanced_bills
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
LINE = "account_id string, bill_id string, cancels_bill_id string, date_key int, due_date_key int, amount decimal(18,4)"
MONEY = "payment_id string, account_id string, bill_id string, related_payment_id string, date_key int, amount decimal(18,4)"
BILLS = [  # account, bill, what it cancels, day, due, amount
    ("A", "A1", None, 20250101, 20250131, 100), ("A", "A2", None, 20250201, 20250228, 50),
    ("B", "B1", None, 20250101, 20250131, 60), ("B", "B1", None, 20250101, 20250131, 40),
    ("B", "B2", None, 20250201, 20250228, 40),
    ("C", "K1", None, 20250112, None, -20), ("C", "C1", None, 20250110, 20250210, 70),
    ("C", "C2", None, 20250210, 20250310, 30),
    ("D", "K2", None, 20250112, None, -50), ("D", "D1", None, 20250110, 20250210, 30),
    ("E", "E1", None, 20250101, 20250131, 100),
    ("F", "F1", None, 20250101, 20250131, 100), ("F", "X1", "F1", 20250105, None, -100),
    ("F", "F2", None, 20250301, 20250331, 80),
]  # fmt: skip
PAID = [  # payment, account, bill, what it gives back, day, amount
    ("P01", "A", None, None, 20250120, 60), ("P02", "A", None, None, 20250210, 70),
    ("P03", "B", "B1", None, 20250125, 80), ("P04", "B", "B1", None, 20250205, 30),
    ("P05", "C", None, None, 20250215, 40),
    ("P06", "E", "E1", None, 20250115, 100), ("P07", None, None, "P06", 20250120, -100),
    ("P08", "E", None, None, 20250201, 30), ("P09", "E", None, None, 20250205, 100),
    ("P10", "E", None, None, 20250210, -40), ("P11", "E", None, None, 20250220, 20),
    ("P12", "F", "F9", None, 20250106, 35), ("P13", "F", "F2", None, 20250304, 20), ("P14", "F", None, None, 20250401, 99),
]  # fmt: skip
# bill -> amount, paid directly, from the pool, of that credit, open, day of the last money
APPLIED: dict[str, tuple[Any, ...]] = {
    "A1": (100, 0, 100, 0, 0, "2025-02-10"),  # 60 were not enough
    "A2": (50, 0, 30, 0, 20, "2025-02-10"),
    "B1": (100, 100, 0, 0, 0, "2025-02-05"),
    "B2": (40, 0, 10, 0, 30, "2025-02-05"),  # what was too much for B1
    "K1": (-20, 0, 0, 0, 0, None),
    "C1": (70, 0, 60, 20, 10, "2025-02-15"),
    "C2": (30, 0, 0, 0, 30, None),
    "K2": (-50, 0, 0, 0, 0, None),
    "D1": (30, 0, 30, 30, 0, None),  # by credit alone
    # the payment was returned; 30, 130, 90 and 110 had come: the 130 did not last
    "E1": (100, 0, 100, 0, 0, "2025-02-20"),
    "F1": (0, 0, 0, 0, 0, None),  # cancelled
    "F2": (80, 20, 35, 0, 25, "2025-03-04"),  # 35 named a bill that is not known; 99 come after the day
}
# account -> received until the day, unapplied
ACCOUNTS = {"A": (130, 0), "B": (110, 0), "C": (40, 0), "D": (0, 20), "E": (110, 10), "F": (55, 0)}


@pytest.fixture(scope="module")
def applied(spark: SparkSession) -> DataFrame:
    lines = local_frame(spark, BILLS, LINE).withColumns({
        "kind": F.expr("IF(cancels_bill_id IS NULL, 'bill', 'cancellation')"), "customer_id": F.lit(None).cast("string"),
        "currency": F.lit("USD"), "billing_key": F.expr("xxhash64(bill_id, amount)"),
    })  # fmt: skip
    money = local_frame(spark, PAID, MONEY).withColumns({
        "customer_id": F.lit(None).cast("string"), "currency": F.lit("USD"), "status": F.lit("posted"),
        "payment_key": F.expr("xxhash64(payment_id)"),
    })  # fmt: skip
    pending = money.where("payment_id = 'P01'").withColumn("status", F.lit("pending")).withColumn("payment_id", F.lit("P99"))
    rows = application(lines, money.unionByName(pending), load_contracts()[NAME], dt.date(2025, 3, 31))
    whole = [tuple(int(v) if isinstance(v, Decimal) else v for v in row) for row in rows.collect()]
    return local_frame(spark, whole, rows.schema)


def test_each_bill_keeps_what_paid_it(applied: DataFrame) -> None:
    rows = applied.collect()
    names = ("amount", "paid_directly", "paid_from_pool", "credit_used", "open_amount")
    day = {r["bill_id"]: r["last_payment_date"] for r in rows}
    assert {r["bill_id"]: (*(r[n] for n in names), day[r["bill_id"]] and str(day[r["bill_id"]])) for r in rows} == APPLIED
    assert len({r["application_key"] for r in rows}) == len(rows) == len(APPLIED)
    one = next(r for r in rows if r["bill_id"] == "C1")
    assert (one["date_key"], str(one["bill_date"]), str(one["due_date"])) == (20250110, "2025-01-10", "2025-02-10")


def aged(spark: SparkSession, accounts: dict[str, tuple[int, int]]) -> DataFrame:
    rows = [(name, True, "USD", i, a, b) for i, (name, (a, b)) in enumerate(accounts.items())]
    return local_frame(spark, rows, "account_id string, is_account boolean, currency string, receivables_key bigint, "
                                    "received decimal(18,4), unapplied decimal(18,4)")  # fmt: skip


def test_what_came_in_is_applied_or_unapplied(spark: SparkSession, applied: DataFrame) -> None:
    """And the check finds what does not add up."""
    assert unbalanced_bills(applied).count() == 0
    assert unbalanced_accounts(applied, aged(spark, ACCOUNTS)).count() == 0
    other = {**ACCOUNTS, "E": (110, 9)}
    assert [r["receivables_key"] for r in unbalanced_accounts(applied, aged(spark, other)).collect()] == [4]
    without = {n: pair for n, pair in ACCOUNTS.items() if n != "B"}
    assert unbalanced_accounts(applied, aged(spark, without)).count() == 1, "an account that the ageing does not know"

    def changed(bill: str, **values: str) -> DataFrame:
        return applied.withColumns({n: F.expr(f"IF(bill_id = '{bill}', {v}, {n})") for n, v in values.items()})

    assert unbalanced_bills(changed("C1", paid_from_pool="61")).count() == 1
    assert unbalanced_bills(changed("C1", credit_used="61")).count() == 1, "more credit than the pool gave"
    assert unbalanced_bills(changed("A2", paid_directly="-1", open_amount="21")).count() == 1
    moved = changed("C1", paid_from_pool="59", open_amount="11")
    assert unbalanced_bills(moved).count() == 0
    assert unbalanced_accounts(moved, aged(spark, ACCOUNTS)).count() == 1


def test_verify_names_the_account(spark: SparkSession, applied: DataFrame) -> None:
    """Where both tables reflect the same money; a run of one step alone leaves the other behind, which is no fault."""
    told = {FACTS: 3, PAYMENTS: 4, "as_of": "2025-03-31"}

    def found(accounts: dict[str, tuple[int, int]], **other: Any) -> tuple[int, tuple[str, ...]]:
        frames = {NAME: applied, receivables.NAME: aged(spark, accounts)}
        tables = {n: SimpleNamespace(version=lambda: 1, read=lambda frame=frame: frame) for n, frame in frames.items()}
        consumed = {NAME: told, receivables.NAME: {**told, **other}}
        scene: Any = SimpleNamespace(house=SimpleNamespace(table=tables.__getitem__), consumed=consumed)
        answer = money_is_accounted_for(Evidence(scene))
        return answer.count, answer.offenders

    assert found(ACCOUNTS) == (0, ())
    wrong = {**ACCOUNTS, "E": (110, 9)}
    assert found(wrong) == (1, ("gold.receivables_ageing 4: applied and unapplied is not received",))
    assert found(wrong, as_of="2025-04-30") == (0, ())
