"""Inferred members come and go with the facts that name them, whatever a run knows without searching the facts of before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow import pipeline
from utilityflow.control.home import open_home
from utilityflow.gold.dimensions import _homeless
from utilityflow.scd2 import UNKNOWN_KEY
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession

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
AS_OF = dt.date(2025, 3, 1)
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


def house_of(tmp_path: Path) -> tuple[Settings, Callable[[dict[str, str]], None]]:
    """The settings of a home with the two feeds, and what lands files in it."""
    feeds, landing = tmp_path / "feeds", tmp_path / "home" / "landing"
    feeds.mkdir()
    (feeds / "crm.yaml").write_text(CUSTOMERS)
    (feeds / "daily.yaml").write_text(READS)

    def land(files: dict[str, str]) -> None:
        for name, text in files.items():
            (landing / name).parent.mkdir(parents=True, exist_ok=True)
            (landing / name).write_text(text)

    return Settings(home=str(tmp_path / "home"), feeds=str(feeds), time_zone="UTC"), land


def rows_of(settings: Settings, table: str) -> list[Row]:
    return pipeline.open_lakehouse(settings, open_home(settings, create=False)).table(table).read().collect()


@pytest.mark.slow
def test_inferred_members_stand_while_a_fact_names_them(tmp_path: Path) -> None:
    settings, land = house_of(tmp_path)
    for files, (inferred, known) in zip(RUNS, EXPECTED, strict=True):
        land(files)
        assert pipeline.run(settings, as_of=AS_OF)["error"] is None
        rows = [r for r in rows_of(settings, "gold.dim_customer") if r["customer_id"] != "?"]
        assert {r["customer_id"] for r in rows if r["is_inferred"]} == inferred
        assert {r["customer_id"] for r in rows if not r["is_inferred"]} == known


@pytest.mark.long
def test_facts_that_were_made_before_their_members_find_them_later(tmp_path: Path) -> None:
    """Only the facts were asked for: of the new customer's they find nobody. The next whole run makes the member, and re-keys."""
    settings, land = house_of(tmp_path)
    land(RUNS[0])
    assert pipeline.run(settings, as_of=AS_OF)["error"] is None
    land({"daily/9.csv": R + "Z,M9,1,2025-01-09\nA,M1,2,2025-01-09\n"})
    assert pipeline.run(settings, as_of=AS_OF, wanted=["bronze", "silver", "gold.fact_usage"])["error"] is None

    def key_of_z() -> int:
        return next(r["customer_key"] for r in rows_of(settings, "gold.fact_usage") if r["customer_id"] == "Z")

    assert key_of_z() == UNKNOWN_KEY
    assert pipeline.run(settings, as_of=AS_OF)["error"] is None
    members = {r["customer_key"] for r in rows_of(settings, "gold.dim_customer") if r["customer_id"] == "Z"}
    assert members == {key_of_z()}


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
