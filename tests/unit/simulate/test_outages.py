"""Outages and the network that they hit: every element is known, every customer counts once, storms stand out."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from utilityflow.bronze.feeds import load_feed
from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import outages, service_points
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.defects import by_feed, load_profile
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.stamps import offsets
from utilityflow.simulate.storms import Weather

from .conftest import Landed, Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ZONE, START, MONTHS, CUSTOMERS = "America/New_York", dt.date(2024, 3, 1), 12, 1500  # begins with a day of 23 hours
SYSTEM = "regulatory_reporting"
POINTS, OUTAGES = service_points.FEED, outages.FEED
KINDS = {"SERVICE": "service_point", "XFMR": "transformer_no", "LATERAL": "circuit_no", "FEEDER": "feeder_no",
         "SUBSTATION": "substation_no"}  # fmt: skip
SIZES = list(KINDS)


def with_a_storm_at_a_months_end() -> int:
    """The first seed by which a storm leaves many outages open when a month's file is made."""
    for seed in range(500):
        if any((s.day + dt.timedelta(days=1)).day == 1 for s in Weather(Almanac(seed, START, MONTHS, ZONE)).storms):
            return seed
    raise AssertionError("no storm on a month's last day")


SEED = with_a_storm_at_a_months_end()


@dataclass(frozen=True)
class Version:
    """A service point from a day on."""

    day: str
    row: Row


@pytest.fixture(scope="module")
def year(simulated: Callable[..., Landed]) -> Landed:
    """A year without planted defects."""
    return simulated(customers=CUSTOMERS, months=MONTHS, start=START, seed=SEED, systems=(SYSTEM,), profile={})


@pytest.fixture(scope="module")
def told(year: Landed) -> list[Row]:
    return year.rows(OUTAGES)


@pytest.fixture(scope="module")
def points(year: Landed) -> dict[str, list[Version]]:
    """The history of each service point, in order."""
    found: dict[str, dict[int, Version]] = defaultdict(dict)
    for row in year.rows(POINTS):
        found[row["service_point"]][int(row["change_no"])] = Version(row["valid_from"], row)
    return {name: [versions[n] for n in sorted(versions)] for name, versions in found.items()}


@pytest.fixture(scope="module")
def hanging(points: dict[str, list[Version]]) -> dict[tuple[str, str], set[str]]:
    """(device type, element) -> service points; nothing is switched to another place."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, versions in points.items():
        assert len({tuple(v.row[c] for c in KINDS.values()) for v in versions}) == 1
        for kind, column in KINDS.items():
            found[kind, versions[0].row[column]].add(name)
    return found


def final(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """The last state of each step."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row["outage_no"], row["step_no"])
        if key not in found or instant(row["last_change"]) >= instant(found[key]["last_change"]):
            found[key] = row
    return found


def instant(stamp: str) -> dt.datetime:
    return dt.datetime.fromisoformat(stamp).astimezone(dt.timezone.utc)


def local_day(stamp: str) -> str:
    return dt.datetime.fromisoformat(stamp).astimezone(ZoneInfo(ZONE)).date().isoformat()


def minutes(row: Row) -> float:
    return (instant(row["on_at"]) - instant(row["off_at"])).total_seconds() / 60


def served(points: dict[str, list[Version]], names: Iterable[str], day: str) -> set[str]:
    """Who of these is active on a local day."""
    found = set()
    for name in names:
        now = [v for v in points[name] if v.day <= day]
        if now and now[-1].row["service_status"] == "A":
            found.add(name)
    return found


def by_step(steps: list[Row], points: dict[str, list[Version]], hanging: dict[tuple[str, str], set[str]]) -> dict[str, set[str]]:
    """Whom each step of an outage restores: those on its element and on no smaller one that has a step."""
    found: dict[str, set[str]] = {}
    taken: set[str] = set()
    for row in sorted(steps, key=lambda r: SIZES.index(r["device_type"])):
        on = hanging[row["device_type"], row["device_restored"]]
        found[row["step_no"]] = served(points, on - taken, local_day(row["off_at"]))
        taken |= on
    return found


def test_every_element_is_known_and_every_customer_counts_once(
    told: list[Row], points: dict[str, list[Version]], hanging: dict[tuple[str, str], set[str]]
) -> None:
    assert len(told) > 350
    outages_of: dict[str, list[Row]] = defaultdict(list)
    for row in final(told).values():
        assert hanging.get((row["device_type"], row["device_restored"])), row
        outages_of[row["outage_no"]].append(row)
    counted = several = 0
    for steps in outages_of.values():
        assert len({(s["off_at"], s["cause_code"], s["state"], s["customers"] == "") for s in steps}) == 1
        assert sorted(int(s["step_no"]) for s in steps) == list(range(1, len(steps) + 1))
        several += len(steps) > 1
        if steps[0]["customers"]:
            restored = by_step(steps, points, hanging)
            assert {s["step_no"]: int(s["customers"]) for s in steps} == {n: len(who) for n, who in restored.items()}
            counted += len(steps)
    assert counted > 150 and several > 30
    assert any(r["customers"] == "" for r in told), "some rows leave the customers to the network model"
    assert {r["device_type"] for r in told} == set(KINDS)
    assert {r["cause_code"] for r in told} >= {"EQ", "AN", "VG", "VH", "WX", "PL", "UN"}


def test_open_outages_come_back_restored_and_some_are_corrected_or_withdrawn(told: list[Row]) -> None:
    states: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in told:
        states[row["outage_no"], row["step_no"]].append(row)
    last_file = told[-1]["_file"]
    for steps in states.values():
        assert [s["_file"] for s in steps] == sorted({s["_file"] for s in steps}), "once in a file"
        changes = [instant(s["last_change"]) for s in steps]
        assert changes == sorted(set(changes)), "a later state is told later"
        for step in steps:
            assert instant(step["off_at"]) <= instant(step["last_change"])
            if step["on_at"]:
                assert instant(step["off_at"]) < instant(step["on_at"]) <= instant(step["last_change"])
        if not steps[-1]["on_at"]:
            assert steps[-1]["_file"] == last_file, "what was open is told of again"
        assert (steps[-1]["state"] == "O") <= (steps[-1]["_file"] == last_file)
    again = [s for s in states.values() if len(s) > 1]
    assert any(s[0]["state"] == "O" and s[0]["on_at"] == "" and s[-1]["on_at"] for s in again)
    withdrawn = [s for s in states.values() if s[-1]["state"] == "X"]
    assert 0.002 < len(withdrawn) / len(states) < 0.1
    assert {s["state"] for steps in withdrawn for s in steps[:-1]} <= {"O", "C"}
    assert any(s[0]["cause_code"] == "UN" != s[-1]["cause_code"] for s in again)
    assert any(s[0]["on_at"] and s[0]["on_at"] != s[-1]["on_at"] for s in again)


def test_some_are_momentary_cross_midnight_or_begin_when_the_clock_moves(told: list[Row]) -> None:
    ended = [r for r in final(told).values() if r["on_at"]]
    momentary = [r for r in ended if minutes(r) < 5]
    assert 0.1 < len(momentary) / len(ended) < 0.9
    assert not any(5 <= minutes(r) < 8 for r in ended), "sustained ones are clearly so"
    assert any(local_day(r["off_at"]) < local_day(r["on_at"]) for r in ended)
    assert {"2024-03-10", "2024-11-03"} & {local_day(r["off_at"]) for r in ended}, "days of 23 and 25 hours"
    assert {r["off_at"][-6:] for r in ended} == {"-05:00", "-04:00"}
    for row in ended:
        there = dt.datetime.fromisoformat(row["off_at"])
        assert there.utcoffset() == there.astimezone(ZoneInfo(ZONE)).utcoffset(), row["off_at"]


def test_only_storms_make_a_district_jump(told: list[Row], points: dict[str, list[Version]]) -> None:
    storms = Weather(Almanac(SEED, START, MONTHS, ZONE)).storms
    assert 1 <= len(storms) <= 3
    total, of_district = Counter[tuple[str, str]](), Counter[str]()
    for versions in points.values():
        of_district[versions[0].row["operating_district"]] += 1
    region = {v[0].row["operating_district"]: v[0].row["region"] for v in points.values()}
    for row in final(told).values():
        if row["customers"] and row["state"] != "X" and row["on_at"]:
            total[row["district_of_device"], local_day(row["off_at"])] += int(row["customers"])
    names = ("Lake", "Hills", "Valley", "Coast")
    stormy = {(d, s.day.isoformat()) for s in storms for d, place in region.items() if place == names[s.zone]}
    share = {key: count / of_district[key[0]] for key, count in total.items()}
    assert {(r["district_of_device"], local_day(r["off_at"])) for r in told if r["storm_mode"] == "Y"} <= stormy
    counting = {district for district, _ in total}
    assert len(counting) == 21
    for storm in storms:
        hit = [share.get((d, storm.day.isoformat()), 0) for d in counting if region[d] == names[storm.zone]]
        assert sum(hit) / len(hit) > 0.25, (storm, hit)
    daily = Counter[str]()
    for (_, day), count in total.items():
        daily[day] += count
    top = [day for day, _ in daily.most_common(len(storms))]
    assert set(top) == {s.day.isoformat() for s in storms}


def test_indices_are_those_of_a_usual_utility(told: list[Row], points: dict[str, list[Version]]) -> None:
    active = len(served(points, points, "2024-09-01"))
    calm = [r for r in final(told).values() if r["customers"] and r["on_at"] and r["storm_mode"] == "N" and r["state"] == "C"]
    interruptions = sum(int(r["customers"]) for r in calm)
    counted = 21 / 24  # districts
    assert 0.7 < interruptions / active / counted < 1.9
    assert 60 < sum(int(r["customers"]) * minutes(r) for r in calm) / interruptions < 160


def test_who_is_supplied_changes_with_the_tenants(points: dict[str, list[Version]]) -> None:
    utility = Utility(SEED, CUSTOMERS, Almanac(SEED, START, MONTHS, ZONE), load_pools())
    assert len(points) == utility.premises(MONTHS - 1)
    first = [v[0] for v in points.values()]
    assert {v.row["action"] for v in first} == {"I"}
    assert sum(v.day >= START.isoformat() for v in first) == utility.growth * (MONTHS - 1), "new buildings"
    moved = 0
    for versions in points.values():
        assert [v.day for v in versions] == sorted(v.day for v in versions)
        for before, after in zip(versions, versions[1:], strict=False):
            assert after.row["action"] == "U"
            if after.row["service_status"] == "I":
                assert before.row["service_status"] == "A" and after.row["customer_no"] == after.row["account_no"] == ""
            else:
                moved += 1
                assert after.row["account_no"] != before.row["account_no"]
    assert moved > CUSTOMERS / 20
    ids = [[v.row[c] for v in first] for c in ("service_point", "premise", "account_no", "customer_no")]
    assert not set.union(*map(set, ids[:2])) & set.union(*map(set, ids[2:])) and not set(ids[2]) & {i.lstrip("0") for i in ids[3]}
    assert len(set(ids[3])) < len(set(ids[2])), "a customer of two premises has two accounts"


def test_some_changes_are_told_again(year: Landed) -> None:
    rows = year.rows(POINTS)
    files = Counter((r["service_point"], r["change_no"]) for r in rows)
    assert {n for n in files.values()} == {1, 2}
    assert len({tuple(r[c] for c in service_points.COLUMNS) for r in rows}) == len(files)


# -- a month alone, with defects ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoilt(simulated: Callable[..., Landed]) -> Landed:
    """Month 9 made alone, with the shipped kinds of defects, and many of them."""
    profile = {SYSTEM: [{**vars(s), "rate": 0.05} for s in load_profile().regulatory_reporting if not s.whole]}
    return simulated(customers=CUSTOMERS, months=10, only_month=9, start=START, seed=SEED, systems=(SYSTEM,), profile=profile)


@pytest.mark.parametrize(("feed", "module"), [(POINTS, service_points), (OUTAGES, outages)])
def test_a_month_alone_is_that_month_of_several_but_for_the_ledger(
    feed: str, module: Any, spoilt: Landed, year: Landed
) -> None:
    alone, clean = (root.landing / feed / f"{feed}_2024-11.csv" for root in (spoilt, year))
    assert spoilt.files(feed) == [alone]
    here, there = ([r for r in root.rows(feed) if r["_file"] == clean.name] for root in (spoilt, year))
    ledger = spoilt.rows(feed, "defects")
    assert ledger
    planted = Counter((e["row_key"], e["column"], e["clean_value"], e["planted_value"]) for e in ledger)
    differing = [(a, b) for a, b in zip(here, there, strict=True) if a != b]
    assert planted == Counter(
        ("|".join(b[k] for k in module.KEY), c, b[c], a[c]) for a, b in differing for c in a if a[c] != b[c]
    )
    lines, wanted = (file.read_bytes().splitlines(keepends=True) for file in (alone, clean))
    assert sum(a != b for a, b in zip(lines, wanted, strict=True)) == len(differing), "all other lines have the same bytes"


@pytest.mark.parametrize("module", [service_points, outages])
def test_the_shipped_feeds_read_the_simulated_columns(module: Any, repository: Path) -> None:
    feed = load_feed(repository / "conf" / "feeds" / f"{module.FEED}.yaml")
    assert feed.feed == module.FEED and feed.system == module.SYSTEM
    assert set(feed.columns_read()) == set(module.COLUMNS)


def test_a_defect_of_a_column_that_no_feed_has_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    columns = {m.FEED: m.COLUMNS for m in (service_points, outages)}
    assert not set(columns[POINTS]) & set(columns[OUTAGES]), "a column of the profile names one feed"
    specs = load_profile({SYSTEM: [{"kind": "missing", "column": "outage_number", "rate": 0.1}]}).regulatory_reporting
    with pytest.raises(UtilityFlowError, match="UF-1001") as caught:
        by_feed(SYSTEM, specs, columns)
    assert "outage_no" in str(caught.value)


def test_offsets_of_a_zone() -> None:
    almanac = Almanac(SEED, dt.date(2024, 1, 1), 12, ZONE)
    assert [(dt.datetime.fromtimestamp(at, dt.timezone.utc).isoformat()[:16], east) for at, east in offsets(almanac)[1:]] == [
        ("2024-03-10T07:00", -4 * 3600), ("2024-11-03T06:00", -5 * 3600),
    ]  # fmt: skip
    assert [east for _, east in offsets(Almanac(SEED, dt.date(2024, 1, 1), 12, "UTC"))] == [0]
