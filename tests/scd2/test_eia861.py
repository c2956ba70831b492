"""Two yearly snapshots of real master data, EIA-861 Utility_Data, through reader, snapshot events and history engine.

The figures are those of the domain reference, vector V6; the rows are compared with histories built in plain Python.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window
from scd2_world import empty_table, gold

from utilityflow import scd2
from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.staging import parse_records
from utilityflow.lakehouse import Table
from utilityflow.silver import snapshots

pytestmark = [pytest.mark.real, pytest.mark.engine, pytest.mark.slow]
KEY = ("utility_number", "state")
DAYS = {2016: date(2016, 12, 31), 2017: date(2017, 12, 31)}  # what each snapshot is the state of
OPEN = date(9999, 12, 31)
Values = tuple[str | None, ...]


@pytest.fixture(scope="module")
def filings(real_data: Path) -> dict[int, list[dict[str, str | None]]]:
    """The rows of both workbooks by year, in their order; empty texts are null, but in the key, where they say something.

    Three keys have no state (54728 in 2016, 12439 and 61424 in 2017); a null in a key would be refused.
    """
    feed: Feed = parse_feed(
        "feed: eia861_utilities\nsystem: regulatory_reporting\nentity: customers\nformat: xlsx\npath: '*.xlsx'\n"
        "options: {sheet: States, header_rows: [2]}\nnull_values: ['']\nmode: snapshot\n"
        "snapshot_time: make_date(int(data_year), 12, 31)\ncolumns: {customer_id: utility_number}\n",
        "eia861_utilities.yaml",
    )
    found: dict[int, list[dict[str, str | None]]] = {}
    for year in DAYS:
        path = real_data / "eia861" / f"Utility_Data_{year}.xlsx"
        found[year] = []
        for names, values, corrupt in parse_records(feed, path, path.name, Limits()):
            assert corrupt is None
            row = zip(names, values or [], strict=True)
            found[year].append({n: (v or "") if n in KEY else (v or None) for n, v in row})
        assert {r["data_year"] for r in found[year]} == {str(year)}
    return found


@pytest.fixture(scope="module")
def attributes(filings: dict[int, list[dict[str, str | None]]]) -> tuple[str, ...]:
    found = tuple(n for n in filings[2016][0] if n not in (*KEY, "data_year"))
    assert len(found) == 29
    assert tuple(filings[2017][0]) == tuple(filings[2016][0])
    return found


def contract(tracked: tuple[str, ...]) -> str:
    columns = [
        ("sk", "integer", "BIGINT"), *[(n, "string", "VARCHAR(200)") for n in (*KEY, *tracked)],
        ("valid_from", "date", "DATE"), ("valid_to", "date", "DATE"), ("is_current", "boolean", "BOOLEAN"),
        ("is_inferred", "boolean", "BOOLEAN"), ("_file_sha256", "string", "VARCHAR(64)"),
        ("_row_number", "integer", "BIGINT"),
    ]  # fmt: skip
    listed = "".join(
        f"      - {{name: {n}, logicalType: {kind}, physicalType: {physical}, description: tested}}\n"
        for n, kind, physical in columns
    )
    return f"""apiVersion: v3.1.0
kind: DataContract
id: utilityflow.gold.dim_utility
name: dim_utility
version: 1.0.0
status: active
schema:
  - name: dim_utility
    description: Electric utilities as they file with the EIA.
    dataGranularityDescription: one row per version
    customProperties:
      - {{property: statistics, value: [sk, utility_number, valid_from, valid_to]}}
      - property: scd2
        value: {{key: [{", ".join(KEY)}], surrogateKey: sk, grain: day, type2: [{", ".join(tracked)}],
                effectiveFrom: valid_from, effectiveTo: valid_to, current: is_current, inferred: is_inferred}}
    properties:
{listed}"""


class _Snapshots:
    """The two snapshots as change events, made by the suite's own functions."""

    def __init__(
        self, spark: SparkSession, folder: Path, filings: dict[int, list[dict[str, str | None]]], tracked: tuple[str, ...]
    ) -> None:
        self.tracked = tracked
        rows = [
            (*[r[n] for n in (*KEY, *tracked)], place, DAYS[year], f"file of {year}", number)
            for place, year in enumerate(DAYS)
            for number, r in enumerate(filings[year], start=1)
        ]
        names = [*KEY, *tracked, "_place", "_day", "_file_sha256", "_row_number"]
        folder.mkdir(parents=True)
        pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), folder / "rows.parquet")
        self.rows = spark.read.parquet(str(folder)).withColumns({
            "_at": F.col("_day").cast("timestamp"), "effective_at": F.col("_day").cast("timestamp"),
            "sequence": F.lit(None).cast("bigint"), "_batch_id": F.col("_place").cast("bigint"),
            "operation": F.lit("upsert"),
        })  # fmt: skip

    def events(self, years: int) -> DataFrame:
        """Events of the first ``years`` snapshots; of rows with one key the first of its file is kept."""
        standing = self.rows.where(F.col("_place") < years)
        copies = F.row_number().over(Window.partitionBy(*KEY, "_place").orderBy("_row_number"))
        first = standing.withColumn("_copy", copies).where("_copy = 1").drop("_copy")
        told = [*KEY, *self.tracked, "effective_at", "sequence", "operation", "_file_sha256", "_row_number"]
        upserts = snapshots.upserts(first, KEY).select(*told)
        gone = snapshots.deletes(standing, KEY, [None] * years)  # type: ignore[list-item]
        day = F.element_at(F.array(*[F.lit(d) for d in DAYS.values()]), (F.col("_place") + 1).cast("int")).cast("timestamp")
        made = {"effective_at": day, "sequence": F.col("_place").cast("bigint"), "operation": F.lit("delete"),
                "_row_number": F.lit(0).cast("bigint"), "_file_sha256": F.lit("none")}  # fmt: skip
        empty = {n: F.lit(None).cast("string") for n in self.tracked}
        return upserts.unionByName(gone.withColumns({**made, **empty}).select(*told))


def expected(
    filings: dict[int, list[dict[str, str | None]]], tracked: tuple[str, ...]
) -> tuple[set[tuple[Values, Values, date, date, bool]], dict[str, int]]:
    """The histories, said plainly: (key, values, from, to, current); and how many keys went which way in 2017."""
    states: dict[int, dict[Values, Values]] = {}
    for year, rows in filings.items():
        states[year] = {}
        for r in rows:
            states[year].setdefault(tuple(r[n] for n in KEY), tuple(r[n] for n in tracked))
    old, new = states[2016], states[2017]
    found = set()
    counts = {"new": len(new.keys() - old.keys()), "closed": len(old.keys() - new.keys()), "changed": 0, "unchanged": 0}
    for key in old.keys() | new.keys():
        was, now = old.get(key), new.get(key)
        if was == now and was is not None:
            counts["unchanged"] += 1
            found.add((key, was, DAYS[2016], OPEN, True))
            continue
        counts["changed"] += was is not None and now is not None
        if was is not None:
            found.add((key, was, DAYS[2016], DAYS[2017], False))
        if now is not None:
            found.add((key, now, DAYS[2017], OPEN, True))
    return found, counts


def histories(table: Table, tracked: tuple[str, ...]) -> set[tuple[Values, Values, date, date, bool]]:
    rows = table.read().where("sk <> -1").collect()
    found = {
        (tuple(r[n] for n in KEY), tuple(r[n] for n in tracked), r["valid_from"], r["valid_to"], r["is_current"])
        for r in rows
    }
    assert len(found) == len(rows)
    return found


def squeezed(filings: dict[int, list[dict[str, str | None]]]) -> dict[int, list[dict[str, str | None]]]:
    """With runs of blanks as one."""
    return {y: [{n: v and re.sub(" +", " ", v) for n, v in r.items()} for r in rows] for y, rows in filings.items()}


THREE = ("utility_name", "ownership_type", "nerc_region")


def test_rows_and_keys(filings: dict[int, list[dict[str, str | None]]]) -> None:
    keys = {year: [tuple(r[n] for n in KEY) for r in rows] for year, rows in filings.items()}
    assert {y: len(k) for y, k in keys.items()} == {2016: 2_278, 2017: 2_288}
    assert {y: len(set(k)) for y, k in keys.items()} == {2016: 2_276, 2017: 2_286}
    without = {y: sorted(k[0] or "" for k in found if not k[1]) for y, found in keys.items()}
    assert without == {2016: ["54728"], 2017: ["12439", "61424"]}
    for found in keys.values():
        assert {k for k in found if found.count(k) > 1} == {("88888", "TX")}


@pytest.mark.parametrize(("case", "changed"), [("all", 253), ("three", 80), ("three, blanks squeezed", 79)])
def test_two_yearly_snapshots(
    spark: SparkSession, tmp_path: Path, filings: dict[int, list[dict[str, str | None]]], attributes: tuple[str, ...],
    case: str, changed: int,
) -> None:  # fmt: skip
    tracked = attributes if case == "all" else THREE
    given = squeezed(filings) if case.endswith("squeezed") else filings
    told = _Snapshots(spark, tmp_path / "rows", given, tracked)
    table = empty_table(spark, tmp_path / "lake", gold(contract(tracked)))
    dimension = scd2.Dimension.from_contract(table.contract)

    def load(years: int) -> scd2.Outcome:
        return scd2.apply(table, dimension, told.events(years), None, zone="UTC", as_of=date(2018, 6, 1),
                          scratch=str(tmp_path / f"scratch{years}"), batch=years)  # fmt: skip

    first = load(1)
    assert (first.inserted, first.updated, first.deleted) == (2_276 + 1, 0, 0)  # and the unknown member
    second = load(2)
    counts = {"new": 37, "closed": 27, "changed": changed, "unchanged": 2_249 - changed}
    wanted, found = expected(given, tracked)
    assert found == counts
    assert (second.inserted, second.updated, second.deleted) == (37 + changed, 27 + changed, 0)
    rows = histories(table, tracked)
    assert rows == wanted
    assert (len(rows), sum(r[4] for r in rows)) == (2_276 + 37 + changed, 2_286)
    if case == "all":
        assert (len(rows), counts["unchanged"]) == (2_566, 1_996)
        again = load(2)
        assert (again.commit, again.rows_written) == (None, 0)
