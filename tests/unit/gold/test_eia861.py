"""The reliability that utilities filed with the EIA: vectors V4 (pooled) and V3 (rules), out of the real workbooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from utilityflow.bronze.feeds import parse_feed
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.staging import parse_records
from utilityflow.gold.eia861 import filed, flagged, pooled
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FEED = """feed: eia861_reliability
system: regulatory_reporting
entity: outages
format: xlsx
path: '*.xlsx'
options: {sheet: Reliability_States, header_rows: [1, 2], footnotes: single_cell}
columns: {outage_id: utility_characteristics_utility_number}
"""
# V4: SAIDI and SAIFI with major event days, the same without, and the customers of the first
NATION = {2016: (248.5311, 1.2932, 116.7923, 1.0618, 140_980_536.5), 2017: (471.7323, 1.3942, 114.3110, 1.0063, 142_765_362.0)}
RECORDS = {2016: 1_057, 2017: 1_079}


@pytest.fixture(scope="module")
def rows(spark: SparkSession, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], DataFrame]:
    folder = tmp_path_factory.mktemp("eia861")
    feed = parse_feed(FEED, "eia861_reliability.yaml")

    def read(year: int) -> DataFrame:
        path = real_data / "eia861" / f"Reliability_{year}.xlsx"
        records = [(names, values) for names, values, _ in parse_records(feed, path, path.name, Limits())]
        assert len(records) == RECORDS[year]
        names = records[0][0]
        columns = list(zip(*(values or [] for _, values in records), strict=True))
        table = pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)})
        pq.write_table(table, folder / f"{year}.parquet")
        return filed(spark.read.parquet(str(folder / f"{year}.parquet")))

    return read


@pytest.mark.real
@pytest.mark.engine
@pytest.mark.parametrize("year", [2016, 2017])
def test_the_nation_pooled(rows: Callable[[int], DataFrame], year: int) -> None:
    found = rows(year)
    nation = tuple(pooled(found).collect()[0])
    assert tuple(round(v, 4) for v in nation[:4]) == NATION[year][:4]
    assert nation[4] == pytest.approx(NATION[year][4])
    # EIA, Today in Energy 37652: 470 minutes and 1.4 interruptions of 2017, without major events 1.0
    if year == 2017:
        assert abs(nation[0] - 470) < 2 and (round(nation[1], 1), round(nation[3], 1)) == (1.4, 1.0)
    nobody = found.where("saidi_with IS NOT NULL AND customers IS NULL").count()
    assert nobody == {2016: 1, 2017: 2}[year], "a row that says SAIDI and no customers weighs nothing"


@pytest.mark.real
@pytest.mark.engine
def test_states_pooled(rows: Callable[[int], DataFrame]) -> None:
    states = {r["state"]: round(r["saidi_with"], 1) for r in pooled(rows(2017), ["state"]).collect()}
    assert {n: states[n] for n in ("DC", "ME", "VT", "SD")} == {"DC": 57.5, "ME": 2_492.6, "VT": 873.9, "SD": 100.6}


@pytest.mark.real
@pytest.mark.engine
@pytest.mark.parametrize(("year", "told"), [(2016, (562, 6, 9)), (2017, (604, 6, 22))])
def test_rules_on_every_filed_row(rows: Callable[[int], DataFrame], year: int, told: tuple[int, int, int]) -> None:
    found = flagged(rows(year)).select("saidi_without_los", "flags").collect()
    flags = Counter(flag for r in found for flag in r["flags"])
    # CAIDI is SAIDI / SAIFI in every row, and what is left after leaving something out is never more
    assert set(flags) == {"los_is_without", "los_caidi"}
    assert (sum(r[0] is not None for r in found), flags["los_is_without"], flags["los_caidi"]) == told


def row(spark: SparkSession, **given: Any) -> list[str]:
    values = {"saidi_with": 100.0, "saifi_with": 1.0, "caidi_with": 100.0, "saidi_without": 80.0,
              "saifi_without": 0.9, "caidi_without": 88.8889, "saidi_without_los": 90.0,
              "saifi_without_los": 0.95, "caidi_without_los": 94.7368}  # fmt: skip
    values |= given
    frame = local_frame(spark, [tuple(values.values())], ", ".join(f"{n} double" for n in values))
    return list(flagged(frame).collect()[0]["flags"])


@pytest.mark.engine
@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({}, []),
        ({"caidi_without": 88.89}, ["caidi_differs"]),
        ({"caidi_without": 88.8893}, []),
        ({"saidi_with": 0.0, "saifi_with": 0.0, "caidi_with": None, "saidi_without": 0.0, "saifi_without": 0.0,
          "caidi_without": None, "saidi_without_los": None, "saifi_without_los": None, "caidi_without_los": None}, []),
        ({"saifi_without": 1.1, "caidi_without": 72.7273}, ["without_exceeds_with"]),
        ({"saidi_without_los": 120.0, "saifi_without_los": 1.2, "caidi_without_los": 100.0}, ["los_exceeds_with"]),
        ({"saidi_without_los": 80.0, "saifi_without_los": 0.9, "caidi_without_los": 88.8889}, ["los_is_without"]),
        ({"saifi_without_los": 1.0, "caidi_without_los": 90.0}, ["los_caidi"]),
        ({"saidi_without_los": 100.0, "caidi_without_los": 105.2632}, ["los_caidi"]),
        ({"saifi_without_los": 0.9999, "caidi_without_los": 90.009}, ["los_caidi"]),
    ],
)  # fmt: skip
def test_a_rule_finds_what_it_is_for(spark: SparkSession, given: dict[str, Any], flags: list[str]) -> None:
    assert row(spark, **given) == flags
