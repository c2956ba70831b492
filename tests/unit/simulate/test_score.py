"""The scorer on a ledger and frames made by hand: each outcome occurs, and a ledger that does not fit is told."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.session import local_frame
from utilityflow.simulate.defects import LEDGER_COLUMNS
from utilityflow.simulate.requests import DESK_FEED
from utilityflow.simulate.requests import KEY as REQUEST
from utilityflow.simulate.score import false_alarms, figures, outcomes, placed, placed_in_log, read_ledger

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KEY = ("id", "day")
# file, line in it, clean key, column, kind, clean and planted value
ENTRIES = [
    ("a", 1, "m1|d1", "kwh", "bad_number", "1.0", "#1.0"),  # quarantined
    ("a", 2, "m2|d1", "kwh", "negative", "2.0", "-2.0"),  # flagged
    ("a", 3, "m3|d1", "city", "padded", "Troy", "  Troy "),  # repaired
    ("a", 4, "m4|d1", "kwh", "lost_point", "4.000", "4000"),  # missed
    ("a", 5, "m5|d1", "kwh", "lost_point", "5.000", "5000"),  # sent twice: missed, and a repeat
    ("a", 6, "m5|d1", "kwh", "lost_point", "5.000", "5000"),
    ("a", 7, "m6|d1", "id", "missing", "m6", ""),  # alike but for the order: both lost their id
    ("a", 8, "m7|d1", "id", "missing", "m7", ""),
    ("b", 1, "m8|d2", "kwh", "negative", "8.0", "-8.0"),  # its file has not landed
]
# the rows of file a; the last two are clean, one of them is quarantined all the same
ROWS = [
    ("m1", "d1", "#1.0", "Troy"), ("m2", "d1", "-2.0", "Troy"), ("m3", "d1", "3.0", "  Troy "), ("m4", "d1", "4000", "Troy"),
    ("m5", "d1", "5000", "Troy"), ("m5", "d1", "5000", "Troy"), ("", "d1", "6.0", "Troy"), (None, "d1", "7.0", "Troy"),
    ("m9", "d1", "9.0", "Troy"), ("m10", "d1", "10.0", None),
]  # fmt: skip


def ledger(spark: SparkSession, folder: Path, entries: list[Any] = ENTRIES) -> DataFrame:
    (folder / "feed").mkdir(parents=True)
    for stem in ("a", "b"):
        with (folder / "feed" / f"{stem}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(LEDGER_COLUMNS)
            for name, _, key, column, kind, clean, planted in entries:
                if name == stem:
                    writer.writerow(["sys", "feed", f"{stem}.csv", key, "0", column, kind, clean, planted, "row"])
    return read_ledger(spark, folder / "feed", folder / "stage")


def raw(spark: SparkSession, rows: list[Any] = ROWS) -> DataFrame:
    numbered = [("sha-a", i, *row) for i, row in enumerate(rows, 1)]
    return local_frame(
        spark, numbered, "_file_sha256 string, _row_number bigint, id string, day string, kwh string, city string"
    )


def contents(spark: SparkSession) -> DataFrame:
    return local_frame(spark, [("a", "sha-a")], "stem string, _file_sha256 string")


def rows_of(frame: DataFrame) -> dict[int, Any]:
    return {row["line"]: row for row in frame.where("stem = 'a'").collect()}


def test_each_entry_finds_its_row_and_alike_ones_in_their_order(spark: SparkSession, tmp_path: Path) -> None:
    found = placed(ledger(spark, tmp_path), contents(spark), raw(spark), KEY)
    assert found.count() == len(ENTRIES)
    assert {line: row["_row_number"] for line, row in rows_of(found).items()} == {n: n for n in range(1, 9)}
    (other,) = found.where("stem = 'b'").collect()
    assert (other["landed"], other["_row_number"]) == (False, None)
    assert {row["landed"] for row in rows_of(found).values()} == {True}


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({4: ("a", 4, "m4|d1", "kwh", "lost_point", "4.000", "4001")}, {4}),  # another value than the file holds
        ({1: ("a", 1, "mX|d1", "kwh", "bad_number", "1.0", "#1.0")}, {1}),  # a row that is not there
        ({6: ("b", 2, "m5|d1", "kwh", "lost_point", "5.000", "5000")}, {5}),  # one entry for two alike rows
        ({2: ("a", 2, "m6|d1", "id", "missing", "m2", "")}, {2, 7, 8}),  # three for two
    ],
)
def test_a_ledger_that_does_not_fit_is_told(
    change: dict[int, Any], lost: set[int], spark: SparkSession, tmp_path: Path
) -> None:
    entries = [change.get(n, entry) for n, entry in enumerate(ENTRIES[:8], 1)]
    found = placed(ledger(spark, tmp_path, entries), contents(spark), raw(spark), KEY)
    places = {(row["file"], row["row_key"], row["kind"], row["line"]): row["_row_number"] for row in found.collect()}
    missing = [place for place, number in places.items() if number is None and place[0] == "a.csv"]
    assert len(missing) == len(lost)


def test_what_a_desk_tells_is_looked_for_by_its_local_day(spark: SparkSession, tmp_path: Path) -> None:
    """Two extracts cut the fifth in two; the repeat of R4 did not land; the ledger of the seventh waits for its day."""
    told = {
        "2025-01-05": [
            ("R1|2025-01-05T12:00:00Z", "opened_at", "bad_date", "2025-01-04T08:00:00Z", "2025-13-04"),
            ("R2|2025-01-06T03:00:00Z", "id", "missing", "R2", ""), ("R3|2025-01-06T03:00:00Z", "id", "missing", "R3", ""),
            ("R4|2025-01-06T04:00:00Z", "id", "repeated", "R4", "R4"),
        ],
        "2025-01-07": [("R9|2025-01-07T12:00:00Z", "opened_at", "bad_date", "2025-01-04T08:00:00Z", "2025-13-04")],
    }  # fmt: skip
    (tmp_path / DESK_FEED).mkdir()
    for day, entries in told.items():
        with (tmp_path / DESK_FEED / f"{DESK_FEED}_{day}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(LEDGER_COLUMNS)
            for key, *rest in entries:
                writer.writerow(["service_requests", DESK_FEED, f"{DESK_FEED}_{day}.jsonl", key, "0", *rest, "row"])
    rows = [
        ("one", 1, "R1", "2025-01-05T12:00:00Z", "2025-13-04"), ("one", 2, "R7", "2025-01-05T13:00:00Z", "2025-01-04T08:00:00Z"),
        ("two", 1, "", "2025-01-06T03:00:00Z", "x"), ("two", 2, None, "2025-01-06T03:00:00Z", "y"),
        ("two", 3, "R4", "2025-01-06T04:00:00Z", "z"), ("two", 4, "R1", "2025-01-06T06:00:00Z", "2025-13-04"),
        ("two", 5, "R8", "yesterday", "z"),
    ]  # fmt: skip
    shape = "_file_sha256 string, _row_number bigint, id string, updated_at string, opened_at string"
    entries = read_ledger(spark, tmp_path / DESK_FEED, tmp_path / "stage")
    found, landed = placed_in_log(entries, local_frame(spark, rows, shape), REQUEST, DESK_FEED, "America/New_York")
    assert landed == {f"{DESK_FEED}_2025-01-05", f"{DESK_FEED}_2025-01-06"}
    places = {r["row_key"][:2]: (r["_file_sha256"], r["_row_number"], r["landed"]) for r in found.collect()}
    assert places == {
        "R1": ("one", 1, True), "R2": ("two", 1, True), "R3": ("two", 2, True), "R4": ("two", 3, True), "R9": (None, None, False),
    }  # fmt: skip


def test_what_is_no_ledger_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "a.csv").write_text("kind,file\nlate_file,x\n")
    with pytest.raises(UtilityFlowError, match="no ledger"):
        read_ledger(spark, tmp_path / "feed", tmp_path / "stage")


def scored(spark: SparkSession, folder: Path) -> tuple[list[Any], list[Any]]:
    """What the scorer counts of the entries and rows above."""
    found = placed(ledger(spark, folder), contents(spark), raw(spark), KEY)
    found.write.parquet(str(folder / "found"))
    found = spark.read.parquet(str(folder / "found"))
    shape = "_file_sha256 string, _row_number bigint, quality_flags array<string>, quantity double, city string"
    silver = [
        (2, ["negative", "no_customer"], -2.0, "Troy"), (3, [], 3.0, "Troy"), (4, [], 4000.0, "Troy"), (5, [], 5000.0, "Troy"),
        (9, ["no_customer"], 9.0, "Troy"),
    ]  # fmt: skip
    clean = [(1, [], 1.0, "Troy"), (2, ["no_customer"], 2.0, "Troy"), (3, [], 3.0, "Troy"), (4, [], 4.0, "Troy"),
             (5, [], 5.0, "Troy"), (6, [], 5.0, "Troy"), (7, [], 6.0, "Troy"), (8, [], 7.0, None)]  # fmt: skip
    fence = [
        (1, ["conversion:quantity", "required:quantity"]),
        (7, ["required:id"]),
        (8, ["required:id"]),
        (10, ["required:id"]),
    ]
    theirs = local_frame(spark, [("sha-a", *row) for row in clean], shape)
    ours = local_frame(spark, [("sha-a", *row, row[0]) for row in silver], f"{shape}, _record_hash bigint")
    fenced = local_frame(
        spark, [("sha-a", *row) for row in fence], "_file_sha256 string, _row_number bigint, rules array<string>"
    )
    told = outcomes(found.where("_row_number IS NOT NULL"), theirs, ours, fenced, ["quantity", "city"])
    by_line = {line: (row["outcome"], row["signals"]) for line, row in rows_of(told).items()}
    assert by_line == {
        1: ("quarantined", ["conversion:quantity", "required:quantity"]),
        2: ("flagged", ["negative"]),  # the flag that the clean record has too tells nothing
        3: ("repaired", []), 4: ("missed", []), 5: ("missed", []), 6: ("repeat", []),
        7: ("quarantined", ["required:id"]), 8: ("quarantined", ["required:id"]),
    }  # fmt: skip
    counted = [
        {"system": "sys", **row.asDict(), "rows": 1}
        for row in told.select("kind", "column", "outcome", "signals").collect()
    ]
    counted.append(
        {"system": "sys", "kind": "negative", "column": "kwh", "outcome": "not landed", "signals": [], "rows": 1}
    )
    alarms = [{"system": "sys", **row.asDict()} for row in false_alarms(found, ours, fenced).collect()]
    return counted, alarms


def test_whole_records_are_found_by_their_key_and_judged_as_such(spark: SparkSession, tmp_path: Path) -> None:
    entries = [
        ("a", 1, "m5|d1", "day", "repeated", "", "d1"),  # of two rows the last is the repeat; silver left it out
        ("a", 2, "m1|d1", "day", "late", "d1", "d4"),
        ("a", 3, "m9|d1", "id", "resent", "m8", "m9"),  # stands alone in silver
        ("a", 4, "mX|d1", "kwh", "lost", "1.0", ""),
        ("a", 5, "m10|d1", "day", "repeated", "", "d1"),  # stands beside an equal one
        ("a", 6, "m2|d7", "day", "repeated", "", "d7"),  # no row has this key
        ("a", 7, "m2|d1", "day", "repeated", "", "d1"),
    ]
    found = placed(ledger(spark, tmp_path, entries), contents(spark), raw(spark), KEY)
    found.write.parquet(str(tmp_path / "found"))
    found = spark.read.parquet(str(tmp_path / "found"))
    rows = rows_of(found)
    assert {line: row["_row_number"] for line, row in rows.items()} == {1: 6, 2: 1, 3: 9, 4: None, 5: 10, 6: None, 7: 2}
    assert {row["landed"] for row in rows.values()} == {True}
    shape = "_file_sha256 string, _row_number bigint, quality_flags array<string>, quantity double, city string"
    stands = [(1, [], 1.0, "Troy", 1), (5, [], 5.0, "Troy", 5), (9, [], 9.0, "Troy", 9), (10, [], 5.0, None, 10),
              (11, [], 5.0, None, 10)]  # fmt: skip
    silver = local_frame(spark, [("sha-a", *row) for row in stands], f"{shape}, _record_hash bigint")
    clean = local_frame(spark, [("sha-a", *row[:4]) for row in stands], shape)
    fence = local_frame(spark, [("sha-a", 2, ["required:id"])], "_file_sha256 string, _row_number bigint, rules array<string>")
    told = outcomes(found.where("_row_number IS NOT NULL"), clean, silver, fence, ["quantity", "city"])
    assert {line: (row["outcome"], row["signals"]) for line, row in rows_of(told).items()} == {
        1: ("repaired", ["equal_record"]), 2: ("repaired", []), 3: ("repaired", ["equal_record"]), 5: ("missed", []),
        7: ("quarantined", ["required:id"]),
    }  # fmt: skip
    counted = {"system": "s", "kind": "repeated", "column": "day", "outcome": "repaired", "rows": 2, "signals": ["equal_record"]}
    (one,) = figures([counted], [])["kinds"]
    assert (one["signals"], one["recall"], one["precision"]) == ({"equal_record": 2}, 1.0, None)


def test_every_outcome_and_its_figures(spark: SparkSession, tmp_path: Path) -> None:
    counted, alarms = scored(spark, tmp_path)
    assert sorted((a["outcome"], a["signals"], a["rows"]) for a in alarms) == [
        ("flagged", ["no_customer"], 1), ("quarantined", ["required:id"], 1),
    ]  # fmt: skip
    result = figures(counted, alarms)
    kinds = {k["kind"]: k for k in result["kinds"]}
    shown = (
        "planted",
        "quarantined",
        "flagged",
        "repaired",
        "missed",
        "repeat",
        "not_landed",
        "recall",
        "false_alarms",
        "precision",
    )
    assert {kind: tuple(one[name] for name in shown) for kind, one in kinds.items()} == {
        "bad_number": (1, 1, 0, 0, 0, 0, 0, 1.0, 0, 1.0),
        "lost_point": (3, 0, 0, 0, 2, 1, 0, 0.0, 0, None),
        "missing": (2, 2, 0, 0, 0, 0, 0, 1.0, 1, 0.6667),
        "negative": (2, 0, 1, 0, 0, 0, 1, 1.0, 0, 1.0),
        "padded": (1, 0, 0, 1, 0, 0, 0, 1.0, 0, None),
    }  # fmt: skip
    assert kinds["bad_number"]["signals"] == {"conversion:quantity": 1, "required:quantity": 1}
    total = result["total"]
    assert tuple(total[name] for name in shown) == (9, 3, 1, 1, 2, 1, 1, round(5 / 7, 4), 1, 0.8)
    assert result["false_alarms"] == [
        {"system": "sys", "signal": "required:id", "severity": "error", "rows": 1},
        {"system": "sys", "signal": "no_customer", "severity": "warn", "rows": 1},
    ]


def test_nothing_planted_divides_by_nothing() -> None:
    empty = figures([], [{"system": "sys", "outcome": "quarantined", "signals": ["x"], "rows": 3}])
    assert empty["kinds"] == [] and empty["total"]["recall"] is None and empty["total"]["precision"] is None
    assert empty["total"]["false_alarms"] == 3
