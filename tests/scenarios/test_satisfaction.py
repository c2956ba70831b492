"""kpi_customer_satisfaction follows its requests month by month, and is then what all of them give at once."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.gold.efficiency import NAME as EFFICIENCY
from utilityflow.gold.satisfaction import NAME, satisfaction, touched
from utilityflow.gold.scorecard import NAME as SCORECARD
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.explain import explain
from utilityflow.operate.verify import verify
from utilityflow.session import local_frame
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
PARAMETERS = load_contracts()[NAME].property("parameters")
FEED = """feed: crm_requests
system: service_requests
entity: service_requests
format: csv
path: requests/*.csv
columns: {request_id: id, customer_id: cust, request_type: kind, request_detail: detail, district: area, status: state,
          opened_date: to_date(opened), due_date: to_date(due), closed_date: to_date(closed), updated_at: to_timestamp(changed)}
"""
HEAD = "id,cust,kind,detail,area,state,opened,due,closed,changed\n"
RUNS = [
    # two of one customer and type within 30 days, one in time, one late; a complaint; one without district and customer
    HEAD + """R1,C1,Billing,High bill,North,closed,2025-01-05,2025-01-08,2025-01-07,2025-01-07
R2,C1,Billing,Complaint,North,closed,2025-01-20,2025-01-22,2025-01-25,2025-01-25
R3,C2,Billing,,North,open,2025-01-21,,,2025-01-21
R4,,Outage,,,closed,2025-01-10,,2025-01-10,2025-01-10
""",
    # the next month: a second contact for R2, whose month is the one before; R3 is closed
    HEAD + """R5,C1,Billing,Dispute,North,open,2025-02-10,,,2025-02-10
R3,C2,Billing,,North,closed,2025-01-21,,2025-02-02,2025-02-02
""",
]  # fmt: skip


def run(settings: Settings, number: int, text: str) -> dict[str, Any]:
    (Path(settings.landing or "") / "requests" / f"{number}.csv").write_text(text, encoding="utf-8")
    answer = pipeline.run(settings, as_of=dt.date(2025, 3, 1))
    assert answer["error"] is None, answer["error"]
    return answer


def in_time(house: Lakehouse) -> list[tuple[Any, ...]]:
    """Month, numerator and denominator of the scorecard's requests in time."""
    told = house.table(SCORECARD).read().where("metric_code = 'requests_in_time' AND span = 'month'").collect()
    return sorted((r["period"], r["numerator"], r["denominator"]) for r in told)


@pytest.mark.slow
def test_the_mart_follows_its_requests(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "requests.yaml").write_text(FEED, encoding="utf-8")
    (tmp_path / "landing" / "requests").mkdir(parents=True)
    settings = Settings(home=str(tmp_path / "home"), landing=str(tmp_path / "landing"), feeds=str(tmp_path / "feeds"),
                        time_zone="UTC")  # fmt: skip
    house = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts())

    def rows() -> dict[tuple[str, str, str], Any]:
        return {(r["billing_period"], r["district"], r["request_type"]): r for r in house.table(NAME).read().collect()}

    run(settings, 1, RUNS[0])
    first = rows()
    assert set(first) == {("2025-01", "North", "Billing"), ("2025-01", "?", "Outage")}
    billing = first["2025-01", "North", "Billing"]
    assert [billing[n] for n in ("requests", "open_requests", "resolved_requests", "resolution_hours", "due_requests",
                                 "on_time_requests", "complaints", "contact_requests", "first_contact_requests")] == [
        3, 1, 2, Decimal("168.00"), 2, 1, 1, 2, 1]  # fmt: skip
    assert (billing["average_resolution_hours"], billing["on_time_share"]) == (Decimal("84.00"), Decimal("0.500000"))
    assert (billing["complaints_before"], billing["complaints_change"]) == (None, None), "nothing is known of December"
    # 0.4 x 1/2 + 0.4 x 1/2 + 0.2 x 2/3
    assert billing["service_quality_score"] == Decimal("53.33")
    (efficiency,) = house.table(EFFICIENCY).read().collect()
    assert (efficiency["maintenance_requests"], efficiency["urgent_requests"]) == (1, 0)
    assert (efficiency["usage_facts"], efficiency["booked_payments"], efficiency["issued_bills"]) == (0, None, None)
    outage = first["2025-01", "?", "Outage"]
    assert (outage["first_contact_share"], outage["on_time_share"]) == (None, None)
    assert outage["service_quality_score"] == Decimal("100.00"), "of what is known, all is well"

    run(settings, 2, RUNS[1])
    second = rows()
    billing, february = second["2025-01", "North", "Billing"], second["2025-02", "North", "Billing"]
    assert (billing["contact_requests"], billing["first_contact_requests"]) == (3, 1), "R5 is a second contact after R2"
    assert (february["complaints"], february["complaints_before"], february["complaints_change"]) == (1, 1, 0)
    assert second["2025-01", "?", "Outage"] == outage
    assert [c for c in verify(settings)["checks"] if c["status"] != "ok"] == []

    answer = explain(settings, "kpi_customer_satisfaction", str(february["satisfaction_key"]))
    assert [(r["file"], r["row_number"]) for r in answer["records"]] == [("requests/2.csv", 1)]

    # an older state told late: another word, no other fact
    late = HEAD + "R5,C1,Metering,Dispute,North,open,2025-02-10,,,2025-02-09\n"
    version, was = house.table(NAME).version(), house.table(EFFICIENCY).version()
    third = {s["step"]: s["status"] for s in run(settings, 3, late)["steps"]}
    assert (third["gold.dim_request_type"], third["gold.fact_service_request"]) == ("ok", "skipped")
    assert (third["gold.kpi_customer_satisfaction"], house.table(NAME).version()) == ("skipped", version)
    assert (third[EFFICIENCY], house.table(EFFICIENCY).version()) == ("skipped", was)

    version = house.table(NAME).version()
    assert pipeline.run(settings, as_of=dt.date(2025, 3, 1))["status"] == "nothing_to_do"
    assert house.table(NAME).version() == version

    # a request that is left open past its due day is late by the day alone; the mart, which has no day, does not know it
    owed = HEAD + "R6,C2,Billing,,North,open,2025-02-20,2025-03-02,,2025-02-20\n"
    run(settings, 4, owed)
    assert in_time(house) == [("2025-01", 1, 2)], "not due yet"
    version = house.table(NAME).version()
    answer = pipeline.run(settings, as_of=dt.date(2025, 3, 3))
    assert answer["error"] is None, answer["error"]
    assert in_time(house) == [("2025-01", 1, 2), ("2025-02", 0, 1)]
    assert house.table(NAME).version() == version
    assert [c for c in verify(settings)["checks"] if c["status"] != "ok"] == []

    spark.sql(f"UPDATE delta.`{tmp_path}/home/lakehouse/gold/kpi_customer_satisfaction` SET complaints = 7 WHERE complaints = 1")
    (broken,) = verify(settings, only=["marts.rebuild"])["checks"]
    assert (broken["status"], broken["count"]) == ("failed", 4), "two rows, and what they should be"


def facts(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    names = "request_key bigint, customer_id string, request_type_key bigint, date_key int, closed_date_key int, is_open boolean"
    more = local_frame(spark, rows, names)
    return more.selectExpr("*", "CAST(NULL AS string) district", "CAST(NULL AS string) request_detail",
                           "IF(is_open, 'open', 'closed') status",
                           "CAST(IF(is_open, NULL, 24) AS decimal(12,2)) resolution_hours", "false closed_late",
                           "CAST(NULL AS timestamp) opened_at", "CAST(NULL AS timestamp) closed_at")  # fmt: skip


def test_a_contact_counts_until_its_last_day(spark: SparkSession) -> None:
    types = local_frame(spark, [(1, "Billing"), (2, "Outage")], "request_type_key bigint, request_type string")
    given = facts(
        spark,
        (1, "A", 1, 20250101, 20250110, False), (2, "A", 1, 20250209, -1, True),  # 30 days after: again
        (3, "B", 1, 20250101, 20250110, False), (4, "B", 1, 20250210, -1, True),  # 31 days after: not
        (5, "C", 1, 20250101, 20250110, False), (6, "C", 2, 20250111, -1, True),  # of another type: not
        (7, None, 1, 20250101, 20250110, False), (8, "D", 1, 20250101, -1, False),  # nobody; closed on no known day
        (9, "E", 2, 20250105, 20250105, False), (10, "E", 2, 20250105, 20250105, False),  # two on one day: one came again
    )  # fmt: skip
    rows = satisfaction(given, types, PARAMETERS, {"2025-01"}).collect()
    told = {r["request_type"]: (r["requests"], r["contact_requests"], r["first_contact_requests"]) for r in rows}
    assert told == {"Billing": (5, 3, 2), "Outage": (3, 2, 1)}
    assert touched(given, [dt.date(2025, 2, 9)], 30) == {"2025-01", "2025-02", "2025-03"}
    assert touched(given, [dt.date(2025, 3, 9)], 10) == {"2025-03", "2025-04"}


def test_a_cancelled_request_improves_no_figure(spark: SparkSession) -> None:
    """Closed after a day, late, by a customer who came again; cancelled at once, by one who did not."""
    types = local_frame(spark, [(1, "Billing")], "request_type_key bigint, request_type string")
    given = facts(spark, (1, "A", 1, 20250101, 20250102, False), (2, "A", 1, 20250103, -1, True),
                  (3, "B", 1, 20250104, 20250104, False))  # fmt: skip
    cancelled = F.col("request_key") == 3
    given = given.withColumns({
        "status": F.when(cancelled, "cancelled").otherwise(F.col("status")),
        "resolution_hours": F.when(~cancelled, F.col("resolution_hours")),
        "closed_late": F.when(F.col("request_key") == 1, True),
    })  # fmt: skip
    (row,) = satisfaction(given, types, PARAMETERS, None).collect()
    assert [row[n] for n in ("requests", "open_requests", "resolved_requests", "average_resolution_hours", "due_requests",
                             "on_time_requests", "contact_requests", "first_contact_requests")] == [
        3, 1, 1, Decimal("24.00"), 1, 0, 1, 0]  # fmt: skip
    assert row["service_quality_score"] == Decimal("20.00"), "0.4 x 0 + 0.4 x 0 + 0.2 x 1"
    again = given.withColumn("customer_id", F.lit("A"))
    (row,) = satisfaction(again.where("request_key <> 2"), types, PARAMETERS, None).collect()
    assert (row["contact_requests"], row["first_contact_requests"]) == (1, 0), "who cancels his second request came again"


def test_complaints_that_end_are_a_fall(spark: SparkSession) -> None:
    """Twelve complaints in January, none in February; of March and later nothing is known of anybody."""
    types = local_frame(spark, [(1, "Billing"), (2, "Outage")], "request_type_key bigint, request_type string")
    complaints = [(key, f"C{key}", 1, 20250110, 20250111, False) for key in range(12)]
    given = facts(spark, *complaints, (20, "D", 2, 20250210, 20250211, False), (21, "E", 2, 20250410, 20250411, False))
    given = given.withColumns({
        "district": F.lit("North"), "request_detail": F.when(F.col("request_type_key") == 1, "Complaint"),
    })  # fmt: skip

    def told(months: set[str] | None) -> dict[tuple[str, str], tuple[Any, ...]]:
        rows = satisfaction(given, types, PARAMETERS, months).collect()
        keys = {(r["billing_period"], r["request_type"]): r["satisfaction_key"] for r in rows}
        assert len(set(keys.values())) == len(rows) == len(keys)
        return {(r["billing_period"], r["request_type"]): (
            r["requests"], r["complaints"], r["complaints_before"], r["complaints_change"]) for r in rows}  # fmt: skip

    every = told(None)
    assert every == {
        ("2025-01", "Billing"): (12, 12, None, None),
        ("2025-02", "Billing"): (0, 0, 12, -12), ("2025-02", "Outage"): (1, 0, 0, 0),
        ("2025-04", "Outage"): (1, 0, None, None),
    }  # fmt: skip
    for month in ("2025-01", "2025-02", "2025-03", "2025-04"):
        assert told({month}) == {k: v for k, v in every.items() if k[0] == month}, "a month made alone is the same"
    (row,) = satisfaction(given, types, PARAMETERS, {"2025-02"}).where("request_type = 'Billing'").collect()
    assert (row["date_key"], row["request_type_key"]) == (20250201, 1)
    assert (row["service_quality_score"], row["complaint_share"]) == (None, None), "nothing is known of no requests"
