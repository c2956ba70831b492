"""kpi_regulatory_scorecard: metrics of service by month and over twelve months, from the marts that there are."""

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
    METRICS,
    NAME,
    SERVICE,
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


def told(figures: DataFrame, targets: dict[str, float] | None = None, as_of: dt.date = AS_OF) -> dict[tuple[str, str, str], Any]:
    found = service_scorecard(figures, targets or {}, as_of).collect()
    assert {row["exclusions"] for row in found} == {"none"}
    return {(row["metric_code"], row["period"], row["span"]): (row["numerator"], row["denominator"], row["value"], row["months"],
            row["met"]) for row in found}  # fmt: skip


@pytest.mark.engine
def test_complaints_are_counted_per_thousand_customers(spark: SparkSession) -> None:
    """Two customers at January's end (one of two versions), three at February's; two of them at March's."""
    customers = rows(
        spark, CUSTOMERS,
        customer(1, "2024-06-01", "2025-01-10"), customer(11, "2025-01-10", "2025-03-31"),  # gone on March's last day
        customer(2, "2025-01-31"), customer(3, "2025-02-28"), customer(4, "2020-01-01", is_inferred=True),
        customer(-1, "2000-01-01"),
    )  # fmt: skip
    asked = rows(
        spark, satisfaction.NAME,
        month("2025-01", complaints=1, on_time_requests=3, due_requests=4), month("2025-01", complaints=1, on_time_requests=0,
                                                                                  due_requests=1),
        month("2025-02", complaints=3, on_time_requests=0, due_requests=0), month("2025-03", complaints=0, on_time_requests=5,
                                                                                  due_requests=5),
    )  # fmt: skip
    found = told(service_figures({satisfaction.NAME: asked, CUSTOMERS: customers}, AS_OF), {"complaint_rate": 2000.0})
    two, three = Decimal("0.002"), Decimal("0.003")
    assert {p: found["complaint_rate", p, "month"][:3] for p in ("2025-01", "2025-02", "2025-03")} == {
        "2025-01": (2, two, 1000), "2025-02": (3, three, 1000), "2025-03": (0, two, 0)}  # fmt: skip
    year = found["complaint_rate", "2025-03", "twelve_months"]
    assert year[:2] == (5, Decimal("0.002333")), "over the average of the months"
    assert (round(year[2], 4), year[3:]) == (Decimal("2142.8571"), (3, None)), "three months are no twelve"
    assert found["requests_in_time", "2025-01", "month"] == (3, 5, Decimal("0.6"), 1, None), "targets are of twelve months"
    assert ("requests_in_time", "2025-02", "month") not in found, "nothing to divide by"
    assert found["requests_in_time", "2025-03", "twelve_months"][:4] == (8, 10, Decimal("0.8"), 2)


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


def test_customers_are_an_input_where_complaints_are() -> None:
    assert inputs_of({KPI, CUSTOMERS}) == (KPI,)
    assert inputs_of({satisfaction.NAME, CUSTOMERS, COMPLIANCE}) == (satisfaction.NAME, COMPLIANCE, CUSTOMERS)
    assert inputs_of({CUSTOMERS}) == ()
