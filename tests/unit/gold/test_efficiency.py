"""kpi_operational_efficiency counts what its contract says, of the systems that there are, in the months that changes touch."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql.types import StructField

from utilityflow.contracts import load_contracts
from utilityflow.gold import monthly
from utilityflow.gold.efficiency import BILLS, NAME, PAYMENTS, REQUESTS, STATES, SUMS, USAGE, efficiency, touched
from utilityflow.migration import steps
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CONTRACTS = load_contracts()
PARAMETERS = CONTRACTS[NAME].property("parameters")
NOON = dt.datetime(2025, 2, 10, 12, tzinfo=dt.timezone.utc)


def rows(spark: SparkSession, table: str, *given: dict[str, Any]) -> DataFrame:
    """Rows of a table as its contract has it; what is not given is null."""
    columns = CONTRACTS[table].columns
    filled = [tuple(row.get(c.name) for c in columns) for row in given]
    return local_frame(spark, filled, ", ".join(f"{c.name} {c.type}" for c in columns))


def figures(frame: DataFrame) -> dict[str, dict[str, Any]]:
    return {r["billing_period"]: r.asDict() for r in frame.collect()}


def bill(number: str, day: int, period_end: str | None, **more: Any) -> dict[str, Any]:
    end = dt.date.fromisoformat(period_end) if period_end else None
    return {"bill_id": number, "kind": "bill", "date_key": day, "period_end": end} | more


LINES = (
    bill("B1", 20250208, "2025-02-01"),  # on the seventh day
    bill("B1", 20250208, "2025-01-01"),  # an adjustment for an older period, of the same bill
    bill("B2", 20250209, "2025-02-01"),
    bill("B3", 20250209, None),  # a fee, of no period
    bill("B4", 20250210, "2025-02-08"),
    bill("B5", 20250211, "2025-03-01"),  # in advance
    bill("C4", 20250315, "2025-02-08", kind="cancellation", cancels_bill_id="B4"),
    bill("B6", 20250315, "2025-02-08"),  # in the place of B4
)


@pytest.mark.engine
def test_bills_in_time_are_those_that_stand(spark: SparkSession) -> None:
    made = figures(efficiency({BILLS: rows(spark, BILLS, *LINES)}, PARAMETERS, None))
    told = {m: (r["issued_bills"], r["bills_in_time"], r["bills_in_time_share"]) for m, r in made.items()}
    assert told == {"2025-02": (3, 2, Decimal("0.666667")), "2025-03": (1, 0, Decimal(0))}
    with_all = figures(efficiency({BILLS: rows(spark, BILLS, *LINES)}, PARAMETERS | {"bill_days": 8}, ["2025-02"]))
    assert {m: r["bills_in_time"] for m, r in with_all.items()} == {"2025-02": 3}
    assert all(made["2025-02"][n] is None for name in SUMS if name != BILLS for n in SUMS[name]), "systems that are not there"


def state(number: str, status: str, hours: float | None, priority: str | None = "normal", kind: str = "Outage",
          **more: Any) -> dict[str, Any]:  # fmt: skip
    """A state of a request that was opened at NOON, told so many hours after it."""
    at = None if hours is None else NOON + dt.timedelta(hours=hours)
    place = int(1000 + 10 * (hours or 0))
    return {"request_id": number, "request_type": kind, "status": status, "priority": priority, "opened_at": NOON,
            "opened_date": NOON.date(), "updated_at": at, "closed_at": at if status == "closed" else None,
            "_batch_id": place, "_row_number": 1} | more  # fmt: skip


STATES_TOLD = (
    state("R1", "open", 0, "emergency"), state("R1", "assigned", 0.5, "emergency"), state("R1", "in_progress", 1, "emergency"),
    state("R1", "closed", 2, "emergency"),
    state("R2", "open", 0, kind="Street light"), state("R2", "in_progress", 3, kind="Street light"),
    state("R3", "assigned", 1, None),
    state("R4", "closed", 1), state("R4", "reopened", 2), state("R4", "in_progress", 4),  # begun unseen, before it was closed
    state("R5", "assigned", 1, kind="Billing", request_detail="Disputed charge"),
    state("R6", "open", 0),
    state("R7", "assigned", -1), state("R8", "assigned", None),
    state("R9", "closed", 1, "urgent"),
)  # fmt: skip


@pytest.mark.engine
def test_the_response_of_maintenance_is_the_time_until_work_began(spark: SparkSession) -> None:
    made = figures(efficiency({STATES: rows(spark, STATES, *STATES_TOLD)}, PARAMETERS, None))["2025-02"]
    assert made["maintenance_requests"] == 8, "all but R5"
    names = ("begun_requests", "hours_to_begin")
    assert [made[n] for n in names] == [3, Decimal("4.50")], "R1, R2 and R3"
    assert [made[f"urgent_{n}"] for n in names] == [1, Decimal("0.50")]
    assert [made[f"routine_{n}"] for n in names] == [1, Decimal("3.00")], "R3 has no priority"
    assert (made["average_hours_to_begin"], made["average_urgent_hours_to_begin"]) == (Decimal("1.50"), Decimal("0.50"))
    facts = [{"request_key": 1, "date_key": 20250210, "priority": "emergency", "is_open": False, "resolution_hours": 2.0}]
    both = {STATES: rows(spark, STATES, *STATES_TOLD), REQUESTS: rows(spark, REQUESTS, *facts)}
    other = figures(efficiency(both, PARAMETERS, ["2025-02"]))["2025-02"]
    assert (other["average_response_hours"], other["average_hours_to_begin"]) == (2, Decimal("1.50")), "two measures"


@pytest.mark.engine
def test_estimated_is_of_reads_and_of_energy(spark: SparkSession) -> None:
    qualities = CONTRACTS["silver.meter_reads"].column("read_quality").allowed
    guessed = {"substituted", "mixed", "estimated", "forecast"}
    reads = [{"billing_period": "2025-02", "date_key": 20250201, "read_quality": q, "usage_kwh": 30.0 if q in guessed else 10.0}
             for q in qualities]  # fmt: skip
    gas = {"billing_period": "2025-02", "date_key": 20250201, "read_quality": "estimated", "usage_kwh": None}
    frames = {USAGE: rows(spark, USAGE, *reads, gas), PAYMENTS: rows(spark, PAYMENTS)}
    made = figures(efficiency(frames, PARAMETERS, None))["2025-02"]
    assert (made["usage_facts"], made["estimated_facts"], made["estimated_share"]) == (11, 5, Decimal("0.454545"))
    assert (made["usage_kwh"], made["estimated_kwh"]) == (180, 120)
    assert made["estimated_energy_share"] == Decimal("0.666667")
    assert (made["booked_payments"], made["average_processing_days"]) == (0, None), "a system that is there, without facts"


def test_marts_mean_the_same_by_estimated() -> None:
    assert PARAMETERS["estimated"] == CONTRACTS[monthly.NAME].property("parameters")["estimated"]
    assert set(PARAMETERS["estimated"]) < set(CONTRACTS["silver.meter_reads"].column("read_quality").allowed)
    assert set(PARAMETERS["begun"]) < set(CONTRACTS[STATES].column("status").allowed)


def test_a_table_of_the_first_version_is_widened() -> None:
    contract = CONTRACTS[NAME]
    added = {c.name for c in contract.columns if c.added}
    counts = {n for columns in SUMS.values() for n in columns} - added
    live = {f.name: StructField(f.name, f.dataType, f.name not in counts and f.nullable, f.metadata)
            for f in contract.struct().fields if f.name not in added}  # fmt: skip
    told = [words for words, _ in steps(contract, live, "place") if words]
    assert {w.rpartition(".")[2] for w in told if w.startswith("add column")} == added and len(added) == 16
    assert {w.rpartition(".")[2] for w in told if w.startswith("allow null")} == counts and len(counts) == 6


@pytest.mark.engine
def test_months_that_changes_touch(spark: SparkSession) -> None:
    """What is made of the months that a change touches is what everything at once gives for them."""
    lines = rows(spark, BILLS, *LINES)
    came = [line for line in LINES if line["date_key"] >= 20250315]
    assert touched(BILLS, rows(spark, BILLS, *came), lines) == {"2025-02", "2025-03"}, "the bill's own month too"
    assert touched(BILLS, rows(spark, BILLS, LINES[-1]), lines) == {"2025-03"}
    moved = state("R1", "open", 0) | {"opened_date": dt.date(2025, 1, 31)}
    assert touched(STATES, rows(spark, STATES, moved), rows(spark, STATES, *STATES_TOLD)) == {"2025-01", "2025-02"}
    assert touched(PAYMENTS, rows(spark, PAYMENTS, {"date_key": 20250301}), lines) == {"2025-03"}
    frames = {BILLS: lines, STATES: rows(spark, STATES, *STATES_TOLD)}
    whole = figures(efficiency(frames, PARAMETERS, None))
    assert figures(efficiency(frames, PARAMETERS, {"2025-02"})) == {"2025-02": whole["2025-02"]}
    assert figures(efficiency(frames, PARAMETERS, set())) == {}
