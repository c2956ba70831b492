"""Simulated gas meters roll over, and a rolled register is flagged and loses nothing on its way to the facts."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, simulate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SIZE = 100_000  # five digits


@pytest.mark.slow
def test_registers_roll_over(spark: SparkSession, tmp_path: Path, repository: Path) -> None:
    made, landing = tmp_path / "made", tmp_path / "landing"
    simulate(spark, landing=made, defects=tmp_path / "defects", customers=12_000, months=3, start=dt.date(2025, 1, 1),
             systems=CORE, seed=1, gas=True, profile={})  # fmt: skip
    shutil.copytree(made / "gas_monthly_reads", landing / "gas_monthly_reads")
    rows: list[dict[str, str]] = []
    for file in sorted((landing / "gas_monthly_reads").iterdir()):
        with file.open(encoding="utf-8", newline="") as stream:
            rows += csv.DictReader(stream)
    of_meter = defaultdict(list)
    for row in rows:
        of_meter[row["meter_id"]].append(row)
        moved = (int(row["current_index"]) - int(row["previous_index"])) % SIZE
        assert moved == int(row["usage_m3"]) < 1000, row
    chains = list(of_meter.values())
    assert 1300 < len(chains) < 1700, "one premise in eight"
    for reads in chains:
        for one, two in pairwise(reads):
            assert (one["current_index"], one["read_date"]) == (two["previous_index"], two["previous_date"])
    assert any(len(reads) == 2 for reads in chains), "a closed door"
    rolled = {(r["meter_id"], r["read_date"]) for r in rows if r["current_index"] < r["previous_index"]}
    assert rolled, "a register rolled over"

    feeds = tmp_path / "feeds"
    feeds.mkdir()
    shutil.copy(repository / "conf" / "feeds" / "examples" / "gas_monthly_reads.yaml", feeds)
    answer = pipeline.run(Settings(home=str(tmp_path / "home"), landing=str(landing), feeds=str(feeds), time_zone="UTC"),
                          as_of=dt.date(2025, 4, 1))  # fmt: skip
    assert answer["error"] is None
    house = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts())
    facts = house.table("gold.fact_usage").read()
    flagged = facts.where("array_contains(quality_flags, 'read_below_previous')").select("meter_id", "period_end").collect()
    assert {(r["meter_id"], r["period_end"].isoformat()) for r in flagged} == rolled
    assert facts.where("array_contains(quality_flags, 'quantity_differs_from_reads')").isEmpty()
    total = facts.agg({"quantity": "sum"}).collect()[0][0]
    assert (facts.count(), int(total)) == (len(rows), sum(int(r["usage_m3"]) for r in rows))
