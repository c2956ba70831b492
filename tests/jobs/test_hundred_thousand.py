"""The least that the mission asks of a run, 100,000 records and more: every record of 100,000 customers is accounted for."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from utilityflow.bench._world import COUNTED, World
from utilityflow.control.home import open_home
from utilityflow.control.ledger import read_ledger
from utilityflow.pipeline import open_lakehouse
from utilityflow.session import SMALL
from utilityflow.settings import Settings
from utilityflow.simulate.defects import GONE, SOURCE, WHOLE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# kind and column of planted defects that no record gets past: what is made of the column is missing, and it is required
FATAL = {("wrong_unit", "unit"), ("bad_date", "read_date"), ("missing", "meter_id"), ("bad_number", "kwh"),
         ("bad_date", "changed_at"), ("missing", "customer_id")}  # fmt: skip


def ledger(folder: Path) -> list[dict[str, str]]:
    """The simulator's ledger of what it planted, and of what the sources do by themselves."""
    found = []
    for file in sorted(folder.glob("*/*.csv")):
        with file.open(newline="", encoding="utf-8") as stream:
            found += list(csv.DictReader(stream))
    return found


@pytest.fixture
def as_before(spark: SparkSession) -> Iterator[None]:
    """A run over much data plans for it; the tests after this one have few rows again."""
    before = {key: spark.conf.get(key) for key in SMALL}
    yield
    for key, value in before.items():
        spark.conf.set(key, value or "")


@pytest.mark.long
@pytest.mark.usefixtures("as_before")
def test_a_month_of_100_000_customers_is_accounted_for_against_the_simulators_counts(tmp_path: Path) -> None:
    world = World.make(Settings(home=str(tmp_path)), "home", customers=100_000, form="csv", driver_memory="2g",
                       publish_memory="1GB", tell=lambda *_, **__: None)  # fmt: skip
    made = world.land(1)
    done = world.run(1)
    home = open_home(world.settings, create=False)
    house = open_lakehouse(world.settings, home)
    read: Counter[str] = Counter()
    for entry in read_ledger(house).entries.values():
        assert entry.rows_read == sum(entry.counts[1:]), entry.file_name
        read[entry.feed] += entry.rows_read
    assert dict(read) == made.rows
    assert done["files"]["rows_read"] == sum(done["files"][f"rows_{n}"] for n in COUNTED[1:])
    # what stands in silver and in quarantine is what the ledger says
    entries = [e for e in read_ledger(house).entries.values() if e.feed == "ami_daily_reads"]
    assert house.table("silver.meter_reads").read().count() == sum(e.rows_loaded for e in entries)
    assert house.table("silver.meter_reads__quarantine").read().count() == sum(e.rows_quarantined for e in entries)
    told = ledger(world.settings.home_path / "defects")
    assert len(told) == sum(sum(kinds.values()) for kinds in made.defects.values())
    # of records that are there; a record has one planted defect at most, in two entries where it sits in two columns
    planted = [e for e in told if e["cause"] != SOURCE and e["kind"] not in WHOLE]
    fatal = sum((e["kind"], e["column"]) in FATAL for e in planted)
    assert 0 < fatal <= done["files"]["rows_quarantined"] <= len(planted), "nothing sound was kept out, and nothing broken let in"
    # what is there once more (copy 1) equals its first where both are sound; planted defects may make it differ, or broken too,
    # and then it is told of that defect and not as a repeat
    broken = {(e["feed"], e["row_key"]) for e in planted}
    sound = sum(e["kind"] == "repeated" and (e["feed"], e["row_key"]) not in broken for e in told)
    copies = sum(e["copy"] == "1" and e["kind"] not in GONE for e in told)
    assert 0 < sound <= done["files"]["rows_duplicate"] <= copies, "each record counts once"
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        facts = warehouse.execute("SELECT count(*), count(DISTINCT usage_key) FROM gold.fact_usage").fetchall()[0]
    assert facts[0] == facts[1] == house.table("gold.fact_usage").read().count() > 3_000_000
