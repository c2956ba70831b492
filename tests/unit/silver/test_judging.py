"""Which rows of bronze are those of some files: by ledger number where this run appended them, else by content."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.control.ledger import Entry
from utilityflow.session import local_frame
from utilityflow.silver.judging import _content_of, of_files, raw_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def entry(letter: str, number: int, *, appended: bool) -> Entry:
    return Entry("ami", letter * 64, f"{letter}.csv", 1, "d", number, appended=appended)


def test_numbers_alone_where_all_were_appended_by_this_run() -> None:
    assert _content_of([entry("a", 7, appended=True), entry("b", 8, appended=True)]) == of_files([7, 8])
    mixed = _content_of([entry("a", 7, appended=True), entry("b", 8, appended=False)])
    assert mixed == f"_file_sha256 IN ('{'a' * 64}', '{'b' * 64}')"


def test_an_entry_of_the_ledger_says_nothing_of_where_its_rows_stand() -> None:
    assert not Entry("ami", "a" * 64, "a.csv", 1, "d", 7).appended


@pytest.mark.engine
def test_each_row_of_the_files_is_found_once_under_its_present_number(spark: SparkSession) -> None:
    """The content of ``b`` came as number 2 and, superseded, again as 8: its rows stand under 2."""
    rows = [("a" * 64, 1, 7), ("a" * 64, 2, 7), ("b" * 64, 1, 2), ("b" * 64, 2, 2), ("c" * 64, 1, 3), ("d" * 64, 1, 9)]
    bronze = local_frame(spark, rows, "_file_sha256 string, _row_number bigint, _batch_id bigint")
    table = SimpleNamespace(read=lambda: bronze)
    run: Any = SimpleNamespace(house=SimpleNamespace(table=lambda name: table))
    feed: Any = SimpleNamespace(feed="ami")

    def found(*entries: Entry) -> list[tuple[str, int, int]]:
        columns = ("_file_sha256", "_row_number", "_batch_id")
        return sorted((r[0][0], r[1], r[2]) for r in raw_rows(run, feed, entries).select(*columns).collect())

    assert found(entry("a", 7, appended=True)) == [("a", 1, 7), ("a", 2, 7)]
    assert found(entry("a", 7, appended=True), entry("d", 9, appended=True)) == [("a", 1, 7), ("a", 2, 7), ("d", 1, 9)]
    assert found(entry("b", 8, appended=False)) == [("b", 1, 8), ("b", 2, 8)]
    assert found(entry("a", 7, appended=True), entry("b", 8, appended=False)) == [
        ("a", 1, 7), ("a", 2, 7), ("b", 1, 8), ("b", 2, 8)
    ]  # fmt: skip
