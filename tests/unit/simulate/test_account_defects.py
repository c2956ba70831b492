"""Defects of the accounts and agreements of customer management's database: all of them on the ledger, and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate.agreements import ACCOUNTS_FEED, FEED, accounts_extract, agreements_extract
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.defects import load_profile
from utilityflow.simulate.extract import Extract
from utilityflow.simulate.landing import own_session
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools

from .conftest import SEED, START, Landed, rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# often enough that 400 customers have each
PROFILE: dict[str, Any] = {
    "accounts": [
        {"kind": "padded", "column": "account_no", "rate": 0.2, "among": "clerk", "pick": 8},
        {"kind": "wrong_case", "column": "account_no", "rate": 0.04},
        {"kind": "missing", "column": "customer_no", "rate": 0.04},
        {"kind": "unknown_code", "column": "currency", "rate": 0.04},
        {"kind": "swapped", "column": "opened_on", "other": "closed_on", "rate": 0.3},
        {"kind": "lost_account", "column": "account_no", "rate": 0.05},
    ],
    "service_agreements": [
        {"kind": "unknown_id", "column": "account_no", "rate": 0.05},
        {"kind": "missing", "column": "rate_code", "rate": 0.05},
        {"kind": "begins_early", "column": "begins_on", "rate": 0.05},
        {"kind": "missing", "column": "ends_on", "rate": 0.2},
        {"kind": "swapped", "column": "begins_on", "other": "ends_on", "rate": 0.2},
    ],
}
GIVEN: dict[str, Any] = {"customers": 400, "months": 3, "systems": ("customer_database",)}
TABLES = {"account": ACCOUNTS_FEED, "service_agreement": FEED}
KEYS = {"account": "account_no", "service_agreement": "agreement_no"}


@pytest.fixture(scope="module")
def spoilt(simulated: Callable[..., Landed]) -> Landed:
    return simulated(**GIVEN, profile=PROFILE)


@pytest.fixture(scope="module")
def clean(simulated: Callable[..., Landed]) -> Landed:
    return simulated(**GIVEN, profile={})


def planted(landed: Landed, table: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Row and state -> column -> kind and what is planted there."""
    found: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for entry in landed.rows(TABLES[table], "defects"):
        was = found[entry["row_key"]].setdefault(entry["column"], (entry["kind"], entry["planted_value"]))
        assert was == (entry["kind"], entry["planted_value"]), "a state is told of in one month"
    return found


@pytest.mark.parametrize("table", TABLES)
def test_the_ledger_makes_the_clean_rows_those_that_are_there(table: str, spoilt: Landed, clean: Landed) -> None:
    told = planted(spoilt, table)
    expected = []
    for row in rows(clean, table):
        cells = told.get(f"{row[KEYS[table]]}|{row['updated_at']}", {})
        assert all(row[column] != value for column, (_, value) in cells.items())
        if "lost_account" not in {kind for kind, _ in cells.values()}:
            expected.append(row | {column: value or None for column, (_, value) in cells.items()})
    assert sorted(map(repr, rows(spoilt, table))) == sorted(map(repr, expected))
    assert expected != rows(clean, table)


@pytest.mark.parametrize(("table", "system"), [("account", "accounts"), ("service_agreement", "service_agreements")])
def test_each_kind_is_planted_and_counted(table: str, system: str, spoilt: Landed, clean: Landed) -> None:
    entries = spoilt.rows(TABLES[table], "defects")
    kinds = {(spec["kind"], name) for spec in PROFILE[system] for name in (spec["column"], spec.get("other")) if name}
    assert {(e["kind"], e["column"]) for e in entries} == kinds
    assert Counter(e["kind"] for e in entries) == spoilt.summary.defects[TABLES[table]]
    assert {e["system"] for e in entries} == {"customer_management"} and {e["copy"] for e in entries} == {"0"}
    assert clean.rows(TABLES[table], "defects") == [] and not clean.summary.defects[TABLES[table]]
    # drawn by the row and not by the month: in all states of a row that show it, the same one
    kind_of: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        kind_of[entry["row_key"].split("|")[0]].add(entry["kind"])
    assert {len(found) for found in kind_of.values()} == {1}


def test_a_clerk_pads_and_others_do_not(spoilt: Landed) -> None:
    clerks = {e["cause"] for e in spoilt.rows(ACCOUNTS_FEED, "defects") if e["kind"] == "padded"}
    assert 2 <= len(clerks) <= 8 and all(cause.startswith("clerk ") for cause in clerks)


def test_an_account_that_is_lost_is_lost_in_all_months(spoilt: Landed, clean: Landed) -> None:
    lost = {e["row_key"].split("|")[0] for e in spoilt.rows(ACCOUNTS_FEED, "defects") if e["kind"] == "lost_account"}
    kept = {str(r["account_no"]).strip().upper() for r in rows(spoilt, "account")}
    assert lost and not lost & kept
    assert lost | kept == {r["account_no"] for r in rows(clean, "account")}
    assert lost <= {r["account_no"] for r in rows(clean, "service_agreement")}, "others go on naming it"


def test_a_month_alone_is_that_month_of_several(spoilt: Landed, simulated: Callable[..., Landed]) -> None:
    alone = simulated(**GIVEN, only_month=3, profile=PROFILE)
    for table, feed in TABLES.items():
        march = {f.name: f.read_text("utf-8") for f in spoilt.files(feed, "defects") if "2024-04" in f.name}
        assert {f.name: f.read_text("utf-8") for f in alone.files(feed, "defects")} == march
        assert sum(text.count("\n") for text in march.values()) > 1, "of each an entry"
        whole, own = rows(spoilt, table), rows(alone, table)
        assert own and not [r for r in own if r not in whole]
        assert [r for r in whole if r["updated_at"] >= "2024-04"] == [r for r in own if r["updated_at"] >= "2024-04"]


def test_months_in_their_order_give_the_rows_of_all_at_once(
    spoilt: Landed, simulated: Callable[..., Landed], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sources, told = tmp_path_factory.mktemp("sources"), spoilt
    for only in (1, 2, 3, 2):  # what is told again changes nothing
        told = simulated(**GIVEN, only_month=only, profile=PROFILE, sources=sources)
    for table in TABLES:
        assert rows(told, table) == rows(spoilt, table)


@pytest.mark.engine
@pytest.mark.parametrize("make", [accounts_extract, agreements_extract])
def test_partitions_and_ansi_mode_do_not_change_the_content(
    make: Callable[..., Extract], spark: SparkSession, spoilt: Landed
) -> None:
    utility = Utility(SEED, 400, Almanac(SEED, START, 3, "America/New_York"), load_pools())
    profile = load_profile(PROFILE)
    extract = make(utility, range(3), profile.accounts if make is accounts_extract else profile.service_agreements)
    cut = f", 1, {len(extract.files)})"
    assert extract.query.count(cut) == 1
    session = own_session(spark, extract)
    session.conf.set("spark.sql.ansi.enabled", "true")
    found = []
    for parts in (cut, ", 1, 5)"):
        query = session.sql(extract.query.replace(cut, parts))
        told = extract.ledger_lines(query, "parquet").collect()
        found.append((sorted(map(tuple, extract.table(query).collect())), sorted(row.value for row in told)))
    assert found[0] == found[1]
    written = [line for f in spoilt.files(extract.feed, "defects") for line in f.read_text("utf-8").splitlines()]
    assert found[0][1] == sorted(written)


@pytest.mark.parametrize(
    ("system", "spec", "code", "word"),
    [
        ("accounts", {"kind": "missing", "column": "account_no"}, "UF-1002", "holds each account_no once"),
        ("accounts", {"kind": "repeated", "column": "customer_no"}, "UF-1002", "once"),
        ("accounts", {"kind": "bad_date", "column": "updated_at"}, "UF-1001", "updated_at"),
        ("service_agreements", {"kind": "unknown_id", "column": "agreement_no"}, "UF-1002", "wrong_case"),
        ("service_agreements", {"kind": "lost_account", "column": "account_no"}, "UF-1002", "keeps no accounts"),
        ("service_agreements", {"kind": "missing", "column": "rate_cod"}, "UF-1001", "rate_code"),
    ],
)
def test_what_a_table_cannot_hold_is_refused(system: str, spec: dict[str, Any], code: str, word: str) -> None:
    utility = Utility(SEED, 400, Almanac(SEED, START, 1, "America/New_York"), load_pools())
    profile = load_profile({system: [spec | {"rate": 0.1}]})
    with pytest.raises(UtilityFlowError) as caught:
        accounts_extract(utility, range(1), profile.accounts)
        agreements_extract(utility, range(1), profile.service_agreements)
    assert caught.value.code == code
    assert word in f"{caught.value} {caught.value.hint}"


def test_the_shipped_profile_fits_both_tables() -> None:
    utility, shipped = Utility(SEED, 400, Almanac(SEED, START, 1, "America/New_York"), load_pools()), load_profile()
    for extract in (accounts_extract(utility, range(1), shipped.accounts),
                    agreements_extract(utility, range(1), shipped.service_agreements)):  # fmt: skip
        assert len(extract.planter.specs) > 8
    # none of them makes verify find agreements that overlap
    assert not {"ends_on", "begins_on"} & {c for s in shipped.service_agreements if s.kind != "bad_date" for c in s.cells()}
