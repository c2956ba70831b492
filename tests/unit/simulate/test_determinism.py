"""The same seed gives the same content: alone or among months, in any format, cut into any partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.customers import customers_extract
from utilityflow.simulate.defects import load_profile
from utilityflow.simulate.extract import Extract
from utilityflow.simulate.landing import own_session
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.reads import reads_extract

from .conftest import CUSTOMERS, SEED, START, Landed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MARCH = "2024-03"


def contents(folder: Path, month: str) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file() and month in f.name}


def test_a_month_generated_alone_has_the_same_bytes(months: Landed, simulated: Callable[..., Landed]) -> None:
    alone = simulated(only_month=2)
    assert len(contents(alone.landing, "")) == 1 + 31
    assert contents(alone.landing, "") == contents(months.landing, MARCH)
    assert contents(alone.defects, "") == contents(months.defects, MARCH)


def test_parquet_reads_of_a_longer_run_hold_the_same_rows(
    months: Landed, simulated: Callable[..., Landed], spark: SparkSession
) -> None:
    other = simulated(only_month=1, months=5, reads_format="parquet")
    files = [str(f) for f in other.files("ami_daily_reads")]
    assert len(files) == 29 and all(f.endswith(".parquet") for f in files)
    as_text = sorted(",".join(row) for row in spark.read.parquet(*files).collect())
    csv_files = [f for f in months.files("ami_daily_reads") if "2024-02" in f.name]
    lines = [line for f in csv_files for line in f.read_text("utf-8").splitlines()[1:]]
    assert as_text == sorted(lines)
    assert other.summary.rows["ami_daily_reads"] == len(lines)
    assert other.summary.defects["ami_daily_reads"]


def test_another_seed_gives_another_content(months: Landed, simulated: Callable[..., Landed]) -> None:
    other = simulated(only_month=1, seed=SEED + 1)
    here, there = contents(months.landing, "2024-02"), contents(other.landing, "2024-02")
    assert here.keys() == there.keys()
    assert not [name for name in here if here[name] == there[name]]


@pytest.mark.engine
@pytest.mark.parametrize("make", [customers_extract, reads_extract])
def test_partitions_and_ansi_mode_do_not_change_the_content(
    make: Callable[..., Extract], spark: SparkSession, months: Landed
) -> None:
    utility = Utility(SEED, CUSTOMERS, Almanac(SEED, START, 2, "America/New_York"), load_pools())
    profile = load_profile()
    specs = profile.customer_management if make is customers_extract else profile.usage_monitoring
    extract = make(utility, range(1, 2), specs)
    cut = f", 1, {len(extract.files)})"
    assert extract.query.count(cut) == 1
    session = own_session(spark, extract)
    session.conf.set("spark.sql.ansi.enabled", "true")  # the simulator itself runs without: no check may fire here
    lines = extract.csv_lines(session.sql(extract.query.replace(cut, ", 1, 5)"))).collect()
    told = extract.ledger_lines(session.sql(extract.query.replace(cut, ", 1, 5)")), "csv").collect()
    for found, root in ((lines, "landing"), (told, "defects")):
        written = [f for f in months.files(extract.feed, root) if MARCH in f.name]
        assert sorted(row.value for row in found) == sorted(
            line for f in written for line in f.read_text("utf-8").splitlines()
        )
