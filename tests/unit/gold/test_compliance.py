"""fact_compliance by hand: which submission counts, what is late, what restates a figure, which findings belong to a filing."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold.compliance import compliance_facts, telling_of
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
DUE = dt.date(2025, 3, 10)


def at(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(f"2025-{text}").replace(tzinfo=dt.timezone.utc)


def frame(spark: SparkSession, table: str, rows: list[dict[str, Any]]) -> DataFrame:
    contract = CONTRACTS[table]
    common = {"quality_flags": [], "_record_hash": 0, "_feed": "f", "_file_sha256": "a" * 64, "_batch_id": 1}
    empty = dict.fromkeys(contract.column_names) | common
    filled = [empty | {"_row_number": n} | row for n, row in enumerate(rows, start=1)]
    assert all(row.keys() == empty.keys() for row in filled[:1]) or not filled
    return local_frame(spark, [tuple(row.values()) for row in filled], ", ".join(f"{c.name} {c.type}" for c in contract.columns))


def states(filing: str, *told: tuple[Any, ...]) -> list[dict[str, Any]]:
    """(updated, status, filed[, figure]) of a filing; ``filed`` is a time, or a day alone, or None."""
    made = []
    for updated, status, filed, *value in told:
        when = at(filed)
        alone = filed is not None and len(filed) == 5
        made.append({
            "filing_id": filing, "regulation": "R", "due_date": DUE, "status": status, "updated_at": at(updated),
            "filed_at": None if alone else when, "filed_date": when.date() if when else None,
            "metric_value": value[0] if value else None,
        })  # fmt: skip
    return made


def event(name: str, filing: str | None, outcome: str, severity: str | None = None, **more: Any) -> dict[str, Any]:
    when = {"occurred_at": at("01-05 10:00"), "occurred_date": dt.date(2025, 1, 5)}
    return {"event_id": name, **when, "action": "review", "object_kind": "metric", "filing_id": filing, "outcome": outcome,
            "severity": severity, **more}  # fmt: skip


FILINGS = [
    *states("due", ("01-02 09:00", "due", None)),
    *states("late", ("03-12 09:00", "filed", "03-12 08:00", 7), ("01-02 09:00", "due", None)),
    *states("last minute", ("03-10 23:00", "filed", "03-10 22:59")),
    *states("amended", ("03-08 09:00", "filed", "03-08 08:00", 7), ("03-20 09:00", "accepted", "03-08 08:00", 7),
            ("05-02 09:00", "amended", "05-02 08:00", 8), ("05-09 09:00", "accepted", "05-02 08:00", 8)),
    *states("submitted anew", ("03-08 09:00", "filed", "03-08 08:00", 7), ("03-09 09:00", "rejected", "03-08 08:00", 7),
            ("03-15 09:00", "filed", "03-15 08:00", 9), ("03-18 09:00", "accepted", None, 9)),
    *states("rejected", ("03-08 09:00", "filed", "03-08"), ("03-09 09:00", "rejected", None)),
    *states("rejection taken back", ("03-08 09:00", "filed", "03-08 08:00"), ("03-09 09:00", "rejected", "03-08 08:00"),
            ("03-10 09:00", "accepted", "03-08 08:00")),
    *states("amendment rejected", ("03-08 09:00", "accepted", "03-08 08:00", 7), ("05-02 09:00", "amended", "05-02 08:00", 8),
            ("05-09 09:00", "rejected", None, 8)),
    *states("withdrawn", ("03-08 09:00", "filed", "03-08 08:00"), ("03-09 09:00", "withdrawn", None)),
    *states("due again", ("01-10 09:00", "filed", "01-10 08:00", 7), ("02-01 09:00", "due", None), ("03-15 09:00", "amended",
            "03-15 08:00", 8)),
    *states("due again, nothing yet", ("01-10 09:00", "filed", "01-10 08:00", 7), ("02-01 09:00", "due", None)),
    *states("rejected, due again", ("01-10 09:00", "filed", "01-10 08:00", 7), ("01-20 09:00", "rejected", None),
            ("02-01 09:00", "due", None), ("03-15 09:00", "filed", "03-15 08:00", 7)),
    *states("by days", ("03-11 09:00", "filed", "03-11"), ("04-01 09:00", "accepted", "03-11")),
]  # fmt: skip
# filing: status, filed day, days late, on time, submissions, rejections, restatements
WANTED = {
    "due": ("due", -1, None, None, 0, 0, 0),
    "late": ("filed", 20250312, 2, False, 1, 0, 0),
    "last minute": ("filed", 20250310, 0, True, 1, 0, 0),
    "amended": ("accepted", 20250308, -2, True, 2, 0, 1),
    "submitted anew": ("accepted", 20250315, 5, False, 2, 1, 1),
    "rejected": ("rejected", -1, None, None, 1, 1, 0),
    "rejection taken back": ("accepted", 20250308, -2, True, 1, 1, 0),
    "amendment rejected": ("rejected", 20250308, -2, True, 2, 1, 1),
    "withdrawn": ("withdrawn", -1, None, None, 1, 0, 0),
    "due again": ("amended", 20250110, -59, True, 2, 0, 1),
    "due again, nothing yet": ("due", -1, None, None, 1, 0, 0),
    "rejected, due again": ("filed", 20250315, 5, False, 2, 1, 0),
    "by days": ("accepted", 20250311, 1, False, 1, 0, 0),
}
AUDITS = [
    event("A1", "late", "finding", "high"), event("A2", "late", "finding", "low"), event("A3", "late", "finding"),
    event("A4", "late", "success", "high"), event("A5", None, "finding", "critical"),
    event("A6", "nobody knows", "finding", "low"),
    # told twice: the newest file counts, and it names another filing
    event("A7", "amended", "finding", "critical", _batch_id=2), event("A7", "due", "finding", "critical"),
    event("A8", "amended", "finding", "medium"), event("A8", "amended", "denied", "medium"),
]  # fmt: skip


@pytest.fixture(scope="module")
def facts(spark: SparkSession) -> dict[str, Any]:
    filings, audits = frame(spark, "silver.compliance_filings", FILINGS), frame(spark, "silver.audit_events", AUDITS)
    rows = compliance_facts(filings, audits, CONTRACTS["gold.fact_compliance"]).collect()
    assert len(rows) == len(WANTED), "one row for each filing"
    return {row["filing_id"]: row for row in rows}


@pytest.mark.parametrize("filing", WANTED)
def test_the_submission_that_counts(facts: dict[str, Any], filing: str) -> None:
    row = facts[filing]
    names = ("status", "filed_date_key", "days_late", "on_time", "submissions", "rejections", "restatements")
    assert tuple(row[n] for n in names) == WANTED[filing]
    assert row["date_key"] == 20250310
    assert row["is_filed"] == (row["filed_date_key"] > 0) == (row["on_time"] is not None)


def test_the_final_state_is_told_with_its_figure_and_place(facts: dict[str, Any]) -> None:
    row = facts["amended"]
    assert (row["metric_value"], row["filed_at"].astimezone(dt.timezone.utc)) == (8, at("03-08 08:00"))
    assert (row["_file_sha256"], row["_row_number"]) == ("a" * 64, 8)
    assert facts["by days"]["filed_at"] is None, "the source gave the day alone"


def test_findings_by_severity_of_the_last_telling(facts: dict[str, Any]) -> None:
    names = ("audit_events", "audit_findings", *(f"findings_{s}" for s in ("critical", "high", "medium", "low")))
    told = {filing: tuple(row[n] for n in names) for filing, row in facts.items() if row["audit_events"]}
    assert told == {"late": (4, 3, 0, 1, 0, 1), "amended": (2, 1, 1, 0, 0, 0)}
    assert {tuple(row[n] for n in names) for filing, row in facts.items() if filing not in told} == {(0,) * 6}


def test_all_tellings_of_an_event_come_with_one_that_names_a_filing(spark: SparkSession) -> None:
    audits = frame(spark, "silver.audit_events", AUDITS)
    of = local_frame(spark, [("due",)], "filing_id string")
    assert sorted((r["event_id"], r["filing_id"]) for r in telling_of(audits, of).collect()) == [("A7", "amended"), ("A7", "due")]
