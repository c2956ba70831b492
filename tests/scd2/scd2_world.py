"""A world: one dimension on a real Delta table, and batches of events played into it, checked after each one.

Thousands of histories live in it as different keys, so that one Spark application tries them all at once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scd2_reference import (
    ATTRIBUTES,
    DAY,
    TYPE1,
    TYPE2,
    UNTRACKED,
    Event,
    Rules,
    Version,
    changed,
    conflicts,
    history,
    lookup,
)

from utilityflow import scd2
from utilityflow.contracts import Contract, parse_contract
from utilityflow.lakehouse import Lakehouse, Table

UNKNOWN = (-1, "?")
# of one attribute, for tests that make no table
SIMPLE = scd2.Dimension(
    name="dim_test",
    columns=(("sk", "bigint"), ("id", "string"), ("name", "string"), ("effective_date", "date"), ("expiry_date", "date"),
             ("is_current", "boolean"), ("is_inferred", "boolean")),
    key=("id",), surrogate_key="sk", type2=("name",),
)  # fmt: skip
NOON = int(datetime(2026, 1, 10, 17, tzinfo=timezone.utc).timestamp()) * 1_000_000  # in New York
FUTURE = int(datetime(2027, 1, 10, 17, tzinfo=timezone.utc).timestamp()) * 1_000_000  # after the first as-of date

# Attribute sets: a letter is a customer of that name; the others differ from A as said.
SETS: dict[str, tuple[str | None, ...]] = {
    **{letter: (letter, f"{letter} street", "town", "555", "n") for letter in "ABCX"},
    "null": (None, "A street", "town", "555", "n"),
    "phone": ("A", "A street", "town", "777", "n"),  # type 1
    "note": ("A", "A street", "town", "555", "other"),  # untracked
    "a-b": ("a", None, "b", "555", "n"),
    "ab-": ("a", "b", None, "555", "n"),
    "ab,c": ("ab", "c", None, "555", "n"),
    "a,bc": ("a", "bc", None, "555", "n"),
    "delimiter": ("a:1", "-", "2:b", "555", "n"),
    "delimited": ("a", "1:-", "2:b", "555", "n"),
}


def at(moment: str, rules: Rules) -> int:
    """t0 to t4 are two units apart, so that 2.5 lies between; t9 is in the future; ``1'`` is a microsecond after t1."""
    later = moment.count("'")
    moment = moment.rstrip("'")
    unit = DAY if rules.grain == "day" else 10
    return later + (FUTURE if moment == "9" else NOON + int(2 * unit * float(moment)))


def contract_yaml(
    rules: Rules, *, deletion_vectors: bool = True, change_feed: bool = False, attributes: Iterable[str] = ATTRIBUTES
) -> str:
    """A gold contract with the columns that the tests use."""
    moment = ("date", "DATE") if rules.grain == "day" else ("timestamp", "TIMESTAMP")
    columns = [("sk", "integer", "BIGINT"), ("id", "string", "VARCHAR(40)")]
    columns += [(name, "string", "VARCHAR(100)") for name in attributes]
    columns += [("valid_from", *moment), ("valid_to", *moment), ("is_current", "boolean", "BOOLEAN")]
    columns += [("is_inferred", "boolean", "BOOLEAN"), ("_file_sha256", "string", "VARCHAR(64)")]
    columns += [("_row_number", "integer", "BIGINT")]
    listed = "".join(
        f"      - {{name: {name}, logicalType: {kind}, physicalType: {physical}, description: tested}}\n"
        for name, kind, physical in columns
    )
    return f"""apiVersion: v3.1.0
kind: DataContract
id: utilityflow.gold.dim_test
name: dim_test
version: 1.0.0
status: active
schema:
  - name: dim_test
    description: A dimension of the tests.
    dataGranularityDescription: one row per version
    customProperties:
      - {{property: statistics, value: [sk, id, valid_from, valid_to]}}
      - {{property: deletionVectors, value: {str(deletion_vectors).lower()}}}
      - {{property: changeFeed, value: {str(change_feed).lower()}}}
      - property: scd2
        value: {{key: [id], surrogateKey: sk, grain: {rules.grain},
                type2: [{", ".join(n for n in attributes if n not in TYPE1 + UNTRACKED)}], type1: [{", ".join(TYPE1)}],
                untracked: [{", ".join(UNTRACKED)}], type1Policy: {rules.policy},
                effectiveFrom: valid_from, effectiveTo: valid_to, current: is_current, inferred: is_inferred,
                partial: {str(rules.partial).lower()}}}
    properties:
{listed}"""


def gold(text: str) -> Contract:
    return parse_contract(text, "tests", "gold")


def empty_table(spark: SparkSession, folder: Path, contract: Contract) -> Table:
    house = Lakehouse(spark, str(folder), {contract.name: contract})  # type: ignore[arg-type]
    table = house.table(contract.name)
    table.ensure()
    return table


def frame(spark: SparkSession, events: Iterable[Event], folder: Path) -> DataFrame:
    """Events as silver would hand them over; through a Parquet file, which is quick and typed."""
    rows = list(events)
    columns: dict[str, Any] = {
        "id": pa.array([e.key for e in rows], pa.string()),
        **{name: pa.array([e.values[i] for e in rows], pa.string()) for i, name in enumerate(ATTRIBUTES)},
        "effective_at": pa.array([e.at for e in rows], pa.timestamp("us", "UTC")),
        "sequence": pa.array([e.sequence for e in rows], pa.int64()),
        "operation": pa.array([e.operation for e in rows], pa.string()),
        "provided": pa.array([e.given for e in rows], pa.list_(pa.string())),
        "_file_sha256": pa.array([e.file for e in rows], pa.string()),
        "_row_number": pa.array([e.row for e in rows], pa.int64()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return spark.read.parquet(str(folder))


def key_frame(spark: SparkSession, keys: Iterable[str], folder: Path) -> DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": pa.array(sorted(keys), pa.string())}), folder / "keys.parquet")
    return spark.read.parquet(str(folder))


@dataclass(frozen=True)
class Row:
    """A row of the table with moments as integers."""

    sk: int
    version: Version
    file: str | None
    row: int | None

    @property
    def content(self) -> tuple[Any, ...]:
        v = self.version
        return (self.sk, v.key, v.values, v.start, v.end, v.current, v.inferred)


@dataclass
class Step:
    """What one batch did."""

    outcome: scd2.Outcome
    version: int
    rows: dict[str, list[Row]]
    intervals: dict[str, list[tuple[int, int]]]
    changes: dict[str, Counter[tuple[str, int]]] = field(default_factory=dict)


class Differs(AssertionError):
    """The table is not what the reference says, for these keys."""

    def __init__(self, message: str, keys: list[str]) -> None:
        super().__init__(message)
        self.keys = keys


class World:
    """A dimension and all that was told about it."""

    def __init__(self, spark: SparkSession, folder: Path, rules: Rules, *, deletion_vectors: bool = True,
                 change_feed: bool = False) -> None:  # fmt: skip
        self.spark, self.folder, self.rules, self.change_feed = spark, folder, rules, change_feed
        text = contract_yaml(rules, deletion_vectors=deletion_vectors, change_feed=change_feed)
        self.table = empty_table(spark, folder / "lake", gold(text))
        self.dimension = scd2.Dimension.from_contract(self.table.contract)
        self.standing: dict[str, list[Event]] = defaultdict(list)
        self.needed: set[str] = set()
        self.steps: list[Step] = []
        self.identities: dict[int, tuple[str, int | None]] = {}
        self.as_of = date(2026, 6, 1)

    @property
    def last(self) -> Step:
        return self.steps[-1]

    def play(self, told: Iterable[Event] = (), *, retract: Iterable[Event] = (), need: Iterable[str] = (),
             unneed: Iterable[str] = (), as_of: date | None = None, table: Any = None, batch: int | None = None,
             rebuild: bool = False) -> Step:  # fmt: skip
        """One batch: events that arrive, events that no longer stand, keys that facts need from now on or no longer.

        :param rebuild: build all keys anew.
        """
        told, retract, need, unneed = list(told), list(retract), set(need), set(unneed)
        for event in retract:
            self.standing[event.key].remove(event)
        for event in told:
            self.standing[event.key].append(event)
        self.needed = (self.needed | need) - unneed
        self.as_of = as_of or self.as_of
        keys = {e.key for e in (*told, *retract)} | need | unneed
        before = self.last.rows if self.steps and self.last.version == self.table.version() else self.rows()
        folder = self.folder / f"step{len(self.steps)}"
        outcome = scd2.apply(
            table or self.table,
            self.dimension,
            frame(self.spark, (e for es in self.standing.values() for e in es), folder / "events"),
            None if rebuild else key_frame(self.spark, keys, folder / "changed"),
            key_frame(self.spark, self.needed, folder / "needed") if self.needed else None,
            zone=self.rules.zone, as_of=self.as_of, scratch=str(folder / "scratch"), batch=batch,
            intervals=len(self.steps) % 2 == 1,  # both ways to them: found beside the write, and asked for afterwards
        )  # fmt: skip
        version = self.table.version()
        rows = before if self.steps and version == self.last.version else self.rows()  # no commit, the same rows
        step = Step(outcome, version, rows, self.intervals(outcome))
        self.steps.append(step)
        self.check(before, step, {*self.standing, *self.needed} if rebuild else keys)
        return step

    # -- reading ---------------------------------------------------------------------------------------------------

    def moment(self, column: str) -> Any:
        return (F.unix_date if self.rules.grain == "day" else F.unix_micros)(F.col(column)).cast("bigint").alias(column)

    def rows(self) -> dict[str, list[Row]]:
        """The table's rows by key, by start; the unknown member is checked and left out."""
        shown = self.table.read().select(
            "sk", "id", *ATTRIBUTES, self.moment("valid_from"), self.moment("valid_to"), "is_current", "is_inferred",
            "_file_sha256", "_row_number", scd2.surrogate_key(self.dimension, None).alias("first_key"),
        )  # fmt: skip
        result: dict[str, list[Row]] = defaultdict(list)
        for r in sorted(shown.collect(), key=lambda r: (r["id"], r["valid_from"])):
            values = tuple(r[name] for name in ATTRIBUTES)
            moments = r["valid_from"], r["valid_to"]
            first = r["sk"] == r["first_key"]
            version = Version(r["id"], first, values, *moments, r["is_current"], r["is_inferred"], None)
            if (r["sk"], r["id"]) == UNKNOWN:
                assert (version.start, version.end, version.current) == (self.rules.begin, self.rules.end, True)
            else:
                result[r["id"]].append(Row(r["sk"], version, r["_file_sha256"], r["_row_number"]))
        return result

    def find(self, moments: Iterable[int]) -> dict[tuple[str, int], tuple[int, bool]]:
        """What facts of every key find at every moment: surrogate key and flag."""
        folder = self.folder / "probes"
        folder.mkdir(exist_ok=True)
        probes = [(key, moment) for key in self.standing for moment in moments]
        columns = {"id": pa.array([k for k, _ in probes], pa.string()), "at": pa.array([m for _, m in probes], pa.int64())}
        pq.write_table(pa.table(columns), folder / "probes.parquet")
        facts = self.spark.read.parquet(str(folder)).withColumn("day", self.from_moment("at"))
        found = scd2.version_of(facts, self.table.read(), self.dimension, day="day").collect()
        assert len(found) == len(probes)
        return {(r["id"], r["at"]): (r["sk"], r["before_first_version"]) for r in found}

    def from_moment(self, column: str) -> Any:
        if self.rules.grain == "day":
            return F.date_from_unix_date(F.col(column).cast("int"))
        return F.timestamp_micros(F.col(column).cast("bigint"))

    def intervals(self, outcome: scd2.Outcome) -> dict[str, list[tuple[int, int]]]:
        result: dict[str, list[tuple[int, int]]] = defaultdict(list)
        shown = outcome.intervals.select("id", self.moment("affected_from"), self.moment("affected_to")).collect()
        for r in sorted(shown):
            result[r["id"]].append((r["affected_from"], r["affected_to"]))
        return result

    def expected(self, key: str) -> list[Version]:
        return history(key, self.standing.get(key, []), self.rules, as_of=self.as_of, needed=key in self.needed)

    def verify(self) -> None:
        """The table is what the reference says, whoever wrote it."""
        rows = self.rows()
        for key in {*self.standing, *self.needed, *rows}:
            found, expected = [plain(r.version) for r in rows.get(key, [])], [plain(v) for v in self.expected(key)]
            assert found == expected, key

    # -- checking --------------------------------------------------------------------------------------------------

    def check(self, before: Mapping[str, list[Row]], step: Step, keys: set[str]) -> None:
        """Table, counts, intervals and change feed against the reference; raises with the failing histories."""
        wrong = [key for key in {*self.standing, *self.needed, *step.rows} if not self.agrees(key, before, step)]
        if wrong:
            shown = "\n\n".join(self.explain(key, before, step) for key in sorted(wrong)[:3])
            head = f"{len(wrong)} histories differ after step {len(self.steps)}: {sorted(wrong)[:20]}"
            raise Differs(f"{head}\n{shown}", sorted(wrong))
        was = {r.sk: r for rows in before.values() for r in rows}
        now = {r.sk: r for rows in step.rows.values() for r in rows}
        assert len(now) == sum(len(rows) for rows in step.rows.values()), "surrogate keys are not unique"
        self.check_identities(now)
        self.check_counts(was, now, step)
        rebuilt = [key for key in keys if step.rows.get(key)]  # a key that deletes left without a row is not counted
        assert step.outcome.conflicts == sum(conflicts(self.standing.get(k, []), self.rules) for k in rebuilt)

    def agrees(self, key: str, before: Mapping[str, list[Row]], step: Step) -> bool:
        rows, expected = step.rows.get(key, []), self.expected(key)
        if [plain(r.version) for r in rows] != [plain(v) for v in expected]:
            return False
        if not all(self.stands(r, v) for r, v in zip(rows, expected, strict=True)):
            return False
        was = [r.version for r in before.get(key, [])]
        return step.intervals.get(key, []) == changed(was, [r.version for r in rows], self.rules)

    def stands(self, row: Row, version: Version) -> bool:
        """Whether the row leads to a standing event that says what the version says (any of several that do)."""
        if version.inferred:
            return row.file is None and row.row is None
        tracked = [i for i, name in enumerate(ATTRIBUTES) if name in TYPE2 + UNTRACKED]
        return any(
            (e.file, e.row) == (row.file, row.row) and not e.deleted and self.rules.start(e.at) == version.start
            and (self.rules.partial or [e.values[i] for i in tracked] == [version.values[i] for i in tracked])
            for e in self.standing[version.key]
        )  # fmt: skip

    def explain(self, key: str, before: Mapping[str, list[Row]], step: Step) -> str:
        was, rows = [r.version for r in before.get(key, [])], [r.version for r in step.rows.get(key, [])]
        lines = [f"key {key}, needed {key in self.needed}, as of {self.as_of}", "events:"]
        lines += [f"  {e}" for e in self.standing.get(key, [])]
        lines += ["expected:", *(f"  {v}" for v in self.expected(key))]
        lines += ["table:", *(f"  {r}" for r in step.rows.get(key, []))]
        lines += [f"expected intervals {changed(was, rows, self.rules)}, found {step.intervals.get(key, [])}"]
        return "\n".join(lines)

    def check_identities(self, now: Mapping[int, Row]) -> None:
        """One surrogate key stands for one identity for ever, and the other way round."""
        for sk, row in now.items():
            assert self.identities.setdefault(sk, row.version.identity) == row.version.identity
        assert len(set(self.identities.values())) == len(self.identities)

    def check_counts(self, was: Mapping[int, Row], now: Mapping[int, Row], step: Step) -> None:
        """Exactly the changed rows were written; no change, no commit; the change feed says the same."""
        inserted, deleted = now.keys() - was.keys(), was.keys() - now.keys()
        updated = {sk for sk in was.keys() & now.keys() if was[sk] != now[sk]}
        outcome = step.outcome
        found = (outcome.inserted, outcome.updated, outcome.deleted)
        extra = 1 if len(self.steps) == 1 else 0  # the unknown member comes with the first load
        assert found == (len(inserted) + extra, len(updated), len(deleted))
        assert (outcome.commit is None) == (outcome.rows_written == 0)
        if self.change_feed and outcome.commit is not None:
            feed = self.table.changes(outcome.commit.before, outcome.commit.after).where("sk <> -1")
            for r in feed.select("id", "sk", "_change_type").collect():
                step.changes.setdefault(r["id"], Counter())[(r["_change_type"], r["sk"])] += 1
            kinds = {"insert": inserted, "delete": deleted, "update_preimage": updated, "update_postimage": updated}
            expected = Counter({(kind, sk): 1 for kind, keys in kinds.items() for sk in keys})
            assert sum(step.changes.values(), Counter()) == expected

    def check_facts(self, seed: int) -> None:
        """Facts on and around every edge of every history find what the reference says, and none is lost or doubled."""
        rng = random.Random(seed)  # noqa: S311
        facts = []
        for key, rows in self.last.rows.items():
            edges = {m for r in rows for m in (r.version.start, r.version.end)} - {self.rules.end}
            for day in sorted({e + d for e in edges for d in (-1, 0, 1)})[:20]:
                facts.append((len(facts), key, day, day - rng.choice([0, 0, 1, 2, 3])))
        facts += [(len(facts), None, 20_000, 20_000), (len(facts) + 1, "no such key", 20_000, 19_000)]
        columns = dict(zip(("n", "id", "day", "first_day"), map(list, zip(*facts, strict=True)), strict=True))
        folder = self.folder / "facts"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), folder / "facts.parquet")
        moments = {name: self.from_moment(name) for name in ("day", "first_day")}
        shown = self.spark.read.parquet(str(folder)).withColumns(moments)
        found = scd2.version_of(shown, self.table.read(), self.dimension, day="day", first_day="first_day")
        collected = found.collect()
        answers = {r["n"]: (r["sk"], r["before_first_version"]) for r in collected}
        assert len(collected) == len(facts) == len(answers)
        for n, key, day, first_day in facts:
            versions = [r.version for r in self.last.rows.get(key, [])]
            identity, early = lookup(versions, day, first_day)
            sk, flagged = answers[n]
            assert (self.identities.get(sk), flagged) == (identity, early), (key, day, first_day, versions)
        # who asks for members with a history alone finds the same, of those that the table holds
        changed = scd2.histories(self.table.read(), self.dimension)
        known = shown.where("id IS NULL OR id <> 'no such key'")
        short = scd2.version_of_known(known, changed, self.dimension, day="day", first_day="first_day").collect()
        assert len(short) == len(facts) - 1
        wrong = [(r["id"], r["day"], r["first_day"]) for r in short if r["sk"] != answers[r["n"]][0]]
        assert wrong == []


def plain(version: Version) -> tuple[Any, ...]:
    v = version
    return (v.key, v.first, v.values, v.start, v.end, v.current, v.inferred)


def check_invariants(rows: list[Row], events: list[Event], rules: Rules) -> None:
    """What must hold of one key whatever was told, said without the reference's way of building it."""
    starts_of_deletes = {rules.start(e.at) for e in events if e.deleted}
    for row in rows:
        assert row.version.start < row.version.end
    for one, two in zip(rows, rows[1:], strict=False):
        assert one.version.end <= two.version.start
        assert one.version.end == two.version.start or one.version.end in starts_of_deletes
    assert sum(r.version.current for r in rows) <= 1
    assert len({r.sk for r in rows}) == len(rows)
    assert [r.version.first for r in rows] == [i == 0 for i in range(len(rows))]
    winners = {rules.start(e.at): e for e in sorted(events, key=lambda e: (e.at, e.sequence or 0, e.deleted))}
    for start, event in winners.items():
        holding = [r for r in rows if r.version.start <= start < r.version.end and not r.version.inferred]
        tied = [e for e in events if (e.at, e.sequence, e.deleted) == (event.at, event.sequence, event.deleted)]
        said = {e.values[: len(TYPE2)] for e in tied}
        assert len(holding) == (0 if event.deleted else 1)
        assert event.deleted or rules.partial or holding[0].version.values[: len(TYPE2)] in said
