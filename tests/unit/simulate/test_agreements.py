"""Accounts, agreements and service points of customer management's database, against what the other systems say."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from utilityflow.bronze.databases import Jdbc
from utilityflow.bronze.feeds import load_feed
from utilityflow.simulate import agreements, customer_points
from utilityflow.simulate.customer_database import ACCOUNTS, AGREEMENTS, POINTS, Table

from .conftest import START, Landed, Money, Row, rows

SYSTEMS = ("customer_management", "customer_database", "billing", "payment_processing", "regulatory_reporting")
GIVEN: dict[str, Any] = {"customers": 400, "months": 4, "profile": {}, "systems": SYSTEMS}
LAST = "2024-05"  # the fourth month
Rows = list[dict[str, Any]]
OPEN = "9999-12-31"


def premise(number: str) -> str:
    """The eight digits that account, agreement and bill share, of a service point's number."""
    return f"{int(number[2:]) - 300_000_000:08d}"


@pytest.fixture(scope="module")
def landed(simulated: Callable[..., Landed]) -> Landed:
    """Four months, in which who leaves gets his last bill and is done with."""
    return simulated(**GIVEN)


@pytest.fixture(scope="module")
def money(landed: Landed) -> Money:
    return Money.of(landed)


@pytest.fixture(scope="module")
def accounts(landed: Landed) -> Rows:
    return rows(landed, "account")


@pytest.fixture(scope="module")
def stays(landed: Landed) -> Rows:
    return rows(landed, "service_agreement")


@pytest.fixture(scope="module")
def points(landed: Landed) -> list[Row]:
    return landed.rows("oms_service_points")


# -- of one another ------------------------------------------------------------------------------------------------------


def test_agreements_of_a_service_point_follow_one_another(stays: Rows) -> None:
    by_point = defaultdict(list)
    for row in stays:
        assert row["begins_on"] < (row["ends_on"] or OPEN), row
        by_point[row["service_point"]].append((row["begins_on"], row["ends_on"] or OPEN))
    met = Counter(before[1] == after[0] for held in by_point.values() for before, after in pairwise(sorted(held)))
    assert met[True] > 0 and met[False] > 0, "some come on the day on which the one before goes, some later"
    assert all(before[1] <= after[0] for held in by_point.values() for before, after in pairwise(sorted(held)))
    still = Counter((row["customer_no"], row["service_point"]) for row in stays if row["ends_on"] is None)
    assert max(still.values()) == 1
    several = Counter(customer for customer, _ in still)
    assert max(several.values()) > 1, "a customer with a second service"


def test_an_agreement_says_how_it_began_and_ended(stays: Rows) -> None:
    assert Counter(r["start_code"] for r in stays).keys() == {"MI", "NEW", "TR"}
    ended = [r for r in stays if r["ends_on"]]
    assert Counter(r["end_code"] for r in ended).keys() == {"MO", "TR"}
    assert all(r["end_code"] is None for r in stays if r not in ended)
    assert all(r["begins_on"] >= START.isoformat() for r in stays if r["start_code"] == "NEW")
    for row in stays:
        assert row["status"] == ("A" if not row["ends_on"] else "C" if row["billed_on"] else "S")
        last = row["billed_on"] or row["ends_on"] or row["begins_on"]
        assert row["updated_at"][:10] == last >= (row["ends_on"] or "")
    assert {r["status"] for r in stays} == {"A", "S", "C"}


def test_an_account_is_open_as_long_as_its_agreement(accounts: Rows, stays: Rows) -> None:
    of_account = defaultdict(list)
    for row in stays:
        assert row["agreement_no"][3:11] == row["account_no"][3:11] == premise(row["service_point"])
        of_account[row["account_no"]].append(row)
    assert of_account.keys() == {r["account_no"] for r in accounts}
    returned = 0
    for row in accounts:
        held = sorted(of_account[row["account_no"]], key=lambda r: str(r["begins_on"]))
        assert {r["customer_no"] for r in held} == {row["customer_no"]}
        assert row["opened_on"] == held[0]["begins_on"] and row["currency"] == "USD"
        if len(held) > 1 or (held[0]["ends_on"] and not row["final_on"]):
            returned += 1  # a seasonal customer keeps his account
            assert (row["status"], row["final_on"], row["closed_on"]) == ("A", None, None)
            continue
        assert row["final_on"] == held[0]["ends_on"]
        assert row["status"] == ("A" if not row["final_on"] else "C" if row["closed_on"] else "F")
        if row["closed_on"]:
            assert dt.date.fromisoformat(row["closed_on"]) == dt.date.fromisoformat(held[0]["billed_on"]) + dt.timedelta(21)
        assert row["updated_at"][:10] == (row["closed_on"] or row["final_on"] or row["opened_on"])
    assert returned > 0
    assert {r["status"] for r in accounts} == {"A", "F", "C"}


# -- of what the other systems say ---------------------------------------------------------------------------------------


def test_each_bill_is_of_an_account_and_of_days_of_its_agreement(money: Money, accounts: Rows, stays: Rows) -> None:
    known, held = {r["account_no"]: r for r in accounts}, defaultdict(list)
    for row in stays:
        held[row["account_no"]].append(row)
    for bill in money.bills:
        account = known[bill["account_no"]]
        assert bill["cust_no"][3:12] in ("", account["customer_no"])
        days = bill["period_from"], bill["period_to"]
        fits = [r for r in held[bill["account_no"]] if r["begins_on"] <= days[0] and days[1] < (r["ends_on"] or OPEN)]
        assert len(fits) == 1, bill
        assert (fits[0]["service_point"], fits[0]["rate_code"]) == (bill["service_point"], bill["rate_code"])
    # a premise's cycle decides the day of a month on which it is billed
    days_of = defaultdict(set)
    for bill in money.bills:
        days_of[bill["bill_date"][:7], known[bill["account_no"]]["billing_cycle"]].add(bill["bill_date"])
    assert len(days_of) > 70 and {len(found) for found in days_of.values()} == {1}


def test_a_last_bill_closes_an_agreement(money: Money, stays: Rows) -> None:
    last = {}
    for bill in money.bills:
        if bill["description"].endswith(" of the last bill"):
            until = dt.date.fromisoformat(bill["period_to"]) + dt.timedelta(1)
            last[bill["account_no"], until.isoformat()] = bill["bill_date"]
    closed = {(r["account_no"], r["ends_on"]): r["billed_on"] for r in stays if r["billed_on"]}
    assert len(last) > 10
    # of who left on the first day of all, the days before were billed before
    assert last == {key: day for key, day in closed.items() if key[1] > START.isoformat()}


def test_the_accounts_of_payments_are_there(money: Money, accounts: Rows) -> None:
    paid = {f"AC-{p['account'][:8]}-{p['account'][8:]}" for p in money.payments}
    assert len(paid) > 300 and paid <= {r["account_no"] for r in accounts}
    customers = {r["account_no"]: r["customer_no"] for r in accounts}
    named = [p for p in money.payments if p["customer_no"]]
    assert all(p["customer_no"][1:] == customers[f"AC-{p['account'][:8]}-{p['account'][8:]}"] for p in named)


def test_service_points_tell_of_the_same_tenants_and_days(points: list[Row], stays: Rows) -> None:
    def of_account(row: Row) -> str:
        return "AC-" + row["account_no"].replace("/", "-")

    begun = {(r["service_point"], r["account_no"], r["customer_no"], r["begins_on"]) for r in stays}
    served = [p for p in points if p["service_status"] == "A"]
    told = {(p["service_point"], of_account(p), p["customer_no"].lstrip("0"), p["valid_from"]) for p in served}
    assert begun == told
    left = {(p["service_point"], p["valid_from"]) for p in points if p["service_status"] == "I"}
    ended = {(r["service_point"], r["ends_on"]) for r in stays if r["ends_on"]}
    # who goes on the day on which the next one comes leaves no gap to tell of
    assert left <= ended and ended - left <= {(r["service_point"], r["begins_on"]) for r in stays}


def test_the_feed_of_service_points_tells_what_the_outage_system_tells(
    landed: Landed, points: list[Row], repository: Path
) -> None:
    """But for the network: the same points under the same numbers, who is there since when, and when nobody is."""
    feed = load_feed(repository / "conf" / "feeds" / "cis_database_service_points.yaml")
    assert isinstance(feed.extract, Jdbc) and landed.summary.database is not None
    with closing(sqlite3.connect(f"file:{landed.summary.database}?mode=ro", uri=True)) as base:
        base.row_factory = sqlite3.Row
        asked = [dict(row) for row in base.execute(feed.extract.query)]
    assert set(asked[0]) == {*feed.columns_read(), "updated_at"}
    shown = ("service_point", "premise", "account_no", "customer_no", "supply_status", "valid_from")
    told = [tuple(row[c] for c in shown) for row in asked]
    expected = {
        (p["service_point"], p["premise"], "AC-" + p["account_no"].replace("/", "-") if p["account_no"] else None,
         p["customer_no"].lstrip("0") or None, p["service_status"], p["valid_from"]) for p in points
    }  # fmt: skip
    assert set(told) == expected and len(told) == len(expected)
    assert Counter(row[4] for row in told)["I"] > 5
    # who is let on a day comes after who left on it
    assert {(row["supply_status"], row["change_no"]) for row in asked} == {("A", 1), ("I", 0)}


def test_an_agreement_that_ends_after_the_next_one_began_leaves_nobody_without_service(repository: Path) -> None:
    feed = load_feed(repository / "conf" / "feeds" / "cis_database_service_points.yaml")
    assert isinstance(feed.extract, Jdbc)
    stays = [("1", "2024-01-01", "2024-03-05"), ("2", "2024-03-01", "2024-04-01"), ("3", "2024-04-01", "2024-05-01")]
    with closing(sqlite3.connect(":memory:")) as base:
        for table in (POINTS, AGREEMENTS):
            base.execute(table.made)
        base.execute(POINTS.filled, POINTS.row({"service_point": "SP1", "premise": "PR1", "updated_at": "2024-06-01"}))
        told = {"service_point": "SP1", "updated_at": "2024-05-01"}
        names = ("agreement_no", "begins_on", "ends_on")
        rows = [AGREEMENTS.row(told | dict(zip(names, stay, strict=True))) for stay in stays]
        base.executemany(AGREEMENTS.filled, rows)
        asked = base.execute(f"SELECT valid_from, supply_status, updated_at FROM ({feed.extract.query}) ORDER BY 1, 2").fetchall()  # noqa: S608
    days = [("2024-01-01", "A"), ("2024-03-01", "A"), ("2024-04-01", "A"), ("2024-05-01", "I")]
    assert asked == [(*day, "2024-06-01") for day in days], "a point that changed tells of its agreements again"


def test_customers_move_in_and_out_on_these_days(landed: Landed, stays: Rows) -> None:
    log = rows(landed, "customer_change")
    moves = {(str(r["id"]), r["op"], r["changed_at"][:10]) for r in log}
    late = "2024-04"  # what happens from here on may be told after the last month
    come = [r for r in stays if r["start_code"] != "TR" and r["begins_on"] < late]
    gone = [r for r in stays if r["end_code"] == "MO" and r["ends_on"] < late]
    assert len(come) > 400 and len(gone) > 5
    assert {(r["customer_no"], "I", r["begins_on"]) for r in come} <= moves
    assert {(r["customer_no"], "D", r["ends_on"]) for r in gone} <= moves
    moved = [r for r in stays if r["start_code"] == "TR"]
    out = {(r["customer_no"], r["ends_on"]) for r in stays if r["end_code"] == "TR"}
    assert moved and out <= {(r["customer_no"], r["begins_on"]) for r in moved}


def test_a_service_point_is_connected_for_its_first_tenant(landed: Landed, stays: Rows) -> None:
    first: dict[str, str] = {}
    for row in stays:
        first[row["service_point"]] = min(first.get(row["service_point"], OPEN), row["begins_on"])
    known = rows(landed, "service_point")
    assert {r["service_point"]: r["connected_on"] for r in known} == first
    assert {r["service_point"]: r["premise"] for r in known} == {r["service_point"]: r["premise"] for r in stays}
    assert all(r["updated_at"][:10] == r["connected_on"] for r in known)
    assert {(r["commodity"], r["state"]) for r in known} == {("ELE", "IS")}


def test_each_service_point_with_a_meter_has_agreements_at_a_known_rate(landed: Landed, stays: Rows) -> None:
    assert {r["service_point"] for r in stays} == {r["service_point"] for r in rows(landed, "meter_installation")}
    assert {r["rate_code"] for r in stays} <= {r["rate_code"] for r in rows(landed, "rate_schedule")}


# -- months --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [ACCOUNTS, AGREEMENTS, POINTS], ids=lambda table: table.name)
def test_a_month_alone_tells_what_the_whole_does(
    table: Table, last_month: Landed, landed: Landed
) -> None:
    alone, whole = rows(last_month, table.name), rows(landed, table.name)
    assert [r for r in alone if r not in whole] == []
    assert [r for r in whole if r["updated_at"] >= LAST] == [r for r in alone if r["updated_at"] >= LAST] != []
    assert len(alone) < len(whole) / 4
    # a month tells of nothing that is to come
    assert max(r["updated_at"] for r in whole)[:7] == LAST


@pytest.fixture(scope="module")
def last_month(simulated: Callable[..., Landed]) -> Landed:
    return simulated(**GIVEN | {"only_month": 4, "systems": ("customer_database",)})


def test_months_in_their_order_give_the_rows_of_all_at_once(
    simulated: Callable[..., Landed], landed: Landed, accounts: Rows, stays: Rows, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sources, told = tmp_path_factory.mktemp("sources"), landed
    for only in (1, 2, 3, 4, 4, 2):  # what is told again changes nothing
        told = simulated(**GIVEN | {"only_month": only, "systems": ("customer_database",), "sources": sources})
    assert (rows(told, "account"), rows(told, "service_agreement")) == (accounts, stays)
    assert rows(told, "service_point") == rows(landed, "service_point")


def test_the_shipped_feeds_read_what_is_there(repository: Any) -> None:
    for name, columns in (("accounts", agreements.ACCOUNT), ("agreements", agreements.AGREEMENT)):
        feed = load_feed(repository / "conf" / "feeds" / f"cis_database_{name}.yaml")
        read = set(feed.columns_read()) - {"account_status", "agreement_status", "valid_from", "change_no"}
        assert read <= set(columns)
        assert set(columns) - read <= {"status", "final_on", "billed_on", "premise", "updated_at"}
    feed = load_feed(repository / "conf" / "feeds" / "cis_database_service_points.yaml")
    known = {*customer_points.COLUMNS, *agreements.AGREEMENT, "supply_status", "valid_from", "change_no"}
    assert set(feed.columns_read()) <= known
