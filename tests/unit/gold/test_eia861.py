"""The reliability that utilities filed with the EIA, pooled: by hand, and vectors V3 and V4 out of the real workbooks.

The workbooks are mapped by the example feed; the way through the whole pipeline is tests/scd2/test_eia861.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.bronze.feeds import load_feed
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.staging import parse_records
from utilityflow.contracts import load_contracts
from utilityflow.gold.eia861 import GROUP, benchmark, filed, pooled
from utilityflow.quality.rules import broken_any, contract_rules, conversion_rules, judge
from utilityflow.session import local_frame
from utilityflow.silver.judging import ENTITIES
from utilityflow.silver.typed import PROVENANCE, typed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
# V4: SAIDI and SAIFI with major event days, the same without, and the customers of the first
NATION = {
    2016: ("248.5311", "1.2932", "116.7923", "1.0618", "140980536.5"),
    2017: ("471.7323", "1.3942", "114.3110", "1.0063", "142765362.0"),
}
RECORDS = {2016: 1_057, 2017: 1_079}
FILINGS = load_contracts()["silver.reliability_filings"]


@pytest.fixture(scope="module")
def rows(spark: SparkSession, repository: Path, real_data: Path) -> Callable[[int], DataFrame]:
    """The judged rows of a year's workbook, as the example feed maps them; none is broken."""
    feed = load_feed(repository / "conf" / "feeds" / "examples" / "eia861" / "reliability.yaml")
    entity = ENTITIES["reliability_filings"]
    rules = conversion_rules(sorted(feed.columns)) + contract_rules(FILINGS, "UTC", entity.filled)

    def read(year: int) -> DataFrame:
        path = real_data / "eia861" / f"Reliability_{year}.xlsx"
        records = [(names, values) for names, values, _ in parse_records(feed, path, path.name, Limits())]
        assert len(records) == RECORDS[year]
        names = records[0][0]
        kept = [(feed.feed, "0", path.name, i, 1, None, *(v or [])) for i, (_, v) in enumerate(records, start=1)]
        numbers = ("_row_number", "_batch_id")
        shape = ", ".join(f"{n} {'bigint' if n in numbers else 'string'}" for n in (*PROVENANCE, *names))
        raw = local_frame(spark, kept, shape)
        frame = entity.conform(typed(spark, raw, feed, FILINGS, entity.filled, "UTC"), set(feed.columns), "UTC")
        frame = judge(frame, rules).cache()
        assert frame.where(broken_any(rules)).count() == 0
        return frame

    return read


def rounded(row: Any) -> tuple[str, ...]:
    return (*(str(round(v, 4)) for v in row[:4]), str(row[4].normalize() if row[4] % 1 else row[4].quantize(Decimal("0.1"))))


@pytest.mark.real
@pytest.mark.parametrize("year", [2016, 2017])
def test_the_nation_pooled(rows: Callable[[int], DataFrame], year: int) -> None:
    found = filed(rows(year))
    nation = pooled(found).collect()[0]
    assert rounded(nation) == NATION[year]
    # EIA, Today in Energy 37652: 470 minutes and 1.4 interruptions of 2017, without major events 1.0
    if year == 2017:
        assert abs(nation[0] - 470) < 2
        assert (round(nation[1], 1), round(nation[3], 1)) == (Decimal("1.4"), Decimal("1.0"))
    nobody = found.where("saidi_with_med IS NOT NULL AND customers IS NULL").count()
    assert nobody == {2016: 1, 2017: 2}[year], "a row that says SAIDI and no customers weighs nothing"


@pytest.mark.real
def test_states_pooled(rows: Callable[[int], DataFrame]) -> None:
    states = {r["state"]: str(round(r["saidi_with_med"], 1)) for r in pooled(filed(rows(2017)), ["state"]).collect()}
    assert {n: states[n] for n in ("DC", "ME", "VT", "SD")} == {"DC": "57.5", "ME": "2492.6", "VT": "873.9", "SD": "100.6"}


@pytest.mark.real
@pytest.mark.parametrize(("year", "told"), [(2016, (562, 6, 9, 1)), (2017, (604, 6, 22, 2))])
def test_rules_on_every_filed_row(rows: Callable[[int], DataFrame], year: int, told: tuple[int, ...]) -> None:
    found = rows(year).select("ieee_saidi_without_los", "quality_flags").collect()
    flags = Counter(flag for r in found for flag in r["quality_flags"])
    # CAIDI is SAIDI / SAIFI in every row, what is left after leaving something out is never more, no row uses two methods
    assert set(flags) == {"los_is_without", "los_caidi", "no_customers"}
    with_los = sum(r[0] is not None for r in found)
    assert (with_los, flags["los_is_without"], flags["los_caidi"], flags["no_customers"]) == told


# -- by hand -----------------------------------------------------------------------------------------------------------

COLUMNS = ("report_year", "utility_number", "state", "ieee_saidi_with_med", "ieee_saifi_with_med", "ieee_saidi_without_med",
           "ieee_customers", "other_saidi_with_med", "other_customers", "quality_flags", "_batch_id", "_row_number")  # fmt: skip
GIVEN = [
    (2017, "1", "OR", "100", "2", "50", "300", None, None, [], 1, 1),
    (2017, "2", "OR", "200", None, None, "100", None, None, ["los_caidi"], 1, 2),
    (2017, "3", "OR", None, None, None, None, "60", "100", [], 1, 3),
    (2017, "4", "WA", "10", "1", "10", "0", None, None, [], 1, 4),  # nobody
    (2017, "5", "WA", None, None, None, None, "900", None, [], 1, 5),  # of nobody knows how many
    (2017, "6", "WA", None, None, None, None, None, None, [], 1, 6),  # says nothing
    (2017, "1", "OR", "999", "9", "9", "300", None, None, [], 1, 7),  # revised by the next
    (2017, "1", "OR", "100", "2", "50", "300", None, None, [], 2, 1),
]
# state, method -> SAIDI with major event days, SAIFI, SAIDI without, customers, filings, flagged ones
POOLED = {
    ("OR", "ieee"): ("125", "2", "50", "400", 2, 1),  # (100 x 300 + 200 x 100) / 400
    ("OR", "other"): ("60", None, None, "100", 1, 0),
    ("OR", "all"): ("112", "2", "50", "500", 3, 1),  # (50000 + 6000) / 500
    ("WA", "ieee"): (None, None, None, "0", 1, 0),
    ("WA", "other"): (None, None, None, None, 1, 0),
    ("WA", "all"): (None, None, None, "0", 2, 0),
    ("US", "ieee"): ("125", "2", "50", "400", 3, 1),
    ("US", "other"): ("60", None, None, "100", 2, 0),
    ("US", "all"): ("112", "2", "50", "500", 5, 1),
}


def filings(spark: SparkSession) -> DataFrame:
    kinds = {"quality_flags": "array<string>", "_batch_id": "bigint", "_row_number": "bigint", "report_year": "int"}
    rows = local_frame(spark, GIVEN, ", ".join(f"{n} {kinds.get(n, 'string')}" for n in COLUMNS))
    missing = [c for c in FILINGS.columns if c.name not in COLUMNS and (not c.name.startswith("_"))]
    typed_ones = [F.col(n).cast(FILINGS.column(n).type).alias(n) for n in COLUMNS]
    return rows.select(*typed_ones, *[F.lit(None).cast(c.type).alias(c.name) for c in missing])


def test_pooled_by_state_and_method(spark: SparkSession) -> None:
    found = benchmark(filings(spark), load_contracts()["gold.reliability_benchmark"]).collect()
    assert {r["report_year"] for r in found} == {2017}
    assert len({r["benchmark_key"] for r in found}) == len(found) == len(POOLED)
    names = ("saidi_with_med", "saifi_with_med", "saidi_without_med", "customers")
    figures = {
        (r["state"], r["method"]): (*(None if r[n] is None else format(r[n].normalize(), "f") for n in names),
                                    r["filings"], r["flagged_filings"])
        for r in found
    }  # fmt: skip
    assert figures == POOLED
    assert GROUP == ("report_year", "state", "method")
