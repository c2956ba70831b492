"""Inferred members come and go with the facts that name them, whatever a run knows without searching the facts of before."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow import pipeline
from utilityflow.control.home import open_home
from utilityflow.gold.dimensions import _homeless
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine

CUSTOMERS = """feed: crm
system: customer_management
entity: customers
format: csv
path: crm/*.csv
columns: {customer_id: id, customer_name: name}
event: {effective_at: to_timestamp(at), operation: case op when 'D' then 'delete' else 'upsert' end}
"""
READS = """feed: daily
system: usage_monitoring
entity: meter_reads
format: csv
path: daily/*.csv
columns: {customer_id: cust, meter_id: meter, quantity: kwh, usage_date: to_date(day)}
"""
C, R = "id,name,at,op\n", "cust,meter,kwh,day\n"
RUNS: list[dict[str, str]] = [
    {"crm/1.csv": C + "A,Ada,2025-01-01 08:00:00,I\n",
     "daily/1.csv": R + "A,M1,1,2025-01-02\nB,M2,1,2025-01-02\nE,M3,1,2025-01-02\n",
     "daily/2.csv": R + "A,M4,1,2025-01-03\nG,M5,1,2025-01-03\n"},
    # B is told to have left, F too, whom no fact names; D comes and goes on one day, and a new read names him
    {"crm/2.csv": C + "B,,2025-01-05 08:00:00,D\nF,,2025-01-05 08:00:00,D\n"
                      "D,Don,2025-01-05 08:00:00,I\nD,,2025-01-05 09:00:00,D\n",
     "daily/3.csv": R + "D,M6,1,2025-01-05\n"},
    # E's and G's only reads are taken back, G's come again in another file; A's read comes again as it was
    {"daily/1.csv": R + "A,M1,1,2025-01-02\nB,M2,1,2025-01-02\n", "daily/2.csv": R + "A,M4,1,2025-01-03\n",
     "daily/4.csv": R + "G,M5,1,2025-01-03\nA,M4,1,2025-01-03\n"},
    # A is told, after the fact, to have come and gone on one day only: the version goes, a member stays as facts name A
    {"crm/1.csv": C + "A,Ada,2025-01-01 08:00:00,I\nA,,2025-01-01 20:00:00,D\n"},
]  # fmt: skip
EXPECTED = [  # customers in the dimension: inferred ones, others
    ({"B", "E", "G"}, {"A"}),
    ({"B", "D", "E", "G"}, {"A"}),
    ({"B", "D", "G"}, {"A"}),
    ({"A", "B", "D", "G"}, set()),
]


def test_inferred_members_stand_while_a_fact_names_them(tmp_path: Path) -> None:
    feeds, landing = tmp_path / "feeds", tmp_path / "home" / "landing"
    feeds.mkdir()
    (feeds / "crm.yaml").write_text(CUSTOMERS)
    (feeds / "daily.yaml").write_text(READS)
    settings = Settings(home=str(tmp_path / "home"), feeds=str(feeds), time_zone="UTC")
    for files, (inferred, known) in zip(RUNS, EXPECTED, strict=True):
        for name, text in files.items():
            (landing / name).parent.mkdir(parents=True, exist_ok=True)
            (landing / name).write_text(text)
        assert pipeline.run(settings, as_of=dt.date(2025, 3, 1))["error"] is None
        house = pipeline.open_lakehouse(settings, open_home(settings, create=False))
        rows = house.table("gold.dim_customer").read().where("customer_id <> '?'").collect()
        assert {r["customer_id"] for r in rows if r["is_inferred"]} == inferred
        assert {r["customer_id"] for r in rows if not r["is_inferred"]} == known


def test_keys_that_may_have_no_version(spark: SparkSession) -> None:
    events = spark.createDataFrame(
        [("none", None, None), ("up", "2025-01-01 00:00:00", "upsert"), ("gone", "2025-01-01 00:00:00", "delete"),
         ("far", "2025-01-01 00:00:00", "upsert"), ("far", "2025-01-02 01:00:01", "delete"),
         ("near", "2025-01-01 00:00:00", "upsert"), ("near", "2025-01-02 01:00:00", "delete"),
         ("other", "2025-01-01 00:00:00", "delete")],
        "customer_id string, at string, operation string",
    ).selectExpr("customer_id", "to_timestamp(at) AS effective_at", "operation").where("operation IS NOT NULL")  # fmt: skip
    keys = spark.createDataFrame([(k, True) for k in ("none", "up", "gone", "far", "near")], "customer_id string, _named boolean")
    assert {r["customer_id"] for r in _homeless(keys, events, "customer_id").collect()} == {"none", "gone", "near"}
