"""Which members a dimension is told to hold by the records that name them, and what is searched to find that out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.gold.dimensions import _needed, _no_events, _touched, members_named
from utilityflow.operate.checks.history import rebuild
from utilityflow.scd2 import UNKNOWN_KEY, Dimension
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
RATES, READS, BILLS = "gold.dim_rate_schedule", "silver.meter_reads", "silver.bills"
D = Dimension.from_contract(CONTRACTS[RATES])
FACTS = {READS: "rate_schedule", BILLS: "rate_schedule"}
AS_OF = dt.date(2025, 6, 30)
OLD, NEW = dt.date(2024, 1, 15), dt.date(2025, 6, 15)


class Table:
    """A table of given rows, and of given changes; counts how often it is read."""

    def __init__(self, name: str, rows: DataFrame, changes: DataFrame | None = None) -> None:
        self.name, self.contract, self._rows, self._changes, self.reads = name, CONTRACTS[name], rows, changes, 0

    def version(self) -> int:
        return 1

    def read(self, version: int | None = None) -> DataFrame:
        self.reads += 1
        return self._rows

    def note(self, version: int) -> dict[str, Any]:  # without a ledger number: the change feed tells all
        return {}

    def changes(self, since: int, until: int) -> DataFrame:
        assert self._changes is not None
        return self._changes


def reads(spark: SparkSession, *rows: tuple[str | None, dt.date]) -> DataFrame:
    """(rate schedule, day) of reads."""
    return local_frame(spark, [("C", "M", *row) for row in rows],
                       "customer_id string, meter_id string, rate_schedule string, usage_date date")  # fmt: skip


def bills(spark: SparkSession, *rows: tuple[str | None, dt.date]) -> DataFrame:
    return local_frame(spark, [("C", "A", "S", *row) for row in rows], "customer_id string, account_id string, "
                       "service_point_id string, rate_schedule string, bill_date date")  # fmt: skip


def house_of(spark: SparkSession, given: dict[str, tuple[DataFrame, ...]]) -> Any:
    tables = {name: Table(name, *frames) for name, frames in given.items()}
    missing = SimpleNamespace(version=lambda: -1)
    return SimpleNamespace(spark=spark, tables=tables, table=lambda name: tables.get(name, missing))


def run_of(house: Any) -> Any:
    kept: Callable[[DataFrame, str], DataFrame] = lambda frame, name: frame  # noqa: E731
    return SimpleNamespace(house=house, as_of=AS_OF, staged=kept, once=lambda name, make: make())


def names(rows: DataFrame) -> set[str]:
    return {row[0] for row in rows.select("rate_schedule").collect()}


def test_the_name_of_the_unknown_member_names_none(spark: SparkSession) -> None:
    rows = members_named(reads(spark, ("E1", NEW), ("?", NEW), (None, NEW), ("??", OLD)), "rate_schedule", "key", "usage_date")
    assert sorted(map(tuple, rows.collect())) == [("??", OLD), ("E1", NEW)]


@pytest.mark.parametrize("step", ["first run", "later run", "verify"])
def test_it_makes_no_second_member_of_that_name(spark: SparkSession, step: str) -> None:
    """In reads and in bills ``?`` stands as a rate schedule, and is corrected from one to the other."""
    held = local_frame(spark, [("?", False)], "rate_schedule string, is_inferred boolean")
    read, billed = reads(spark, ("E1", NEW), ("?", NEW)), bills(spark, ("?", OLD), ("E2", OLD))
    gone = read.withColumn("_change_type", F.lit("delete")).unionByName(
        read.withColumn("_change_type", F.lit("insert")))  # fmt: skip
    came = billed.withColumn("_change_type", F.lit("insert"))
    house = house_of(spark, {RATES: (held,), READS: (read, gone), BILLS: (billed, came)})
    run, now = run_of(house), {READS: 1, BILLS: 1}
    if step == "first run":
        assert names(_needed(run, D, FACTS, now, None, _no_events(spark, D))) == {"E1", "E2"}
    elif step == "later run":
        keys = _touched(run, house.table(RATES), D, None, FACTS, {READS: 0, BILLS: 0}, now)
        assert names(keys) == {"E1", "E2"}
        assert names(_needed(run, D, FACTS, now, keys, _no_events(spark, D))) == {"E1", "E2"}
    else:
        home = SimpleNamespace(zone="UTC", today=lambda: AS_OF)
        scene: Any = SimpleNamespace(house=house, home=home, consumed={}, publication=None)
        made = {r["rate_schedule"]: r[D.surrogate_key] for r in rebuild(scene, RATES, D).collect()}
        assert made.keys() == {"?", "E1", "E2"}
        assert made["?"] == UNKNOWN_KEY


@pytest.mark.parametrize(
    ("asked", "wanted", "searches"),
    [
        ([("new", None), ("sure", True), ("not", False)], {"new", "sure"}, 1),  # named lately: facts of before are not read
        ([("new", None), ("old", None), ("billed", None), ("gone", None)], {"new", "old", "billed"}, 2),
        ([("sure", True)], {"sure"}, 0),
    ],
)
def test_facts_of_before_are_searched_for_what_is_not_named_lately(
    spark: SparkSession, asked: list[tuple[str, bool | None]], wanted: set[str], searches: int
) -> None:
    read = reads(spark, ("new", NEW), ("new", OLD), ("old", OLD), ("?", NEW))
    house = house_of(spark, {READS: (read,), BILLS: (bills(spark, ("billed", OLD)),)})
    keys = local_frame(spark, asked, "rate_schedule string, _named boolean")
    found = _needed(run_of(house), D, FACTS, {READS: 1, BILLS: 1}, keys, _no_events(spark, D))
    told = [row[0] for row in found.collect()]
    assert (set(told), len(told)) == (wanted, len(wanted))
    assert house.tables[READS].reads == house.tables[BILLS].reads == searches
