"""Defects of whole records: lost, repeated, late, of accounts that a system does not know; each of them on the ledger."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from utilityflow.simulate import model

from .conftest import Landed, Money, Row
from .test_determinism import MARCH, contents

READS, BOXES, CUSTOMERS = "ami_daily_reads", "ev_interval_reads", "cis_customers"
KEYS = {CUSTOMERS: ("customer_id", "seq"), READS: ("meter_id", "read_date", "register"), BOXES: ("meter_id", "interval_start")}
SOURCE: dict[str, Any] = {"rate": 1, "among": "source"}
PROFILE: dict[str, Any] = {
    "customer_management": [
        {"kind": "lost_account", "column": "customer_id", "rate": 0.03},
        {"kind": "repeated", "column": "customer_id", **SOURCE},
        {"kind": "late", "column": "changed_at", **SOURCE},
    ],
    "usage_monitoring": [
        {"kind": "repeated", "column": "read_date", **SOURCE},
        {"kind": "late", "column": "read_date", **SOURCE},
        {"kind": "lost", "column": "kwh", **SOURCE},
    ],
    "wall_boxes": [
        {"kind": "lost", "column": "wh", "rate": 0.05, "hours": 5},
        {"kind": "repeated", "column": "interval_start", "rate": 0.01},
        {"kind": "late", "column": "interval_start", **SOURCE},
    ],
}
GIVEN: dict[str, Any] = {"customers": 500, "interval_meters": 20}


@pytest.fixture(scope="module")
def clean(simulated: Callable[..., Landed]) -> Landed:
    return simulated(profile={}, **GIVEN)


@pytest.fixture(scope="module")
def dirty(simulated: Callable[..., Landed]) -> Landed:
    return simulated(profile=PROFILE, **GIVEN)


def told(landed: Landed, feed: str, kind: str) -> list[Row]:
    """The ledger's entries of a kind."""
    found = [e for e in landed.rows(feed, "defects") if e["kind"] == kind]
    assert found, f"{kind} of {feed} is planted"
    assert landed.summary.defects[feed][kind] == len(found)
    return found


def key_of(feed: str, row: Row) -> str:
    return "|".join(row[k] for k in KEYS[feed])


@pytest.mark.parametrize("feed", KEYS)
def test_the_ledger_says_which_records_are_too_few_and_too_many(feed: str, clean: Landed, dirty: Landed) -> None:
    sound, found = (Counter(tuple(r.values()) for r in of.rows(feed)) for of in (clean, dirty))
    names = [*clean.rows(feed)[0]]
    file, keys = names.index("_file"), [names.index(k) for k in KEYS[feed]]

    def placed(rows: Counter[tuple[str, ...]]) -> Counter[tuple[str, str]]:
        return Counter((row[file], "|".join(row[i] for i in keys)) for row in rows.elements())

    planted = [e for e in dirty.rows(feed, "defects") if e["cause"] != "source"]
    gone = Counter((e["file"], e["row_key"]) for e in planted if e["kind"] in ("lost", "lost_account"))
    more = Counter((e["file"], e["row_key"]) for e in planted if e["kind"] == "repeated")
    assert placed(sound - found) == gone
    assert placed(found - sound) == more, "exact repeats: nothing else is there"
    assert not more or all(sound[row] for row in found - sound)
    assert dirty.summary.rows[feed] == clean.summary.rows[feed] - gone.total() + more.total() == found.total()
    assert bool(gone) == (feed != READS) and bool(more) == (feed == BOXES)
    assert clean.summary.defects[feed] == {}


def test_a_day_lacks_one_or_some_hours_in_a_row(dirty: Landed) -> None:
    days: dict[tuple[str, str], set[dt.datetime]] = defaultdict(set)
    for e in told(dirty, BOXES, "lost"):
        assert e["planted_value"] == "" and int(e["clean_value"]) >= 4
        meter, stamp = e["row_key"].split("|")
        if e["copy"] == "0":
            days[meter, e["file"]].add(dt.datetime.fromisoformat(stamp.replace("Z", "+00:00")))
    assert {len(hours) for hours in days.values()} == {1, 2, 3, 4, 5}
    for hours in days.values():
        assert all(b - a == dt.timedelta(hours=1) for a, b in pairwise(sorted(hours)))
    # the hour that was estimated and lost is not told of the next day either
    there = {key_of(BOXES, row) for row in dirty.rows(BOXES)}
    assert not there & {e["row_key"] for e in told(dirty, BOXES, "lost")}


def test_a_lost_account_is_unknown_to_customer_management_alone(clean: Landed, dirty: Landed) -> None:
    lost = {e["clean_value"] for e in told(dirty, CUSTOMERS, "lost_account")}
    assert 5 <= len(lost) < 50
    assert not lost & {row["customer_id"] for row in dirty.rows(CUSTOMERS)}
    events = [row for row in clean.rows(CUSTOMERS) if row["customer_id"] in lost]
    assert Counter(map(lambda r: (r["_file"], key_of(CUSTOMERS, r)), events)) == Counter(
        (e["file"], e["row_key"]) for e in told(dirty, CUSTOMERS, "lost_account")
    ), "all that there was to tell of them, in each month"
    named = {row["customer_id"] for row in dirty.rows(READS)} & lost
    assert len(named) > len(lost) / 2, "the meters know them"


def test_repeats_and_late_reads_of_the_clean_files_are_on_the_ledger(dirty: Landed) -> None:
    rows = dirty.rows(READS)
    by_key: dict[str, list[str]] = defaultdict(list)  # of equal reads: the files
    late = Counter[tuple[str, str, str, str]]()
    for row in rows:
        equal = "|".join(v for k, v in row.items() if k != "_file")
        day = row["_file"][-14:-4]
        if row["read_date"] < day and equal not in by_key:
            late[row["_file"], key_of(READS, row), row["read_date"], day] += 1
        by_key[equal].append(row["_file"])
    again = Counter((file, equal.split("|")[0]) for equal, files in by_key.items() for file in files[1:])
    entries = told(dirty, READS, "repeated")
    assert Counter((e["file"], e["row_key"].split("|")[0]) for e in entries) == again
    assert {e["copy"] for e in entries} == {"1"} and {e["cause"] for e in entries} == {"source"}
    first = min(row["_file"] for row in rows)
    assert Counter((e["file"], e["row_key"], e["clean_value"], e["planted_value"]) for e in told(dirty, READS, "late")) == late
    assert all(e["file"] > first for e in entries if e["row_key"].split("|")[1] < e["file"][-14:-4])


def test_reads_that_never_come_are_on_the_ledger(dirty: Landed) -> None:
    rows = dirty.rows(READS)
    there, span = {key_of(READS, row) for row in rows}, defaultdict[tuple[str, str], set[str]](set)
    for row in rows:
        span[row["meter_id"], row["register"]].add(row["read_date"])
    lost = told(dirty, READS, "lost")
    assert not there & {e["row_key"] for e in lost}
    missing = {
        (meter, f"{dt.date.fromisoformat(first) + dt.timedelta(days=n)}", register)
        for (meter, register), days in span.items()
        for first, last in [(min(days), max(days))]
        for n in range((dt.date.fromisoformat(last) - dt.date.fromisoformat(first)).days)
        if f"{dt.date.fromisoformat(first) + dt.timedelta(days=n)}" not in days
    }
    keys = [tuple(e["row_key"].split("|")) for e in lost]
    assert len(set(keys)) == len(keys) and missing <= {(m, d, r) for m, d, r in keys}
    assert all(e["file"][-14:-4] == day for e, (_, day, _) in zip(lost, keys, strict=True))
    assert len(missing) > len(keys) * 0.5, "the others lie at the end, or on the last day of a meter"


def test_the_day_of_an_exchange_is_told_of_both_meters_or_lost_of_both(
    simulated: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "METER_LIFE_MONTHS", 1)  # all meters are exchanged in February
    customers, systems = 6000, ("usage_monitoring",)
    landed = simulated(customers=customers, months=1, systems=systems, profile={s: PROFILE[s] for s in systems})
    lost = {e["row_key"] for e in told(landed, READS, "lost")}
    fates: dict[str, set[str]] = defaultdict(set)  # how the reads of a meter and day came
    for row in landed.rows(READS):
        came = "late" if row["read_date"] < row["_file"][-14:-4] else "in time"
        fates[key_of(READS, row)].add(f"{row['quality']} {came}")
    days: dict[int, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))  # of the old meter, of the new one
    stride = 2 * customers + 10_000  # Utility.stride
    for meter, day, register in (key.split("|") for key in [*lost, *fates]):
        version, premise = divmod(int(meter[1:]) - model.FIRST_METER_NUMBER, stride)
        if register == "1.8.0":
            days[premise][version].add(day)
    seen = Counter[str]()
    for premise, (old, new) in days.items():
        # what is late in the month's last days comes in March; a building connected later never had the old meter
        if not old or not new or min(new) > "2024-02-24":
            continue
        assert max(old) == min(new), "the files tell of that day of both, or the ledger does"
        names = [f"M{model.FIRST_METER_NUMBER + premise + version * stride}" for version in (0, 1)]
        befell, other = (", ".join(sorted(fates[f"{name}|{max(old)}|1.8.0"])) or "lost" for name in names)
        assert befell == other
        seen[befell] += 1
    assert seen.keys() >= {"A in time", "A late", "A late, E in time", "lost"} and seen["A in time"] > 4000, seen


def test_late_and_repeated_events_are_on_the_ledger(dirty: Landed) -> None:
    seen: set[tuple[str, ...]] = set()
    again = Counter[tuple[str, str]]()
    for row in dirty.rows(CUSTOMERS):
        event = tuple(v for k, v in row.items() if k != "_file")
        if event in seen:
            again[row["_file"], key_of(CUSTOMERS, row)] += 1
        seen.add(event)
    assert Counter((e["file"], e["row_key"]) for e in told(dirty, CUSTOMERS, "repeated")) == again
    for e in told(dirty, CUSTOMERS, "late"):
        assert e["file"].endswith(f"{e['planted_value'][:7]}.csv") and e["clean_value"][:7] < e["planted_value"][:7]


def test_an_hour_that_was_estimated_is_told_late(dirty: Landed) -> None:
    twice = Counter(key_of(BOXES, row) for row in dirty.rows(BOXES) if row["quality"] == "A")
    estimated = {key_of(BOXES, row) for row in dirty.rows(BOXES) if row["quality"] == "E"}
    late = {e["row_key"] for e in told(dirty, BOXES, "late")}
    repeated = {e["row_key"] for e in told(dirty, BOXES, "repeated")}
    assert late - repeated == (estimated & twice.keys()) - repeated, "of the last day nothing more is told"


def test_a_month_alone_has_the_same_records_and_ledger(dirty: Landed, simulated: Callable[..., Landed]) -> None:
    alone = simulated(only_month=2, profile=PROFILE, **GIVEN)
    for root in ("landing", "defects"):
        mine = contents(getattr(alone, root), "")
        assert mine == contents(getattr(dirty, root), MARCH) and len(mine) == 1 + 2 * 31


# -- bills and payments --------------------------------------------------------------------------------------------------

OF_MONEY = {
    "billing": [
        {"kind": "repeated", "column": "line_no", "rate": 0.02},
        {"kind": "lost_customer", "column": "cust_no", **SOURCE},
    ],
    "payment_processing": [
        {"kind": "repeated", "column": "payment_ref", **SOURCE},
        {"kind": "resent", "column": "payment_ref", **SOURCE},
    ],
}


@pytest.fixture(scope="module")
def april(simulated: Callable[..., Landed]) -> Money:
    systems = ("billing", "payment_processing")
    return Money.of(simulated(customers=400, months=3, only_month=3, profile=OF_MONEY, systems=systems))


def test_lines_of_bills_come_twice_within_the_control_totals(money: Money, april: Money) -> None:
    sound = Counter(tuple(r.values()) for r in money.bills if "2024-04" in r["_file"])
    found = Counter(tuple(r.values()) for r in april.bills)
    entries = [e for e in april.landed.rows("cis_bills", "defects") if e["kind"] == "repeated"]
    assert not sound - found
    more = Counter(f"{row[0]}|{row[1]}" for row in (found - sound).elements())
    assert more == Counter(e["row_key"] for e in entries) and more.total() > 10
    assert {e["copy"] for e in entries} == {"1"}
    ((_, count, _),) = april.trailers.values()
    assert int(count) == found.total() == april.landed.summary.rows["cis_bills"]


def test_accounts_that_lost_their_customer_are_on_the_ledger(april: Money) -> None:
    without = Counter(f"{b['bill_no']}|{b['line_no']}" for b in april.bills if not b["cust_no"])
    entries = [e for e in april.landed.rows("cis_bills", "defects") if e["kind"] == "lost_customer"]
    repeated = {e["row_key"] for e in april.landed.rows("cis_bills", "defects") if e["kind"] == "repeated"}
    assert {e["row_key"] for e in entries} == without.keys() - repeated != set()
    assert all(len(e["clean_value"]) == 15 and e["planted_value"] == "" for e in entries)


def test_payments_that_come_again_are_on_the_ledger(money: Money, april: Money) -> None:
    assert april.payments == [p for p in money.payments if "2024-04" in p["_file"]], "nothing is drawn"
    entries = april.landed.rows("pay_payments", "defects")
    twice = Counter(p["payment_ref"] for p in april.payments)
    assert {e["row_key"] for e in entries if e["kind"] == "repeated"} == {ref for ref, n in twice.items() if n == 2}
    first = {p["payment_ref"] for p in money.payments}
    resent = {e["clean_value"]: e["planted_value"] for e in entries if e["kind"] == "resent"}
    assert resent and resent.keys() <= first and set(resent.values()) <= twice.keys()
