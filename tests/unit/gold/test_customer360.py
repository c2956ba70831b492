"""customer_360: windows, zeros and nulls, and whose a payment or an interruption is."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold.customer360 import (
    BALANCE,
    NAME,
    OPTIONAL,
    balances,
    customer_360,
    interruptions,
    last_payments,
    requests_of,
    usage_of,
    year_before,
)
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

AS_OF = dt.date(2025, 3, 31)
CONTRACT = load_contracts()[NAME]
BILL = """account_id string, is_account boolean, customer_id string, currency string, open_bills bigint,
    open_amount decimal(18,4), not_due decimal(18,4), unapplied decimal(18,4), oldest_due_date date"""
PAYMENT = """payment_key bigint, payment_id string, kind string, related_payment_id string, customer_id string, account_id string,
    bill_id string, status string, date_key int, amount decimal(18,4), currency string"""
engine = pytest.mark.engine


def owed(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """(account, customer, currency, bills, open, not due, unapplied) of rows of receivables_ageing."""
    given = [(a, a != c, c, cur, n, o, d, u, dt.date(2025, 2, 1) if n else None)
             for a, c, cur, n, o, d, u in rows]  # fmt: skip
    return local_frame(spark, given, BILL)


def answer(frame: DataFrame, *names: str) -> dict[str, Any]:
    return {r["customer_id"]: tuple(r[n] for n in names) if len(names) > 1 else r[names[0]] for r in frame.collect()}


def test_the_day_of_the_year_before() -> None:
    assert year_before(AS_OF) == dt.date(2024, 3, 31)
    assert year_before(dt.date(2024, 2, 29)) == dt.date(2023, 2, 28)


@engine
def test_use_is_that_of_full_months(spark: SparkSession) -> None:
    rows = [("A", "2024-02", 1.0, 9.0), ("A", "2024-03", 2.0, 5.5), ("A", "2025-02", 4.0, 3.0), ("A", "2025-02", 8.0, None),
            ("A", "2025-03", 16.0, 99.0), ("B", "2025-01", 1.0, None), ("G", "2025-02", None, None),
            (None, "2025-02", 7.0, 1.0)]  # fmt: skip
    months = local_frame(spark, rows, "customer_id string, billing_period string, kwh double, kw double").selectExpr(
        "customer_id", "billing_period", "CAST(kwh AS decimal(18,2)) AS usage_kwh", "CAST(kw AS decimal(8,2)) AS peak_demand"
    )
    made = answer(usage_of(months, AS_OF), "usage_kwh_12_months", "usage_kwh_last_month", "months_with_usage",
                  "peak_demand_12_months")  # fmt: skip
    assert made == {
        "A": (Decimal(14), Decimal(12), 2, Decimal("5.5")), "B": (Decimal(1), None, 1, None), "G": (None, None, None, None),
    }  # fmt: skip
    later = answer(usage_of(months, dt.date(2025, 4, 1)), "usage_kwh_12_months")
    assert later["A"] == Decimal(28), "March is over, that of the year before too old"


@engine
def test_amounts_of_several_currencies_are_not_added(spark: SparkSession) -> None:
    rows = owed(spark, ("A1", "A", "USD", 1, 50, 20, 0), ("A2", "A", "USD", 2, 10, 0, 3),
                ("B1", "B", "USD", 1, 5, 5, 0), ("B2", "B", "CAD", 0, 0, 0, 1))  # fmt: skip
    made = answer(balances(rows), "open_bills", "currency", "open_amount", "past_due_amount", "unapplied_amount")
    assert made == {"A": (3, "USD", 60, 40, 3), "B": (1, None, None, None, None)}


@engine
def test_the_last_payment_counts_that_stands(spark: SparkSession) -> None:
    """By customer or by account; not one that was returned, is not posted, or comes after the day."""
    rows = [
        (1, "P1", "payment", None, "A", None, None, "posted", 20250301, 10, "USD"),
        (2, "P2", "payment", None, None, "A1", None, "posted", 20250302, 20, "USD"),
        (3, "P3", "payment", None, "A", None, None, "posted", 20250303, 30, "USD"),
        (4, "P4", "reversal", "P3", "A", None, None, "posted", 20250304, -30, "USD"),
        (5, "P5", "payment", None, "A", None, None, "pending", 20250305, 50, "USD"),
        (6, "P6", "payment", None, "A", None, None, "posted", 20250401, 60, "USD"),
        (7, "P7", "payment", None, "B", "A1", None, "posted", 20250101, 70, "CAD"),
        (8, "P8", "payment", None, None, None, None, "posted", 20250330, 80, "USD"),
    ]  # fmt: skip
    paid = local_frame(spark, rows, PAYMENT)
    names = ("last_payment_date", "last_payment_amount", "last_payment_currency")
    with_accounts = answer(last_payments(paid, None, owed(spark, ("A1", "A", "USD", 0, 0, 0, 0)), AS_OF), *names)
    assert with_accounts == {"A": (dt.date(2025, 3, 2), Decimal(20), "USD"), "B": (dt.date(2025, 1, 1), Decimal(70), "CAD")}
    alone = answer(last_payments(paid, None, None, AS_OF), *names)
    assert alone["A"] == (dt.date(2025, 3, 1), Decimal(10), "USD"), "nothing tells whose the account is"


@engine
def test_requests_of_a_year(spark: SparkSession) -> None:
    rows = [("A", 1, "High bill", 20240331, True), ("A", 1, "Dispute", 20240401, False), ("A", 2, None, 20250331, True),
            ("A", 2, None, 20250401, True), ("B", 1, "Complaint", 20240101, False), (None, 1, None, 20250301, True)]  # fmt: skip
    columns = "customer_id string, request_type_key bigint, request_detail string, date_key int, is_open boolean"
    facts = local_frame(spark, rows, columns)
    types = local_frame(spark, [(1, "Billing"), (2, "Outage")], "request_type_key bigint, request_type string")
    made = requests_of(facts, types, AS_OF, ["complaint", "dispute"])
    assert answer(made, "open_requests", "requests_12_months", "complaints_12_months") == {"A": (2, 2, 1), "B": (0, 0, 0)}


@engine
def test_interruptions_are_those_of_the_customers_points(spark: SparkSession) -> None:
    """Two points of one customer are one outage, of the longer time; momentary and old ones do not count; one is open."""
    far = dt.date(9999, 12, 31)
    points = local_frame(spark, [
        ("S1", "T1", "K1", "A", None, dt.date(2020, 1, 1), far, "active"),
        ("S2", "T2", "K1", "A", None, dt.date(2020, 1, 1), far, "active"),
        ("S3", "T2", "K1", "B", None, dt.date(2020, 1, 1), dt.date(2025, 1, 1), "active"),
        ("S3", "T2", "K1", "C", None, dt.date(2025, 1, 1), far, "active"),
        ("S4", "T9", "K9", None, "D1", dt.date(2020, 1, 1), far, "active"),
        ("S5", "T1", "K1", "E", None, dt.date(2020, 1, 1), far, "removed"),
    ], "service_point_id string, transformer_id string, circuit_id string, customer_id string, account_id string, "
       "effective_date date, expiry_date date, status string").selectExpr(
        "*", "CAST(NULL AS string) feeder_id", "CAST(NULL AS string) substation_id", "'North' district")  # fmt: skip
    steps = local_frame(spark, [
        ("O1", "1", "circuit", "K1", 20241215, 60.0, False), ("O1", "2", "transformer", "T2", 20241215, 90.0, False),
        ("O2", "1", "circuit", "K1", 20250301, None, False), ("O3", "1", "circuit", "K1", 20250302, 2.0, True),
        ("O4", "1", "circuit", "K1", 20240331, 60.0, False), ("O5", "1", "circuit", "K1", 20250401, 60.0, False),
    ], "outage_id string, step_id string, element_kind string, element_id string, date_key int, m double, is_momentary boolean",
    ).selectExpr("*", "CAST(m AS decimal(18,6)) AS minutes",
                 "to_timestamp(CAST(date_key AS string), 'yyyyMMdd') AS started_at").selectExpr(
        "*", "started_at + make_interval(0, 0, 0, 0, 0, CAST(m AS int), 0) AS restored_at")  # fmt: skip
    names = ("outages_12_months", "minutes_without_supply_12_months")
    made = answer(interruptions(steps, points, owed(spark, ("D1", "D", "USD", 0, 0, 0, 0)), AS_OF), *names)
    assert made == {"A": (2, 90), "B": (1, 90), "C": (1, 0), "D": (0, 0)}
    assert "D" not in answer(interruptions(steps, points, None, AS_OF), *names)


@engine
def test_what_no_table_tells_is_null_and_what_none_happened_is_zero(spark: SparkSession) -> None:
    customers = local_frame(spark, [(-1, "?", True, True), (1, "A", False, False), (2, "A", True, False), (3, "B", True, True)],
                            "customer_key bigint, customer_id string, is_current boolean, is_inferred boolean").selectExpr(
        "*", "'RES' customer_type", "'active' account_status", "'North' district", "CAST(NULL AS string) region")  # fmt: skip
    columns = "customer_id string, billing_period string, usage_kwh decimal(18,2), peak_demand decimal(8,2)"
    months = local_frame(spark, [("A", "2025-02", 4, None)], columns)
    two = {"gold.dim_customer": customers, "gold.agg_usage_monthly": months}
    made = customer_360(two, CONTRACT, AS_OF, ["complaint"])
    assert made.schema.names == list(CONTRACT.column_names)
    known = answer(made, "customer_key", "usage_kwh_last_month", "is_inferred")
    assert known == {"A": (2, Decimal(4), False), "B": (3, None, True)}
    told = ("usage_kwh_12_months", "usage_kwh_last_month", "months_with_usage")
    others = [c.name for c in CONTRACT.columns if c.name not in told and not c.required
              and c.name not in ("customer_type", "account_status", "district", "region")]  # fmt: skip
    assert len(others) == 15, "what the optional tables tell, and the peak"
    assert all(row[n] is None for row in made.collect() for n in others)

    rows = owed(spark, ("A1", "A", "USD", 1, 50, 20, 0), ("A2", "A", "CAD", 1, 5, 0, 0))
    billed = customer_360({**two, BALANCE: rows}, CONTRACT, AS_OF, ["complaint"])
    names = ("open_bills", "open_amount", "past_due_amount", "currency", "open_requests")
    assert answer(billed, *names) == {"A": (2, None, None, None, None), "B": (0, 0, 0, None, None)}
    assert BALANCE in OPTIONAL
