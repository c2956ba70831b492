"""``feed check``: raw beside canonical, the first failures, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.operate.feedcheck import check, text
from utilityflow.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEED = """feed: cis
system: customer_management
entity: customers
format: csv
path: "*.csv"
time_zone: America/New_York
null_values: ["", "."]
columns:
  customer_id: id
  customer_name: trim(name)
  zip_code: zip
event:
  effective_at: to_timestamp(at, 'dd/MM/yyyy')
"""


def checked(folder: Path, feed: str = FEED, sample: int = 10) -> dict[str, Any]:
    landing = folder / "landing"
    landing.mkdir(exist_ok=True)
    (folder / "cis.yaml").write_text(feed)
    places = {"home": str(folder / "home"), "landing": str(landing)}
    before = sorted(p for p in folder.rglob("*"))
    try:
        return check(load_settings(places, environ={}), folder / "cis.yaml", sample)
    finally:
        assert sorted(p for p in folder.rglob("*")) == before, "a check writes nothing"


def test_a_report_for_people_and_machines(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "a.csv").write_text("id,name,zip,at\n1, Ann ,.,01/02/2020\n2,Bob,12345678901,31/02/2020\n3\n")
    (tmp_path / "landing" / "b.csv").write_text("id,name,zip\n1,Ann,1\n")
    report = checked(tmp_path)
    assert (report["ok"], report["records"], report["failed"]) == (False, 3, 2)
    assert [(f["file"], f["row"], f["rules"][0]) for f in report["failures"]] == [
        ("a.csv", 2, "conversion:effective_at"), ("a.csv", 3, "corrupt_record"),
    ]  # fmt: skip
    assert "length:zip_code" in report["failures"][0]["rules"]
    assert report["failures"][0]["raw"]["at"] == "31/02/2020"
    shown = report["sample"][0]
    assert shown["raw"] == {"id": "1", "name": " Ann ", "zip": ".", "at": "01/02/2020"}
    assert {n: shown["canonical"][n] for n in ("customer_id", "customer_name", "zip_code")} == {
        "customer_id": "1", "customer_name": "Ann", "zip_code": None,
    }  # fmt: skip
    assert {f["file"]: f["reason"] and f["reason"][:7] for f in report["files"]} == {"a.csv": None, "b.csv": "UF-2002"}
    told = text(report)
    assert "UF-2002: b.csv: no column 'at', which 'effective_at' reads" in told
    assert "a.csv, record 2: " in told
    assert "zip_code is longer than 10 characters" in told
    assert "at = '31/02/2020'" in told


def test_a_parser_says_why_a_record_is_corrupt(spark: SparkSession, tmp_path: Path) -> None:
    feed = """feed: nem
system: usage_monitoring
entity: meter_reads
format: nem12
path: "*.csv"
columns:
  meter_id: nmi
  quantity: cast(value as decimal(18,6))
  interval_start: cast(interval_start as timestamp)
  interval_end: cast(interval_end as timestamp)
"""
    (tmp_path / "landing").mkdir()
    lines = ["100,NEM12,2025", "200,N1,E1,,E1,,,kWh,720,", "300,20250301,1,A", "300,20250302,1,2,A", "900"]
    (tmp_path / "landing" / "a.csv").write_text("\n".join(lines))
    report = checked(tmp_path, feed)
    assert (report["records"], report["failed"]) == (3, 1)
    (failure,) = report["failures"]
    assert (failure["rules"], failure["raw"]) == (["corrupt_record"], {"_corrupt_record": "300,20250301,1,A"})
    assert failure["reasons"] == [
        "line 3: MDFF-07: the 300 record holds 1 values, 2 are due: its 200 record says 720 minutes"
    ]


def test_nothing_has_landed(tmp_path: Path) -> None:
    report = checked(tmp_path)
    assert (report["ok"], report["files"]) == (True, [])
    assert "no file has landed" in text(report)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("entity: customers", "entity: custmers"), "did you mean 'customers'"),
        (("customer_name:", "customer_nam:"), "did you mean 'customer_name'"),
    ],
)
def test_a_feed_that_does_not_fit_its_entity(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(UtilityFlowError, match=words):
        checked(tmp_path, FEED.replace(*change))


def test_an_expression_that_does_not_fit_names_the_feed(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "a.csv").write_text("id,name,zip,at\n1,a,b,c\n")
    with pytest.raises(UtilityFlowError, match=r"UF-1011: .*cis.yaml: an expression does not fit"):
        checked(tmp_path, FEED.replace("trim(name)", "array(name)[0][1]"))


PERIOD = "<timePeriod><duration>3600</duration><start>{}</start></timePeriod>"
READING = f"<IntervalReading>{PERIOD}<value>5</value>{{}}</IntervalReading>"


@pytest.mark.engine
def test_the_quality_of_a_green_button_reading_keeps_its_number(spark: SparkSession, repository: Path, tmp_path: Path) -> None:
    """9 is an estimate, 18 failed its checks and is actual, and most readings say nothing."""
    told = [f"<ReadingQuality><quality>{code}</quality></ReadingQuality>" if code else "" for code in ("9", "18", "")]
    readings = "".join(READING.format(3600 * n, quality) for n, quality in enumerate(told))
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "a.xml").write_text(
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><link rel="self" href="/RetailCustomer/1/UsagePoint/1/MeterReading/1/'
        f'IntervalBlock/1"/><content><IntervalBlock>{readings}</IntervalBlock></content></entry></feed>', encoding="utf-8"
    )  # fmt: skip
    feed = repository / "conf" / "feeds" / "examples" / "greenbutton" / "greenbutton.yaml"
    report = check(load_settings({n: str(tmp_path / n) for n in ("home", "landing")}, environ={}), feed)
    shown = [tuple(s["canonical"][n] for n in ("read_quality", "quality_code", "quality_reason")) for s in report["sample"]]
    assert shown == [("estimated", "9", None), ("actual", "18", None), ("actual", None, None)]
