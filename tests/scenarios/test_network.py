"""The reliability branch from run to run: only what changed is written, rows lead back, tables come with their feeds."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.operate.explain import explain
from utilityflow.operate.plan import plan
from utilityflow.operate.verify import verify
from utilityflow.settings import ReliabilitySettings, Settings

HERE = Path(__file__).parent
SOURCE = HERE / "given_a_network_with_outages"
DAY = dt.date(2025, 3, 31)
TABLES = {"dim_service_point", "fact_outage", "reliability_threshold", "kpi_service_reliability", "kpi_regulatory_scorecard"}
pytestmark = [pytest.mark.engine, pytest.mark.long]


def run(settings: Settings, day: dt.date = DAY) -> dict[str, Any]:
    answer = pipeline.run(settings, as_of=day)
    assert answer["error"] is None, answer["error"]
    return {s["step"]: s for s in answer["steps"]} | {"publication": answer["publication"], "status": answer["status"]}


def lines(name: str) -> set[tuple[str, ...]]:
    with (SOURCE / "then" / name).open(encoding="utf-8", newline="") as stream:
        return {tuple(row) for row in csv.reader(stream)}


@pytest.mark.slow
def test_only_what_changed_is_written_and_leads_back(spark: Any, tmp_path: Path) -> None:
    home, landing, feeds = tmp_path / "home", tmp_path / "landing", tmp_path / "feeds"
    shutil.copytree(SOURCE / "when" / "1", landing)
    shutil.copytree(HERE / "feeds", feeds)
    without = Settings(home=str(home), landing=str(landing), feeds=str(feeds), time_zone="America/New_York")
    assert not {n.removeprefix("gold.") for n in run(without)} & TABLES
    assert not {p.name for p in (home / "lakehouse" / "gold").iterdir()} & TABLES

    with_network = dataclasses.replace(without, feeds=str(tmp_path / "both"))
    shutil.copytree(HERE / "feeds", tmp_path / "both")
    shutil.copytree(SOURCE / "feeds", tmp_path / "both", dirs_exist_ok=True)
    planned = plan(with_network, as_of=DAY)
    assert {f"create gold.{n}" for n in TABLES} <= set(planned["tables"])
    first = run(with_network)
    assert (first["publication"], first["gold.fact_outage"]["rows_written"]) == (2, 40)
    versions = {n: first[f"gold.{n}"]["version"] for n in TABLES}

    shutil.copytree(SOURCE / "when" / "2", landing, dirs_exist_ok=True)
    second = run(with_network)
    assert second["gold.fact_outage"]["rows_written"] == 3, "two later states and one that was taken back"
    was, now = (lines(f"{n}.gold.kpi_service_reliability.csv") for n in (1, 2))
    assert second["gold.kpi_service_reliability"]["rows_written"] == len(now - was) > 0
    assert second["gold.reliability_threshold"]["status"] == "skipped"
    assert second["gold.dim_service_point"]["version"] == versions["dim_service_point"]
    third = run(with_network)
    assert third["status"] == "nothing_to_do"
    assert {n: third[f"gold.{n}"]["version"] for n in TABLES} == {n: second[f"gold.{n}"]["version"] for n in TABLES}
    again = {s["step"].removeprefix("gold.") for s in plan(with_network, as_of=DAY)["steps"] if s["will_run"]}
    assert not again & TABLES  # fact_usage is tried again in each run, as no reads have landed
    assert [c for c in verify(with_network)["checks"] if c["status"] != "ok"] == []

    with duckdb.connect(str(home / "warehouse" / "utilityflow.duckdb"), read_only=True) as base:
        held = {r[0] for r in base.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'").fetchall()}
        assert held >= TABLES
        outage, = base.execute("SELECT outage_key FROM gold.fact_outage WHERE outage_id = 'O-O'").fetchone() or (None,)
        kpi, = base.execute("""SELECT reliability_key FROM gold.kpi_service_reliability
            WHERE period = '2025-03' AND circuit_id = 'CK-1' AND exclusions = 'none'""").fetchone() or (None,)
        system = base.execute("""SELECT round(sum(customer_minutes) / (sum(service_point_days) / max(days)), 6)
            FROM gold.kpi_service_reliability WHERE period = '2025-03' AND exclusions = 'none'""").fetchone()
        told = base.execute("""SELECT round(value, 6) FROM gold.kpi_regulatory_scorecard
            WHERE metric_code = 'saidi' AND period = '2025-03' AND span = 'month' AND exclusions = 'none'""").fetchone()
        assert system is not None and told is not None and float(told[0]) == pytest.approx(float(system[0]))
    back = explain(with_network, "fact_outage", str(outage))
    assert [(r["file"], r["row_number"], r["final"]) for r in back["records"]] == [
        ("outages/2.csv", 1, True), ("outages/1.csv", 39, False)
    ]  # fmt: skip
    behind = explain(with_network, "kpi_service_reliability", str(kpi))
    assert {r["values"]["outage_id"] for r in behind["records"]} == {"O-W", "O-3"}

    longer = dataclasses.replace(with_network, reliability=ReliabilitySettings(momentary_minutes=12.0, targets={"saifi": 2.0}))
    fourth = run(longer)
    assert fourth["gold.fact_outage"]["rows_written"] > 0, "other parameters make the facts anew"
    assert fourth["gold.reliability_threshold"]["status"] == "skipped", "but no frozen threshold"

    fifth = run(dataclasses.replace(without, reliability=longer.reliability))
    assert fifth["status"] == "nothing_to_do"
    assert {fifth[f"gold.{n}"]["status"] for n in TABLES} == {"skipped"}, "tables that stand are looked after"
    assert [c for c in verify(longer)["checks"] if c["status"] != "ok"] == []
    spark.sql(f"DELETE FROM delta.`{home}/lakehouse/gold/fact_outage` WHERE outage_id = 'O-W'")
    (broken,) = verify(longer, only=["facts.outages"])["checks"]
    assert (broken["status"], broken["count"]) == ("failed", 1) and broken["offenders"][0].endswith("is missing")


@pytest.mark.parametrize("given", [{"celid_hours": 0}, {"targets": {"saidy": 1.0}}, {"targets_exclude": "storms"}])
def test_settings_that_cannot_be_computed_with_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    (tmp_path / "landing").mkdir()
    settings = Settings(home=str(tmp_path / "home"), landing=str(tmp_path / "landing"), reliability=ReliabilitySettings(**given))
    with pytest.raises(Exception, match=r"UF-1002.*reliability"):
        pipeline.run(settings, as_of=DAY)
    assert not (tmp_path / "home").exists()
