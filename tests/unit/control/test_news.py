"""What came and what left, told without the change feed where the log allows it, is the difference of the two versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import parse_contract
from utilityflow.control import news as module
from utilityflow.control.news import news
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

READS = """apiVersion: v3.1.0
kind: DataContract
id: x
version: 1.0.0
status: active
schema:
  - name: reads
    description: d
    dataGranularityDescription: g
    customProperties:
      - {property: partitionBy, value: [month]}
      - {property: statistics, value: [_batch_id]}
      - {property: deletionVectors, value: true}
      - {property: changeFeed, value: true}
    properties:
      - {name: thing, logicalType: string, physicalType: STRING, description: d, required: true}
      - {name: month, logicalType: string, physicalType: STRING, description: d, required: true}
      - {name: _batch_id, logicalType: integer, physicalType: BIGINT, description: d, required: true}
      - {name: _row_number, logicalType: integer, physicalType: BIGINT, description: d, required: true}
"""
Row = tuple[str, str, int, int]  # thing, month, ledger number, row in the file
MIB = 1024**2


def file_of(number: int, *things: str, month: str = "2024-01", first: int = 1) -> list[Row]:
    return [(thing, month, number, first + i) for i, thing in enumerate(things)]


class Reads:
    """A table of reads, written as the silver step writes it."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        contract = parse_contract(READS, "reads.yaml", "silver")
        self.spark = spark
        catalog: Any = {contract.name: contract}
        self.table: Table = Lakehouse(spark, str(folder), catalog).table(contract.name)
        self.table.ensure()

    def frame(self, rows: Sequence[Row]) -> Any:
        return local_frame(self.spark, rows, self.table.contract.struct())

    @property
    def batch(self) -> int:
        return int(self.table.note().get("batch") or 0)

    def apply(self, *files: list[Row]) -> None:
        """Files of one feed, in one commit."""
        rows = [row for file in files for row in file]
        self.table.append(self.frame(rows), note={"batch": max(self.batch, *(row[2] for row in rows))})

    def promote(self, rows: list[Row]) -> None:
        self.table.append(self.frame(rows), note={"batch": self.batch, "promoted": [row[2] for row in rows]})

    def delete(self, condition: str) -> None:
        self.table.delete(condition, note={"batch": self.batch})

    def merge_out(self, rows: list[Row]) -> None:
        on = "target._batch_id = source._batch_id AND target._row_number = source._row_number"
        self.table.merge(self.frame(rows), on=on, clauses="WHEN MATCHED THEN DELETE", note={"batch": self.batch})

    def arrange(self) -> None:
        self.table.optimize(16 * MIB, 128 * MIB)

    def rewrite(self, month: str, rows: list[Row]) -> None:
        """As a snapshot feed's events are derived anew."""
        self.table.overwrite(self.frame(rows), where=f"month = '{month}'", note={"batch": max(self.batch, *(r[2] for r in rows))})

    def back_to(self, version: int) -> None:
        self.table.restore(version, {**self.table.note(version), "rollback": 1})


def lived(reads: Reads) -> None:
    """All that befalls a silver table, and some that hardly can."""
    reads.apply(file_of(1, "a", "b"))
    reads.apply(file_of(2, "b", "c"), file_of(4, "c", "d", "d", month="2024-02"))
    reads.delete("_batch_id IN (2, 4) AND thing IN ('b', 'c') AND _row_number = 1")  # repeats of records that stand
    before = reads.table.version()
    reads.delete("_batch_id = 1")  # superseded
    reads.promote(file_of(2, "b"))  # what was a repeat of it
    reads.apply(file_of(5, "a", "b", "e"))
    reads.merge_out(file_of(5, "b", first=2) + file_of(4, "d", month="2024-02", first=3))  # of a new file and of one of before
    reads.apply(file_of(3, "late"), file_of(6, "f", "g", month="2024-02"))  # waited, and comes with a later one
    reads.arrange()
    reads.delete("thing IN ('f', 'late')")
    reads.rewrite("2024-02", file_of(4, "d", month="2024-02", first=2) + file_of(7, "h", month="2024-02"))
    reads.delete("_batch_id = 5")  # superseded, and what comes again has a number of its own
    reads.apply(file_of(8, "a", "b", "e"))
    reads.back_to(before)
    reads.apply(file_of(9, "a", "i"), file_of(10, "i", month="2024-03"))
    reads.delete("_batch_id = 10")


def rows_at(table: Table, version: int) -> Counter[Row]:
    return Counter(tuple(row) for row in table.read(version).collect())


def told(table: Table, since: int, until: int) -> dict[Row, int]:
    """The signed rows of the news, those that come to nothing left out."""
    found: Counter[Row] = Counter()
    for row in news(table, since, until).rows.select(*table.contract.column_names, "_change_type").collect():
        found[tuple(row)[:4]] += {"insert": 1, "delete": -1}[row["_change_type"]]  # type: ignore[index]
    return {row: n for row, n in found.items() if n}


def difference(now: Counter[Row], then: Counter[Row]) -> dict[Row, int]:
    return {row: now[row] - then[row] for row in now | then if now[row] != then[row]}


@pytest.fixture(scope="module")
def life(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reads]:
    reads = Reads(spark, tmp_path_factory.mktemp("life"))
    lived(reads)
    yield reads


@pytest.mark.engine
@pytest.mark.long
def test_news_are_the_difference_of_two_versions(life: Reads) -> None:
    """Between neighbours, over a few commits, and from each version to the last."""
    table = life.table
    last = table.version()
    states = {version: rows_at(table, version) for version in range(last + 1)}
    assert len({frozenset(state.items()) for state in states.values()}) > 12, "nothing happened"
    spans = {(v, u) for v in range(last) for u in (v + 1, v + 2, v + 4, last) if u <= last}
    wrong = {(v, u): told(table, v, u) for v, u in sorted(spans) if told(table, v, u) != difference(states[u], states[v])}
    assert wrong == {}


@pytest.mark.engine
@pytest.mark.long
def test_without_a_log_the_change_feed_tells(life: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life.table, "actions", lambda version: None)
    last = life.table.version()
    assert told(life.table, 2, last) == difference(rows_at(life.table, last), rows_at(life.table, 2))


@pytest.mark.engine
def test_a_month_that_only_came_is_not_looked_for_in_the_change_feed(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are its repeats, which leave by DELETE or MERGE, nor files that are arranged."""
    reads = Reads(spark, tmp_path)
    reads.apply(file_of(1, "a", "b"))
    since = reads.table.version()
    reads.apply(file_of(2, "a", "c", "d", "d"), file_of(3, "e", "f", month="2024-02"))
    reads.delete("_batch_id = 2 AND thing = 'a'")
    reads.merge_out(file_of(2, "d", first=4))
    reads.arrange()
    reads.apply(file_of(5, "g", month="2024-02"))
    reads.delete("_batch_id = 3")  # superseded before anybody had seen it
    until = reads.table.version()

    def refuse(*_: Any) -> Any:
        raise AssertionError("the change feed was read")

    monkeypatch.setattr(reads.table, "changes", refuse)
    assert module._touching(reads.table, since, until, 1) == []
    for upto in (since + 1, since + 2, since + 3, until):
        assert told(reads.table, since, upto) == difference(rows_at(reads.table, upto), rows_at(reads.table, since))


@pytest.mark.engine
def test_a_version_without_a_ledger_number_is_left_to_the_change_feed(spark: SparkSession, tmp_path: Path) -> None:
    reads = Reads(spark, tmp_path)
    reads.table.append(reads.frame(file_of(7, "a", "b")))  # a note without a number, as of a foreign commit
    reads.delete("thing = 'a'")
    found = news(reads.table, 1, 2)
    assert found.batch == 0
    assert told(reads.table, 1, 2) == {("a", "2024-01", 7, 1): -1}
    assert told(reads.table, 0, 2) == {("b", "2024-01", 7, 2): 1}


# -- the log, without the engine ---------------------------------------------------------------------------------------


def add(path: str, lowest: int | None, **more: Any) -> dict[str, Any]:
    stats = None if lowest is None else f'{{"numRecords":3,"minValues":{{"_batch_id":{lowest}}}}}'
    return {"add": {"path": path, "stats": stats, "dataChange": True, **more}}


def remove(path: str, **more: Any) -> dict[str, Any]:
    return {"remove": {"path": path, "dataChange": True, **more}}


NOTE: dict[str, Any] = {"commitInfo": {"operation": "WRITE"}}
CASES: dict[str, tuple[list[list[dict[str, Any]] | None], list[int] | None]] = {
    "new files": ([[NOTE, add("a", 6), add("b", 9)]], []),
    "a file that waited": ([[NOTE, add("a", 6), add("b", 5)]], [1]),
    "a file without statistics": ([[NOTE, add("a", None)]], [1]),
    "statistics of other columns": ([[{"add": {"path": "a", "stats": '{"numRecords":3}'}}]], [1]),
    "rows of a new file leave": ([[add("a", 6)], [remove("a"), add("a", 6, deletionVector={"x": 1})], [remove("a")]], []),
    "rows of an old file leave": ([[add("a", 6)], [remove("old"), add("old", 6)]], [2]),
    "arranged": ([[add("a", 6)], [remove("a", dataChange=False), add("z", 6, dataChange=False)], [remove("z")]], []),
    "arranged with older ones": (
        [[add("a", 6)], [remove("old", dataChange=False), remove("a", dataChange=False), add("z", 2, dataChange=False)],
         [remove("z"), add("z", 2)], [add("c", 7)]], [3]),
    "columns and properties": ([[NOTE, {"metaData": {}}], [{"txn": {}}]], []),
    "a commit is gone": ([[add("a", 6)], None, [add("b", 7)]], None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_which_commits_may_have_touched_rows_of_before(case: str) -> None:
    commits, expected = CASES[case]
    actions: Callable[[int], Any] = lambda version: commits[version - 1]  # noqa: E731
    table: Any = SimpleNamespace(actions=actions)
    assert module._touching(table, 0, len(commits), 5) == expected


def test_spans() -> None:
    assert module._spans([]) == []
    assert module._spans([3, 4, 7, 9, 10, 11]) == [(3, 4), (7, 7), (9, 11)]
