"""Each rule of filings and audit events: a row that is well breaks none, one change breaks the rule that it is made for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.quality.rules import broken_rules, contract_rules, judge
from utilityflow.session import local_frame
from utilityflow.silver.audit_events import OPEN
from utilityflow.silver.judging import ENTITIES
from utilityflow.simulate.audit_trail import _USUAL

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
Row = Mapping[str, Any]
ZONE = "America/New_York"


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


FILING: Row = {
    "filing_id": "F1", "regulation": "EIA-861", "regulator": "EIA", "docket": "D-1", "district": None,
    "reporting_start": day("2024-01-01"), "reporting_end": day("2024-12-31"), "due_date": day("2025-04-30"),
    "filed_at": at("2025-04-12 02:00"), "filed_date": None, "status": "Accepted", "metric_code": "Retail sales",
    "metric_value": 12.5, "metric_unit": "MWh", "snapshot_id": "7", "penalty_amount": 500.25,
    "currency": "usd", "updated_at": at("2025-05-01 15:00"),
}  # fmt: skip
EVENT: Row = {
    "event_id": "A1", "occurred_at": at("2025-03-09 04:30"), "actor_id": "E1", "action": "Change-Rule", "object_kind": "Filing",
    "object_id": "F1", "filing_id": None, "outcome": "Finding", "severity": "High", "remarks": None,
}  # fmt: skip

# what is changed of the row that is well, the rules of severity error that it then breaks, its flags
FILINGS: list[tuple[dict[str, Any], set[str], list[str]]] = [
    ({}, set(), []),
    ({"filing_id": None}, {"required:filing_id"}, []),
    ({"filing_id": "?"}, {"CF-02"}, []),
    ({"filing_id": "F" * 41}, {"length:filing_id"}, []),
    ({"regulation": None}, {"required:regulation"}, []),
    ({"due_date": None}, {"required:due_date"}, []),
    ({"due_date": day("2101-01-01")}, {"CF-01"}, []),
    ({"filed_at": at("1066-10-14 12:00")}, {"CF-01"}, ["filed_before_period_end"]),
    ({"reporting_start": day("1900-01-01")}, {"CF-01"}, []),
    ({"reporting_start": day("2025-01-01")}, {"CF-03"}, []),
    ({"reporting_start": None, "reporting_end": None}, set(), []),
    ({"penalty_amount": -0.01}, {"CF-04"}, []),
    ({"penalty_amount": 0}, set(), []),
    ({"currency": None}, {"CF-05"}, []),
    ({"currency": "US1"}, {"CF-05"}, []),
    ({"currency": None, "penalty_amount": None}, set(), []),
    ({"status": "late"}, {"allowed:status"}, []),
    ({"status": None}, {"required:status"}, []),
    ({"status": "REJECTED", "filed_at": None}, set(), ["filed_without_date"]),
    ({"status": "withdrawn", "filed_at": None}, set(), []),
    ({"status": "due"}, set(), ["due_but_filed"]),
    ({"filed_at": None, "filed_date": day("2024-12-31")}, set(), ["filed_before_period_end"]),
    ({"due_date": day("2024-12-31")}, set(), ["due_before_period_end"]),
    ({"updated_at": at("2025-04-12 01:59")}, set(), ["updated_before_filed"]),
    ({"metric_unit": None}, set(), ["figure_without_metric"]),
    ({"metric_unit": None, "metric_value": None}, set(), []),
]
EVENTS: list[tuple[dict[str, Any], set[str], list[str]]] = [
    ({}, set(), []),
    ({"event_id": None}, {"required:event_id"}, []),
    ({"event_id": "?"}, {"AE-02"}, []),
    ({"object_id": "?"}, {"AE-02"}, []),
    ({"occurred_at": None}, {"required:occurred_at"}, []),
    ({"occurred_at": at("2101-01-02 12:00")}, {"AE-01"}, []),
    ({"action": None}, {"required:action"}, []),
    ({"object_kind": None}, {"required:object_kind"}, []),
    ({"outcome": "ok"}, {"allowed:outcome"}, []),
    ({"severity": "fatal"}, {"allowed:severity"}, []),
    ({"actor_id": None}, set(), ["no_actor"]),
    ({"severity": None}, set(), ["finding_without_severity"]),
    ({"severity": "info"}, set(), ["finding_without_severity"]),
    ({"severity": None, "outcome": "Denied"}, set(), []),
    ({"filing_id": "F2"}, set(), ["filings_differ"]),
    ({"filing_id": "F2", "object_kind": "metric"}, set(), []),
    ({"object_id": None}, set(), ["no_object"]),
]


def judged(spark: SparkSession, entity: str, rows: list[Row]) -> DataFrame:
    made, contract = ENTITIES[entity], load_contracts()[f"silver.{entity}"]
    ddl = ", ".join(f"{n} {contract.column(n).type}" for n in made.filled)
    frame = local_frame(spark, [tuple(row[n] for n in made.filled) + (n,) for n, row in enumerate(rows)], f"{ddl}, _n int")
    frame = made.conform(frame, set(made.filled), ZONE).selectExpr("*", "CAST(NULL AS string) _corrupt_record")
    rules = contract_rules(contract, ZONE, made.filled)
    return judge(frame, rules).withColumn("_rules", broken_rules(rules)).orderBy("_n")


@pytest.mark.parametrize(("entity", "good", "cases"), [("compliance_filings", FILING, FILINGS), ("audit_events", EVENT, EVENTS)])
def test_a_change_breaks_its_rule_and_no_other(
    spark: SparkSession, entity: str, good: Row, cases: list[tuple[dict[str, Any], set[str], list[str]]]
) -> None:
    found = judged(spark, entity, [{**good, **change} for change, _, _ in cases]).collect()
    told = [(set(row["_rules"]), row["quality_flags"]) for row in found]
    assert [(c, *t) for (c, _, _), t in zip(cases, told, strict=True)] == cases
    contract = load_contracts()[f"silver.{entity}"]
    errors, flags = ({x for case in cases for x in case[n]} for n in (1, 2))
    assert {r.id for r in contract.rules if r.severity == "error"} <= errors
    assert {r.flag for r in contract.rules if r.severity == "warn"} == flags, "each rule is broken once"


def test_texts_have_one_form_and_days_are_local(spark: SparkSession) -> None:
    filing, = judged(spark, "compliance_filings", [FILING]).collect()
    assert (filing["status"], filing["metric_code"], filing["currency"]) == ("accepted", "retail_sales", "USD")
    assert filing["filed_date"] == day("2025-04-11"), "an evening in New York"
    event, = judged(spark, "audit_events", [EVENT]).collect()
    assert (event["action"], event["object_kind"], event["severity"]) == ("change_rule", "filing", "high")
    assert (event["occurred_date"], event["filing_id"]) == (day("2025-03-08"), "F1")


@pytest.mark.parametrize("kind", ["Customer", "account", "premise", "Service Point", "meter", "user", "E-Mail", "employee"])
def test_what_may_lead_to_people_stands_in_the_personal_column_alone(spark: SparkSession, kind: str) -> None:
    event, = judged(spark, "audit_events", [{**EVENT, "object_kind": kind, "object_id": "C1"}]).collect()
    assert (event["object_id"], event["subject_id"], event["quality_flags"]) == (None, "C1", [])
    columns: Callable[[str], Any] = load_contracts()["silver.audit_events"].column
    assert [columns(n).private for n in ("object_id", "subject_id", "actor_id", "remarks")] == [False, True, True, True]


@pytest.mark.parametrize("kind", ["Filing", "metric", "Rule", "report", "dataset"])
def test_what_is_no_person_is_open(spark: SparkSession, kind: str) -> None:
    event, = judged(spark, "audit_events", [{**EVENT, "object_kind": kind}]).collect()
    assert (event["object_id"], event["subject_id"]) == ("F1", None)


def test_the_open_kinds_are_those_of_the_contract_and_the_simulator_audits_customers_beside_them() -> None:
    told = load_contracts()["silver.audit_events"].column("object_id").description
    assert ", ".join(OPEN[:-1]) + f" or {OPEN[-1]}" in told
    assert {kind for _, kind, _ in _USUAL} - set(OPEN) == {"customer"}
