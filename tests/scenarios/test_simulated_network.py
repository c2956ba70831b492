"""Two months of a simulated utility's network and service desk, read month by month with the shipped feeds.

What gold says of them is compared with a calculation of its own: DuckDB, over the clean rows in which no defect was planted.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings
from utilityflow.simulate import customers, outages, requests, service_points, simulate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.slow]
START, ZONE = dt.date(2024, 10, 1), "America/New_York"  # with a storm on 27 October and a day of 25 hours
MONTHS = ("2024-10", "2024-11")
SYSTEMS = ("customer_management", "regulatory_reporting", "service_requests")
FEEDS = {m.FEED: m for m in (service_points, outages, requests)}
# each of these is found: the record that has it is quarantined
PROFILE = {
    "regulatory_reporting": [
        {"kind": "year_early", "column": "on_at", "rate": 0.02},
        {"kind": "bad_date", "column": "off_at", "rate": 0.02},
        {"kind": "unknown_code", "column": "cause_code", "rate": 0.02},
        {"kind": "missing", "column": "outage_no", "rate": 0.02},
        {"kind": "unknown_code", "column": "service_status", "rate": 0.01},
        {"kind": "bad_date", "column": "valid_from", "rate": 0.01},
    ],
    "service_requests": [
        {"kind": "unknown_code", "column": "state", "rate": 0.02},
        {"kind": "bad_date", "column": "opened_at", "rate": 0.02},
        {"kind": "missing", "column": "id", "rate": 0.02},
    ],
}

# SAIFI and SAIDI of a month by its outages' final states; who hangs on an element is asked of the points of the day;
# what overlaps is one interruption of the point
INDICES = """
WITH change AS (SELECT DISTINCT * FROM points),
last_of_day AS (SELECT * FROM change QUALIFY row_number() OVER (
    PARTITION BY service_point, valid_from ORDER BY change_no::BIGINT DESC) = 1),
version AS (SELECT *, coalesce(lead(valid_from) OVER (PARTITION BY service_point ORDER BY valid_from), '9999') AS until
    FROM last_of_day),
final AS (SELECT * FROM outages QUALIFY row_number() OVER (
    PARTITION BY outage_no, step_no ORDER BY last_change::TIMESTAMPTZ DESC) = 1),
standing AS (SELECT *, substr(off_at, 1, 10) AS day,
        date_diff('millisecond', off_at::TIMESTAMPTZ, on_at::TIMESTAMPTZ) / 60000.0 AS minutes
    FROM final WHERE state <> 'X'),
hit AS (SELECT outage_no, step_no, service_point, row_number() OVER (PARTITION BY outage_no, service_point ORDER BY
        list_position(['SERVICE', 'XFMR', 'LATERAL', 'FEEDER', 'SUBSTATION'], device_type)) AS nth
    FROM standing JOIN version ON device_restored = CASE device_type WHEN 'SERVICE' THEN service_point
        WHEN 'XFMR' THEN transformer_no WHEN 'LATERAL' THEN circuit_no WHEN 'FEEDER' THEN feeder_no ELSE substation_no END
    WHERE valid_from <= day AND day < until AND service_status = 'A'),
known AS (SELECT *, off_at::TIMESTAMPTZ AS began, on_at::TIMESTAMPTZ AS ended FROM hit JOIN standing USING (outage_no, step_no)
    WHERE nth = 1),
begun AS (SELECT *, coalesce(began >= max(ended) OVER (earlier ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS first
    FROM known WINDOW earlier AS (PARTITION BY service_point ORDER BY began, ended DESC NULLS LAST, outage_no, step_no)),
numbered AS (SELECT *, count(*) FILTER (first) OVER (PARTITION BY service_point
        ORDER BY began, ended DESC NULLS LAST, outage_no, step_no) AS number,
    count(*) OVER (PARTITION BY outage_no, step_no) AS n FROM begun),
whole AS (SELECT *, CASE WHEN NOT bool_or(ended IS NULL) OVER own
        THEN date_diff('millisecond', began, max(ended) OVER own) / 60000.0 END AS lasted
    FROM numbered WINDOW own AS (PARTITION BY service_point, number)),
each AS (SELECT day, lasted AS minutes, coalesce(nullif(customers, '')::INT, n) / n AS customers FROM whole WHERE first
    UNION ALL SELECT day, minutes, coalesce(nullif(customers, '')::INT, 0) FROM standing
    ANTI JOIN known USING (outage_no, step_no)),
lost AS (SELECT substr(day, 1, 7) AS period, minutes, customers FROM each WHERE minutes IS NULL OR minutes > 5),
days AS (SELECT unnest(generate_series(DATE '{0}', DATE '{1}', INTERVAL 1 DAY))::DATE::VARCHAR AS day),
served AS (SELECT substr(day, 1, 7) AS period, count(*) / count(DISTINCT day) AS n FROM days JOIN version
    ON valid_from <= day AND day < until WHERE service_status = 'A' GROUP BY ALL)
SELECT period, sum(customers) / any_value(served.n) AS saifi, sum(customers * minutes) / any_value(served.n) AS saidi
FROM lost JOIN served USING (period) GROUP BY period ORDER BY period
"""
TOLD = """
SELECT period, sum(customer_interruptions)::DOUBLE / (sum(service_point_days) / max(days)),
       sum(customer_minutes)::DOUBLE / (sum(service_point_days) / max(days))
FROM gold.kpi_service_reliability WHERE exclusions = 'none' AND period IN ('2024-10', '2024-11') GROUP BY period ORDER BY period
"""


def rows_of(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [json.loads(line) for line in stream] if file.suffix == ".jsonl" else list(csv.DictReader(stream))


class World:
    """Landed files, their ledger of defects, and the same files without defects."""

    def __init__(self, spark: SparkSession, root: Path) -> None:
        self.dirty, self.clean, self.ledger = root / "dirty", root / "clean", root / "ledger"
        given: dict[str, Any] = {"customers": 150, "months": 2, "start": START, "seed": 3, "systems": SYSTEMS, "time_zone": ZONE}
        self.summary = simulate(spark, landing=self.dirty, defects=self.ledger, profile=PROFILE, **given)
        simulate(spark, landing=self.clean, defects=root / "none", profile={}, **given)

    def files(self, month: str = "") -> list[Path]:
        """What this test lands: the network's, the desk's and the customers' files, but no filings."""
        return sorted(f for feed in (*FEEDS, customers.FEED) for f in (self.dirty / feed).iterdir() if month in f.name)

    def planted(self, feed: str) -> Counter[tuple[str, str]]:
        """(file, row_key) of the planted defects."""
        entries = [e for file in (self.ledger / feed).iterdir() for e in rows_of(file)]
        return Counter((e["file"], e["row_key"]) for e in entries)

    def sound(self, feed: str) -> list[dict[str, Any]]:
        """The clean rows of a feed without those that a defect was planted in."""
        bad, key, found = self.planted(feed), FEEDS[feed].KEY, []
        for file in sorted((self.clean / feed).iterdir()):
            found += [r for r in rows_of(file) if not bad[file.name, "|".join(r[k] for k in key)]]
        return found


def table(base: duckdb.DuckDBPyConnection, name: str, rows: list[dict[str, Any]], folder: Path) -> None:
    file = folder / f"{name}.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    base.execute(f"CREATE TABLE {name} AS SELECT * FROM read_csv('{file}', all_varchar=true, header=true)")


def test_gold_says_what_the_simulated_rows_say(spark: SparkSession, tmp_path: Path) -> None:
    world, landing = World(spark, tmp_path), tmp_path / "landing"
    settings = Settings(home=str(tmp_path / "home"), landing=str(landing), time_zone=ZONE)
    counts: dict[str, dict[str, int]] = {}
    for month, day in zip(MONTHS, (dt.date(2024, 11, 1), dt.date(2024, 12, 1)), strict=True):
        for file in world.files(month):
            place = landing / file.relative_to(world.dirty)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
        answer = pipeline.run(settings, as_of=day)
        assert answer["error"] is None, answer["error"]
        assert {f["status"] for f in answer["files"] if f["status"] != "skipped"} == {"loaded"}
        counts |= {f["file"]: f for f in answer["files"] if f["status"] != "skipped"}
    assert set(counts) == {str(f.relative_to(world.dirty)) for f in world.files()}

    # each record is accounted for, and what is quarantined is what was planted
    read: Counter[str] = Counter()
    for file, n in counts.items():
        read[file.partition("/")[0]] += n["rows_read"]
        ends = ("rows_loaded", "rows_quarantined", "rows_duplicate", "rows_superseded")
        assert n["rows_read"] == sum(n[e] for e in ends), file
    assert dict(read) == {feed: world.summary.rows[feed] for feed in (*FEEDS, customers.FEED)}
    for feed in FEEDS:
        planted = world.planted(feed)
        assert planted, feed
        fenced = {f.rpartition("/")[2]: n["rows_quarantined"] for f, n in counts.items() if f.startswith(f"{feed}/")}
        by_file: dict[str, int] = defaultdict(int)
        for (file, _), n in planted.items():
            by_file[file] += n
        assert {f: n for f, n in fenced.items() if n} == by_file

    with duckdb.connect(str(tmp_path / "home" / "warehouse" / "utilityflow.duckdb"), read_only=True) as base:
        told = base.execute(TOLD).fetchall()
        facts = base.execute("SELECT count(*), count(DISTINCT request_id) FROM gold.fact_service_request").fetchone()
        kinds = {r[0] for r in base.execute("SELECT request_type FROM gold.dim_request_type").fetchall()}
        quality = base.execute("""SELECT sum(complaints), sum(first_contact_requests), sum(due_requests),
                count(service_quality_score) FROM gold.kpi_customer_satisfaction""").fetchone()
    with duckdb.connect() as own:
        table(own, "points", world.sound(service_points.FEED), tmp_path)
        table(own, "outages", world.sound(outages.FEED), tmp_path)
        expected = own.execute(INDICES.format(START.isoformat(), "2024-11-30")).fetchall()
    assert [r[0] for r in told] == [r[0] for r in expected] == list(MONTHS)
    for (_, *got), (_, *wanted) in zip(told, expected, strict=True):
        assert got == pytest.approx([float(w) for w in wanted], rel=1e-6)
        assert min(got) > 0
    asked = {r["id"]: f"{r['type']} {r['detail']}".lower() for r in world.sound(requests.FEED)}
    assert facts == (len(asked), len(asked))
    assert kinds >= {"Outage", "Billing", "?"}
    words = load_contracts()["gold.kpi_customer_satisfaction"].property("parameters")["complaint_words"]
    assert quality and quality[0] == sum(any(word in text for word in words) for text in asked.values()), "a few, if any"
    assert all(q > 0 for q in quality[1:])
    assert [c for c in verify(settings)["checks"] if c["status"] not in ("ok", "skipped")] == []
