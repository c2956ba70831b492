"""``bench growth``: that months, single days and the late file are run, and that the files counted are those that hold."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow.bench import _days, growth
from utilityflow.bench._world import World
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HEAD = "customer_id,name,changed_at,seq,op\n"
LARGEST = {"bronze.ami_daily_reads", "silver.meter_reads", "gold.fact_usage"}


def landed(root: Path, feed: str, name: str, text: str) -> Path:
    file = root / feed / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_months_files_become_those_of_its_days(tmp_path: Path) -> None:
    root, away = tmp_path / "landing", tmp_path / "away"
    days = [landed(root, "ami_daily_reads", f"ami_daily_reads_2025-02-0{n}.csv", f"{n}\n") for n in (2, 1)]
    changes = ["1,Ann,2019-05-06 10:00:00,1,I\n", '2,"Lee, Bo",2025-02-02 10:00:00,2,U\n', "3,Cy,02/30/25,3,U\n",
               "4,Di,2025-02-01 09:00:00,4,U\n"]  # fmt: skip
    month = landed(root, "cis_customers", "cis_customers_2025-02.csv", HEAD + "".join(changes))
    parted = _days.part([*days, month], away)
    assert [day for day, _ in parted] == [dt.date(2025, 2, 1), dt.date(2025, 2, 2)]
    assert not [file for file in root.rglob("*") if file.is_file()]
    _days.land(parted[0][1], root)
    held = {f.relative_to(root).as_posix(): f.read_text("utf-8") for f in root.rglob("*") if f.is_file()}
    assert held == {
        "ami_daily_reads/ami_daily_reads_2025-02-01.csv": "1\n",
        "cis_customers/cis_customers_2025-02_2025-02-01.csv": HEAD + changes[0] + changes[2] + changes[3],
    }
    _days.land(parted[1][1], root)
    assert (root / "cis_customers" / "cis_customers_2025-02_2025-02-02.csv").read_text("utf-8") == HEAD + changes[1]
    assert not [file for file in away.rglob("*") if file.is_file()]


def test_another_feed_that_lands_by_month_is_not_divided(tmp_path: Path) -> None:
    file = landed(tmp_path / "landing", "cis_bills", "cis_bills_2025-02.csv", "HDR\n")
    with pytest.raises(ValueError, match="cis_bills lands by month"):
        _days.part([file], tmp_path / "away")


def test_the_files_counted_are_those_of_the_current_version(spark: SparkSession, as_before: None, tmp_path: Path) -> None:
    world = World(Settings(home=str(tmp_path)), 1, "csv", print)
    table = tmp_path / "lakehouse" / "silver" / "reads"
    rows = spark.range(0, 1_000, 1, 2).selectExpr("id", "if(id < 500, 'a b', 'c%d/e') AS part")
    for _ in range(3):
        rows.write.format("delta").partitionBy("part").mode("overwrite").save(str(table))
    on_disk = [f for f in table.rglob("*.parquet") if "_delta_log" not in f.parts]
    assert len(on_disk) == 6
    assert world.sizes()["tables"]["silver.reads"]["files"] == 6
    newest = sum(f.stat().st_size for f in sorted(on_disk, key=lambda f: f.stat().st_mtime_ns)[-2:])
    assert world.current_files() == {"silver.reads": {"files": 2, "bytes": newest, "small": 2, "partitions": 2}}


@pytest.mark.slow
def test_growth_by_months(as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "INCREMENTS", (1, 2))
    result = growth.growth(Settings(home=str(tmp_path / "home")), customers=200, months=3, publish_memory="1GB",
                           out=str(tmp_path / "out"), tell=lambda *_, **__: None)  # fmt: skip
    series, increments = result["series"], result["increments"]
    assert [done["month"] for done in series] == [1, 2, 3]
    assert all(done["files"]["rows_read"] == done["records"] > 5_000 for done in series)
    assert result["ratio"] == round(series[2]["seconds"] / series[1]["seconds"], 2)
    assert [one["what"] for one in increments] == [
        "1 day", "2 days", "the day of month 2 that was held back (ami_daily_reads_2025-02-10.csv)", "nothing new",
    ]  # fmt: skip
    one, two, late, nothing = (increment["records"] for increment in increments)
    assert 150 < late < 400
    assert 150 < one < two
    assert nothing == 0
    # the days bring the customers' changes too; on the first one nothing changed
    read = {s["step"] for s in increments[1]["steps"] if s["status"] != "skipped"}
    assert {"bronze.ami_daily_reads", "bronze.cis_customers"} <= read
    for done in series:
        assert done["data_files"].keys() >= LARGEST
        assert all(held["files"] >= held["small"] for held in done["data_files"].values())
    kept = json.loads((tmp_path / "out" / "growth-months.json").read_text("utf-8"))
    assert kept["days"] == result["days"]
    text = (tmp_path / "out" / "growth-months.md").read_text("utf-8")
    assert text == growth.summary(result) + "\n"
    assert f"Days: {result['days']['fixed']} s for a run, and {result['days']['each']} s for each day" in text
    assert result["late"] == growth._late(increments, result["days"])
    assert f"The late file costs {result['late']['above']} s above" in text
    assert (tmp_path / "out" / "growth-months.png").stat().st_size > 5_000
    assert not (tmp_path / "home" / "bench-growth").exists()


@pytest.mark.slow
def test_growth_by_daily_loads(as_before: None, tmp_path: Path) -> None:
    result = growth.growth(Settings(home=str(tmp_path / "home")), of="daily", customers=200, months=2, days=3,
                           publish_memory="1GB", out=str(tmp_path / "out"), tell=lambda *_, **__: None)  # fmt: skip
    (done,) = result["series"]
    assert [run["day"] for run in done["runs"]] == ["2025-01-01", "2025-01-02", "2025-01-03"]
    assert all(run["files"]["rows_read"] > 150 for run in done["runs"])
    assert done["records"] == sum(run["records"] for run in done["runs"])
    assert done["data_files"].keys() >= LARGEST
    assert result["small"].keys() == done["data_files"].keys()
    assert all(0 < held["small"] <= held["most"] for name, held in result["small"].items() if name in LARGEST)
    assert (tmp_path / "out" / "growth-daily.md").read_text("utf-8") == growth.summary(result) + "\n"
    assert json.loads((tmp_path / "out" / "growth-daily.json").read_text("utf-8"))["of"] == "daily"
    assert (tmp_path / "out" / "growth-daily.png").stat().st_size > 5_000
