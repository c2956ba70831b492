"""Requests of the service desk: what causes them, how they go on from day to day, and that a real HTTP server shows them."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import pytest

from utilityflow.bronze.feeds import load_feed
from utilityflow.contracts import load_contracts
from utilityflow.simulate import requests
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.defects import load_profile
from utilityflow.simulate.request_kinds import KINDS, DeskDays, most_a_day
from utilityflow.simulate.serve import serve
from utilityflow.simulate.storms import Weather

from .conftest import SEED, Landed
from .test_outages import KINDS as DEVICES
from .test_outages import final, instant

ZONE, CUSTOMERS, MONTHS = "America/New_York", 3000, 2
SYSTEMS = ("service_requests", "regulatory_reporting", "customer_management")
FEED, SYSTEM = requests.FEED, requests.SYSTEM
Record = dict[str, Any]


def stormy_start() -> dt.date:
    """The first month after 2023 whose first two hold a storm, whatever the almanac's draws are."""
    for index in range(24):
        start = dt.date(2024 + index // 12, index % 12 + 1, 1)
        if any(10 < (s.day - start).days < 45 for s in Weather(Almanac(SEED, start, MONTHS, ZONE)).storms):
            return start
    raise AssertionError("no storm in two years")


START = stormy_start()


@dataclass(frozen=True)
class Desk:
    landed: Landed
    files: dict[str, list[Record]]  # day -> records

    @property
    def states(self) -> dict[str, list[Record]]:
        """The states of each request, in the order of the days."""
        found: dict[str, list[Record]] = defaultdict(list)
        for day in sorted(self.files):
            for record in self.files[day]:
                found[record["id"]].append(record | {"day": day})
        return found


def records(landed: Landed) -> dict[str, list[Record]]:
    return {f.stem[-10:]: [json.loads(line) for line in f.read_text("utf-8").splitlines()] for f in landed.files(FEED)}


@pytest.fixture(scope="module")
def desk(simulated: Callable[..., Landed]) -> Desk:
    landed = simulated(customers=CUSTOMERS, months=MONTHS, start=START, systems=SYSTEMS, profile={})
    return Desk(landed, records(landed))


def local_day(stamp: str) -> str:
    return dt.datetime.fromisoformat(stamp.replace("Z", "+00:00")).astimezone(ZoneInfo(ZONE)).date().isoformat()


def at(stamp: str) -> dt.datetime:
    return instant(stamp.replace("Z", "+00:00"))


def test_states_follow_each_other_each_in_the_file_of_its_day(desk: Desk) -> None:
    states = desk.states
    assert len(states) > 300
    stages = {"open": 0, "assigned": 1, "in progress": 1, "waiting for customer": 1, "resolved": 2, "closed": 2, "cancelled": 2}
    seen = Counter[str]()
    for rows in states.values():
        seen.update(r["state"] for r in rows)
        assert len({(r["opened_at"], r["type"], r["detail"], json.dumps(r["customer"]), r["due_at"]) for r in rows}) == 1
        changes = [at(r["updated_at"]) for r in rows]
        assert changes == sorted(set(changes)) and at(rows[0]["opened_at"]) <= changes[0]
        assert [r["day"] for r in rows] == [local_day(r["updated_at"]) for r in rows]
        reopened = False
        for before, after in zip(rows, rows[1:], strict=False):
            reopened = reopened or after["state"] == "reopened"
            if after["state"] == "reopened":
                assert stages[before["state"]] == 2
            elif before["state"] == "reopened" or stages[before["state"]] == 2:
                assert stages[after["state"]] == 2, "opened again, and closed on the same day"
            else:
                assert stages[before["state"]] < stages[after["state"]]
        for row in rows:
            assert (row["closed_at"] is not None) == (stages.get(row["state"]) == 2)
            assert row["closed_at"] in (None, row["updated_at"])
            assert row["state"] != "open" or row["updated_at"] == row["opened_at"]
    assert set(seen) == {*stages, "reopened"}
    assert max(seen.values()) < 0.8 * sum(seen.values())


def test_outages_make_those_call_whom_they_interrupt(desk: Desk) -> None:
    landed = desk.landed
    points = defaultdict(set)
    who = defaultdict(set)
    for row in landed.rows("oms_service_points"):
        premise = row["premise"]
        who[premise].add(row["customer_no"].lstrip("0"))
        for kind, column in DEVICES.items():
            points[kind, row[column]].add(premise)
    never = "2100-01-01T00:00:00+00:00"
    lost = [(instant(r["off_at"]), instant(r["on_at"] or never), points[r["device_type"], r["device_restored"]])
            for r in final(landed.rows("oms_outages")).values()]  # fmt: skip
    calls = [rows[0] for rows in desk.states.values() if rows[0]["type"] == "Outage" and rows[0]["location"]["premise"]]
    assert len(calls) > 50
    for call in calls:
        premise, when = call["location"]["premise"], at(call["opened_at"])
        spells = [(off, on) for off, on, on_it in lost if premise in on_it and off < when < on + dt.timedelta(hours=2)]
        assert spells, call
        assert call["customer"]["number"].removeprefix("C") in who[premise]
        if call["detail"] in ("No power", "Partial power", "Wire down"):
            assert any(when < on for _, on in spells), "he calls while he has no power"
    by_day = Counter(local_day(call["opened_at"]) for call in calls)
    storms = {s.day.isoformat() for s in Weather(Almanac(SEED, START, MONTHS, ZONE)).storms if s.day.isoformat() in desk.files}
    assert storms and {by_day.most_common(1)[0][0]} <= storms
    closed = [r for rows in desk.states.values() for r in rows if r["type"] == "Outage" and r["closed_at"]]

    def hours(of_storms: bool) -> float:
        spans = [(at(r["closed_at"]) - at(r["opened_at"])).total_seconds() / 3600
                 for r in closed if (local_day(r["opened_at"]) in storms) == of_storms]  # fmt: skip
        return sum(spans) / len(spans)

    assert hours(True) > 2 * hours(False), "a backlog after storms"


def test_customers_are_those_of_customer_management_or_none(desk: Desk) -> None:
    known = {row["customer_id"] for row in desk.landed.rows("cis_customers")}
    named = [rows[0]["customer"]["number"] for rows in desk.states.values()]
    late = [n for n in named if n and n.removeprefix("C") not in known]
    assert all(n == "" or n.startswith("C") for n in named)
    assert 0.02 < sum(n == "" for n in named) / len(named) < 0.3
    assert len(late) < 0.03 * len(named), "only those of whom customer management tells a month late"
    assert {rows[0]["customer"]["channel"] for rows in desk.states.values()} == {"phone", "web", "app", "email"}
    nobody = Counter((rows[0]["type"], not rows[0]["customer"]["number"]) for rows in desk.states.values())
    assert nobody["Street light", True] > nobody["Street light", False]


def test_moves_and_new_buildings_ask_for_service_on_their_day(desk: Desk) -> None:
    came = {(r["premise"], r["valid_from"]) for r in desk.landed.rows("oms_service_points")}
    moves = [rows for rows in desk.states.values() if rows[0]["detail"] in ("Move in", "New service")]
    once = [rows for rows in moves if not any(r["state"] == "reopened" for r in rows)]
    done = [rows[-1] for rows in once if rows[-1]["state"] in ("closed", "resolved") and rows[-1]["location"]["premise"]]
    assert len(done) > 5 and {rows[0]["detail"] for rows in moves} == {"Move in", "New service"}
    assert all((r["location"]["premise"], local_day(r["closed_at"])) in came for r in done)


def test_marts_have_something_to_say(desk: Desk) -> None:
    first = [rows[0] for rows in desk.states.values()]
    words = load_contracts()["gold.kpi_customer_satisfaction"].property("parameters")["complaint_words"]
    urgent = load_contracts()["gold.kpi_operational_efficiency"].property("parameters")["urgent"]
    complaints = sum(any(w in f"{r['type']} {r['detail']}".lower() for w in words) for r in first)
    assert 0.02 < complaints / len(first) <= 0.15
    about_bills = Counter(r["detail"] for r in first if r["detail"].startswith("High bill"))
    assert set(about_bills) == {"High bill question", "High bill complaint"}
    assert about_bills["High bill question"] > 2 * about_bills["High bill complaint"], "most ask, one of eight complains"
    assert sum(r["priority"].lower() in urgent for r in first) > 30
    assert sum(r["due_at"] is not None for r in first) > 100
    again = Counter((r["customer"]["number"], r["type"]) for r in first if r["customer"]["number"])
    assert any(n > 1 for n in again.values()), "some come again"
    twice = [r for r in first if r["id"].endswith("b")]
    assert twice
    for row in twice:
        pairs = desk.states.get(row["id"][:-1], [])
        assert any((o["customer"]["number"], o["detail"]) == (row["customer"]["number"], row["detail"]) for o in pairs)


def test_bills_make_more_requests_after_cold_and_hot_weeks() -> None:
    almanac = Almanac(SEED, dt.date(2024, 1, 1), 12, ZONE)
    desk = DeskDays(almanac)
    by_month = defaultdict(list)
    for day, high in zip(almanac.days, desk.high_bills, strict=True):
        by_month[day.month].append(high)
    mean = {month: sum(v) / len(v) for month, v in by_month.items()}
    assert min(mean[2], mean[8]) > 1.3 * max(mean[5], mean[11])
    counts = desk.requests([1_000_000] * 12)
    assert max(counts) <= most_a_day(1_000_000)
    assert sum(counts[1:5]) > sum(counts[5:7]) * 1.5, "1 January and a weekend among working days"
    assert sum(k.weight for k in KINDS) > 0


def test_a_month_alone_is_that_month_of_several_but_for_the_ledger(desk: Desk, simulated: Callable[..., Landed]) -> None:
    profile = {SYSTEM: [{**vars(s), "among": "row", "rate": 0.06} for s in load_profile().service_requests if not s.whole]}
    spoilt = simulated(customers=CUSTOMERS, months=4, only_month=2, start=START, systems=(SYSTEM,), profile=profile)
    month = f"{Almanac(SEED, START, 2, ZONE).month_start(1):%Y-%m}"
    clean = [f for f in desk.landed.files(FEED) if month in f.name]
    assert [f.name for f in spoilt.files(FEED)] == [f.name for f in clean]
    differing, changed = Counter[tuple[str, str, str]](), 0
    for here, there in zip(spoilt.files(FEED), clean, strict=True):
        for dirty, line in zip(here.read_bytes().splitlines(), there.read_bytes().splitlines(), strict=True):
            if dirty != line:
                a, b = json.loads(dirty), json.loads(line)
                key, changed = "|".join(b[k] for k in requests.KEY), changed + 1
                differing.update((key, c, a[c] or "") for c in b if a[c] != b[c])
    ledger = spoilt.rows(FEED, "defects")
    assert differing == Counter((e["row_key"], e["column"], e["planted_value"]) for e in ledger)
    assert changed == len(ledger), "all other lines have the same bytes"
    assert {e["file"][-6:] for e in ledger} == {".jsonl"}
    assert {e["kind"] for e in ledger} >= {"unknown_code", "bad_date", "missing", "year_early"}


def test_the_served_desk_shows_the_present_state_of_each_request(desk: Desk) -> None:
    present = {rows[-1]["id"]: {k: v for k, v in rows[-1].items() if k != "day"} for rows in desk.states.values()}
    with serve(port=0, records=desk.landed.landing / FEED) as server:
        shown: dict[str, Record] = {}
        cursor = ""
        while True:
            with urlopen(f"{server.address}?limit=1000&cursor={cursor}") as answer:
                page = json.load(answer)
            assert page["total"] == len(present)
            shown |= {r["id"]: r for r in page["data"]}
            if not (cursor := page["next_cursor"] or ""):
                break
    assert shown == present


def test_the_desk_as_a_source_holds_the_records_of_the_files_with_their_defects(simulated: Callable[..., Landed]) -> None:
    size: dict[str, Any] = {"customers": 1500, "months": 2, "only_month": 2, "start": START}
    landed, kept = simulated(systems=(SYSTEM,), **size), simulated(systems=(requests.DESK,), **size)
    assert kept.summary.desk is not None and kept.summary.desk.name == requests.DESK_FEED
    assert not kept.landing.exists() and kept.summary.files == (), "nothing lands: it is asked"
    both = {f.name.replace(requests.DESK_FEED, FEED): f.read_bytes() for f in kept.summary.desk.iterdir()}
    assert both == {f.name: f.read_bytes() for f in landed.files(FEED)} != {}
    assert kept.summary.rows == {requests.DESK_FEED: landed.summary.rows[FEED]}
    assert kept.summary.bytes == landed.summary.bytes

    def entries(of: Landed, feed: str) -> list[tuple[str, ...]]:
        return [tuple(v for c, v in e.items() if c not in ("feed", "file", "_file")) for e in of.rows(feed, "defects")]

    assert entries(kept, requests.DESK_FEED) == entries(landed, FEED) != []


def test_the_shipped_feeds_read_the_simulated_columns(repository: Path) -> None:
    files, asked = (load_feed(repository / "conf" / "feeds" / f"{name}.yaml") for name in (FEED, requests.DESK_FEED))
    assert (files.feed, asked.feed) == (FEED, requests.DESK_FEED)
    assert files.system == asked.system == SYSTEM
    assert set(files.columns_read()) == set(asked.columns_read()) == set(requests.COLUMNS)
    assert files.columns == asked.columns, "where both come, equal records count once"
