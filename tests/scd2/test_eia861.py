"""Real filings of two years, EIA-861, from landed workbooks through the example feeds to gold: no code, two YAML files.

Master data (Utility_Data) go through the history engine as yearly snapshots: vector V6 of the domain reference, the first record
of a key by the feed's ``duplicate_keys``. Reliability gives the regulator's published averages: vector V4. The rows are compared
with histories built in plain Python from the workbooks' records.
"""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scd2_world import empty_table, gold

from utilityflow import pipeline, scd2
from utilityflow.bronze.feeds import load_feed
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.staging import parse_records
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.explain import explain
from utilityflow.operate.verify import verify
from utilityflow.scd2 import Dimension
from utilityflow.settings import Settings

pytestmark = [pytest.mark.real, pytest.mark.engine, pytest.mark.slow]
KEY = ("utility_number", "state")
DAYS = {2016: dt.date(2016, 12, 31), 2017: dt.date(2017, 12, 31)}  # what each snapshot is the state of
OPEN, AS_OF = dt.date(9999, 12, 31), dt.date(2018, 6, 1)
ATTRIBUTES = Dimension.from_contract(load_contracts()["gold.dim_utility"]).type2
Values = tuple[Any, ...]


class Loaded(NamedTuple):
    """The answers of both runs, and what they made."""

    first: dict[str, Any]
    second: dict[str, Any]
    settings: Settings
    house: Lakehouse


@pytest.fixture(scope="module")
def loaded(spark: SparkSession, repository: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The workbooks of 2016 are run, then those of 2017 land beside them."""
    folder = tmp_path_factory.mktemp("eia861")
    settings = Settings(home=str(folder / "home"), landing=str(folder / "landing"),
                        feeds=str(repository / "conf" / "feeds" / "examples" / "eia861"), time_zone="UTC")  # fmt: skip
    (folder / "landing").mkdir()
    answers = []
    for year in DAYS:
        for book in ("Reliability", "Utility_Data"):
            shutil.copy(real_data / "eia861" / f"{book}_{year}.xlsx", folder / "landing")
        answers.append(pipeline.run(settings, as_of=AS_OF))
        assert answers[-1]["status"] == "succeeded", answers[-1]["error"]
    return Loaded(answers[0], answers[1], settings, Lakehouse(spark, str(folder / "home" / "lakehouse"), load_contracts()))


@pytest.fixture(scope="module")
def filings(repository: Path, real_data: Path) -> dict[int, dict[tuple[str, str], Values]]:
    """By year: key -> attributes of its first record, in the order of ATTRIBUTES, read by nothing but the workbook reader.

    Three keys have no state (54728 in 2016, 12439 and 61424 in 2017), which the feed calls ``--``.
    """
    feed = load_feed(repository / "conf" / "feeds" / "examples" / "eia861" / "utilities.yaml")
    found: dict[int, dict[tuple[str, str], Values]] = {}
    for year in DAYS:
        path = real_data / "eia861" / f"Utility_Data_{year}.xlsx"
        found[year] = {}
        for _, values, _ in parse_records(feed, path, path.name, Limits()):
            told, number, name, state, *rest = values or []
            assert told == str(year)
            said = (name, rest[0], rest[1] or None, *({"Y": True, "N": False}.get(v or "") for v in rest[2:]))
            found[year].setdefault((number or "", state or "--"), said)
    return found


def expected(filings: dict[int, dict[tuple[str, str], Values]]) -> set[tuple[Values, Values, dt.date, dt.date, bool]]:
    """The histories, said plainly: (key, attributes, from, to, current)."""
    old, new = filings[2016], filings[2017]
    found = set()
    for key in old.keys() | new.keys():
        was, now = old.get(key), new.get(key)
        if was == now and was is not None:
            found.add((key, was, DAYS[2016], OPEN, True))
            continue
        if was is not None:
            found.add((key, was, DAYS[2016], DAYS[2017], False))
        if now is not None:
            found.add((key, now, DAYS[2017], OPEN, True))
    return found


def step(answer: dict[str, Any], name: str) -> int:
    return next(int(s["rows_written"]) for s in answer["steps"] if s["step"] == name)


PARTS = ("rows_read", "rows_loaded", "rows_quarantined", "rows_superseded", "rows_duplicate")


def test_every_record_is_accounted_for(loaded: Loaded) -> None:
    def counts(answer: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
        return {one["file"]: (one["status"], *(one[p] for p in PARTS)) for one in answer["files"]}

    assert counts(loaded.first) == {
        "Reliability_2016.xlsx": ("loaded", 1_057, 1_057, 0, 0, 0),
        "Utility_Data_2016.xlsx": ("loaded", 2_278, 2_276, 2, 0, 0),
    }
    late = counts(loaded.second)
    assert late["Reliability_2017.xlsx"] == ("loaded", 1_079, 1_079, 0, 0, 0)
    assert late["Utility_Data_2017.xlsx"] == ("loaded", 2_288, 2_286, 2, 0, 0)
    fence = loaded.house.table("silver.utilities__quarantine").read().collect()
    assert {tuple(r["rules"]) for r in fence} == {("duplicate_key",)}
    assert sorted(r["_row_number"] for r in fence) == [2_277, 2_278, 2_287, 2_288]
    assert all('"88888"' in r["record"] for r in fence)
    assert [c for c in verify(loaded.settings)["checks"] if c["status"] != "ok"] == []
    again = pipeline.run(loaded.settings, as_of=AS_OF)
    assert again["status"] == "nothing_to_do", again["error"] or again["steps"]


def test_v6_all_attributes(loaded: Loaded, filings: dict[int, dict[tuple[str, str], Values]]) -> None:
    """V6: in the load of 2017 37 new, 253 changed, 1,996 unchanged, 27 closed."""
    assert step(loaded.first, "gold.dim_utility") == 2_276 + 1  # and the unknown member
    assert step(loaded.second, "gold.dim_utility") == (37 + 253) + (253 + 27)  # versions opened, versions closed
    assert len(ATTRIBUTES) == 29
    rows = loaded.house.table("gold.dim_utility").read().where("utility_key <> -1").collect()
    have = {
        (tuple(r[n] for n in KEY), tuple(r[n] for n in ATTRIBUTES), r["effective_date"], r["expiry_date"], r["is_current"])
        for r in rows
    }
    assert have == expected(filings)
    assert (len(rows), sum(r["is_current"] for r in rows), sum(r["expiry_date"] == OPEN for r in rows)) == (2_566, 2_286, 2_286)
    both = filings[2016].keys() & filings[2017].keys()
    assert sum(filings[2016][k] == filings[2017][k] for k in both) == 1_996
    told = explain(loaded.settings, "dim_utility", str(next(r["utility_key"] for r in rows if r["utility_number"] == "88888")))
    assert {(r["row_number"], r["file"]) for r in told["records"]} == {
        (2_276, "Utility_Data_2016.xlsx"), (2_286, "Utility_Data_2017.xlsx")
    }  # fmt: skip


THREE = ("utility_name", "ownership_type", "nerc_region")


def contract() -> str:
    columns = [
        ("sk", "integer", "BIGINT"), *[(n, "string", "VARCHAR(200)") for n in (*KEY, *THREE)],
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
id: utilityflow.gold.dim_owner
name: dim_owner
version: 1.0.0
status: active
schema:
  - name: dim_owner
    description: Electric utilities by three of their attributes.
    dataGranularityDescription: one row per version
    customProperties:
      - {{property: statistics, value: [sk, utility_number, valid_from, valid_to]}}
      - property: scd2
        value: {{key: [{", ".join(KEY)}], surrogateKey: sk, grain: day, type2: [{", ".join(THREE)}],
                effectiveFrom: valid_from, effectiveTo: valid_to, current: is_current, inferred: is_inferred}}
    properties:
{listed}"""


@pytest.mark.parametrize(("squeezed", "changed"), [(False, 80), (True, 79)])
def test_v6_three_attributes(spark: SparkSession, tmp_path: Path, loaded: Loaded, squeezed: bool, changed: int) -> None:
    """The same events under a test contract that tracks three attributes; with runs of blanks as one."""
    table = empty_table(spark, tmp_path / "lake", gold(contract()))
    dimension = Dimension.from_contract(table.contract)
    events: DataFrame = loaded.house.table("silver.utilities").read()
    if squeezed:
        events = events.withColumns({n: F.regexp_replace(n, " +", " ") for n in THREE})
    outcome = scd2.apply(table, dimension, events, None, None, zone="UTC", as_of=AS_OF, scratch=str(tmp_path / "s"), batch=1)
    assert outcome.inserted == 2_276 + 37 + changed + 1
    assert table.read().where("sk <> -1 AND is_current").count() == 2_286


def test_v4_out_of_the_warehouse(loaded: Loaded) -> None:
    """V4: the national figures of both years, and of four states; EIA published 470 minutes for 2017."""
    with duckdb.connect(str(Path(str(loaded.settings.home)) / "warehouse" / "utilityflow.duckdb"), read_only=True) as base:
        figures = "round(saidi_with_med, 4), round(saifi_with_med, 4), round(saidi_without_med, 4), round(saifi_without_med, 4)"
        nation = base.execute(f"""SELECT report_year, {figures}, customers, filings FROM gold.reliability_benchmark
            WHERE state = 'US' AND method = 'all' ORDER BY 1""").fetchall()
        states = base.execute("""SELECT state, round(saidi_with_med, 1) FROM gold.reliability_benchmark
            WHERE report_year = 2017 AND method = 'all' AND state IN ('DC', 'ME', 'VT', 'SD')""").fetchall()
        grain, = base.execute("""SELECT count(*) - count(DISTINCT (report_year, state, method))
            FROM gold.reliability_benchmark""").fetchall()  # fmt: skip
        key, = base.execute("""SELECT benchmark_key FROM gold.reliability_benchmark
            WHERE report_year = 2017 AND state = 'DC' AND method = 'all'""").fetchone() or (None,)  # fmt: skip
    assert [tuple(map(float, row[:6])) for row in nation] == [
        (2016, 248.5311, 1.2932, 116.7923, 1.0618, 140_980_536.5), (2017, 471.7323, 1.3942, 114.3110, 1.0063, 142_765_362.0)
    ]  # fmt: skip
    assert {state: float(value) for state, value in states} == {"DC": 57.5, "ME": 2_492.6, "VT": 873.9, "SD": 100.6}
    assert grain == (0,)
    told = explain(loaded.settings, "reliability_benchmark", str(key))
    assert {(r["values"]["state"], r["values"]["report_year"], r["file"]) for r in told["records"]} == {
        ("DC", 2017, "Reliability_2017.xlsx")
    }  # fmt: skip
