"""kpi_regulatory_scorecard: metrics of service by month and over twelve months, from the marts and facts that there are."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.gold import efficiency, satisfaction
from utilityflow.gold.changes import CUSTOMERS
from utilityflow.gold.compliance import NAME as COMPLIANCE
from utilityflow.gold.scorecard import (
    ACCOUNTS,
    INPUTS,
    METRICS,
    NAME,
    REQUESTS,
    SERVICE,
    TOLD_OF,
    check_reliability,
    inputs_of,
    service_figures,
    service_scorecard,
)
from utilityflow.gold.service_reliability import KPI
from utilityflow.session import local_frame
from utilityflow.settings import ReliabilitySettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CONTRACTS = load_contracts()
AS_OF = dt.date(2025, 3, 15)
OPEN = dt.date(9999, 12, 31)


def rows(spark: SparkSession, table: str, *given: dict[str, Any]) -> DataFrame:
    columns = CONTRACTS[table].columns
    filled = [tuple(row.get(c.name) for c in columns) for row in given]
    return local_frame(spark, filled, ", ".join(f"{c.name} {c.type}" for c in columns))


def month(period: str, **more: Any) -> dict[str, Any]:
    return {"billing_period": period, "date_key": int(period.replace("-", "")) * 100 + 1} | more


def customer(key: int, since: str, until: str | None = None, **more: Any) -> dict[str, Any]:
    expiry = dt.date.fromisoformat(until) if until else OPEN
    return {"customer_key": key, "customer_id": f"C{key % 10}", "effective_date": dt.date.fromisoformat(since),
            "expiry_date": expiry, "is_inferred": False} | more  # fmt: skip


def account(number: int, status: str | None, since: str, until: str | None = None, **more: Any) -> dict[str, Any]:
    expiry = dt.date.fromisoformat(until) if until else OPEN
    return {"account_key": number, "account_id": f"A{number % 10}", "status": status, "expiry_date": expiry,
            "effective_date": dt.date.fromisoformat(since), "is_inferred": status is None} | more  # fmt: skip


def request(opened: int, due: int, status: str, late: bool | None = None) -> dict[str, Any]:
    return {"date_key": opened, "due_date_key": due, "status": status, "is_open": status not in ("closed", "cancelled"),
            "closed_late": late}  # fmt: skip


def told(figures: DataFrame, targets: dict[str, float] | None = None, as_of: dt.date = AS_OF) -> dict[tuple[str, str, str], Any]:
    found = service_scorecard(figures, targets or {}, as_of).collect()
    assert {row["exclusions"] for row in found} == {"none"}
    return {(row["metric_code"], row["period"], row["span"]): (row["numerator"], row["denominator"], row["value"], row["months"],
            row["met"]) for row in found}  # fmt: skip


def complaints(spark: SparkSession) -> DataFrame:
    """Two of two types in January, three in February, none in March. What the mart says of requests in time is not asked for."""
    more = {"on_time_requests": 9, "due_requests": 9}
    numbers = (("2025-01", 1), ("2025-01", 1), ("2025-02", 3), ("2025-03", 0))
    return rows(spark, satisfaction.NAME, *(month(period, complaints=number, **more) for period, number in numbers))


@pytest.mark.engine
def test_complaints_are_counted_per_thousand_customers(spark: SparkSession) -> None:
    """Two customers at January's end (one of two versions), three at February's; two of them at March's."""
    customers = rows(
        spark, CUSTOMERS,
        customer(1, "2024-06-01", "2025-01-10"), customer(11, "2025-01-10", "2025-03-31"),  # gone on March's last day
        customer(2, "2025-01-31"), customer(3, "2025-02-28"), customer(4, "2020-01-01", is_inferred=True),
        customer(-1, "2000-01-01"),
    )  # fmt: skip
    asked = complaints(spark)
    found = told(service_figures({satisfaction.NAME: asked, CUSTOMERS: customers}, AS_OF), {"complaint_rate": 2000.0})
    two, three = Decimal("0.002"), Decimal("0.003")
    assert {p: found["complaint_rate", p, "month"][:3] for p in ("2025-01", "2025-02", "2025-03")} == {
        "2025-01": (2, two, 1000), "2025-02": (3, three, 1000), "2025-03": (0, two, 0)}  # fmt: skip
    year = found["complaint_rate", "2025-03", "twelve_months"]
    assert year[:2] == (5, Decimal("0.002333")), "over the average of the months"
    assert (round(year[2], 4), year[3:]) == (Decimal("2142.8571"), (3, None)), "three months are no twelve"
    assert {metric for metric, _, _ in found} == {"complaint_rate"}, "the facts tell of requests in time, not the mart"


@pytest.mark.engine
def test_where_there_are_accounts_complaints_are_counted_per_active_one(spark: SparkSession) -> None:
    """One of them is active at January's end, four are at February's, two at March's; customers do not count then."""
    accounts = rows(
        spark, ACCOUNTS,
        account(1, "active", "2024-06-01", "2025-03-31"), account(11, "final", "2025-03-31"),  # its service ended that day
        account(2, "pending", "2025-01-10", "2025-02-28"), account(12, "active", "2025-02-28"),  # from February's last day on
        account(3, "active", "2025-02-01", "2025-02-10"), account(13, "active", "2025-02-10"),  # another customer, active still
        account(4, "active", "2025-02-05", "2025-03-01"), account(14, "closed", "2025-03-01"),
        account(5, "active", "2025-01-05", "2025-01-30"), account(15, "written_off", "2025-01-30"),
        account(6, None, "1900-01-01"), account(-1, None, "1900-01-01", is_inferred=False),  # inferred, and the unknown member
    )  # fmt: skip
    customers = rows(spark, CUSTOMERS, *(customer(key, "2020-01-01") for key in range(1, 8)))
    asked = complaints(spark)
    found = told(service_figures({satisfaction.NAME: asked, CUSTOMERS: customers, ACCOUNTS: accounts}, AS_OF))
    assert {p: found["complaint_rate", p, "month"][:3] for p in ("2025-01", "2025-02", "2025-03")} == {
        "2025-01": (2, Decimal("0.001"), 2000), "2025-02": (3, Decimal("0.004"), 750), "2025-03": (0, Decimal("0.002"), 0),
    }  # fmt: skip
    alone = told(service_figures({satisfaction.NAME: asked, ACCOUNTS: accounts.where("account_id = 'A4'")}, AS_OF))
    assert {p for _, p, span in alone if span == "month"} == {"2025-02"}, "a month without an active account has no rate"


@pytest.mark.engine
def test_requests_left_open_are_late_once_their_day_is_over(spark: SparkSession) -> None:
    january, february = 20250110, 20250220
    given = rows(
        spark, REQUESTS,
        request(january, 20250117, "closed", late=False), request(january, 20250314, "open"),  # overdue since today
        request(january, 20250315, "open"), request(january, -1, "in_progress"),  # due today; on no known day
        request(february, 20250227, "closed", late=True), request(february, 20250227, "reopened"),
        request(february, 20250331, "closed", late=False),  # ahead of its day
        request(february, 20250227, "cancelled"), request(february, 20250227, "closed"),  # of which nothing is known
        request(20250301, 20250401, "assigned"),
    )  # fmt: skip
    figures = service_figures({REQUESTS: given}, AS_OF)
    found = told(figures, {"requests_in_time": 0.5})
    assert {(m, p) for m, p, _ in found} == {("requests_in_time", "2025-01"), ("requests_in_time", "2025-02")}
    assert found["requests_in_time", "2025-01", "month"] == (1, 2, Decimal("0.5"), 1, None), "targets are of twelve months"
    assert found["requests_in_time", "2025-02", "month"][:2] == (1, 3)
    assert found["requests_in_time", "2025-02", "twelve_months"][:4] == (2, 5, Decimal("0.4"), 2)
    by_day = {"2025-02-27": [(1, 1), (1, 2)], "2025-02-28": [(1, 1), (1, 3)], "2025-03-16": [(1, 3), (1, 3)]}
    for day, expected in by_day.items():
        then = told(service_figures({REQUESTS: given}, dt.date.fromisoformat(day)))
        months = [then["requests_in_time", period, "month"][:2] for period in ("2025-01", "2025-02")]
        assert months == expected, f"as of {day}, without new data"


@pytest.mark.engine
def test_twelve_months_end_with_the_month(spark: SparkSession) -> None:
    """Bills of thirteen months, one of ten late in each; the first month is left out at the end. Reads of none."""
    months = [f"{2024 + n // 12}-{n % 12 + 1:02}" for n in range(13)]
    done = rows(spark, efficiency.NAME, *(month(m, bills_in_time=8 if m == "2024-01" else 9, issued_bills=10) for m in months))
    found = told(service_figures({efficiency.NAME: done}, AS_OF), {"bills_in_time": 0.9, "saidi": 1.0})
    assert {metric for metric, _, _ in found} == {"bills_in_time"}, "a home without reads has none estimated"
    assert found["bills_in_time", "2024-12", "twelve_months"] == (107, 120, Decimal("0.8916666667"), 12, False)
    assert found["bills_in_time", "2025-01", "twelve_months"] == (108, 120, Decimal("0.9"), 12, True)
    assert found["bills_in_time", "2025-01", "month"][:3] == (9, 10, Decimal("0.9"))
    assert found["bills_in_time", "2024-11", "twelve_months"][3:] == (11, None)


@pytest.mark.engine
def test_twelve_months_are_judged_when_they_are_over(spark: SparkSession) -> None:
    """The target shows before that. Filings that are due each quarter are judged after a year too."""
    months = [f"2024-{n:02}" for n in range(1, 13)]
    done = rows(spark, efficiency.NAME, *(month(m, bills_in_time=9, issued_bills=10) for m in months))
    due = [{"date_key": day, "status": "filed", "is_filed": True, "on_time": True} for day in (20240115, 20240415, 20241215)]
    figures = service_figures({efficiency.NAME: done, COMPLIANCE: rows(spark, COMPLIANCE, *due)}, AS_OF)
    targets = {"bills_in_time": 0.9, "filings_in_time": 1.0}
    for as_of, met in ((dt.date(2024, 12, 30), None), (dt.date(2024, 12, 31), True)):
        judged = {r["metric_code"]: (r["target"], r["met"]) for r in service_scorecard(figures, targets, as_of).collect()
                  if (r["period"], r["span"]) == ("2024-12", "twelve_months")}  # fmt: skip
        assert judged == {"bills_in_time": (Decimal("0.9"), met), "filings_in_time": (1, met)}
    assert told(figures, targets)["filings_in_time", "2024-04", "twelve_months"][3:] == (2, None)


@pytest.mark.engine
def test_filings_are_late_once_their_day_is_over(spark: SparkSession) -> None:
    def filing(day: int, status: str, on_time: bool | None) -> dict[str, Any]:
        return {"date_key": day, "status": status, "is_filed": on_time is not None, "on_time": on_time}

    given = rows(
        spark, COMPLIANCE,
        filing(20250301, "accepted", True), filing(20250302, "filed", False), filing(20250314, "due", None),
        filing(20250315, "due", None),  # today
        filing(20250331, "filed", True),  # ahead of its day
        filing(20250303, "withdrawn", None), filing(20250430, "due", None),
    )  # fmt: skip
    found = told(service_figures({COMPLIANCE: given}, AS_OF))
    assert set(found) == {("filings_in_time", "2025-03", span) for span in ("month", "twelve_months")}
    assert found["filings_in_time", "2025-03", "month"][:3] == (2, 4, Decimal("0.5"))


def test_the_contract_and_the_settings_know_the_metrics() -> None:
    assert set(CONTRACTS[NAME].column("metric_code").allowed) == {*METRICS, *SERVICE}
    check_reliability(ReliabilitySettings(targets={"bills_in_time": 0.98, "saidi": 100.0}))
    with pytest.raises(UtilityFlowError, match="bills_in_tme"):
        check_reliability(ReliabilitySettings(targets={"bills_in_tme": 0.98}))


def test_requests_and_accounts_or_customers_are_inputs_where_complaints_are() -> None:
    asked = {satisfaction.NAME, REQUESTS, CUSTOMERS}
    assert inputs_of({KPI, CUSTOMERS, ACCOUNTS, TOLD_OF}) == (KPI,)
    assert inputs_of({*asked, COMPLIANCE}) == (satisfaction.NAME, COMPLIANCE, REQUESTS, CUSTOMERS)
    assert inputs_of({*asked, ACCOUNTS, TOLD_OF}) == (satisfaction.NAME, REQUESTS, ACCOUNTS)
    assert inputs_of({*asked, ACCOUNTS}) == (satisfaction.NAME, REQUESTS, CUSTOMERS), "accounts that facts alone name"
    assert inputs_of({CUSTOMERS, ACCOUNTS}) == ()
    assert set(inputs_of({*INPUTS, TOLD_OF})) == set(INPUTS) - {CUSTOMERS}
