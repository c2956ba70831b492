"""``bench month``: that the floor copies what landed, typed, all of it and nothing else, and that the ratio is of it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import running
from utilityflow.bench import _floor, growth, month
from utilityflow.bench._world import World, warehouse_way
from utilityflow.errors import UtilityFlowError
from utilityflow.graph import PUBLISH
from utilityflow.publish.publication import ANEW, GIVEN_UP, ON_COPY
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, SYSTEMS, Summary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

DAY, TIME, MONEY, ENERGY, COUNT = "date", "timestamp", "decimal(18,4)", "decimal(18,6)", "int"
# of each feed that is copied the columns that are no text
TYPED: dict[str, dict[str, str]] = {
    "ami_daily_reads": {"read_date": DAY, "kwh": ENERGY, "peak_kw": "decimal(8,2)"},
    "cis_customers": {"changed_at": TIME, "seq": "bigint"},
    "cis_bills": {
        "line_no": COUNT, "quantity": ENERGY, "price": ENERGY, "amount": MONEY,
        "bill_date": DAY, "due_date": DAY, "period_from": DAY, "period_to": DAY,
    },
    "pay_payments": {"amount": MONEY, "fee": MONEY, "received_at": TIME, "posted_on": DAY},
    "desk_requests": {"opened_at": TIME, "due_at": TIME, "closed_at": TIME, "updated_at": TIME},
    "oms_outages": {"off_at": TIME, "on_at": TIME, "customers": COUNT, "last_change": TIME},
    "oms_service_points": {"valid_from": TIME, "change_no": "bigint"},
}  # fmt: skip
CONTROLLED = "cis_bills"  # a record before the column names, a trailer


def made(home: Path, *, systems: tuple[str, ...], form: str = "csv") -> tuple[World, Summary]:
    """The second month of a small utility, landed."""
    world = World.make(Settings(home=str(home)), "world", customers=300, form=form, driver_memory="2g", publish_memory="1GB",
                       tell=lambda *_, **__: None, systems=systems)  # fmt: skip
    return world, world.land(2)


@pytest.fixture(scope="module")
def six(as_before: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Summary]:
    """All six systems."""
    return made(tmp_path_factory.mktemp("six"), systems=SYSTEMS)


def kinds(frame: DataFrame) -> dict[str, str]:
    return {name: kind for name, kind in frame.dtypes if kind != "string"}


def records(feed: str, files: list[str]) -> list[dict[str, Any]]:
    """The records of a feed's files by Python's own readers; an empty text is None."""
    found: list[dict[str, Any]] = []
    for file in map(Path, files):
        lines = file.read_text("utf-8").splitlines()
        if file.suffix == ".jsonl":
            found += [json.loads(line) for line in lines]
            continue
        if feed == CONTROLLED:
            assert lines[0].startswith("HDR,")
            assert lines[-1].startswith("TRL,")
            lines = lines[1:-1]
        found += [{name: value or None for name, value in row.items()} for row in csv.DictReader(lines)]
    return found


@pytest.mark.long
def test_the_floor_of_six_systems_copies_each_row_that_landed(six: tuple[World, Summary]) -> None:
    world, landed = six
    found = _floor.floor(world, landed.files)
    assert found["rows"] == {feed: landed.rows[feed] for feed in TYPED}
    assert all(found["rows"].values())
    assert found["seconds"] == min(found["all"])
    assert len(found["all"]) == _floor.ROUNDS
    assert found["bytes"] > 0
    assert not (world.settings.home_path / "floor").exists()


@pytest.mark.long
@pytest.mark.parametrize("feed", TYPED)
def test_the_floor_reads_names_types_and_values(feed: str, six: tuple[World, Summary]) -> None:
    world, landed = six
    definition, files = _floor.by_folder(world, landed.files)[feed]
    frame, raw = _floor.read(world.spark, definition, files), records(feed, files)
    assert frame.columns == list(raw[0])
    assert kinds(frame) == TYPED[feed]
    rows = frame.collect()
    if files[0].endswith(".csv"):
        texts = [name for name in frame.columns if name not in TYPED[feed]]
        assert Counter(tuple(r[n] for n in texts) for r in rows) == Counter(tuple(r[n] for n in texts) for r in raw)
    for name in TYPED[feed]:  # all but planted defects could be read
        filled, read = (sum(r[name] is not None for r in some) for some in (raw, rows))
        assert 0.9 * filled <= read <= filled, name
        assert filled, name


@pytest.mark.long
def test_the_floor_of_reads_as_parquet(as_before: None, tmp_path: Path) -> None:
    world, landed = made(tmp_path, systems=CORE, form="parquet")
    assert _floor.floor(world, landed.files)["rows"] == landed.rows
    definition, files = _floor.by_folder(world, landed.files)["ami_daily_reads"]
    assert kinds(_floor.read(world.spark, definition, files)) == TYPED["ami_daily_reads"]


@pytest.mark.slow
def test_a_month_is_measured_against_its_floor(as_before: None, tmp_path: Path) -> None:
    said: list[str] = []
    result = month.month(Settings(home=str(tmp_path / "home")), customers=300, publish_memory="1GB", out=str(tmp_path / "out"),
                         tell=lambda message, **_: said.append(message))  # fmt: skip
    (done,) = result["months"]
    assert done["floor"]["rows"] == done["rows"]
    assert done["files"]["rows_read"] == sum(done["rows"].values())
    assert done["ratio"] == round(done["seconds"] / done["floor"]["seconds"], 2)
    assert done["peak_gib"] > 0
    steps = {step["step"] for step in done["steps"] if step["status"] != "skipped"}
    assert steps >= {"bronze.ami_daily_reads", "silver.meter_reads", "gold.dim_customer", "gold.fact_usage", "publish.duckdb"}
    assert result["first"]["simulated_in"] > 0
    assert sum(result["first"]["rows"].values()) > 9_000
    kept = json.loads((tmp_path / "out" / "month-core-csv-300.json").read_text("utf-8"))
    assert kept["months"][0]["ratio"] == done["ratio"]
    text = (tmp_path / "out" / "month-core-csv-300.md").read_text("utf-8")
    assert text == month.summary(result) + "\n"
    assert f"**ratio {done['ratio']}** (target 3.5)" in text
    assert (result["first"]["warehouse"], done["warehouse"] in (ANEW, ON_COPY)) == (ANEW, True)
    assert f"The warehouse was built {done['warehouse']}." in text
    assert f"Simulated: month 1 in {result['first']['simulated_in']:.1f} s" in text
    assert (tmp_path / "out" / "month-core-csv-300.png").stat().st_size > 5_000
    assert any(f"ratio {done['ratio']}" in line for line in said)
    assert not (tmp_path / "home" / "bench-month").exists()


@pytest.mark.parametrize(
    ("figures", "way"),
    [((1.0, 0.0), ON_COPY), ((0.0, 1.0), GIVEN_UP), ((0.0, 0.0), ANEW), ((), None)],
)
def test_a_measurement_tells_in_which_way_the_warehouse_was_built(figures: tuple[float, ...], way: str | None) -> None:
    rows: list[dict[str, Any]] = [{"step": "silver.meter_reads", "name": "ami_daily_reads.rows_judged", "value": 9.0}]
    if figures:
        rows += [{"step": PUBLISH, "name": n, "value": v} for n, v in zip(running.BUILT, figures, strict=True)]
    assert warehouse_way(rows) == way


def test_a_floor_or_a_run_of_other_rows_than_landed_is_no_measurement() -> None:
    month._same("the floor copied", {"reads": 2}, {"reads": 2})
    with pytest.raises(UtilityFlowError, match="UF-3006: the simulator wrote {'reads': 2} rows, the floor copied {'reads': 1}"):
        month._same("the floor copied", {"reads": 2}, {"reads": 1})


@pytest.mark.parametrize(
    ("measure", "words", "said"),
    [
        (month.month, {"rounds": 0}, "--rounds 1 or more"),
        (month.month, {"rounds": 120}, "121 months"),  # and the first
        (month.month, {"customers": 0}, "customers must lie"),
        (growth.growth, {"months": 2}, "3 months or more"),
        (growth.growth, {"months": 120}, "121 months"),  # and the one of the single days
        (growth.growth, {"months": 121, "of": "daily"}, "121 months"),
        (growth.growth, {"days": -1, "of": "daily"}, "days are 0"),
        (growth.growth, {"large": 20_000_001, "of": "customers"}, "customers must lie"),
        (growth.growth, {"of": "day"}, "growth of 'day'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_start(
    measure: Any, words: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UtilityFlowError, match=f"UF-1004: .*{said}") as caught:
        measure(Settings(home=str(tmp_path / "home")), out=str(tmp_path / "out"), tell=print, **words)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
