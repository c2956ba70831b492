"""The demo, small: two months, in which customer management and the service desk are asked; no request comes twice or is lost."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from utilityflow.bench import defects
from utilityflow.bench import demo as module
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import Settings
from utilityflow.simulate.requests import DESK_FEED, FEED
from utilityflow.simulate.serve import Server

pytestmark = pytest.mark.slow  # two months and their runs
FILES = ("billing", "payment_processing", "regulatory_reporting")  # they land as ever, and would only make the runs longer


def test_requests_come_over_rest(as_before: None, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Server, int]] = []
    usual = Server.__exit__

    def ended(self: Server, *given: object) -> None:
        usual(self, *given)
        served.append((self, len(self.desk.asked)))

    monkeypatch.setattr(Server, "__exit__", ended)
    assert {*module.SIMULATED} == {"customer_database", "service_desk", "usage_monitoring", *FILES}
    monkeypatch.setattr(module, "SIMULATED", tuple(name for name in module.SIMULATED if name not in FILES))
    home = tmp_path / "home"
    result = module.demo(Settings(home=str(home)), customers=300, months=2, tell=lambda _: None)

    assert [run["error"] for run in result["runs"]] == [None, None]
    assert [(server.fileno(), server._thread.is_alive(), asked > 0) for server, asked in served] == [(-1, False, True)] * 2
    assert module.DESK_URL not in os.environ
    files = [f for run in result["runs"] for f in run["files"] if f["rows_read"] and f["feed"] in (FEED, DESK_FEED)]
    assert [(f["feed"], f["status"]) for f in files] == [(DESK_FEED, "loaded")] * 2, "one file a month, of one feed"
    assert not (home / "landing" / FEED).exists()

    lines = [line for f in sorted((home / "sources" / DESK_FEED).iterdir()) for line in f.read_text("utf-8").splitlines()]
    told = Counter(json.dumps(json.loads(line), sort_keys=True) for line in lines)
    asked_for = [s for run in result["runs"] for s in run["steps"] if s["step"] == f"extract.{DESK_FEED}"]
    assert [s["status"] for s in asked_for] == ["ok", "ok"]
    assert sum(s["rows_written"] for s in asked_for) == sum(f["rows_read"] for f in files) == len(told) > 50
    assert sum(f["rows_loaded"] + f["rows_quarantined"] for f in files) == len(told), "no state came twice"

    house = Lakehouse(spark, str(home / "lakehouse"), load_contracts())
    records = [json.loads(record) for record in told]
    stamps = Counter((r["id"], r["updated_at"]) for r in records)
    stamp = "date_format(updated_at, \"yyyy-MM-dd'T'HH:mm:ss'Z'\")"
    kept = house.table("silver.service_requests").read().selectExpr("request_id", stamp, "status").collect()
    loaded = Counter((row[0], row[1]) for row in kept)
    assert loaded <= stamps and sum(loaded.values()) == sum(f["rows_loaded"] for f in files)
    with duckdb.connect(result["warehouse"], read_only=True) as warehouse:
        facts = warehouse.execute("SELECT count(*), count(DISTINCT request_id) FROM gold.fact_service_request").fetchall()[0]
    assert facts[0] == facts[1] == len({name for name, _ in loaded}), "a fact for each request"
    begun, closed = ({row[0] for row in kept if row[2] in some} for some in (("assigned", "in_progress"), ("closed",)))
    assert begun & closed, "a list of present states would not tell that work on these had begun"

    shutil.copytree(home / "defects" / DESK_FEED, tmp_path / "ledger" / DESK_FEED)
    ledgers = (tmp_path / "ledger" / DESK_FEED).iterdir()
    planted = [row for file in ledgers for row in csv.DictReader(file.read_text("utf-8").splitlines())]
    score = defects.defects(Settings(home=str(home)), defects=str(tmp_path / "ledger"), tell=lambda _: None)
    assert score["fits"], score["unmatched"]
    assert (score["total"]["planted"], score["total"]["not_landed"]) == (len(planted), 0)
