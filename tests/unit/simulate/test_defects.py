"""The ledger of planted defects and the profile that orders them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import simulate
from utilityflow.simulate.defects import KINDS, Planter, Scope, Spec, load_profile

from .conftest import CUSTOMERS, SEED, START, Landed, Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEYS = {"cis_customers": ("customer_id", "seq"), "ami_daily_reads": ("meter_id", "read_date", "register")}


@pytest.mark.parametrize("feed", KEYS)
def test_every_planted_defect_stands_in_its_file(feed: str, months: Landed) -> None:
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in months.rows(feed):
        by_file[row["_file"]].append(row)
    ledger = months.rows(feed, "defects")
    assert Counter(entry["kind"] for entry in ledger) == months.summary.defects[feed]
    assert len(months.summary.defects[feed]) >= 6
    for entry in ledger:
        assert entry["clean_value"] != entry["planted_value"]
        key = dict(zip(KEYS[feed], entry["row_key"].split("|"), strict=True))
        assert key.get(entry["column"], entry["clean_value"]) == entry["clean_value"]
        key |= {entry["column"]: entry["planted_value"]}
        hits = [row for row in by_file[entry["file"]] if all(row[c] == value for c, value in key.items())]
        assert hits, entry


def test_without_a_profile_nothing_is_planted_and_all_else_is_equal(
    months: Landed, simulated: Callable[..., Landed]
) -> None:
    spotless = simulated(only_month=2, profile={})
    assert spotless.summary.defects == {feed: {} for feed in KEYS}
    for feed in KEYS:
        here = [r for r in months.rows(feed) if "2024-03" in r["_file"]]
        differing = [(a, b) for a, b in zip(here, spotless.rows(feed), strict=True) if a != b]
        ledger = [r for r in months.rows(feed, "defects") if "2024-03" in r["file"]]
        planted = Counter((e["column"], e["clean_value"], e["planted_value"]) for e in ledger)
        assert Counter((c, b[c], a[c]) for a, b in differing for c in a if a[c] != b[c]) == planted


def test_defects_are_correlated(months: Landed) -> None:
    reads = months.rows("ami_daily_reads", "defects")
    assert len({e["cause"] for e in reads if e["kind"] == "negative"}) == 1
    bad_files = Counter(e["file"][:-6] for e in {e["file"]: e for e in reads if e["kind"] == "wrong_unit"}.values())
    assert set(bad_files.values()) == {1}, "one bad file a month"
    clerks = {e["cause"] for e in months.rows("cis_customers", "defects") if e["kind"] == "wrong_case"}
    assert 1 <= len(clerks) <= 3


@pytest.mark.parametrize(
    ("profile", "code", "word"),
    [
        ({"biling": []}, "UF-1001", "billing"),
        ({"usage_monitoring": [{"kind": "negativ", "column": "kwh", "rate": 0.1}]}, "UF-1001", "negative"),
        ({"usage_monitoring": [{"kind": "negative", "column": "kw", "rate": 0.1}]}, "UF-1001", "kwh"),
        (
            {"usage_monitoring": [{"kind": "negative", "column": "kwh", "rate": 0.1, "among": "clerk"}]},
            "UF-1001",
            "clerk",
        ),
        ({"usage_monitoring": [{"kind": "negative", "column": "kwh", "rate": 1.1}]}, "UF-1002", "rate"),
        ({"usage_monitoring": [{"kind": "negative", "column": "kwh", "rate": 0.6}] * 2}, "UF-1002", "1.2"),
    ],
)
def test_a_wrong_profile_is_refused(
    profile: dict[str, Any], code: str, word: str, spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(UtilityFlowError) as caught:
        simulate(
            spark,
            landing=tmp_path / "landing",
            defects=tmp_path / "defects",
            customers=CUSTOMERS,
            months=1,
            start=START,
            seed=SEED,
            profile=profile,
        )
    assert caught.value.code == code
    assert word in str(caught.value)
    assert not (tmp_path / "landing").exists()


def test_each_kind_changes_a_usual_value(spark: SparkSession) -> None:
    values = {"wrong_case": "NY", "mistyped": "13001", "bad_date": "2024-02-03", "other_scale": "kWh"}
    for kind, template in KINDS.items():
        value = values.get(kind, "12.345")
        planted = spark.sql(f"SELECT {template.format(v='v')} AS planted FROM VALUES ('{value}') AS t(v)").first()
        assert planted is not None and planted.planted != value, kind


def test_the_shipped_profile_loads_and_picks_the_same_each_time() -> None:
    profile = load_profile()
    assert profile.customer_management and profile.usage_monitoring
    scope = Scope("f", (tuple(range(10)), tuple(range(10, 20))))
    spec = Spec("missing", "kwh", 0.1, "file", 2)
    planter = Planter(SEED, "usage_monitoring", (spec,), {"file": scope}, ("kwh",))
    picked = [planter.picked(spec, group) for group in scope.groups]
    assert [len(set(p)) for p in picked] == [2, 2]
    assert picked == [planter.picked(spec, group) for group in scope.groups]
