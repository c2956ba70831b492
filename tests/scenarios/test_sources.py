"""Sources that are asked, end to end: REST to silver, a second run that finds nothing new, a change, a source that is gone."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from utilityflow import pipeline
from utilityflow.operate.plan import plan
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings
from utilityflow.simulate.serve import Desk, Server, parse_fault, requests_of

DAY = dt.date(2025, 6, 1)
CUSTOMERS = """feed: cis
system: customer_management
entity: customers
format: jdbc
path: cis/*.parquet
options:
  url: jdbc:sqlite:{base}
  table: customer_change
  increment: {{column: seq, kind: number, overlap_numbers: 10}}
columns: {{customer_id: id, customer_name: name, city: city}}
event:
  effective_at: to_timestamp(changed_at)
  sequence: cast(seq as bigint)
  operation: case op when 'D' then 'delete' else 'upsert' end
"""
ADA = ("C1", "Ada", "Springfield", "2025-01-01 08:00:00", 1, "I")


def counts(answer: dict[str, Any]) -> dict[str, tuple[str, int, int, int]]:
    return {f["feed"]: (f["status"], f["rows_read"], f["rows_loaded"], f["rows_quarantined"])
            for f in answer["files"] if f["status"] != "skipped"}  # fmt: skip


def steps(answer: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {s["step"]: (s["status"], s["rows_written"]) for s in answer["steps"] if s["step"].startswith("extract.")}


def states(spark: Any, home: Path) -> set[tuple[str, str]]:
    rows = spark.read.format("delta").load(str(home / "lakehouse" / "silver" / "service_requests"))
    return {tuple(r) for r in rows.select("request_id", "status").collect()}


@pytest.mark.engine
@pytest.mark.long
def test_sources_are_asked_and_a_failing_one_stops_no_other(spark: Any, tmp_path: Path, repository: Path) -> None:
    home, feeds, base = tmp_path / "home", tmp_path / "feeds", tmp_path / "cis.db"
    feeds.mkdir()
    insert = "INSERT INTO customer_change VALUES (?, ?, ?, ?, ?, ?)"
    with sqlite3.connect(base) as database:
        database.execute("CREATE TABLE customer_change (id TEXT, name TEXT, city TEXT, changed_at TEXT, seq INTEGER, op TEXT)")
        database.execute(insert, ADA)
    (feeds / "cis.yaml").write_text(CUSTOMERS.format(base=base), "utf-8")
    example = repository / "conf" / "feeds" / "examples" / "service_desk" / "service_desk.yaml"
    settings = Settings(home=str(home), feeds=str(feeds), time_zone="UTC")
    with Server(Desk(requests_of(30), faults=[parse_fault("503@1"), parse_fault("truncated@2")])) as server:
        text = example.read_text("utf-8").replace("http://127.0.0.1:8311/service-requests", server.address)
        (feeds / "service_desk.yaml").write_text(text.replace("size: 500", "size: 10"), "utf-8")

        first = pipeline.run(settings, as_of=DAY)
        assert (first["status"], first["error"], first["publication"]) == ("succeeded", None, 1)
        assert steps(first) == {"extract.cis": ("ok", 1), "extract.service_desk": ("ok", 30)}
        assert counts(first) == {"cis": ("loaded", 1, 1, 0), "service_desk": ("loaded", 30, 30, 0)}
        known_as = {"waiting for customer": "pending", "resolved": "closed", "in progress": "in_progress"}
        wanted = {(r["id"], known_as.get(r["state"], r["state"])) for r in requests_of(30)}
        assert states(spark, home) == wanted

        second = pipeline.run(settings, as_of=DAY)
        assert (second["status"], second["error"]) == ("nothing_to_do", None)
        assert {s for s, _ in steps(second).values()} == {"skipped"}
        assert counts(second) == {}

        asked = len(server.desk.asked)
        planned = {s["step"]: s["why"] for s in plan(settings, as_of=DAY)["steps"]}
        assert "for changes since 2025" in planned["extract.service_desk"]
        assert planned["bronze.service_desk"] == "if the source has something new"
        assert len(server.desk.asked) == asked

        changed = {**requests_of(1)[0], "state": "closed", "updated_at": "2025-05-01T00:00:00Z"}
        server.desk.records = [*server.desk.records, changed]
        third = pipeline.run(settings, as_of=DAY)
        assert counts(third) == {"service_desk": ("loaded", 1, 1, 0)}
        assert third["publication"] == 2, "its fact changed"
        assert (changed["id"], "closed") in states(spark, home)

    # the service desk is gone: the customers' change is loaded and published all the same, and the run says what failed
    with sqlite3.connect(base) as database:
        database.execute(insert, (*ADA[:2], "Shelbyville", "2025-05-01 08:00:00", 2, "U"))
    quick = text.replace("  records: data\n", "  records: data\n  limits: {attempts: 1}\n")
    (feeds / "service_desk.yaml").write_text(quick, "utf-8")
    fourth = pipeline.run(settings, as_of=DAY)
    assert steps(fourth) == {"extract.cis": ("ok", 1), "extract.service_desk": ("failed", 0)}
    assert counts(fourth) == {"cis": ("loaded", 1, 1, 0)}
    assert (fourth["status"], fourth["publication"]) == ("succeeded", 3)
    assert fourth["error"]["code"] == "UF-2012"
    assert "service_desk: http://127.0.0.1" in fourth["error"]["message"]
    assert [c for c in verify(settings)["checks"] if c["status"] not in ("ok", "skipped")] == []
