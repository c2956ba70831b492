"""A simulated storm is a major event day: fourteen months of outages, and the threshold that the first twelve give.

What gold says is compared with a calculation of its own in plain Python, over the rows of fact_outage and dim_service_point.
"""

from __future__ import annotations

import datetime as dt
import math
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.settings import Settings
from utilityflow.simulate import audit_trail, filing_register, simulate
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.storms import Weather

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.slow
ZONE, CUSTOMERS, MONTHS = "America/New_York", 300, 14
START, SECOND_YEAR, AS_OF = dt.date(2024, 1, 1), dt.date(2025, 1, 1), dt.date(2025, 2, 28)
MINUTE, MOMENTARY = 60_000_000, 5  # microseconds; minutes
SIZES = ("service_point", "transformer", "circuit", "feeder", "substation")  # of elements, the smallest first
PLACE = ("period", "district", "circuit_id")
Row = dict[str, Any]


def stormy() -> tuple[int, list[dt.date]]:
    """The first seed with a heavy storm early enough in the second year that all is restored by AS_OF, and the days of such."""
    until = SECOND_YEAR + dt.timedelta(days=50)
    for seed in range(1, 200):
        storms = Weather(Almanac(seed, START, MONTHS, ZONE)).storms
        if heavy := [s.day for s in storms if SECOND_YEAR <= s.day < until and s.severity >= 850]:
            return seed, heavy
    raise AssertionError("no heavy storm in January and February of two hundred utilities")


# -- the calculation of its own ----------------------------------------------------------------------------------------


class Network:
    """Who was active (IEEE 1366: a customer), and on which elements, by versions of dim_service_point."""

    def __init__(self, versions: list[Row]) -> None:
        self.active = [row for row in versions if row["status"] == "active"]
        self.hanging: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.active:
            for kind in SIZES:
                self.hanging[kind, row[f"{kind}_id"]].append(row)

    def served(self, day: dt.date) -> int:
        """How many points are active on a day."""
        return sum(row["effective_date"] <= day < row["expiry_date"] for row in self.active)

    def on(self, step: Row) -> set[str]:
        """The points on the element of a step on its day."""
        rows = self.hanging[step["element_kind"], step["element_id"]]
        return {row["service_point_id"] for row in rows if row["effective_date"] <= step["day"] < row["expiry_date"]}


def interrupted(steps: list[Row], network: Network) -> dict[str, list[Row]]:
    """The steps that restored each point: within an outage the one of its smallest element, of two the later."""
    outages: dict[str, list[Row]] = defaultdict(list)
    for step in steps:
        outages[step["outage_id"]].append(step)
    found: dict[str, list[Row]] = defaultdict(list)

    def order(step: Row) -> tuple[int, float, int, str]:
        back = math.inf if step["back"] is None else step["back"]
        return SIZES.index(step["element_kind"]), -back, -step["lost"], step["step_id"]

    for own in outages.values():
        taken: set[str] = set()
        for step in sorted(own, key=order):
            mine = network.on(step) - taken
            taken |= mine
            for point in mine:
                found[point].append(step)
    return found


def wholes(steps: list[Row]) -> list[list[Row]]:
    """The steps of one point, those that overlap together: who has no supply cannot lose it."""
    found: list[list[Row]] = []
    until: int | None = None
    for step in sorted(steps, key=lambda s: (s["lost"], -(s["back"] or 0), s["outage_id"], s["step_id"])):
        if until is None or step["lost"] >= until:
            found.append([])
        found[-1].append(step)
        if step["back"] is not None:
            until = step["back"] if until is None else max(until, step["back"])
    return found


def minutes_by_day(steps: list[Row], network: Network) -> dict[dt.date, float]:
    """Customer minutes of the sustained interruptions that have ended, by the day on which they began."""
    found: dict[dt.date, float] = defaultdict(float)
    for own in interrupted(steps, network).values():
        for whole in wholes(own):
            if any(step["is_open"] for step in whole):
                continue
            first, lasted = whole[0], (max(step["back"] for step in whole) - whole[0]["lost"]) / MINUTE
            if lasted > MOMENTARY:
                found[first["day"]] += lasted * first["customers_interrupted"] / first["service_points"]
    for step in steps:  # nobody is known on the element: what the dispatchers stated counts
        if not (step["service_points"] or step["is_open"] or step["is_momentary"]):
            found[step["day"]] += float(step["customer_minutes"])
    return found


# -- what gold says ----------------------------------------------------------------------------------------------------


def run(spark: SparkSession, root: Path, seed: int) -> Path:
    """Simulate the outage system alone, and run it once; the folder of gold."""
    landing = root / "landing"
    simulate(spark, landing=landing, defects=root / "ledger", profile={}, customers=CUSTOMERS, months=MONTHS, start=START,
             seed=seed, systems=("regulatory_reporting",), time_zone=ZONE)  # fmt: skip
    for feed in (filing_register.FEED, audit_trail.FEED):  # filings say nothing of outages, and their trail is long
        shutil.rmtree(landing / feed)
    answer = pipeline.run(Settings(home=str(root / "home"), landing=str(landing), time_zone=ZONE), as_of=AS_OF)
    assert answer["error"] is None, answer["error"]
    assert {file["status"] for file in answer["files"]} == {"loaded"}
    assert sum(file["rows_quarantined"] for file in answer["files"]) == 0
    return root / "home" / "lakehouse" / "gold"


def rows(frame: DataFrame, *columns: str) -> list[Row]:
    """The rows of a table, small as it is here, by SQL expressions."""
    return [row.asDict() for row in frame.selectExpr(*columns).collect()]


def test_a_simulated_storm_is_a_major_event_day(spark: SparkSession, tmp_path: Path) -> None:
    seed, storms = stormy()
    gold = run(spark, tmp_path, seed)

    def table(name: str) -> DataFrame:
        return spark.read.format("delta").load(str(gold / name))

    points = ("service_point_id", "transformer_id", "circuit_id", "feeder_id", "substation_id", "status")
    network = Network(rows(table("dim_service_point"), *points, "effective_date", "expiry_date"))
    told = ("outage_id", "step_id", "element_kind", "element_id", "is_open", "is_momentary", "service_points")
    steps = rows(table("fact_outage"), *told, "customers_interrupted", "customer_minutes", "unix_micros(started_at) AS lost",
                 "unix_micros(restored_at) AS back", "to_date(cast(date_key AS string), 'yyyyMMdd') AS day")  # fmt: skip
    minutes = minutes_by_day(steps, network)
    saidi = {day: lost / network.served(day) for day, lost in minutes.items()}

    # the threshold of the second year is that of the first year's days: T = exp(alpha + 2.5 beta)
    history = {day: math.log(value) for day, value in saidi.items() if day < SECOND_YEAR and value > 0}
    assert len(history) >= 30, "days with interruptions"
    alpha, beta = fmean(history.values()), stdev(history.values())
    threshold = math.exp(alpha + 2.5 * beta)
    figures = ("alpha", "beta", "threshold_saidi")
    (frozen,) = rows(table("reliability_threshold"), "year", "days", "first_date", "last_date", "frozen_as_of", *figures)
    assert [float(frozen.pop(n)) for n in figures] == pytest.approx([alpha, beta, threshold], rel=1e-6, abs=2e-6)
    assert frozen == {"year": SECOND_YEAR.year, "days": len(history), "first_date": min(history), "last_date": max(history),
                      "frozen_as_of": AS_OF}  # fmt: skip

    major = {day for day, value in saidi.items() if day >= SECOND_YEAR and value > threshold}
    assert major.issuperset(storms), (seed, storms, {day: saidi.get(day, 0.0) for day in storms}, threshold)

    # and the indices without such days leave out those days, and nothing else
    kpi = rows(table("kpi_service_reliability"), *PLACE, "exclusions", "customer_minutes", "saidi", "major_event_days")
    without = {tuple(row[n] for n in PLACE): row for row in kpi if row["exclusions"] == "major_event_days"}
    whole = {tuple(row[n] for n in PLACE): row for row in kpi if row["exclusions"] == "none"}
    recent = [key for key in whole if key[0] >= f"{SECOND_YEAR:%Y-%m}"]
    assert without.keys() == set(recent), "the first year has no threshold"
    assert all((without[key]["saidi"] or 0) <= (whole[key]["saidi"] or 0) for key in recent)
    days = Counter(f"{day:%Y-%m}" for day in major)
    periods = sorted({key[0] for key in recent})
    assert periods == ["2025-01", "2025-02"] and set(days) <= set(periods)
    for period in periods:
        assert {row["major_event_days"] for row in kpi if row["period"] == period} == {days[period]}
        mine = {day: lost for day, lost in minutes.items() if f"{day:%Y-%m}" == period}
        all_of_it, rest = (sum(float(r["customer_minutes"]) for k, r in of.items() if k[0] == period) for of in (whole, without))
        assert all_of_it == pytest.approx(sum(mine.values()), rel=1e-6)
        assert all_of_it - rest == pytest.approx(sum(lost for day, lost in mine.items() if day in major), rel=1e-6, abs=1e-3)
