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
    Parameters,
    balances,
    customer_360,
    defined,
    definition_of,
    interruptions,
    last_payments,
    of_customers,
    requests_of,
    served,
    struck,
    usage_of,
    year_before,
)
from utilityflow.session import local_frame
from utilityflow.settings import ReliabilitySettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

AS_OF = dt.date(2025, 3, 31)
CONTRACT = load_contracts()[NAME]
GIVEN = Parameters(["complaint"], 5.0)
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


def test_parameters_are_told_and_an_older_note_lacks_one() -> None:
    told = definition_of(load_contracts(), ReliabilitySettings(momentary_minutes=1.0))
    assert defined(told).momentary_minutes == 1.0 and "complaint" in defined(told).complaint_words
    assert defined('{"complaint_words": ["wrong"]}') == Parameters(["wrong"], 5.0)


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


def network(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """(service point, transformer, circuit, customer, account, from, until, status) of rows of dim_service_point."""
    columns = """service_point_id string, transformer_id string, circuit_id string, customer_id string, account_id string,
        effective_date date, expiry_date date, status string"""
    more = ("CAST(NULL AS string) feeder_id", "CAST(NULL AS string) substation_id", "'North' district")
    return local_frame(spark, list(rows), columns).selectExpr("*", *more)


def steps(spark: SparkSession, *rows: tuple[str, str, str, str, str, str | None]) -> DataFrame:
    """(outage, step, element's kind, element, began, ended) of rows of fact_outage; one without an end is open."""
    columns = "outage_id string, step_id string, element_kind string, element_id string, began string, ended string"
    told = local_frame(spark, list(rows), columns).selectExpr(
        "*", "to_timestamp(began) AS started_at", "to_timestamp(ended) AS restored_at", "ended IS NULL AS is_open",
        "CAST(date_format(to_date(began), 'yyyyMMdd') AS int) AS date_key", "false AS planned", "false AS loss_of_supply",
    )  # fmt: skip
    lasted = "CAST((unix_seconds(restored_at) - unix_seconds(started_at)) / 60 AS decimal(18,6)) AS minutes"
    told = told.selectExpr("*", lasted)
    return told.selectExpr("*", "coalesce(minutes <= 5, false) AS is_momentary", "minutes AS customer_minutes")


FAR = dt.date(9999, 12, 31)
SINCE = dt.date(2020, 1, 1)
NAMES = ("outages_12_months", "minutes_without_supply_12_months")


@engine
def test_interruptions_are_those_of_the_customers_points(spark: SparkSession) -> None:
    """Two points of one customer are one outage, of the longer time; momentary and old ones do not count; one is open."""
    points = network(
        spark,
        ("S1", "T1", "K1", "A", None, SINCE, FAR, "active"), ("S2", "T2", "K1", "A", None, SINCE, FAR, "active"),
        ("S3", "T2", "K1", "B", None, SINCE, dt.date(2025, 1, 1), "active"),
        ("S3", "T2", "K1", "C", None, dt.date(2025, 1, 1), FAR, "active"),
        ("S4", "T9", "K9", None, "D1", SINCE, FAR, "active"), ("S5", "T1", "K1", "E", None, SINCE, FAR, "removed"),
    )  # fmt: skip
    told = steps(
        spark,
        ("O1", "1", "circuit", "K1", "2024-12-15 10:00:00", "2024-12-15 11:00:00"),
        ("O1", "2", "transformer", "T2", "2024-12-15 10:00:00", "2024-12-15 11:30:00"),
        ("O2", "1", "circuit", "K1", "2025-03-01 10:00:00", None),
        ("O3", "1", "circuit", "K1", "2025-03-02 10:00:00", "2025-03-02 10:02:00"),
        ("O4", "1", "circuit", "K1", "2024-03-31 10:00:00", "2024-03-31 11:00:00"),
        ("O5", "1", "circuit", "K1", "2025-04-01 10:00:00", "2025-04-01 11:00:00"),
    )
    hit = struck(told, points, AS_OF, "UTC", 5.0)
    made = answer(interruptions(hit, served(points, owed(spark, ("D1", "D", "USD", 0, 0, 0, 0)), AS_OF)), *NAMES)
    assert made == {"A": (2, 90), "B": (1, 90), "C": (1, 0), "D": (0, 0)}
    assert "D" not in answer(interruptions(hit, served(points, None, AS_OF)), *NAMES)


@engine
def test_who_is_out_already_is_not_interrupted_again(spark: SparkSession) -> None:
    """As the reliability indices count: outages of one service point that overlap are one, of the outage that began first.

    O2 prolongs O1 behind T1, and O4 makes the momentary O3 a sustained one behind T2; O6 goes on with what began before the 12
    months; O7 ends after the day, so it is open.
    """
    points = network(
        spark,
        ("S1", "T1", "K1", "A", None, SINCE, FAR, "active"), ("S2", "T2", "K1", "A", None, SINCE, FAR, "active"),
        ("S3", "T2", "K1", "B", None, SINCE, FAR, "active"), ("S4", "T1", "K1", "C", None, SINCE, FAR, "active"),
    )  # fmt: skip
    told = steps(
        spark,
        ("O1", "1", "circuit", "K1", "2025-02-10 10:00:00", "2025-02-10 14:00:00"),
        ("O2", "1", "transformer", "T1", "2025-02-10 12:00:00", "2025-02-10 16:00:00"),
        ("O3", "1", "circuit", "K1", "2025-03-05 10:00:00", "2025-03-05 10:04:00"),
        ("O4", "1", "transformer", "T2", "2025-03-05 10:03:00", "2025-03-05 10:07:00"),
        ("O5", "1", "circuit", "K1", "2024-03-31 23:00:00", "2024-04-01 02:00:00"),
        ("O6", "1", "transformer", "T1", "2024-04-01 01:00:00", "2024-04-01 03:00:00"),
        ("O7", "1", "transformer", "T2", "2025-03-31 20:00:00", "2025-04-01 03:00:00"),
    )
    hit, theirs = struck(told, points, AS_OF, "UTC", 5.0), served(points, None, AS_OF)
    made = answer(interruptions(hit, theirs), *NAMES)
    assert made == {"A": (3, 360 + 7), "B": (3, 240 + 7), "C": (1, 360)}
    behind = {(r["customer_id"], r["outage_id"], r["is_first"]) for r in of_customers(hit, theirs).collect()}
    assert {told[1:] for told in behind if told[0] == "C"} == {("O1", True), ("O2", False)}, "explain leads to both"
    assert {told[1:] for told in behind if told[0] == "B"} == {("O1", True), ("O3", True), ("O4", False), ("O7", True)}
    later = struck(told, points, AS_OF, "UTC", 7.0)
    assert answer(interruptions(later, theirs), *NAMES)["B"] == (2, 240), "seven minutes are momentary then"


@engine
def test_what_no_table_tells_is_null_and_what_none_happened_is_zero(spark: SparkSession) -> None:
    customers = local_frame(spark, [(-1, "?", True, True), (1, "A", False, False), (2, "A", True, False), (3, "B", True, True)],
                            "customer_key bigint, customer_id string, is_current boolean, is_inferred boolean").selectExpr(
        "*", "'RES' customer_type", "'active' account_status", "'North' district", "CAST(NULL AS string) region")  # fmt: skip
    columns = "customer_id string, billing_period string, usage_kwh decimal(18,2), peak_demand decimal(8,2)"
    months = local_frame(spark, [("A", "2025-02", 4, None)], columns)
    two = {"gold.dim_customer": customers, "gold.agg_usage_monthly": months}
    made = customer_360(two, CONTRACT, AS_OF, "UTC", GIVEN)
    assert made.schema.names == list(CONTRACT.column_names)
    known = answer(made, "customer_key", "usage_kwh_last_month", "is_inferred")
    assert known == {"A": (2, Decimal(4), False), "B": (3, None, True)}
    told = ("usage_kwh_12_months", "usage_kwh_last_month", "months_with_usage")
    others = [c.name for c in CONTRACT.columns if c.name not in told and not c.required
              and c.name not in ("customer_type", "account_status", "district", "region")]  # fmt: skip
    assert len(others) == 15, "what the optional tables tell, and the peak"
    assert all(row[n] is None for row in made.collect() for n in others)

    rows = owed(spark, ("A1", "A", "USD", 1, 50, 20, 0), ("A2", "A", "CAD", 1, 5, 0, 0))
    billed = customer_360({**two, BALANCE: rows}, CONTRACT, AS_OF, "UTC", GIVEN)
    names = ("open_bills", "open_amount", "past_due_amount", "currency", "open_requests")
    assert answer(billed, *names) == {"A": (2, None, None, None, None), "B": (0, 0, 0, None, None)}
    assert BALANCE in OPTIONAL
