"""The cases of reference/scd2.md section 7 that need a table of their own: columns, operations, concurrency, size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scd2_reference import ATTRIBUTES, Event, Rules
from scd2_world import SETS, World, at, contract_yaml, empty_table, frame, gold, key_frame

from utilityflow import scd2
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Commit, Lakehouse
from utilityflow.scd2 import engine, timeline
from utilityflow.session import SMALL, fit_to
from utilityflow.settings import Settings

pytestmark = pytest.mark.engine
RULES = Rules()
ZONE, AS_OF = RULES.zone, date(2026, 6, 1)


def event(key: str, name: str, moment: str, sequence: int = 1, row: int = 0, rules: Rules = RULES) -> Event:
    if name == "D":
        return Event(key, at(moment, rules), sequence=sequence, operation="delete", row=row)
    return Event(key, at(moment, rules), SETS[name], sequence, row=row)


class Nosy:
    """The table, with somebody who does something just before a MERGE (``late``) or once a version was read."""

    def __init__(self, world: World, act: Any, *, late: bool) -> None:
        self.world, self.table, self.act, self.late, self.merges = world, world.table, act, late, 0
        self.name = world.table.name

    def version(self) -> int:
        return self.table.version()

    def read(self, version: int | None = None) -> Any:
        rows = self.table.read(version)
        if not self.late:
            self._once()
        return rows

    def append(self, rows: Any, **options: Any) -> Commit:
        return self.table.append(rows, **options)

    def merge(self, source: Any, **options: Any) -> Commit:
        self.merges += 1
        if self.late:
            self._once()
        return self.table.merge(source, **options)

    def _once(self) -> None:
        act, self.act = self.act, None
        if act:
            act()


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A small world that the tests of this module share, each with keys of its own; what some find there is told here."""
    result = World(spark, tmp_path_factory.mktemp("operations"), RULES)
    told = [event("start", "A", "1"), event("c49", "B", "2"), event("c56", "A", "1")]
    told += [e for key in ("c48-True", "c48-False") for e in (event(key, "A", "1"), event(key, "C", "3", row=1))]
    result.play(told, batch=10)
    yield result


def apply(world: World, told: list[Event], *, again: str | None = None, table: Any = None, batch: int | None = None,
          tag: str) -> scd2.Outcome:  # fmt: skip
    """Apply beside the world's own steps: all that stands, and ``told``; for the keys of these or for the key ``again``."""
    for one in told:
        world.standing[one.key].append(one)
    folder = world.folder / tag
    events = [e for es in world.standing.values() for e in es]
    keys = key_frame(world.spark, {again} if again else {e.key for e in told}, folder / "keys")
    return scd2.apply(table or world.table, world.dimension, frame(world.spark, events, folder / "events"), keys,
                      zone=ZONE, as_of=AS_OF, scratch=str(folder / "scratch"), batch=batch)  # fmt: skip


# -- operations ------------------------------------------------------------------------------------------------------


def test_case_03_the_same_batch_again_makes_no_commit(world: World) -> None:
    told = [event("c3", "A", "1"), event("c3", "B", "2")]
    assert apply(world, told, batch=30, tag="c3").inserted == 2
    version = world.table.version()
    again = apply(world, [], again="c3", batch=30, tag="c3-again")
    assert (again.commit, again.rows_written, world.table.version()) == (None, 0, version)
    world.verify()


def test_case_32_refused_events_leave_the_rest_alone(world: World, spark: SparkSession) -> None:
    good, folder = event("c32", "A", "1"), world.folder / "c32"
    events = frame(spark, [good], folder / "good")
    no_key = events.withColumn("id", F.lit(None).cast("string"))
    no_time = events.withColumn("effective_at", F.lit(None).cast("timestamp"))
    odd = events.withColumn("operation", F.lit("merge"))
    too_far = events.withColumn("effective_at", F.lit("9999-12-31 12:00:00").cast("timestamp"))
    too_old = events.withColumn("effective_at", F.lit("0001-01-01 00:00:00").cast("timestamp"))
    bad = no_key.unionByName(no_time).unionByName(odd).unionByName(too_far).unionByName(too_old)
    judged = scd2.refusals(bad.unionByName(events), world.dimension, zone=ZONE)
    reasons = sorted(str(row["_refused"]) for row in judged.select("_refused").collect())
    assert reasons == ["None", "null_key", "null_time", "time_out_of_range", "time_out_of_range", "unknown_operation"]
    keys = key_frame(spark, {"c32"}, folder / "keys")
    outcome = scd2.apply(world.table, world.dimension, bad.unionByName(events), keys, zone=ZONE, as_of=AS_OF,
                         scratch=str(folder / "scratch"))  # fmt: skip
    assert (outcome.inserted, outcome.updated, outcome.deleted) == (1, 0, 0)
    world.standing["c32"].append(good)
    world.verify()


class PowerCut(RuntimeError):
    pass


def cut() -> None:
    raise PowerCut


def test_case_45_stopped_before_the_merge(world: World) -> None:
    told = [event("c45", "A", "1"), event("c45", "B", "2")]
    version = world.table.version()
    with pytest.raises(PowerCut):
        apply(world, told, table=Nosy(world, cut, late=True), tag="c45")
    assert world.table.version() == version
    assert apply(world, [], again="c45", tag="c45-again").inserted == 2
    world.verify()


def test_case_46_stopped_after_the_merge(world: World) -> None:
    told = [event("c46", "A", "1"), event("c46", "B", "2")]
    outcome = apply(world, told, tag="c46")  # the caller dies before it notes the batch, and does all again
    assert outcome.commit is not None
    again = apply(world, [], again="c46", tag="c46-again")
    assert (again.commit, world.table.version()) == (None, outcome.commit.after)
    world.verify()


def test_case_47_two_overlapping_runs_end_as_one_after_the_other(world: World) -> None:
    mine, other = [event("c47", "B", "2", row=1)], [event("c47", "A", "1", row=2), event("c47", "C", "3", row=3)]
    nosy = Nosy(world, lambda: apply(world, other, tag="c47-other"), late=True)
    # this run's events were read before the other run's arrived, so its word is last; a rerun is told of all
    assert apply(world, mine, table=nosy, tag="c47-mine").attempts == nosy.merges == 2
    assert len(world.rows()["c47"]) == 1
    assert apply(world, [], again="c47", tag="c47-then").commit is not None
    world.verify()
    assert sum(row.version.current for row in world.rows()["c47"]) == 1


@pytest.mark.parametrize("late", [False, True], ids=["before the check", "inside the merge"])
def test_case_48_a_stale_difference_is_found_and_computed_anew(world: World, late: bool) -> None:
    key = f"c48-{late}"

    def meddle() -> None:  # a foreign commit takes away a row that the difference wants to update
        world.table.delete(f"id = '{key}' AND is_current = false")

    nosy = Nosy(world, meddle, late=late)
    outcome = apply(world, [event(key, "B", "2", row=2)], table=nosy, tag=key)
    assert outcome.attempts == 2
    assert nosy.merges == (2 if late else 1)
    world.verify()


def test_a_table_that_never_stands_still_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ATTEMPTS", 2)
    nosy = Nosy(world, None, late=False)
    versions = iter(range(10_000, 20_000))
    nosy.version = lambda: next(versions)  # type: ignore[method-assign]
    nosy.read = lambda version=None: world.table.read()  # type: ignore[method-assign]
    with pytest.raises(UtilityFlowError, match="UF-3005.*2 attempts"):
        apply(world, [event("restless", "A", "1")], table=nosy, tag="restless")
    assert nosy.merges == 0
    del world.standing["restless"]


def test_case_49_a_batch_number_that_falls_back_is_never_swallowed(world: World) -> None:
    old = [event("c49", "A", "1", row=1)]
    with pytest.raises(UtilityFlowError, match="UF-3007"):
        apply(world, old, batch=5, tag="c49-old")
    assert apply(world, [], again="c49", batch=491, tag="c49-again").rows_written == 2  # the new first version, B's new key
    world.verify()


def test_case_55_a_hash_collision_stops_before_the_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    version = world.table.version()
    taken = [row["sk"] for row in world.table.read().where("id = 'start'").collect()][0]
    for number, (tag, stub) in enumerate({"table": F.lit(taken), "difference": F.lit(7)}.items()):
        told = [event(f"c55-{tag}-{n}", "A", "1", row=900 + 10 * number + n) for n in range(2 if tag == "difference" else 1)]
        with monkeypatch.context() as patch:
            patch.setattr(timeline, "surrogate_key", lambda dimension, start, stub=stub: stub.cast("bigint"))
            with pytest.raises(UtilityFlowError, match=r"UF-3004.*the version with.*the version with") as caught:
                apply(world, told, tag=f"c55-{tag}")
        assert all(f"_row_number {n}" in str(caught.value) for n in ([900, 0] if tag == "table" else [910, 911]))
        assert not any(e.key in str(caught.value) for e in told)  # a natural key may be personal
        for one in told:
            world.standing[one.key].remove(one)
    assert world.table.version() == version


def test_case_56_a_merge_that_reports_nothing_is_verified_by_looking_again(world: World) -> None:
    nosy = Nosy(world, None, late=False)
    nosy.merge = lambda source, **options: replace(world.table.merge(source, **options), metrics={})  # type: ignore[method-assign]
    outcome = apply(world, [event("c56", "B", "2", row=1)], table=nosy, tag="c56")
    assert (outcome.attempts, outcome.inserted, outcome.updated) == (2, 1, 1)
    world.verify()


def test_a_merge_whose_tasks_ran_again_counts_its_rows_once(world: World) -> None:
    """The engine adds up what tasks did, those too whose work was lost with their executor."""
    nosy, told = Nosy(world, None, late=False), {f"num_{what}_rows": "2" for what in ("inserted", "updated", "deleted")}
    nosy.merge = lambda source, **options: replace(world.table.merge(source, **options), metrics=told)  # type: ignore[method-assign]
    outcome = apply(world, [event("twice", "A", "1"), event("twice", "B", "2", row=1)], table=nosy, tag="twice")
    assert (outcome.attempts, outcome.inserted, outcome.updated, outcome.deleted) == (2, 2, 0, 0)
    world.verify()


def test_case_57_a_value_that_is_not_of_its_type_writes_nothing(world: World, spark: SparkSession) -> None:
    version, folder = world.table.version(), world.folder / "c57"
    events = frame(spark, [event("c57", "A", "1")], folder / "events").withColumn("sequence", F.lit("one"))
    with pytest.raises(Exception, match="CAST_INVALID_INPUT"):
        scd2.apply(world.table, world.dimension, events, None, zone=ZONE, as_of=AS_OF, scratch=str(folder / "scratch"))
    assert world.table.version() == version


# -- columns ---------------------------------------------------------------------------------------------------------


def test_case_37_a_new_tracked_column_that_is_null_makes_no_versions(spark: SparkSession, tmp_path: Path) -> None:
    contract = gold(contract_yaml(RULES))
    table = empty_table(spark, tmp_path, contract)
    events = frame(spark, [event("a", "A", "1"), event("b", "B", "1", row=1)], tmp_path / "events")
    wider = gold(contract_yaml(RULES, attributes=(*ATTRIBUTES, "region")))
    later = Lakehouse(spark, str(tmp_path), {wider.name: wider}).table(wider.name)  # type: ignore[arg-type]
    dimension = scd2.Dimension.from_contract(wider)
    with_region = events.withColumn("region", F.lit(None).cast("string"))
    moved = (
        with_region.where("id = 'a'")
        .withColumn("effective_at", F.col("effective_at") + F.expr("interval 2 days"))
        .withColumn("region", F.lit("north"))
    )
    options: dict[str, Any] = {"zone": ZONE, "as_of": AS_OF}
    scd2.apply(table, scd2.Dimension.from_contract(contract), events, None, scratch=str(tmp_path / "1"), **options)
    later.ensure()
    version = later.version()
    nothing = scd2.apply(later, dimension, with_region, None, scratch=str(tmp_path / "2"), **options)
    assert (nothing.commit, later.version()) == (None, version)
    some = scd2.apply(later, dimension, with_region.unionByName(moved), None, scratch=str(tmp_path / "3"), **options)
    assert (some.inserted, some.updated, some.deleted) == (1, 1, 0)


def test_case_38_a_missing_column_is_refused_or_carried_forward(spark: SparkSession, tmp_path: Path, world: World) -> None:
    events = frame(spark, [event("c38", "A", "1")], tmp_path / "events").drop("city")
    with pytest.raises(UtilityFlowError, match=r"UF-1012.*'city'"):
        scd2.versions(events, world.dimension, zone=ZONE, as_of=AS_OF)
    said = replace(event("c38", "B", "2", row=1), given=("name",))
    both = frame(spark, [event("c38", "A", "1"), said], tmp_path / "partial")
    partial = replace(world.dimension, partial=True)
    rows = scd2.versions(both, partial, zone=ZONE, as_of=AS_OF).orderBy("valid_from").select(*ATTRIBUTES).collect()
    assert [tuple(row) for row in rows] == [SETS["A"], ("B", *SETS["A"][1:])]
    listed = both.withColumn("provided", F.array_join("provided", ","))
    assert scd2.versions(listed, partial, zone=ZONE, as_of=AS_OF).orderBy("valid_from").select(*ATTRIBUTES).collect() == rows


# -- size ------------------------------------------------------------------------------------------------------------


def test_cases_19_50_51_and_53_few_changes_among_many_rows(
    spark: SparkSession, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """19: one late event; 50: all rows again; 51: 100 changed keys; 53: one key with very many events.

    The campaign plays them at the sizes that the cases name.
    """
    many, busy = (int(os.environ.get(f"SCD2_{name}", usual)) for name, usual in (("MANY", 20_000), ("BUSY", 5_000)))
    if many > 100_000:  # planned as runs of that size are
        fit_to(spark, Settings(), many * 1000)
        request.addfinalizer(lambda: [spark.conf.set(key, value) for key, value in SMALL.items()])
    contract = gold(contract_yaml(RULES))
    table, dimension = empty_table(spark, tmp_path, contract), scd2.Dimension.from_contract(contract)

    def told(keys: Any, day: str, name: str) -> Any:
        return keys.select(
            "id", F.lit(name).alias("name"), *(F.lit("x").alias(n) for n in ATTRIBUTES[1:]),
            F.lit(f"{day} 12:00:00").cast("timestamp").alias("effective_at"), F.lit("f").alias("_file_sha256"),
            F.lit(1).alias("_row_number"),
        )  # fmt: skip

    everyone = spark.range(many).select(F.format_string("k%06d", "id").alias("id"))
    history = spark.range(busy).select(
        F.lit("busy").alias("id"), F.col("id").cast("string").alias("name"),
        F.date_add(F.lit("2000-01-01").cast("date"), F.col("id").cast("int")).cast("timestamp").alias("effective_at"),
    )  # fmt: skip
    first = told(everyone, "2026-01-10", "A")
    first = first.unionByName(history, allowMissingColumns=True)
    late = told(everyone.where("id = 'k000007'"), "2025-01-10", "B")
    changed = told(everyone.where("id < 'k000100'"), "2026-02-10", "C")

    def play(n: int, events: Any, keys: Any) -> scd2.Outcome:
        return scd2.apply(table, dimension, events, keys, zone="UTC", as_of=AS_OF, scratch=str(tmp_path / f"s{n}"))

    assert play(1, first, None).inserted == many + busy + 1
    assert play(2, first.unionByName(late), late.select("id")).rows_written == 2  # 19: the new first version, the old one's key
    again = told(everyone, "2026-01-11", "A")
    nothing = play(3, first.unionByName(late).unionByName(again), again.select("id"))
    assert (nothing.commit, nothing.rows_written) == (None, 0)  # 50
    outcome = play(4, first.unionByName(late).unionByName(again).unionByName(changed), changed.select("id"))
    assert (outcome.inserted, outcome.updated, outcome.deleted) == (100, 100, 0)
    metrics = table.history(1)[0]["metrics"]
    assert int(metrics["numTargetRowsCopied"]) == 0  # 51
    size = table.read().where("id <> 'busy'").count()
    whole = sum(f.stat().st_size for f in Path(table.path).glob("*.parquet"))
    assert int(metrics["numTargetBytesAdded"]) < max(0.1 * whole * 20_000 / many, 100_000), (metrics, size)
    kept = table.read().where("id = 'busy'").selectExpr("count(*) n", "count(distinct valid_from) f",
                                                        "sum(datediff(valid_to, valid_from)) days").first()  # fmt: skip
    assert kept is not None
    assert (kept["n"], kept["f"], kept["days"]) == (busy, busy, (date(9999, 12, 31) - date(2000, 1, 1)).days)  # 53
