"""A day's fact where its reads disagree: totals beside intervals, part of a day, intervals that overlap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold.facts import INCOMPLETE, OVERLONG, facts, final_reads
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
READS = CONTRACTS["silver.meter_reads"]
MIDNIGHT, DAY = dt.datetime(2025, 1, 10, tzinfo=dt.timezone.utc), dt.date(2025, 1, 10)
Row = dict[str, Any]
Made = Callable[[Sequence[Row]], tuple[Any, ...]]


def total(batch: int, quantity: int, quality: str = "actual") -> list[Row]:
    return [{"period_kind": "day", "quantity": str(quantity), "read_quality": quality, "_batch_id": batch}]


def intervals(batch: int, minutes: int, quantity: str, quality: str = "actual", first: int = 0, until: int = 1440) -> list[Row]:
    """Intervals of so many minutes from one minute of the day until another."""
    starts = [MIDNIGHT + dt.timedelta(minutes=m) for m in range(first, until, minutes)]
    return [{"period_kind": "interval", "quantity": quantity, "read_quality": quality, "_batch_id": batch,
             "interval_start": start, "interval_end": start + dt.timedelta(minutes=minutes)} for start in starts]  # fmt: skip


@pytest.fixture
def made(spark: SparkSession) -> Made:
    """What the reads of one day give: energy, quality, flags, and the greatest demand."""

    def make(reads: Sequence[Row]) -> tuple[Any, ...]:
        common = {"customer_id": "C", "meter_id": "M", "commodity": "electric", "register": "E", "direction": "delivered",
                  "unit": "kWh", "usage_date": DAY, "period_start": DAY, "period_end": DAY + dt.timedelta(days=1),
                  "billing_period": "2025-01", "quality_flags": [], "_identity": 7, "_file_sha256": "a"}  # fmt: skip
        filled = [common | read | {"_row_number": n, "_record_hash": n} for n, read in enumerate(reads, start=1)]
        rows = [tuple(row.get(name) for name in READS.column_names) for row in filled]
        frame = local_frame(spark, rows, ", ".join(f"{c.name} {c.type}" for c in READS.columns))
        kinds = {read["period_kind"] for read in reads}
        (fact,) = facts(final_reads(frame, READS), READS, "UTC", kinds).collect()
        return fact["quantity"], fact["read_quality"], fact["quality_flags"], fact["peak_demand"]

    return make


def test_a_complete_day_comes_before_a_part_of_it(made: Made) -> None:
    part = intervals(2, 60, "1", until=1200)
    assert made([*total(1, 24), *part]) == (24, "actual", [], None), "20 of 24 hours in the newer file"
    assert made([*total(1, 25, "estimated"), *part]) == (25, "estimated", [], None), "an estimate of all"
    assert made(part) == (20, "actual", [INCOMPLETE], 1), "nothing else is known"
    whole = intervals(2, 60, "1.5")
    assert made([*total(1, 24), *whole]) == (36, "actual", [], Decimal("1.5")), "both are complete: the newer file"
    assert made([*total(3, 24), *whole])[0] == 24
    assert made([*total(3, 24, "estimated"), *whole])[0] == 36, "an estimate never takes the place of an actual value"


def test_intervals_that_overlap_count_once(made: Made) -> None:
    """24 kWh of a day in half-hours, then the same day in hours, each way round."""
    halves, hours = intervals(1, 30, "0.5"), intervals(2, 60, "1")
    assert made([*halves, *hours]) == (24, "actual", [], 1)
    assert made([*hours, *halves]) == (24, "actual", [], 1), "the order of records says nothing"
    assert made([*intervals(1, 60, "1"), *intervals(2, 30, "0.6")])[:3] == (Decimal("28.8"), "actual", [])
    four = intervals(2, 60, "2", until=240)
    assert made([*halves, *four])[:3] == (28, "actual", []), "four hours are corrected: 20 of the half-hours stay"
    guessed = intervals(2, 60, "3", "estimated")
    assert made([*halves, *guessed])[:3] == (24, "actual", []), "an estimate never takes the place of an actual value"
    shifted = intervals(2, 60, "1", first=30, until=1410)
    assert made([*intervals(1, 60, "1"), *shifted])[::2] == (23, [INCOMPLETE]), "hours from half past on another grid"


def test_more_time_than_the_day_has_is_told(made: Made) -> None:
    long = intervals(2, 1500, "30")
    assert made(long) == (30, "actual", [OVERLONG], Decimal("1.2")), "25 hours of a day of 24"
    assert made([*total(1, 24, "estimated"), *long])[0] == 24


def test_an_approved_edit_comes_before_a_value_that_nobody_validated(made: Made) -> None:
    assert made([*total(1, 24, "edited"), *total(2, 99, "raw")])[:2] == (24, "edited")
    assert made([*total(1, 24, "actual"), *total(2, 99, "edited")])[:2] == (24, "actual")
    order = list(READS.column("read_quality").allowed)
    assert order[:4] == ["validated", "actual", "edited", "raw"], "what was read or approved comes before all guesses"
    assert made([*total(1, 24, "actual"), *total(2, 99, "estimated")])[:2] == (24, "actual")
