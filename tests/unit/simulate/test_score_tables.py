"""The scorer where a feed makes several records of a row of a database's table, on frames made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utilityflow.session import local_frame
from utilityflow.simulate.agreements import FEED, KEY
from utilityflow.simulate.defects import LEDGER_COLUMNS
from utilityflow.simulate.score_tables import SHOWS, loudest, placed_in_states

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JANUARY, FEBRUARY, MARCH = (f"{FEED}_2025-{month}_01" for month in ("01", "02", "03"))
OPENED, ENDED = "2025-01-05 09:00:00", "2025-02-10 09:00:00"
# stem, line, row, time of its change, column, kind, clean and planted value
ENTRIES = [
    (JANUARY, 1, "S1", OPENED, "account_no", "unknown_id", "A1", "91"),  # ended before an extract came
    (FEBRUARY, 1, "S1", ENDED, "account_no", "unknown_id", "A1", "91"),  # in both of its records
    (FEBRUARY, 2, "S2", ENDED, "ends_on", "year_early", "2025-02-10", "2024-02-10"),  # the first does not show it
    (JANUARY, 2, "S3", OPENED, "begins_on", "ancient_date", "2025-01-05", "1066-01-05"),
    (JANUARY, 3, "S4", OPENED, "agreement_no", "wrong_case", "S4", "s4"),
    (JANUARY, 4, "S5", OPENED, "end_code", "unknown_code", "", "X?"),  # while it holds, no record shows its end
    (JANUARY, 5, "S6", OPENED, "rate_code", "missing", "R1", ""),  # its record has a rate: not this landing's ledger
    (JANUARY, 6, "S7", OPENED, "rate_code", "missing", "R1", ""),  # nor is there anything of this one
    (JANUARY, 7, "S8", OPENED, "agreement_no", "lost", "S8", ""),
    (MARCH, 1, "S9", "2025-03-01 09:00:00", "rate_code", "missing", "R1", ""),  # nobody has asked since
]
# agreement, account, rate, begins, ends, end_code, valid_from, number, time of the change
RECORDS = [
    ("S1", "91", "R1", "2025-01-05", None, None, "2025-01-05", "1", ENDED),
    ("S1", "91", "R1", "2025-01-05", "2025-02-10", "MO", "2025-02-10", "2", ENDED),
    ("S2", "A2", "R1", "2025-01-05", None, None, "2025-01-05", "1", ENDED),
    ("S2", "A2", "R1", "2025-01-05", "2024-02-10", "MO", "2024-02-10", "2", ENDED),
    ("S3", "A3", "R1", "1066-01-05", None, None, "1066-01-05", "1", OPENED),
    ("s4", "A4", "R1", "2025-01-05", None, None, "2025-01-05", "1", OPENED),
    ("S5", "A5", "R1", "2025-01-05", None, None, "2025-01-05", "1", OPENED),
    ("S6", "A6", "R1", "2025-01-05", None, None, "2025-01-05", "1", OPENED),
]
SHAPE = ("_file_sha256 string, _row_number bigint, agreement_no string, account_no string, rate_code string, begins_on string, "
         "ends_on string, end_code string, valid_from string, change_no string, updated_at string")  # fmt: skip


def placed(spark: SparkSession, records: list[Any]) -> tuple[dict[tuple[str, int], list[Any]], set[str]]:
    lines = [("customer_management", FEED, f"{stem}.parquet", f"{row}|{at}", "0", column, kind, clean, dirty, "row", stem, line)
             for stem, line, row, at, column, kind, clean, dirty in ENTRIES]  # fmt: skip
    ledger = local_frame(spark, lines, ", ".join(f"{c} string" for c in (*LEDGER_COLUMNS, "stem")) + ", line bigint")
    raw = local_frame(spark, [("sha", i, *r) for i, r in enumerate(records, 1)], SHAPE)
    found, landed = placed_in_states(ledger, raw, KEY, FEED, {JANUARY, FEBRUARY, MARCH})
    told: dict[tuple[str, int], list[Any]] = {}
    for r in found.orderBy("_row_number").collect():
        told.setdefault((r["stem"], r["line"]), []).append((r["_row_number"], r["landed"], sorted(r[SHOWS])))
    return told, landed


def test_an_entry_finds_the_records_that_show_it(spark: SparkSession) -> None:
    told, landed = placed(spark, RECORDS)
    assert landed == {JANUARY, FEBRUARY}
    assert told.pop((FEBRUARY, 1)) == [(1, True, ["account_no"]), (2, True, ["account_no"])]
    assert told.pop((FEBRUARY, 2)) == [(4, True, ["ends_on", "valid_from"])]
    assert told.pop((JANUARY, 2)) == [(5, True, ["begins_on", "valid_from"])]
    assert told.pop((JANUARY, 3)) == [(6, True, ["agreement_no"])]
    rest = {entry: [(row, there) for row, there, _ in records] for entry, records in told.items()}
    assert rest == {
        (JANUARY, 1): [(None, False)], (JANUARY, 4): [(None, False)], (JANUARY, 5): [(None, True)], (JANUARY, 6): [(None, True)],
        (JANUARY, 7): [(None, True)], (MARCH, 1): [(None, False)],
    }  # fmt: skip


def test_nothing_has_landed_of_a_database_that_nobody_asked(spark: SparkSession) -> None:
    told, landed = placed(spark, [])
    assert landed == set() and len(told) == len(ENTRIES)
    assert {(row, there) for records in told.values() for row, there, _ in records} == {(None, False)}


def test_the_loudest_of_its_records_tells_of_an_entry(spark: SparkSession) -> None:
    rows = [
        ("a", 1, "repeat", []), ("a", 1, "flagged", ["y", "x"]), ("a", 1, "flagged", ["x"]), ("a", 1, "missed", []),
        ("a", 2, "repaired", []), ("a", 2, "missed", []), ("a", 3, "flagged", ["x"]), ("a", 3, "quarantined", ["R-1"]),
        ("b", 1, "repeat", []), ("b", 1, "repaired", []),
    ]  # fmt: skip
    told = local_frame(spark, [(stem, line, "k", "c", outcome, signals) for stem, line, outcome, signals in rows],
                       "stem string, line bigint, kind string, column string, outcome string, signals array<string>")  # fmt: skip
    found = {(r["stem"], r["line"]): (r["outcome"], r["signals"]) for r in loudest(told).collect()}
    assert found == {
        ("a", 1): ("flagged", ["x", "y"]), ("a", 2): ("missed", []), ("a", 3): ("quarantined", ["R-1"]),
        ("b", 1): ("repaired", []),
    }  # fmt: skip
