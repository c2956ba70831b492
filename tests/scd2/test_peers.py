"""What each peer makes of histories that happen every day; the table in docs/scd2.md is what this test finds.

Each case is a key: what stands already, what arrives together in one batch, and the history that is right.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scd2_world import SIMPLE

from utilityflow import scd2
from utilityflow.bench._scd2_peers import PEERS, Shape, make_table

SHAPE = Shape("id", ("name",), ("name",))
OPEN = "9999-12-31"
History = list[tuple[str | None, str, str]]
Said = list[tuple[str | None, str]]
CASES: dict[str, tuple[Said, Said, History]] = {
    "a later change": ([("A", "2024-05-01")], [("B", "2024-07-01")],
                       [("A", "2024-05-01", "2024-07-01"), ("B", "2024-07-01", OPEN)]),
    "the same again": ([("A", "2024-05-01")], [("A", "2024-07-01")], [("A", "2024-05-01", OPEN)]),
    "a late change": ([("B", "2024-05-01")], [("A", "2024-01-01")],
                      [("A", "2024-01-01", "2024-05-01"), ("B", "2024-05-01", OPEN)]),
    "from null to a value": ([(None, "2024-05-01")], [("A", "2024-07-01")],
                             [(None, "2024-05-01", "2024-07-01"), ("A", "2024-07-01", OPEN)]),
    "from a value to null": ([("A", "2024-05-01")], [(None, "2024-07-01")],
                             [("A", "2024-05-01", "2024-07-01"), (None, "2024-07-01", OPEN)]),
    "a new key, twice": ([], [("A", "2024-05-01"), ("B", "2024-07-01")],
                         [("A", "2024-05-01", "2024-07-01"), ("B", "2024-07-01", OPEN)]),
    "a known key, twice": ([("A", "2024-05-01")], [("B", "2024-07-01"), ("C", "2024-08-01")],
                           [("A", "2024-05-01", "2024-07-01"), ("B", "2024-07-01", "2024-08-01"), ("C", "2024-08-01", OPEN)]),
}  # fmt: skip


def rows(spark: SparkSession, said: dict[str, Said]):  # type: ignore[no-untyped-def]
    listed = [(case, name, day) for case, events in said.items() for name, day in events]
    return spark.createDataFrame(listed, "id string, name string, day string").select(
        "id", "name", F.col("day").cast("date").alias("starts")
    )


def verdict(found: History, right: History) -> str:
    return "right" if sorted(map(str, found)) == sorted(map(str, right)) else "wrong"


def of_peer(spark: SparkSession, name: str, folder: Path) -> dict[str, str]:
    """One batch with all cases; a second one with the case that a MERGE refuses, which would spoil the others."""
    path, refused = str(folder / name), set()
    standing = rows(spark, {c: CASES[c][0] for c in CASES})
    shaped = standing.select("*", F.lit(None).cast("date").alias("ends"), F.lit(True).alias("is_open"))
    make_table(spark, PEERS[name], shaped, path, SHAPE)
    for cases in ([c for c in CASES if c != "a known key, twice"], ["a known key, twice"]):
        try:
            PEERS[name].run(spark, path, rows(spark, {c: CASES[c][1] for c in cases}), SHAPE)
        except PySparkException as error:
            assert "DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW" in str(error)
            refused |= set(cases)
    start, end = ("dbt_valid_from", "dbt_valid_to") if name == "dbt" else ("effective_date", "end_date")
    end_day = F.coalesce(F.col(end).cast("string"), F.lit(OPEN))
    kept = spark.read.format("delta").load(path).select("id", "name", F.col(start).cast("string"), end_day).collect()
    found = {c: [(r[1], r[2], r[3]) for r in kept if r[0] == c] for c in CASES}
    return {c: "refused" if c in refused else verdict(found[c], CASES[c][2]) for c in CASES}


def of_ours(spark: SparkSession) -> dict[str, str]:
    told = rows(spark, {c: standing + arriving for c, (standing, arriving, _) in CASES.items()})
    events = told.select("id", "name", F.col("starts").cast("timestamp").alias("effective_at"))
    built = scd2.versions(events, SIMPLE, zone="UTC", as_of=date(2026, 1, 1)).collect()
    histories = {c: [(r["name"], str(r["effective_date"]), str(r["expiry_date"])) for r in built if r["id"] == c] for c in CASES}
    return {c: verdict(histories[c], CASES[c][2]) for c in CASES}


@pytest.mark.engine
def test_the_table_in_the_documentation_is_what_the_peers_do(spark: SparkSession, tmp_path: Path, repository: Path) -> None:
    found = {name: of_peer(spark, name, tmp_path) for name in PEERS} | {"ours": of_ours(spark)}
    text = (repository / "docs" / "scd2.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- peers -->\n(.*?)<!-- /peers -->", text, re.DOTALL)
    assert table is not None
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group(1).strip().splitlines()]
    head, _, *body = lines
    written = {name: {line[0]: line[n] for line in body} for n, name in enumerate(head) if n}
    assert written == {name: {case: found[name][case] for case in CASES} for name in found}
