"""What the simulated months must contain, and where the two systems must agree or disagree as in life."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from pyspark.sql.functions import expr

from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.customers import customers_extract
from utilityflow.simulate.draws import draw
from utilityflow.simulate.extract import layered
from utilityflow.simulate.landing import own_session
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.people import HOUSEHOLDS, household
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.reads import shape, size

from .conftest import CUSTOMERS, SEED, START, Landed, Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def clean(rows: list[Row], ledger: list[Row]) -> list[Row]:
    """Rows without the files' own planted defects, found by customer or meter, so that facts can be asserted."""
    bad = {row["row_key"].split("|")[0] for row in ledger if row["cause"] != "source"}
    key = "meter_id" if "meter_id" in rows[0] else "customer_id"
    return [row for row in rows if row[key] not in ("", "0") and row[key][:10] not in bad]


def test_summary_counts_what_stands_in_the_files(months: Landed, events: list[Row], reads: list[Row]) -> None:
    assert months.summary.rows == {"cis_customers": len(events), "ami_daily_reads": len(reads)}
    assert len(months.summary.files) == 2 + 60
    assert months.summary.bytes == sum(f.stat().st_size for f in months.summary.files)
    for folder in (months.landing, months.defects):
        assert sorted(p.name for p in folder.iterdir()) == ["ami_daily_reads", "cis_customers"]
    assert any(m.startswith("disk: about") for m in months.messages)


def test_progress_tells_rows_and_time_left_of_files_and_ledger(months: Landed) -> None:
    for what in ("ami_daily_reads", "ami_daily_reads, ledger of planted defects"):
        line = re.compile(re.escape(what) + r": about ([\d,]+) of ([\d,]+) rows, \d+ s left")
        told = [found for m in months.messages if (found := line.fullmatch(m))]
        assert told, months.messages
        done = [int(found[1].replace(",", "")) for found in told]
        assert 0 < done[0] <= done[-1] <= int(told[0][2].replace(",", "")) and done == sorted(done)


def test_the_first_file_holds_every_customer(events: list[Row]) -> None:
    first = [row for row in events if "2024-02" in row["_file"]]
    came = {row["customer_id"] for row in first if row["op"] == "I"}
    assert 0.97 * CUSTOMERS <= len(came) <= 1.05 * CUSTOMERS
    years = Counter(row["changed_at"][:4] for row in first)
    assert len(years) > 8


def test_events_come_late_twice_and_as_bounces(months: Landed, events: list[Row]) -> None:
    march = [row for row in events if "2024-03" in row["_file"]]
    assert any(row["changed_at"] < "2024-03-01" for row in march), "late"
    lines = Counter(tuple(row.values()) for row in events)
    assert max(lines.values()) == 2, "repeated in one file"
    across = Counter(tuple(v for k, v in row.items() if k != "_file") for row in events)
    assert len(lines) > len(across), "repeated in the next month's file"
    by_customer = defaultdict(list)
    for row in clean(march, months.rows("cis_customers", "defects")):
        by_customer[row["customer_id"]].append(row)
    assert any(len({row["seq"] for row in rows}) > 2 for rows in by_customer.values()), "several changes"
    streets = [[r["street"] for r in sorted(rows, key=lambda r: r["changed_at"])] for rows in by_customer.values()]
    assert any(a != b for street in streets for a, b in pairwise(street)), "a wrong address, or a move"
    assert {"I", "U", "D"} <= {row["op"] for row in march}


def test_households_of_several_share_accounts(months: Landed, events: list[Row]) -> None:
    good = clean(events, months.rows("cis_customers", "defects"))
    homes = {row["customer_id"]: row["name"] for row in good if row["class"] == "RES"}
    joint = [name for name in homes.values() if " & " in name or " / " in name]
    assert 0.12 < len(joint) / len(homes) < 0.24, "a quarter of the households of two and more"
    shapes = (r"\w+ & \w+ \w+", r"\w+ \w+ & \w+ \w+", r"\w\. \w+ / \w\. \w+")
    found = Counter(next((shape for shape in shapes if re.fullmatch(shape, name)), name) for name in joint)
    assert found.keys() == set(shapes), "one surname, two, initials alone"
    assert max(found, key=lambda shape: found[shape]) == shapes[0]
    assert max(map(len, homes.values())) < 60, "a customer's name holds 100 characters"


def test_larger_households_live_where_more_is_used(spark: SparkSession) -> None:
    utility = Utility(SEED, 40_000, Almanac(SEED, START, 1, "America/New_York"), load_pools())
    layers: list[Layer | str] = [
        utility.pairing(), *utility.cycle(),
        {"profile": utility.profile(), "number": utility.customer_number("o", "0L")},
        {"person_hash": draw(SEED, "person", "number")},
        *household(utility), size(), {"form": shape()},
    ]  # fmt: skip
    rows = own_session(spark, customers_extract(utility, range(1), ())).sql(layered("SELECT id AS o FROM range(40000)", layers))
    told = "sum(form) AS form, count(*) AS n, count_if(account_names > 0) AS joint"
    by = {r.persons: r for r in rows.where("profile < 3").groupBy("persons").agg(*map(expr, told.split(", "))).collect()}
    homes = sum(r.n for r in by.values())
    assert {n: round(100 * r.n / homes) for n, r in by.items()} == pytest.approx(HOUSEHOLDS, abs=1)
    use = [by[n].form / by[n].n for n in sorted(by)]
    assert use == sorted(use) and 1.5 < use[-1] / use[0] < 3
    assert sum(r.form for r in by.values()) / homes == pytest.approx(1, abs=0.02), "the mean of the class stays"
    assert by[1].joint == 0 and sum(r.joint for r in by.values()) / homes == pytest.approx(0.18, abs=0.01)


def test_a_zip_code_decides_city_and_state(months: Landed, events: list[Row]) -> None:
    places = defaultdict(set)
    for row in clean(events, months.rows("cis_customers", "defects")):
        places[row["zip"]].add((row["city"], row["state"]))
    assert len(places) > 20
    assert {len(cities) for cities in places.values()} == {1}


def test_a_customer_leaves_after_coming_and_moves_to_a_known_address(months: Landed, events: list[Row]) -> None:
    by_customer = defaultdict(list)
    for row in clean(events, months.rows("cis_customers", "defects")):
        by_customer[row["customer_id"]].append(row)
    for rows in by_customer.values():
        came = [r["changed_at"] for r in rows if r["op"] == "I"]
        assert not came or min(came) <= min(r["changed_at"] for r in rows)
        assert all(r["status"] == "C" for r in rows if r["op"] == "D")


def test_reads_come_late_twice_estimated_and_for_both_registers(months: Landed, reads: list[Row]) -> None:
    good = clean(reads, months.rows("ami_daily_reads", "defects"))
    late = [row for row in good if row["read_date"] not in row["_file"]]
    assert late and all(row["read_date"] < row["_file"][-14:-4] for row in late)
    identities = defaultdict(list)
    for row in good:
        identities[row["customer_id"], row["meter_id"], row["read_date"], row["register"]].append(row)
    pairs = [rows for rows in identities.values() if len(rows) > 1]
    assert any({r["quality"] for r in rows} == {"A", "E"} for rows in pairs), "an actual read after an estimate"
    assert any(len({tuple(r.values()) for r in rows}) == 1 for rows in pairs), "repeated in one file"
    assert {row["register"] for row in good} == {"1.8.0", "2.8.0"}
    per_day = Counter((row["meter_id"], row["read_date"]) for row in good)
    assert len(per_day) < len({row["meter_id"] for row in good}) * 60, "some reads are missing for good"


def test_meters_are_exchanged_within_a_day(months: Landed, reads: list[Row]) -> None:
    days = defaultdict(set)
    for row in clean(reads, months.rows("ami_daily_reads", "defects")):
        if row["register"] == "1.8.0":
            version, premise = divmod(int(row["meter_id"][1:]) - 200_000_000, 2 * CUSTOMERS + 10_000)
            days[premise, row["read_date"]].add(version)
    both = [key for key, versions in days.items() if versions == {0, 1}]
    assert both
    for premise, day in both:
        others = {d: v for (p, d), v in days.items() if p == premise and d != day}
        assert all(versions == {int(d > day)} for d, versions in others.items())


def test_vacancy_and_customers_known_to_the_meters_before_the_customer_system(
    months: Landed, events: list[Row], reads: list[Row]
) -> None:
    assert any(row["customer_id"] == "" for row in reads), "nobody lives there"
    february = {row["customer_id"] for row in events if "2024-02" in row["_file"]}
    march = {row["customer_id"] for row in events} - february
    early = {row["customer_id"] for row in reads if "2024-02" in row["_file"]} & march
    assert early, "read in February, first told of in March"
    planted = {row["planted_value"] for row in months.rows("ami_daily_reads", "defects") if row["kind"] == "unknown_id"}
    strangers = {row["customer_id"] for row in reads} - february - march - planted - {""}
    ledger = months.rows("cis_customers", "defects")
    missing = {row["row_key"].split("|")[0] for row in ledger if row["column"] == "customer_id"}
    assert len(strangers - missing) <= CUSTOMERS * 0.01, (
        "all others are customers of the customer system, some still to be told of"
    )


def test_use_follows_class_weather_and_vacancy(months: Landed, reads: list[Row]) -> None:
    good = clean(reads, months.rows("ami_daily_reads", "defects"))
    good = [row for row in good if row["register"] == "1.8.0" and row["quality"] == "A"]
    use = defaultdict(list)
    for row in good:
        use["vacant" if row["customer_id"] == "" else row["rate_code"]].append(float(row["kwh"]))
    mean = {rate: sum(values) / len(values) for rate, values in use.items()}
    assert mean["vacant"] < mean["RS-1"] / 4
    assert mean["RS-1"] * 2 < mean["SC-1"]
    assert mean["RS-1"] * 1.5 < mean["RS-EH"], "electric heat in February"
    assert all(float(row["peak_kw"]) >= float(row["kwh"]) / 24 - 0.02 for row in good)
