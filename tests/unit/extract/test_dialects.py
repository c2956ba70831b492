"""SQL for a database: exact texts (tried on SQLite by Python's own driver), quoted names, values that are only ours."""

from __future__ import annotations

import datetime as dt
import sqlite3

import pytest

from utilityflow.bronze.databases import Following, Jdbc
from utilityflow.extract.dialects import DIALECTS, columns_query, moment_text, rows_query
from utilityflow.extract.jdbc import cause_of

NOON = dt.datetime(2025, 3, 1, 12, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("value", "text"),
    [("0.1", "0.1"), ("0.1 + 0.2", "0.30000000000000004"), ("1e300", "1.0e+300"), ("2.5", "2.5"), ("NULL", None), ("''", ""),
     ("12345678901234567", "12345678901234567"), ("'1.10'", "1.10"), ("x'00ff'", "00FF"), ("1.0", "1.0")],
)  # fmt: skip
def test_sqlite_gives_the_exact_text(value: str, text: str | None) -> None:
    with sqlite3.connect(":memory:") as base:
        base.execute(f"CREATE TABLE t AS SELECT {value} AS v")
        (found,) = base.execute(f"SELECT {DIALECTS['sqlite'].text('v')} FROM t").fetchone()
    assert found == text
    if text and "." in text and not value.startswith("'"):
        assert float(text) == eval(value)  # noqa: S307 - the same double


def test_names_are_quoted_and_cannot_end_their_quotes() -> None:
    jdbc = Jdbc("jdbc:sqlite:/x.db", table="main.t")
    with sqlite3.connect(":memory:") as base:
        base.execute('CREATE TABLE t ("a""b" TEXT, "select" TEXT)')
        base.execute("INSERT INTO t VALUES ('1', '')")
        query = rows_query(jdbc, ['a"b', "select"], None)
        assert base.execute(f"SELECT * FROM {query}").fetchall() == [("1", "")]
        assert base.execute(f"SELECT * FROM {columns_query(jdbc)}").fetchall() == []
    assert DIALECTS["sqlserver"].name("a]b") == "[a]]b]"


@pytest.mark.parametrize(
    ("stamp", "found"),
    [("2025-03-01 12:00:00", True), ("2025-03-01T12:00:00Z", True), ("2025-02-28 20:59:59", False), (None, True),
     ("not a time", True), ("2025-03-01T02:00:00.123456+05:00", True), ("2025-02-28", False)],
)  # fmt: skip
def test_rows_since_a_time_are_at_least_those(stamp: str | None, found: bool) -> None:
    jdbc = Jdbc("jdbc:sqlite:/x.db", table="t", increment=Following("at"))
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE t (at TEXT)")
        base.execute("INSERT INTO t VALUES (?)", (stamp,))
        rows = base.execute(f"SELECT * FROM {rows_query(jdbc, ['at'], NOON)}").fetchall()
    assert bool(rows) == found


@pytest.mark.parametrize(
    ("kind", "since", "words"),
    [("number", 17, '>= 17 OR "seq" IS NULL'), ("epoch_seconds", NOON, f">= {int(NOON.timestamp())} OR"),
     ("epoch_millis", NOON, f">= {int(NOON.timestamp()) * 1000} OR")],
)  # fmt: skip
def test_rows_since_a_number(kind, since, words) -> None:
    jdbc = Jdbc("jdbc:postgresql://h/d", table="t", increment=Following("seq", kind))
    assert words in rows_query(jdbc, ["seq"], since)


def test_a_moment_is_digits_alone() -> None:
    assert moment_text(NOON) == "2025-02-28 21:00:00"
    assert moment_text(dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc)) == "0001-01-01 00:00:00"


def test_what_another_attempt_does_not_mend() -> None:
    assert cause_of("SQLException: no such table: t") is not None
    assert cause_of('ERROR: relation "t" does not exist') is not None
    assert cause_of("Communications link failure\n  at org.apache.JDBCRelation(no such table)\n") is None
    assert cause_of("[SQLITE_BUSY] The database file is locked") is None
