"""Green Button: the published vectors (reference V7) and the oddities that real files have."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from utilityflow.bronze.feeds import load_feed
from utilityflow.bronze.greenbutton import COLUMNS, greenbutton_records
from utilityflow.bronze.scan import Limits

COASTAL_12H = "Coastal_Multi_Family_12hr_Jan_1_2011_to_Jan_1_2012_RetailCustomer_3.xml"
COASTAL = "Coastal_Multi_Family_Jan_1_2011_to_Jan_1_2012_RetailCustomer_5.xml"
DESERT = "Desert_Multi_Family_Jan_1_2011_to_Jan_1_2012_RetailCustomer_6.xml"
NINE_DAYS = "TestGBDataHourlyNineDaysBinnedDaily.xml"
MONTHS = [428_756, 360_594, 363_565, 334_139, 336_299, 330_430, 370_957, 404_845, 368_853, 356_860, 353_504, 416_503]


@pytest.fixture(scope="module")
def example(repository: Path):
    return load_feed(repository / "conf" / "feeds" / "examples" / "greenbutton" / "greenbutton.yaml")


def read(feed, path: Path) -> list[dict[str, str | None]]:
    found = []
    for names, values, corrupt in greenbutton_records(feed, path, path.name, Limits()):
        assert names == COLUMNS
        assert corrupt is None
        found.append(dict(zip(COLUMNS, values or [], strict=True)))
    return found


def local(row: dict[str, str | None]) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(row["interval_start_epoch"] or 0), ZoneInfo("America/Los_Angeles"))


@pytest.mark.real
def test_v7_a_household_year_to_the_watt_hour_in_both_block_forms(example, real_data: Path):
    forms = {name: read(example, real_data / "greenbutton" / name) for name in (COASTAL_12H, COASTAL)}
    for name, rows in forms.items():
        values = [int(r["amount"] or 0) for r in rows]
        assert (len(rows), sum(values), min(values), max(values)) == (8760, 4_425_305, 170, 944)
        assert (rows[0]["interval_start_epoch"], rows[-1]["interval_start_epoch"]) == ("1293868800", "1325401200")
        months = Counter()
        days: dict[dt.date, list[int]] = {}
        for row, value in zip(rows, values, strict=True):
            months[local(row).month] += value
            days.setdefault(local(row).date(), []).append(value)
        assert [months[m] for m in range(1, 13)] == MONTHS
        assert len(days) == 365
        short, long = days[dt.date(2011, 3, 13)], days[dt.date(2011, 11, 6)]
        assert (len(short), sum(short), len(long), sum(long)) == (23, 12_182, 25, 12_159)
        assert {r["retail_customer"] for r in rows} == {"3" if name == COASTAL_12H else "5"}
    apart = ("retail_customer", "block_start", "block_duration")
    one, other = ([{k: v for k, v in r.items() if k not in apart} for r in rows] for rows in forms.values())
    assert one == other


@pytest.mark.real
def test_v7_the_other_files(example, real_data: Path):
    folder = real_data / "greenbutton"
    assert sum(int(r["amount"] or 0) for r in read(example, folder / DESERT)) == 5_219_781
    nine = read(example, folder / NINE_DAYS)
    assert (len(nine), sum(int(r["amount"] or 0) for r in nine)) == (216, 199_563)
    assert sum(Decimal(r["cost"] or 0) for r in nine) / 100_000 == Decimal("22.05567")
    gas = read(example, folder / "gas_direct.xml")
    assert [r["amount"] for r in gas] == ["37", "14", "21", "27", "41"]
    assert [Decimal(r["cost"] or 0) / 100_000 for r in gas] == [
        Decimal(c) for c in ("51", "24.93", "32.81", "42.07", "55.43")
    ]
    assert {(r["service_kind"], r["uom"], r["retail_customer"], r["usage_point"]) for r in gas} == {
        ("1", "169", "1234567890", "NET_USAGE")
    }
    assert {(r["interval_start_epoch"], r["interval_end_epoch"]) for r in gas} == {(None, None)}
    assert (gas[0]["period_start_epoch"], gas[0]["period_end_epoch"]) == ("1621987200", "1625011200")


def entry(self_link: str, related: str, content: str, up: str = "") -> str:
    links = "".join(f'<link rel="related" href="{r}"/>' for r in related.split())
    return f'<entry><link rel="self" href="{self_link}"/><link rel="up" href="{up}"/>{links}<content>{content}</content></entry>'


def test_oddities_of_real_files(example, tmp_path: Path):
    host = "https://example.org"
    block = """<IntervalBlock xmlns="http://naesb.org/espi"><interval><start>100</start></interval>
      <IntervalReading><timePeriod><duration>82800</duration><start>100.0</start></timePeriod><value>5</value>
        <ReadingQuality><quality>9</quality></ReadingQuality></IntervalReading>
      <IntervalReading><timePeriod><duration>90000</duration><start>82900.5</start></timePeriod><value>-7</value></IntervalReading>
      <IntervalReading><timePeriod><start>9</start></timePeriod><value>1.5</value></IntervalReading>
      <IntervalReading><timePeriod><duration>90001</duration><start>0</start></timePeriod><value>2</value></IntervalReading>
      <IntervalReading><timePeriod><start>9</start></timePeriod></IntervalReading></IntervalBlock>"""
    parts = [  # the block comes first, its reading type last; one link is absolute, the other relative
        entry("/Subscription/9/UsagePoint/A/MeterReading/m1/IntervalBlock/1", "", block),
        entry(f"{host}/Subscription/9/UsagePoint/A", f"{host}/Subscription/9/UsagePoint/A/MeterReading",
              "<UsagePoint><ServiceCategory><kind>2</kind></ServiceCategory></UsagePoint>"),
        entry(f"{host}/Subscription/9/UsagePoint/A/MeterReading/m1", "/ReadingType/7 /x", "<MeterReading/>",
              up="/Subscription/9/UsagePoint/A/MeterReading"),
        entry("/ReadingType/8", "", "<ReadingType><uom>1</uom></ReadingType>"),
        entry("/ReadingType/7", "", "<ReadingType><intervalLength>3600</intervalLength><powerOfTenMultiplier>3"
              "</powerOfTenMultiplier><uom>42</uom></ReadingType>"),
        entry("/other", "", "<ReadingType/>"),
    ]  # fmt: skip
    path = tmp_path / "a.xml"
    path.write_text(f'<feed xmlns="http://www.w3.org/2005/Atom">{"".join(parts)}</feed>')
    found = list(greenbutton_records(example, path, "a.xml", Limits()))
    rows = [dict(zip(COLUMNS, values, strict=True)) for _, values, _ in found if values]
    assert [c is None for _, _, c in found] == [True, True, True, True, False]
    assert "<ns0:IntervalReading" in (found[-1][2] or "")
    assert {
        (r["retail_customer"], r["usage_point"], r["meter_reading"], r["service_kind"], r["uom"]) for r in rows
    } == {("9", "A", "m1", "2", "42")}
    assert [r["amount"] for r in rows] == ["5000", "-7000", "1500", "2000"]
    assert [(r["interval_start_epoch"], r["interval_end_epoch"]) for r in rows] == [
        ("100", "82900"), ("82900.5", "172900.5"), ("9", "3609"), (None, None),
    ]  # fmt: skip
    assert (rows[3]["period_start_epoch"], rows[3]["period_end_epoch"], rows[0]["quality"]) == ("0", "90001", "9")
