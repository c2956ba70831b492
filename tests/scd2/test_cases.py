"""The adversarial cases of reference/scd2.md section 7 that are histories of keys, each on real Delta tables.

All histories live as keys of one dimension per grain and are played in the same five batches; after each batch the
whole table, the counts, the affected intervals and the change feed are compared with the reference model (World.check).
Cases that need a table of their own stand in test_tables.py, those of single functions in tests/unit/scd2.

What these cases ask of other rooms is tested there: 28 (a snapshot without a key closes it; an empty or shrunken one is
refused), 32 and 57 (quarantine with reason), 34 (what a key keeps of case and blanks), 38 (a missing column rejects the
file), 45 and 46 (SIGKILL around the commit), 49 (batches from an old file), 60 and 61 (fact tables re-keyed, and no others).
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from scd2_reference import Event, Rules
from scd2_world import SETS, Row, World, at, check_invariants

pytestmark = pytest.mark.engine

RULES = {"day": Rules("day", "all"), "microsecond": Rules("microsecond", "current")}
BATCHES = 5
SEEDS = int(os.environ.get("SCD2_SEEDS", "6"))  # of case 13

NAMES = {values[:3]: name for name, values in reversed(SETS.items())}
Test = Callable[..., None]


def history(*batches: str, **variants: list[str]) -> Callable[[Test], Test]:
    """The batches of a test's key.

    ``A@1`` upsert at t1, ``#2`` its sequence, ``D@2`` delete, ``-A@1`` no longer stands,
    ``need``/``unneed`` by facts. With keyword arguments, a key for each variant.
    """

    def keep(test: Test) -> Test:
        test.batches = variants or {"": list(batches)}  # type: ignore[attr-defined]
        return test

    return keep


def parse(key: str, batch: str, rules: Rules, rows: Iterator[int]) -> list[tuple[str, Event | None]]:
    acts: list[tuple[str, Event | None]] = []
    for token in batch.split():
        if token in ("need", "unneed"):
            acts.append((token, None))
            continue
        minus, name, moment, sequence = re.fullmatch(r"(-?)([\w,-]+?)@([\d.']+)(?:#(\w+))?", token).groups()  # type: ignore[union-attr]
        number = None if sequence == "none" else int(sequence or 1)
        values = (None,) * 5 if name == "D" else SETS[name]
        event = Event(key, at(moment, rules), values, number, "delete" if name == "D" else "upsert")
        acts.append(("retract", event) if minus else ("tell", replace(event, row=next(rows))))
    return acts


def case_12() -> dict[str, list[str]]:
    """All 120 orders of five mixed events, one per batch."""
    events = ["A@1", "A@2", "D@3", "B@3#2", "A@4"]
    return {"".join(map(str, order)): [events[i] for i in order] for order in itertools.permutations(range(5))}


def case_13() -> dict[str, list[str]]:
    """1,000 events of 50 keys, split at random into the batches; each seed splits the same events."""
    once = random.Random(13)
    keys = {
        n: [f"{once.choice('ABCAAD')}@{once.choice('01234')}#{once.randrange(3)}" for _ in range(20)] for n in range(50)
    }
    result: dict[str, list[str]] = {}
    for seed in range(SEEDS):
        rng = random.Random(seed)
        for n, events in keys.items():
            batches: list[list[str]] = [[] for _ in range(BATCHES)]
            for event in rng.sample(events, len(events)):
                batches[rng.randrange(BATCHES)].append(event)
            result[f"{seed}:{n}"] = [" ".join(batch) for batch in batches]
    return result


class Played:
    """Both worlds are played once; the tests look at their own keys."""

    def __init__(self, spark: SparkSession, folder: Any, rules: Rules, tests: Mapping[str, Test]) -> None:
        day = rules.grain == "day"
        self.rules = rules
        self.world = World(spark, folder, rules, deletion_vectors=day, change_feed=day)
        rows = itertools.count(1)
        self.acts: dict[str, list[list[tuple[str, Event | None]]]] = {
            f"{name}/{variant}": [parse(f"{name}/{variant}", batch, rules, rows) for batch in batches]
            for name, test in tests.items()
            for variant, batches in test.batches.items()  # type: ignore[attr-defined]
        }
        for n in range(BATCHES):
            self.play_batch(n)
        world = self.world
        self.empty = world.play()
        again = [replace(e, file="g", row=e.row) for events in world.standing.values() for e in events]
        self.repeated = world.play(again)
        self.rebuilt = world.play(rebuild=True)
        self.found = world.find(self.moments())
        self.later = world.play(as_of=date(2027, 6, 1))

    def play_batch(self, n: int, world: World | None = None, without: tuple[str, ...] = ()) -> None:
        world = world or self.world
        keys = {key: batches for key, batches in self.acts.items() if not key.startswith(without or "/")}
        acts = [(key, *act) for key, batches in keys.items() for act in batches[n : n + 1] for act in act]
        told = [e for _, what, e in acts if what == "tell" and e]
        gone = [self.standing(e, world) for _, what, e in acts if what == "retract" and e]
        need, unneed = ({key for key, what, _ in acts if what == word} for word in ("need", "unneed"))
        world.play(told, retract=gone, need=need, unneed=unneed)

    def standing(self, like: Event, world: World) -> Event:
        same = [e for e in world.standing[like.key] if (e.at, e.values, e.sequence) == (like.at, like.values, like.sequence)]
        return same[0]

    def moments(self) -> list[int]:
        return [self.rules.start(at(str(n / 2), self.rules)) for n in range(10)]

    def name(self, moment: int) -> str:
        """A moment as the test wrote it."""
        named = {self.rules.start(at(m, self.rules)): m for m in ("1'", "0", "1", "2", "3", "4", "9")}
        return ({self.rules.begin: "-oo", self.rules.end: "oo"} | named)[moment]


@pytest.fixture(scope="module", params=["day", "microsecond"])
def played(request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    rules = RULES[request.param]
    tests = {name: test for name, test in vars(request.module).items() if hasattr(test, "batches")}
    other = rules.grain == "microsecond"  # case 52: the other world has no deletion vectors, no ANSI, more partitions
    conf = {"spark.sql.ansi.enabled": "false", "spark.sql.shuffle.partitions": "7"} if other else {}
    before = {name: spark.conf.get(name) for name in conf}
    for name, value in conf.items():
        spark.conf.set(name, value)
    yield Played(spark, tmp_path_factory.mktemp(rules.grain), rules, tests)
    for name, value in before.items():
        spark.conf.set(name, str(value))


@dataclass(frozen=True)
class Told:
    """One key of a world, in the words of its test."""

    played: Played
    key: str

    def rows(self, after: int | None = None) -> list[Row]:
        step = self.played.rebuilt if after is None else self.played.world.steps[after - 1]
        return step.rows.get(self.key, [])

    def timeline(self, after: int | None = None) -> str:
        """``A[1,2) B[2,oo)*``, the star for the current one; ``?`` for an inferred member."""
        name = self.played.name
        return " ".join(
            f"{'?' if v.inferred else NAMES[v.values[:3]]}[{name(v.start)},{name(v.end)}){'*' if v.current else ''}"
            for v in (row.version for row in self.rows(after))
        )

    def intervals(self, after: int) -> str:
        name = self.played.name
        found = self.played.world.steps[after - 1].intervals.get(self.key, [])
        return " ".join(f"[{name(a)},{name(b)})" for a, b in found)

    def written(self, after: int) -> Counter[str]:
        """What a batch wrote of this key, by the change feed (day world) or by comparing."""
        if self.played.rules.grain == "day":
            feed = self.played.world.steps[after - 1].changes.get(self.key, Counter())
            return Counter({kind: n for kind in ("insert", "delete", "update_postimage")
                            if (n := sum(m for (k, _), m in feed.items() if k == kind))})  # fmt: skip
        was, now = ({r.sk: r for r in self.rows(n)} if n else {} for n in (after - 1, after))
        updated = sum(was[sk] != now[sk] for sk in was.keys() & now.keys())
        counts = {"insert": len(now.keys() - was.keys()), "delete": len(was.keys() - now.keys()), "update_postimage": updated}
        return Counter({kind: n for kind, n in counts.items() if n})

    def fact(self, moment: str) -> tuple[int, bool]:
        """Surrogate key and flag that a fact finds."""
        return self.played.found[self.key, self.played.rules.start(at(moment, self.played.rules))]

    @property
    def keys(self) -> list[int]:
        return [row.sk for row in self.rows()]


@pytest.fixture
def all_told(request: pytest.FixtureRequest, played: Played) -> dict[str, Told]:
    """The test's keys by variant; their invariants hold after every batch."""
    name = request.function.__name__
    result = {key.partition("/")[2]: Told(played, key) for key in played.acts if key.partition("/")[0] == name}
    for told in result.values():
        standing = played.world.standing[told.key]
        check_invariants(told.rows(), standing, played.rules)
    return result


@pytest.fixture
def told(all_told: dict[str, Told]) -> Told:
    (only,) = all_told.values()
    return only


# -- order, duplicates, replay ---------------------------------------------------------------------------------------


def test_case_01_an_empty_batch_makes_no_version(played: Played) -> None:
    assert played.empty.outcome.commit is None
    assert played.empty.outcome.rows_written == 0
    assert played.empty.version == played.world.steps[BATCHES - 1].version


@history(one=["A@1"], two=["B@2"], three=["C@1"])
def test_case_02_first_load(all_told: dict[str, Told], played: Played) -> None:
    rows = [row for told in all_told.values() for row in told.rows(after=1)]
    assert [row.version.current for row in rows] == [True] * 3
    assert len({row.sk for row in rows}) == 3
    assert None not in {row.sk for row in rows}


def test_case_04_the_same_rows_under_a_new_batch_make_no_commit(played: Played) -> None:
    assert played.repeated.outcome.commit is None
    assert played.repeated.rows == played.empty.rows


@history("A@1 A@1 A@1")
def test_case_05_exact_duplicates_make_one_version(told: Told) -> None:
    assert told.timeline() == "A[1,oo)*"


@history("A@1", "B@2")
def test_case_06_a_change_makes_a_second_version(told: Told) -> None:
    assert told.timeline(after=1) == "A[1,oo)*"
    assert told.timeline() == "A[1,2) B[2,oo)*"
    assert told.intervals(after=2) == "[2,oo)"


@history("A@1", "A@2")
def test_case_07_no_change_makes_no_version(told: Told, played: Played) -> None:
    assert told.timeline() == "A[1,oo)*"
    assert told.written(after=2) == {}
    assert len(played.world.standing[told.key]) == 4  # both, and both repeated


@history("A@1", "B@2 C@3")
def test_case_08_two_changes_in_one_batch(told: Told) -> None:
    assert told.timeline() == "A[1,2) B[2,3) C[3,oo)*"


@history("A@1", "B@2 A@3")
def test_case_09_a_bounce_makes_three_versions(told: Told) -> None:
    assert told.timeline() == "A[1,2) B[2,3) A[3,oo)*"
    assert len(set(told.keys)) == 3


@history(together=["A@1#1 B@1#2"], reversed=["B@1#2 A@1#1"], later=["A@1#1", "B@1#2"], earlier=["B@1#2", "A@1#1"],
         none=["A@1#none B@1#0"])  # fmt: skip
def test_case_10_the_higher_sequence_wins(all_told: dict[str, Told]) -> None:
    assert {told.timeline() for told in all_told.values()} == {"B[1,oo)*"}


@history(together=["A@1 B@1"], reversed=["B@1 A@1"], later=["A@1", "B@1"], earlier=["B@1", "A@1"])
def test_case_11_a_full_tie_has_one_winner_and_counts_as_a_conflict(all_told: dict[str, Told]) -> None:
    assert len({told.timeline() for told in all_told.values()}) == 1  # that it was counted once each: World.check


@history(**case_12())
def test_case_12_all_orders_of_five_events_end_alike(all_told: dict[str, Told]) -> None:
    assert len(all_told) == 120
    assert {told.timeline() for told in all_told.values()} == {"A[1,3) B[3,4) A[4,oo)*"}


@history(**case_13())
def test_case_13_random_splits_end_alike(all_told: dict[str, Told]) -> None:
    by_key: dict[str, set[str]] = {}
    for variant, told in all_told.items():
        by_key.setdefault(variant.partition(":")[2], set()).add(told.timeline())
    assert len(by_key) == 50
    assert {len(ends) for ends in by_key.values()} == {1}


# -- late events -----------------------------------------------------------------------------------------------------


@history("A@1 C@3", "B@2")
def test_case_14_a_late_event_between_two_versions(told: Told) -> None:
    assert told.timeline(after=1) == "A[1,3) C[3,oo)*"
    assert told.timeline() == "A[1,2) B[2,3) C[3,oo)*"
    assert told.written(after=2) == {"insert": 1, "update_postimage": 1}  # B, and A's end; C is not rewritten
    assert told.intervals(after=2) == "[2,3)"


@history("B@2", "A@1")
def test_case_15_a_late_event_before_the_first_version(told: Told) -> None:
    assert told.timeline() == "A[1,2) B[2,oo)*"
    assert told.rows(after=1)[0].sk == told.keys[0]  # the earliest version keeps the key's fixed surrogate key
    assert told.intervals(after=2) == "[1,oo)"  # from t1 on no longer flagged, from t2 on another key


@history("A@1", "B@3", "A@2")
def test_case_16_a_late_event_that_changes_nothing(told: Told) -> None:
    assert told.timeline() == "A[1,3) B[3,oo)*"
    assert told.written(after=3) == {}
    assert told.intervals(after=3) == ""


@history("A@1", "B@3", "B@2")
def test_case_17_a_late_event_moves_a_start(told: Told) -> None:
    assert told.timeline() == "A[1,2) B[2,oo)*"
    assert told.rows(after=2)[1].sk not in told.keys
    assert told.intervals(after=3) == "[2,oo)"


@history("A@1 A@3", "B@2")
def test_case_18_a_late_event_splits_a_run(told: Told) -> None:
    assert told.timeline() == "A[1,2) B[2,3) A[3,oo)*"
    assert told.intervals(after=2) == "[2,oo)"


@history("A@1 B@2 C@3", "X@2#2")
def test_case_20_a_correction_changes_a_closed_version_in_place(told: Told) -> None:
    assert told.timeline() == "A[1,2) X[2,3) C[3,oo)*"
    assert told.written(after=2) == {"update_postimage": 1}
    assert told.intervals(after=2) == ""


# -- deletes ---------------------------------------------------------------------------------------------------------


@history("A@1", "D@2")
def test_case_21_a_delete_ends_the_version(told: Told) -> None:
    assert told.timeline() == "A[1,2)"
    assert told.intervals(after=2) == "[2,oo)"


@history("D@2", "A@1")
def test_case_22_a_delete_that_came_first_is_remembered(told: Told) -> None:
    assert told.timeline(after=1) == ""
    assert told.timeline() == "A[1,2)"


@history("A@1", "D@2", "A@3")
def test_case_23_a_gap_between_equal_versions(told: Told) -> None:
    assert told.timeline() == "A[1,2) A[3,oo)*"
    assert len(set(told.keys)) == 2


@history("A@1 D@3", "D@3", "D@2")
def test_case_24_the_earlier_delete_ends_the_version(told: Told) -> None:
    assert told.timeline(after=2) == "A[1,3)"
    assert told.timeline() == "A[1,2)"
    assert told.intervals(after=3) == "[2,3)"


@history("D@2")
def test_case_25_a_delete_of_an_unknown_key_makes_no_row(told: Told) -> None:
    assert told.timeline() == ""


@history("A@1 D@3", "B@2")
def test_case_26_a_late_event_before_a_delete(told: Told) -> None:
    assert told.timeline() == "A[1,2) B[2,3)"


@history(equal=["A@1", "B@2 D@2"], lower=["A@1", "B@2#1 D@2#2"], higher=["A@1", "B@2#2 D@2#1"], apart=["A@1", "D@2", "B@2"])
def test_case_27_an_upsert_and_a_delete_at_one_time(all_told: dict[str, Told]) -> None:
    ends = {variant: told.timeline() for variant, told in all_told.items()}
    assert ends.pop("higher") == "A[1,2) B[2,oo)*"
    assert set(ends.values()) == {"A[1,2)"}


@history("A@1 B@1", "D@2 A@3", "-D@2")
def test_a_retracted_event_is_as_if_it_had_never_been(told: Told) -> None:
    assert told.timeline(after=2).endswith("A[3,oo)*")
    assert told.timeline() in ("A[1,oo)*", "B[1,3) A[3,oo)*")  # by the winner of the tie


@history("A@1", "B@2", "-A@1", "-B@2")
def test_a_key_whose_events_are_all_retracted_has_no_version(told: Told) -> None:
    assert told.timeline(after=3) == "B[2,oo)*"
    assert told.rows(after=3)[0].sk == told.rows(after=1)[0].sk
    assert told.timeline() == ""


# -- nulls and hashing -----------------------------------------------------------------------------------------------


@history("null@1", "A@2", "null@3", "null@4")
def test_case_29_null_is_a_value_like_others(told: Told) -> None:
    assert told.timeline() == "null[1,2) A[2,3) null[3,oo)*"
    assert told.written(after=4) == {}


@history(nulls=["a-b@1", "ab-@2"], parts=["ab,c@1", "a,bc@2"], delimiter=["delimiter@1", "delimited@2"])
def test_case_30_values_that_look_alike_when_joined(all_told: dict[str, Told]) -> None:
    assert {variant: told.timeline() for variant, told in all_told.items()} == {
        "nulls": "a-b[1,2) ab-[2,oo)*",
        "parts": "ab,c[1,2) a,bc[2,oo)*",
        "delimiter": "delimiter[1,2) delimited[2,oo)*",
    }


# -- type 1, untracked -----------------------------------------------------------------------------------------------


@history("A@1 B@2", "phone@3", "B@4")
def test_case_39_a_type_1_change_makes_no_version(told: Told, played: Played) -> None:
    assert told.timeline(after=2) == "A[1,2) B[2,3) A[3,oo)*"
    phones = [[row.version.values[3] for row in told.rows(after=n)] for n in (2, 3)]
    if played.rules.policy == "all":
        assert phones == [["777"] * 3, ["555"] * 4]
    else:
        assert phones == [["555", "555", "777"], ["555", "555", "777", "555"]]


@history("A@1", "phone@2", "note@3")
def test_a_change_of_type_1_or_of_an_untracked_column_alone_makes_no_version(told: Told) -> None:
    assert told.timeline() == "A[1,oo)*"
    assert told.written(after=2) == {"update_postimage": 1}
    assert told.rows(after=2)[0].version.values[3:] == ("777", "n")
    assert told.rows()[0].version.values[3:] == ("555", "n")  # note@3 says 555 again; its note belongs to no version
    assert told.intervals(after=2) == ""


# -- time ------------------------------------------------------------------------------------------------------------


@history("A@1", "B@1'")
def test_case_41_one_microsecond_apart(told: Told, played: Played) -> None:
    if played.rules.grain == "microsecond":
        assert told.timeline() == "A[1,1') B[1',oo)*"
    else:  # the day keeps its last event
        assert told.timeline() == "B[1,oo)*".replace("1", played.name(told.rows()[0].version.start))
        assert len(told.rows()) == 1


@history(known=["A@1", "B@9"], unknown=["B@9"])
def test_case_43_a_future_version_becomes_current_on_its_day(all_told: dict[str, Told], played: Played) -> None:
    assert all_told["known"].timeline() == "A[1,9)* B[9,oo)"
    assert all_told["unknown"].timeline() == "B[9,oo)"
    later = {v: [r.version.current for r in played.later.rows[t.key]] for v, t in all_told.items()}
    assert later == {"known": [False, True], "unknown": [True]}
    assert played.later.outcome.updated == 3  # these rows and no others
    assert (played.later.outcome.inserted, played.later.outcome.deleted) == (0, 0)


def test_case_54_a_full_rebuild_changes_nothing(played: Played) -> None:
    assert played.rebuilt.outcome.commit is None
    assert played.rebuilt.rows == played.repeated.rows


# What case 52 names, turned around: the day world has deletion vectors, change feed, ANSI and one shuffle partition.
OTHER_WAY = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.shuffle.partitions": "200",
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.codegen.wholeStage": "true",
}


def test_case_52_other_settings_make_the_same_table(played: Played, spark: SparkSession, tmp_path: Path) -> None:
    if played.rules.grain == "microsecond":
        pytest.skip("compared at the grain of a day; the microsecond world has settings of its own")
    many = ("test_case_12", "test_case_13")
    before = {name: spark.conf.get(name) for name in OTHER_WAY}
    other = World(spark, tmp_path, played.rules, deletion_vectors=False, change_feed=False)
    try:
        for name, value in OTHER_WAY.items():
            spark.conf.set(name, value)
        for n in range(BATCHES):
            played.play_batch(n, other, without=many)
    finally:
        for name, value in before.items():
            spark.conf.set(name, str(value))
    expected = played.world.steps[BATCHES - 1].rows
    kept = {key: rows for key, rows in expected.items() if not key.startswith(many)}
    assert len(kept) > 40
    assert dict(other.last.rows) == kept


# -- facts -----------------------------------------------------------------------------------------------------------


@history("A@1 B@3")
def test_case_58_a_fact_at_a_boundary_finds_the_version_that_starts(told: Told, played: Played) -> None:
    assert told.fact("1") == (told.keys[0], False)
    assert told.fact("3") == (told.keys[1], False)
    assert told.fact("2.5") == (told.keys[0], False)  # and the number of facts was kept: World.find


@history("A@1 D@2 B@3")
def test_case_59_a_fact_before_the_first_version_and_in_a_gap(told: Told) -> None:
    assert told.fact("0.5") == (told.keys[0], True)
    assert told.fact("2") == (-1, False)
    assert told.fact("2.5") == (-1, False)


@history(fact_first=["need", "A@2"], row_first=["A@2", "need"], unneeded=["need", "unneed"], retracted=["need A@2", "-A@2"])
def test_case_60_an_inferred_member_is_taken_over_in_place(all_told: dict[str, Told]) -> None:
    first, other = all_told["fact_first"], all_told["row_first"]
    assert first.timeline(after=1) == "?[-oo,oo)*"
    assert first.timeline() == other.timeline() == "A[2,oo)*"
    assert first.rows(after=1)[0].sk == first.keys[0]
    assert first.written(after=2) == {"update_postimage": 1}
    assert first.intervals(after=2) == "[-oo,2)"  # flagged now; from t2 on the fact rows stay as they are
    assert all_told["unneeded"].timeline(after=1) == "?[-oo,oo)*"
    assert all_told["unneeded"].timeline() == ""
    assert all_told["retracted"].timeline(after=1) == "A[2,oo)*"
    assert all_told["retracted"].timeline() == "?[-oo,oo)*"


@history("A@1 C@3", "B@2")
def test_case_61_facts_of_a_late_version(told: Told) -> None:
    found = {moment: told.fact(moment)[0] for moment in ("1", "1.5", "2", "2.5", "3", "4")}
    a, b, c = told.keys
    assert found == {"1": a, "1.5": a, "2": b, "2.5": b, "3": c, "4": c}
    assert told.intervals(after=2) == "[2,3)"


@history("A@1 B@2", "C@3")
def test_case_62_a_late_fact_finds_the_closed_version(told: Told) -> None:
    assert told.fact("1.5") == (told.keys[0], False)
