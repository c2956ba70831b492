"""The ledger of planted defects and the profile that orders them."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import simulate
from utilityflow.simulate.defects import KINDS, WHOLE, Planter, Scope, Spec, load_profile

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
        if entry["kind"] in WHOLE:
            continue  # of them, test_whole_records.py
        key = dict(zip(KEYS[feed], entry["row_key"].split("|"), strict=True))
        assert key.get(entry["column"], entry["clean_value"]) == entry["clean_value"]
        key |= {entry["column"]: entry["planted_value"]}
        hits = [row for row in by_file[entry["file"]] if all(row[c] == value for c, value in key.items())]
        assert hits, entry


BOXES = "ev_interval_reads"
KINDS_OF_TIME = {
    "customer_management": [{"kind": "swapped", "column": "city", "other": "zip", "rate": 0.1}],
    "usage_monitoring": [
        {"kind": "spike", "column": "kwh", "rate": 0.01},
        {"kind": "stale", "column": "meter_id", "rate": 0.3},
        {"kind": "stuck", "column": "kwh", "rate": 0.02, "days": 4},
        {"kind": "frozen", "column": "kwh", "rate": 0.02, "days": 5},
        {"kind": "wrong_multiplier", "column": "kwh", "other": "peak_kw", "rate": 0.02, "days": 28},
    ],
    "wall_boxes": [
        {"kind": "negative", "column": "wh", "rate": 0.02},
        {"kind": "spike", "column": "wh", "rate": 0.02},
        {"kind": "missing", "column": "meter_id", "rate": 0.02},
        {"kind": "bad_date", "column": "interval_start", "rate": 0.02},
        {"kind": "unknown_code", "column": "quality", "rate": 0.02},
        {"kind": "stuck", "column": "wh", "rate": 0.1, "days": 3},
    ],
}


@pytest.fixture(scope="module")
def spotless(simulated: Callable[..., Landed]) -> Landed:
    """March without defects; with wall boxes."""
    return simulated(only_month=2, profile={}, interval_meters=30)


@pytest.fixture(scope="module")
def spells(simulated: Callable[..., Landed]) -> Landed:
    """March with the defects that sit in two columns or last for days."""
    return simulated(only_month=2, profile=KINDS_OF_TIME, interval_meters=30)


@pytest.mark.parametrize("feed", [*KEYS, BOXES])
def test_the_clean_values_of_the_ledger_restore_the_file(feed: str, spotless: Landed, spells: Landed) -> None:
    key = (KEYS | {BOXES: ("meter_id", "interval_start")})[feed]
    pairs = list(zip(spotless.rows(feed), spells.rows(feed), strict=True))
    changed = Counter(
        (a["_file"], "|".join(a[k] for k in key), c, a[c], b[c]) for a, b in pairs for c in a if a[c] != b[c]
    )
    entries = spells.rows(feed, "defects")
    assert Counter((e["file"], e["row_key"], e["column"], e["clean_value"], e["planted_value"]) for e in entries) == changed
    system = {"cis_customers": "customer_management", "ami_daily_reads": "usage_monitoring", BOXES: "wall_boxes"}[feed]
    wanted = {(s["kind"], s[c]) for s in KINDS_OF_TIME[system] for c in ("column", "other") if c in s}
    assert {(e["kind"], e["column"]) for e in entries} == wanted


def test_a_defect_of_two_columns_has_an_entry_for_each(spells: Landed) -> None:
    swapped = [e for e in spells.rows("cis_customers", "defects") if e["kind"] == "swapped"]
    by_row: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for e in swapped:
        by_row[e["file"], e["row_key"], e["copy"]][e["column"]] = e
    assert by_row and all(cells.keys() == {"city", "zip"} for cells in by_row.values())
    assert all(c["city"]["planted_value"] == c["zip"]["clean_value"] for c in by_row.values())
    assert all(c["zip"]["planted_value"] == c["city"]["clean_value"] for c in by_row.values())


def test_defects_of_meters_last_for_days(spells: Landed) -> None:
    days: dict[tuple[str, str], set[dt.date]] = defaultdict(set)
    for e in spells.rows("ami_daily_reads", "defects"):
        days[e["kind"], e["row_key"].split("|")[0]].add(dt.date.fromisoformat(e["file"][-14:-4]))
        if e["kind"] == "stuck":
            assert e["planted_value"] == "0.000"
        if e["kind"] == "wrong_multiplier":
            assert Decimal(e["planted_value"]) == 10 * Decimal(e["clean_value"])
        if e["kind"] == "spike":
            assert 10 <= Decimal(e["planted_value"]) / Decimal(e["clean_value"]) <= 40
        if e["kind"] == "stale":
            assert e["planted_value"] < e["clean_value"], "the meter that hung there before"
    frozen: dict[str, list[tuple[dt.date, Row]]] = defaultdict(list)
    for e in spells.rows("ami_daily_reads", "defects"):
        if e["kind"] == "frozen":
            frozen[e["row_key"].split("|")[0]].append((dt.date.fromisoformat(e["file"][-14:-4]), e))
    assert max(map(len, frozen.values())) >= 5
    for told in frozen.values():
        assert len({e["planted_value"] for _, e in told}) == 1, "equal over the days, each of them on the ledger"
        assert len({e["clean_value"] for _, e in told}) > 1 or len(told) < 3, "the use itself was not"
    stuck = [sorted(found) for (kind, _), found in days.items() if kind == "stuck"]
    assert max(map(len, stuck)) >= 4 and any((found[-1] - found[0]).days == 3 and len(found) == 4 for found in stuck)
    longest = max(len(found) for (kind, _), found in days.items() if kind == "wrong_multiplier")
    assert longest > 14 and any(kind == "stale" for kind, _ in days)


def test_without_a_profile_nothing_is_planted_and_all_else_is_equal(months: Landed, spotless: Landed) -> None:
    assert spotless.summary.defects == {feed: {} for feed in (*KEYS, BOXES)}
    for feed, key in KEYS.items():
        here = [r for r in months.rows(feed) if "2024-03" in r["_file"]]
        ledger = [r for r in months.rows(feed, "defects") if "2024-03" in r["file"]]
        lost = {e["row_key"] for e in ledger if e["kind"] == "lost_account"}
        clean = [r for r in spotless.rows(feed) if "|".join(r[k] for k in key) not in lost]
        differing = [(a, b) for a, b in zip(here, clean, strict=True) if a != b]
        planted = Counter((e["column"], e["clean_value"], e["planted_value"]) for e in ledger if e["kind"] not in WHOLE)
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
        ({"usage_monitoring": [{"kind": "swapped", "column": "kwh", "rate": 0.1}]}, "UF-1002", "other"),
        ({"usage_monitoring": [{"kind": "spike", "column": "kwh", "other": "unit", "rate": 0.1}]}, "UF-1002", "other"),
        ({"usage_monitoring": [{"kind": "swapped", "column": "kwh", "other": "kwh", "rate": 0.1}]}, "UF-1002", "other"),
        ({"usage_monitoring": [{"kind": "swapped", "column": "kwh", "other": "kw", "rate": 0.1}]}, "UF-1001", "kwh"),
        ({"usage_monitoring": [{"kind": "stuck", "column": "kwh", "rate": 0.1, "days": 0}]}, "UF-1002", "days"),
        ({"usage_monitoring": [{"kind": "stale", "column": "kwh", "rate": 0.1}]}, "UF-1002", "former"),
        ({"customer_management": [{"kind": "missing", "column": "name", "rate": 0.1, "days": 2}]}, "UF-1002", "several days"),
        ({"usage_monitoring": [{"kind": "frozen", "column": "peak_kw", "rate": 0.1}]}, "UF-1002", "usual"),
        ({"usage_monitoring": [{"kind": "lost", "column": "kwh", "rate": 0.1, "hours": 3}]}, "UF-1002", "no hours"),
        ({"usage_monitoring": [{"kind": "lost", "column": "kwh", "rate": 0.1, "hours": 24}]}, "UF-1002", "'hours'"),
        ({"usage_monitoring": [{"kind": "late", "column": "kwh", "rate": 0.1}]}, "UF-1002", "among: source"),
        ({"usage_monitoring": [{"kind": "late", "column": "kwh", "rate": 0.1, "among": "source"}]}, "UF-1002", "rate: 1"),
        ({"usage_monitoring": [{"kind": "spike", "column": "kwh", "rate": 1, "among": "source"}]}, "UF-1002", "by itself"),
        ({"usage_monitoring": [{"kind": "lost_account", "column": "kwh", "rate": 0.1}]}, "UF-1002", "accounts"),
        ({"usage_monitoring": [{"kind": "repeated", "column": "kw", "rate": 0.1}]}, "UF-1001", "kwh"),
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
    values = {"wrong_case": "NY", "mistyped": "13001", "other_scale": "kWh"}
    values |= dict.fromkeys(("bad_date", "begins_early", "epoch", "day_first"), "2024-02-03")
    values |= {"no_zone": "2024-02-03T04:05:06Z", "double_blank": "Ann Lee"}
    for kind, template in KINDS.items():
        value = values.get(kind, "12.345")
        columns = f"SELECT {template.format(v='v', o='o')} AS planted FROM VALUES ('{value}', 'another', 'former', 'usual')"
        planted = spark.sql(f"{columns} AS t(v, o, v_before, v_usual)").first()
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
