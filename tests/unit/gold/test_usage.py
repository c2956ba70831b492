"""Of which reads the facts are made anew: what came is counted once, and days that held nothing are told from others."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import parse_contract
from utilityflow.gold import usage
from utilityflow.gold.usage import READS, Scope, _by_day, _changes_by_day, _fresh_days, _scope, _standing
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
CONTRACT = """apiVersion: v3.1.0
kind: DataContract
id: x
version: 1.0.0
status: active
schema:
  - name: meter_reads
    description: d
    dataGranularityDescription: g
    customProperties:
      - {property: partitionBy, value: [billing_period]}
      - {property: statistics, value: [_batch_id, usage_date]}
      - {property: deletionVectors, value: true}
      - {property: changeFeed, value: true}
    properties:
      - {name: billing_period, logicalType: string, physicalType: STRING, description: d, required: true}
      - {name: usage_date, logicalType: date, physicalType: DATE, description: d, required: true}
      - {name: period_kind, logicalType: string, physicalType: STRING, description: d, required: true}
      - {name: _identity, logicalType: integer, physicalType: BIGINT, description: d, required: true}
      - {name: _batch_id, logicalType: integer, physicalType: BIGINT, description: d, required: true}
      - {name: _row_number, logicalType: integer, physicalType: BIGINT, description: d, required: true}
"""
Row = tuple[str, dt.date, str, int, int, int]


def on(text: str) -> dt.date:
    return dt.date.fromisoformat(f"2024-{text}")


def file_of(number: int, *reads: tuple[str, int], kind: str = "day") -> list[Row]:
    """Reads as (day, identity)."""
    return [(f"2024-{day[:2]}", on(day), kind, who, number, row) for row, (day, who) in enumerate(reads, 1)]


class Reads:
    """The table of reads as the silver step writes it, and the scope of what came since a version."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        contract = parse_contract(CONTRACT, "meter_reads.yaml", "silver")
        catalog: Any = {contract.name: contract}
        self.house = Lakehouse(spark, str(folder), catalog)
        self.table: Table = self.house.table(READS)
        self.table.ensure()

    def apply(self, *files: list[Row], batch: int | None = None) -> None:
        rows: Sequence[Row] = [row for file in files for row in file]
        number = max(row[4] for row in rows) if batch is None else batch
        self.table.append(local_frame(self.house.spark, rows, self.table.contract.struct()), note={"batch": number})

    def delete(self, condition: str) -> None:
        self.table.delete(condition, note={"batch": int(self.table.note()["batch"])})

    def scope(self, since: int) -> Scope:
        run: Any = SimpleNamespace(house=self.house, staged=lambda frame, name: frame)
        fact: Any = SimpleNamespace(version=lambda: 0)  # so that no day is held by the table of facts
        return _scope(run, fact, {READS: since}, {READS: self.table.version()})


def found(part: usage.Part | None) -> Counter[tuple[str, int]]:
    """Day and identity of the reads of a part."""
    rows = [] if part is None else part.reads.select("usage_date", "_identity").collect()
    return Counter((f"{row[0]:%m-%d}", row[1]) for row in rows)


def identities(scope: Scope) -> set[int]:
    return set() if scope.identities is None else {row[0] for row in scope.identities.collect()}


def test_a_month_comes_with_repeats_and_a_late_read(spark: SparkSession, tmp_path: Path) -> None:
    reads = Reads(spark, tmp_path)
    reads.apply(file_of(1, ("01-30", 1), ("01-30", 2), ("01-31", 1)))
    since = reads.table.version()
    reads.apply(file_of(2, ("02-01", 1), ("02-01", 1), ("02-02", 1)), file_of(3, ("02-02", 2), ("01-31", 2), ("01-30", 1)))
    reads.delete("(_batch_id = 2 AND _row_number = 2) OR (_batch_id = 3 AND _row_number = 3)")  # repeats, of before too
    scope = reads.scope(since)
    assert found(scope.fresh) == Counter({("02-01", 1): 1, ("02-02", 1): 1, ("02-02", 2): 1})
    assert scope.fresh is not None
    assert (scope.fresh.rows, scope.fresh.kinds, scope.fresh.days) == (3, {"day"}, (on("02-01"), on("02-02")))
    assert identities(scope) == {2}  # of the day that held a read before; a repeat that left again touches nobody
    assert found(scope.touched)["01-31", 2] == 1
    assert scope.days == (on("01-30"), on("02-01"))


def test_a_file_is_superseded_and_a_repeat_of_it_is_promoted(spark: SparkSession, tmp_path: Path) -> None:
    reads = Reads(spark, tmp_path)
    reads.apply(file_of(1, ("01-30", 1), ("01-31", 1), ("01-31", 2)), file_of(2, ("01-30", 3)))
    since = reads.table.version()
    reads.delete("_batch_id = 1")
    reads.apply([("2024-01", on("01-31"), "day", 2, 2, 9)], batch=2)  # promoted
    reads.apply(file_of(3, ("01-30", 1), ("01-31", 1), ("02-01", 4)))
    scope = reads.scope(since)
    assert found(scope.fresh) == Counter({("02-01", 4): 1})
    assert identities(scope) == {1, 2}
    assert found(scope.touched) == Counter({("01-30", 1): 1, ("01-31", 1): 1, ("01-31", 2): 1})


def test_nothing_that_counts_has_come(spark: SparkSession, tmp_path: Path) -> None:
    reads = Reads(spark, tmp_path)
    reads.apply(file_of(1, ("01-30", 1)))
    since = reads.table.version()
    reads.apply(file_of(2, ("01-30", 1)))
    reads.delete("_batch_id = 2")
    assert reads.scope(since) == Scope(None, None, None, None)


def test_without_a_ledger_number_nothing_cancels_out(spark: SparkSession, tmp_path: Path) -> None:
    """Another program arranged the reads last: one read leaves and another one comes on the same day."""
    reads = Reads(spark, tmp_path)
    reads.table.append(local_frame(spark, file_of(1, ("01-30", 1)), reads.table.contract.struct()))
    since = reads.table.version()
    reads.table.delete("_batch_id = 1")
    reads.apply(file_of(2, ("01-30", 2)))
    scope = reads.scope(since)
    assert (scope.fresh, identities(scope)) == (None, {1, 2})
    assert found(scope.touched) == Counter({("01-30", 2): 1})


def test_what_stands_is_what_stood_and_what_was_added(spark: SparkSession) -> None:
    rows = file_of(1, ("01-30", 1), ("01-30", 2)) + file_of(2, ("01-30", 3), ("01-31", 3))
    rows += file_of(3, ("02-01", 3), kind="period")
    shape = parse_contract(CONTRACT, "meter_reads.yaml", "silver").struct()
    near = local_frame(spark, rows, shape)
    whole = {(on("01-30"), "day"): 3, (on("01-31"), "day"): 1, (on("02-01"), "period"): 1}
    assert _by_day(near) == whole
    for batch in range(4):
        came = {(r[1], r[2]): sum(1 for o in rows if o[4] > batch and o[1:3] == r[1:3]) for r in rows if r[4] > batch}
        assert _standing(near, came if batch else {}, batch) == whole, batch


def test_changes_by_day(spark: SparkSession) -> None:
    told = [(on("01-30"), "day", 3, "insert"), (on("01-30"), "day", 3, "delete"), (on("01-31"), "day", 3, "insert"),
            (on("01-31"), "day", 2, "delete"), (on("01-31"), "day", 2, "insert")]  # fmt: skip
    changes = local_frame(spark, told, "usage_date date, period_kind string, _batch_id bigint, _change_type string")
    assert _changes_by_day(changes, 2) == ({(on("01-31"), "day"): 1}, {(on("01-31"), "day"): 2})
    assert _changes_by_day(changes, 0) == ({(on("01-30"), "day"): 0, (on("01-31"), "day"): 1}, {})


def test_a_day_is_new_when_all_that_stands_was_added() -> None:
    day, next_day = on("02-01"), on("02-02")
    added = {(day, "day"): 2, (next_day, "period"): 1}
    assert _fresh_days(added, {}, {(day, "day"): 2, (next_day, "period"): 1}, ()) == {day, next_day}
    assert _fresh_days(added, {}, {(day, "day"): 3, (next_day, "period"): 1}, ()) == set()  # they may share an identity
    assert _fresh_days(added, {}, {(day, "day"): 2, (next_day, "period"): 1}, {day}) == set()
    assert _fresh_days(added, {(day, "interval"): 1}, {(day, "day"): 2, (next_day, "period"): 1}, ()) == set()
    gone = {(day, "day"): 2, (next_day, "period"): -1}  # by a version without a ledger number: the period left
    assert _fresh_days(gone, {}, {(day, "day"): 2}, ()) == set()
    assert _fresh_days({(day, "day"): 2, (next_day, "period"): 0}, {}, {(day, "day"): 2}, ()) == {day}
