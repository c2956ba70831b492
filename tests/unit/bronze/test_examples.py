"""The example feeds on the real data give the figures that were counted from the files (issue 3, item 10)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.bronze.expressions import select_in_zone
from utilityflow.bronze.feeds import load_feeds
from utilityflow.bronze.inspect import find_files, inspect_file
from utilityflow.bronze.readers import read_files
from utilityflow.operate.feedcheck import check, text
from utilityflow.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = [pytest.mark.real]


def mapped(
    spark: SparkSession, repository: Path, landing: Path, name: str, stage: Path, types: dict[str, str]
) -> DataFrame:
    folder = repository / "conf" / "feeds" / "examples" / landing.name
    feed = next(f for f in load_feeds(folder).values() if f.feed == name)
    files = [inspect_file(feed, p, landing) for p in find_files(feed, landing)]
    assert [f.reason for f in files if f.reason] == []
    raw = read_files(spark, feed, files, stage)
    typed = {f"c__{n}": e.cast(types.get(n, "string")) for n, e in feed.expressions().items()}
    return select_in_zone(spark, raw, typed, feed.time_zone or "UTC")


def one(frame: DataFrame, **figures: Any) -> dict[str, Any]:
    return frame.agg(*[column.alias(n) for n, column in figures.items()]).collect()[0].asDict()


def test_steg_clients(spark: SparkSession, repository: Path, real_data: Path, tmp_path: Path):
    frame = mapped(spark, repository, real_data / "steg", "steg_clients", tmp_path, {"effective_at": "timestamp"})
    found = one(
        frame, rows=F.count("*"), ids=F.countDistinct("c__customer_id"), none=F.count_if(F.col("c__effective_at").isNull()),
        first=F.min("c__effective_at").cast("string"), last=F.max("_row_number"),
    )  # fmt: skip
    assert found == {"rows": 58_069, "ids": 58_069, "none": 0, "first": "1977-02-05 00:00:00", "last": 58_069}


def test_steg_reads(spark: SparkSession, repository: Path, real_data: Path, tmp_path: Path):
    types = {
        "quantity": "decimal(18,6)", "previous_index": "decimal(18,6)", "current_index": "decimal(18,6)",
        "months_in_period": "int", "period_start": "date", "period_end": "date",
    }  # fmt: skip
    frame = mapped(spark, repository, real_data / "steg", "steg_reads", tmp_path, types).cache()
    good = frame.where("c__meter_id is not null")
    assert one(frame, rows=F.count("*"), none=F.count_if(F.col("c__meter_id").isNull())) == {
        "rows": 215_399,
        "none": 1_942,
    }
    found = {
        r[0]: tuple(r)[1:]
        for r in good.groupBy("c__commodity", "c__unit")
        .agg(F.count("*"), F.sum("c__quantity"))
        .select("c__commodity", "c__unit", "count(1)", "sum(c__quantity)")
        .collect()  # fmt: skip
    }
    assert found == {"electric": ("kWh", 148_349, Decimal(114_243_467)), "gas": ("m3", 65_108, Decimal(14_090_062))}
    codes = {r[0]: r[1] for r in frame.groupBy("c__quality_code").count().collect()}
    assert codes == {"6": 107_283, "7": 28, "8": 39_947, "9": 68_141}, "the reader's notes"
    canonical = [n for n in frame.columns if n.startswith("c__")]
    identity = ["customer_id", "meter_id", "commodity", "register", "period_start", "period_end"]
    assert good.select(canonical).distinct().count() == 213_457
    assert good.select([f"c__{n}" for n in identity]).distinct().count() == 213_457
    counts = one(
        frame,
        backwards=F.count_if(F.col("c__current_index") < F.col("c__previous_index")),
        long=F.count_if(F.col("c__months_in_period") > 120),
        at_once=F.count_if((F.col("c__months_in_period") > 120) & (F.col("c__period_start") == F.col("c__period_end"))),
        nothing=F.count_if(F.col("c__period_start").isNull() | F.col("c__quantity").isNull()),
        register=F.max(F.length("c__register")),
    )
    assert counts == {"backwards": 109, "long": 77, "at_once": 77, "nothing": 0, "register": 19}
    frame.unpersist()


def test_lcl_households(spark: SparkSession, repository: Path, real_data: Path, tmp_path: Path):
    frame = mapped(spark, repository, real_data / "lcl", "lcl_households", tmp_path, {"effective_at": "timestamp"})
    groups = {r[0]: r[1] for r in frame.groupBy("c__tariff_group").count().collect()}
    assert (sum(groups.values()), set(groups)) == (5_566, {"Std", "ToU"})
    assert one(frame, ids=F.countDistinct("c__customer_id")) == {"ids": 5_566}


def test_green_button_quantities(spark: SparkSession, repository: Path, real_data: Path, tmp_path: Path):
    types = {"quantity": "decimal(18,6)", "interval_start": "timestamp", "period_start": "date", "period_end": "date"}
    frame = mapped(spark, repository, real_data / "greenbutton", "greenbutton", tmp_path / "a", types)
    wanted = {
        ("3", "electric", "kWh", "actual", 8760, Decimal("4425.305000")),
        ("5", "electric", "kWh", "actual", 8760, Decimal("4425.305000")),
        ("6", "electric", "kWh", "actual", 8760, Decimal("5219.781000")),
        ("2", "electric", "kWh", "actual", 216, Decimal("199.563000")),
    }
    keys = ["c__customer_id", "c__commodity", "c__unit", "c__read_quality"]
    assert {tuple(r) for r in frame.groupBy(*keys).agg(F.count("*"), F.sum("c__quantity")).collect()} == wanted
    gas = mapped(spark, repository, real_data / "greenbutton", "greenbutton_gas", tmp_path / "b", types)
    shown = ["c__quantity", "c__unit", "string(c__period_start)", "string(c__period_end)"]
    rows = gas.orderBy("_row_number").selectExpr(*shown).collect()
    assert [(int(r[0]), r[1]) for r in rows] == [(q, "therm") for q in (37, 14, 21, 27, 41)]
    assert tuple(rows[0])[2:] == ("2021-05-26", "2021-06-30")
    assert gas.where("c__interval_start is not null").count() == 0


def test_check_shows_the_failures(spark: SparkSession, repository: Path, real_data: Path, tmp_path: Path):
    feed = repository / "conf" / "feeds" / "examples" / "steg" / "reads.yaml"
    places = {"home": str(tmp_path / "home"), "landing": str(real_data / "steg")}
    report = check(load_settings(places, environ={}), feed, 3000)
    assert report["records"] == 3000
    assert report["failures"]
    assert {f["raw"]["counter_number"] for f in report["failures"]} == {"0"}
    assert {r for f in report["failures"] for r in f["rules"]} == {"conversion:meter_id", "required:meter_id"}
    told = text(report)
    assert "inv0.parquet: can be read, 215,399 records" in told
    assert "counter_number = '0'" in told
