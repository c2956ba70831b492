"""Money is applied to bills oldest first; what names a bill pays that bill; returns open it again."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.gold.receivables import cash, located, net_bills, queued
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
LINE = "account_id string, customer_id string, currency string, bill_id string, kind string, cancels_bill_id string, " \
       "date_key int, due_date_key int, amount double, billing_key bigint"  # fmt: skip
MONEY = "payment_id string, account_id string, customer_id string, currency string, bill_id string, " \
        "related_payment_id string, status string, amount double, payment_key bigint, date_key int"  # fmt: skip


def lines(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """(account or account/customer, bill, cancels, day, due, amount) of each line, in USD."""
    given = [(*who(a), "USD", b, "cancellation" if c else "bill", c, day, due, amount, key)
             for key, (a, b, c, day, due, amount) in enumerate(rows)]  # fmt: skip
    return local_frame(spark, given, LINE).withColumn("amount", _exact())


def money(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """(payment, account or account/customer, bill, related, amount) of each transaction, in USD."""
    given = [(p, *who(a), "USD", b, r, "posted", amount, key, 20250201) for key, (p, a, b, r, amount) in enumerate(rows)]
    return local_frame(spark, given, MONEY).withColumn("amount", _exact())


def who(text: str | None) -> tuple[str | None, str | None]:
    """Account and customer that a text ``account/customer`` names; either may be empty."""
    account, _, customer = (text or "").partition("/")
    return account or None, customer or None


def _exact() -> Any:
    from pyspark.sql import functions as F  # noqa: N812 - as everywhere

    return F.col("amount").cast("decimal(18,4)")


def open_amounts(spark: SparkSession, bills: DataFrame, paid: DataFrame) -> dict[str, tuple[Decimal, Decimal]]:
    """Bill -> what was applied to it, what is open."""
    due, moved = located(bills, paid)
    return {r["bill_id"]: (r["_paid"].normalize() + 0, r["open_amount"].normalize() + 0)
            for r in queued(net_bills(due), cash(moved)).where("amount IS NOT NULL").collect()}  # fmt: skip


def test_the_oldest_bill_is_paid_first(spark: SparkSession) -> None:
    bills = lines(spark, ("A", "B1", None, 20250101, 20250131, 60), ("A", "B1", None, 20250101, 20250131, 40),
                  ("A", "B2", None, 20250201, 20250228, 50), ("A", "B3", None, 20250115, 20250301, 30))  # fmt: skip
    paid = money(spark, ("P1", "A", None, None, 120))
    assert open_amounts(spark, bills, paid) == {"B1": (100, 0), "B2": (20, 30), "B3": (0, 30)}


def test_what_names_a_bill_pays_it_and_the_rest_pays_others(spark: SparkSession) -> None:
    bills = lines(spark, ("A", "B1", None, 20250101, 20250131, 100), ("A", "B2", None, 20250201, 20250228, 50))
    paid = money(spark, ("P1", "A", "B2", None, 80), ("P2", "A", "B9", None, 5))
    assert open_amounts(spark, bills, paid) == {"B1": (35, 65), "B2": (50, 0)}


def test_a_returned_payment_opens_its_bill_again(spark: SparkSession) -> None:
    bills = lines(spark, ("A", "B1", None, 20250101, 20250131, 100), ("A", "B2", None, 20250201, 20250228, 50))
    paid = money(spark, ("P1", "A", "B2", None, 50), ("P2", None, None, "P1", -50),
                 ("P3", "A", None, None, 10))  # fmt: skip
    assert open_amounts(spark, bills, paid) == {"B1": (10, 90), "B2": (0, 50)}, "the reversal names no account and no bill"


def test_cancel_and_rebill_and_a_credit(spark: SparkSession) -> None:
    bills = lines(spark, ("A", "B1", None, 20250101, 20250131, 100), ("A", "C1", "B1", 20250110, None, -100),
                  ("A", "B2", None, 20250111, 20250210, 70), ("A", "K1", None, 20250112, None, -20))  # fmt: skip
    paid = money(spark, ("P1", "A", "B1", None, 40))
    assert open_amounts(spark, bills, paid) == {"B1": (0, 0), "B2": (60, 10), "K1": (-20, 0)}
    (first,) = [r for r in net_bills(located(bills, paid)[0]).collect() if r["bill_id"] == "B1"]
    assert (first["bill_date"].isoformat(), first["due_date"].isoformat(), first["amount"]) == ("2025-01-01", "2025-01-31", 0)


def test_accounts_and_currencies_stay_apart(spark: SparkSession) -> None:
    bills = lines(spark, ("A", "B1", None, 20250101, 20250131, 100), ("Z", "B2", None, 20250101, 20250131, 100))
    paid = money(spark, ("P1", "A", None, None, 250))
    assert open_amounts(spark, bills, paid) == {"B1": (100, 0), "B2": (0, 100)}


def test_accounts_are_found_where_sources_do_not_name_them(spark: SparkSession) -> None:
    bills = lines(spark, ("A/C1", "B1", None, 20250101, 20250131, 100), ("/C1", "X1", "B1", 20250110, None, -30),
                  ("B/C2", "B2", None, 20250101, 20250131, 50), ("D/C2", "B3", None, 20250101, 20250131, 60),
                  ("/C3", "B4", None, 20250101, 20250131, 10))  # fmt: skip
    paid = money(
        spark, ("P1", "/C1", None, None, 20),  # the customer's only account
        ("P2", None, "B2", None, 50), ("P3", "/C2", None, "P2", -15),  # by the bill alone, and returned in part
        ("P4", "/C2", None, None, 7), ("P5", "/C3", None, None, 4),  # which of two accounts is not known; no account at all
    )  # fmt: skip
    due, moved = located(bills, paid)
    assert open_amounts(spark, bills, paid) == {"B1": (20, 50), "B2": (35, 15), "B3": (0, 60), "B4": (4, 6)}
    at = {(r["payment_id"], r["account_id"], r["is_account"]) for r in moved.collect()}
    assert at == {("P1", "A", True), ("P2", "B", True), ("P3", "B", True), ("P4", "C2", False), ("P5", "C3", False)}
    assert {r["account_id"] for r in due.where("bill_id = 'X1'").collect()} == {"A"}
