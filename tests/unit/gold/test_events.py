"""The measures of facts of events: what each says of the states that a source can tell of."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold.changes import identified
from utilityflow.gold.dimensions import MEMBER_KEYS, MEMBERS
from utilityflow.gold.events import EVENT_FACTS, REQUEST, EventFact, event_facts
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()


def rows(spark: SparkSession, table: str, *given: dict[str, Any]) -> DataFrame:
    """Rows of a table as its contract has it; what is not given is null."""
    columns = CONTRACTS[table].columns
    filled = [tuple(row.get(c.name) for c in columns) for row in given]
    return local_frame(spark, filled, ", ".join(f"{c.name} {c.type}" for c in columns))


@pytest.mark.parametrize("spec", EVENT_FACTS, ids=[spec.what for spec in EVENT_FACTS])
def test_a_fact_has_the_keys_that_its_contract_promises_of_members_that_its_source_names(spec: EventFact) -> None:
    """Of each dimension with history that its foreign keys lead to; only what the source names can have an inferred member."""
    leads_to = {target.rpartition(".")[0] for target in CONTRACTS[spec.grain.name].property("foreignKeys").values()}
    assert {name for name in leads_to if CONTRACTS[name].property("scd2")} == set(spec.dimensions)
    assert {MEMBER_KEYS[name] for name in spec.dimensions} <= set(MEMBERS[spec.grain.source])
    assert "gold.dim_account" in spec.dimensions


def test_a_cancelled_request_is_neither_open_nor_resolved(spark: SparkSession) -> None:
    """It has an instant of closing, five minutes after it came in; the one that was closed took two days and was late."""
    opened, due = (dt.datetime(2025, 1, d, 8, tzinfo=dt.timezone.utc) for d in (6, 7))
    minutes, days = opened + dt.timedelta(minutes=5), opened + dt.timedelta(days=2)
    given = {"opened_at": opened, "opened_date": opened.date(), "due_at": due, "due_date": due.date(), "request_type": "Billing"}
    source = CONTRACTS[REQUEST.grain.source]
    records = rows(
        spark, source.name,
        given | {"request_id": "R1", "status": "cancelled", "closed_at": minutes, "closed_date": minutes.date()},
        given | {"request_id": "R2", "status": "closed", "closed_at": days, "closed_date": days.date()},
        given | {"request_id": "R3", "status": "closed", "closed_at": minutes, "closed_date": minutes.date()},
        given | {"request_id": "R4", "status": "reopened", "closed_at": minutes, "closed_date": minutes.date()},
        given | {"request_id": "R5", "status": "cancelled"},
    )  # fmt: skip
    made = event_facts(identified(records, source), REQUEST, source).collect()
    told = {r["request_id"]: (r["is_open"], r["resolution_hours"], r["closed_late"]) for r in made}
    assert told == {
        "R1": (False, None, None), "R2": (False, Decimal("48.00"), True), "R3": (False, Decimal("0.08"), False),
        "R4": (True, None, None), "R5": (False, None, None),
    }  # fmt: skip
