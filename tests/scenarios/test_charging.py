"""Wall boxes read by the hour: days of 23 and 25 hours, an estimate that the next day's file replaces, the day's energy."""

from __future__ import annotations

import csv
import datetime as dt
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, simulate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ZONE = "America/New_York"
SPRING, BOXES = dt.date(2025, 3, 9), 40


@pytest.mark.slow
@pytest.mark.engine
def test_hours_become_days(spark: SparkSession, tmp_path: Path) -> None:
    landing = tmp_path / "home" / "landing"
    given = {"customers": 90, "months": 3, "start": dt.date(2025, 1, 1), "seed": 3, "systems": CORE, "interval_meters": BOXES,
             "profile": {}}  # fmt: skip
    summary = simulate(spark, landing=landing, defects=tmp_path / "defects", only_month=3, **given)  # type: ignore[arg-type]
    rows: list[dict[str, str]] = []
    for file in sorted((landing / "ev_interval_reads").iterdir()):
        with file.open(encoding="utf-8", newline="") as stream:
            rows += csv.DictReader(stream)
    assert len(rows) == summary.rows["ev_interval_reads"]
    hours: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        hours[row["meter_id"], row["interval_start"]].append(row)
    twice = [told for told in hours.values() if len(told) == 2]
    assert twice and all([r["quality"] for r in told] == ["E", "A"] for told in twice), "an estimate, then what was counted"
    days: dict[tuple[str, dt.date], list[Decimal]] = defaultdict(list)
    for (meter, start), told in hours.items():
        day = dt.datetime.fromisoformat(start).astimezone(ZoneInfo(ZONE)).date()
        days[meter, day].append(Decimal(told[-1]["wh"]) / 1000)
    # in March alone also the hours of February's last day that had been estimated
    lengths = {len(wh) for (_, day), wh in days.items() if day.month == 3 and day != SPRING}
    assert lengths == {24} and {len(wh) for (_, day), wh in days.items() if day == SPRING} == {23}
    assert len({meter for meter, _ in days}) == BOXES and max(map(max, days.values())) > 7

    for folder in (landing / "ami_daily_reads", landing / "cis_customers"):
        for file in folder.iterdir():
            file.unlink()
    answer = pipeline.run(Settings(home=str(tmp_path / "home"), time_zone=ZONE), as_of=dt.date(2025, 4, 1))
    assert answer["error"] is None
    assert "bronze.ev_interval_reads" in {s["step"] for s in answer["steps"]}, "the shipped feed has woken up"
    house = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts())
    facts = {(r["meter_id"], r["period_start"]): r for r in house.table("gold.fact_usage").read().collect()}
    assert {key: sum(wh) for key, wh in days.items()} == {key: fact["quantity"] for key, fact in facts.items()}
    assert {fact["read_quality"] for (_, day), fact in facts.items() if day < dt.date(2025, 3, 31)} <= {"actual", "mixed"}
