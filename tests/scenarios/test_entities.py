"""A home without payments has nothing of them; they come with their feed, and stay sound when the feed is taken away again."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pytest

from utilityflow import pipeline
from utilityflow.operate.doctor import doctor
from utilityflow.operate.maintain import maintain
from utilityflow.operate.plan import plan
from utilityflow.operate.status import status
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings

HERE = Path(__file__).parent
DAY = dt.date(2025, 3, 1)
PAIR = {"payments", "payments__quarantine"}


def tables(home: Path) -> set[str]:
    return {p.parent.name for p in (home / "lakehouse" / "silver").glob("*/_delta_log")}


def run(settings: Settings) -> dict[str, Any]:
    answer = pipeline.run(settings, as_of=DAY)
    assert answer["error"] is None, answer["error"]
    return answer


@pytest.mark.engine
@pytest.mark.slow
def test_an_entity_comes_and_goes_with_its_feed(spark: Any, tmp_path: Path) -> None:
    home, landing, both = tmp_path / "home", tmp_path / "landing", tmp_path / "both"
    shutil.copytree(HERE / "given_records_that_break_rules" / "when" / "1", landing)
    shutil.copytree(HERE / "given_payments_and_requests" / "when" / "1" / "payments", landing / "payments")
    shutil.copytree(HERE / "feeds", both)
    shutil.copy(HERE / "given_payments_and_requests" / "feeds" / "payments.yaml", both)
    without = Settings(home=str(home), landing=str(landing), feeds=str(HERE / "feeds"), time_zone="UTC")
    fed = dataclasses.replace(without, feeds=str(both))

    first = run(without)
    assert tables(home) == {"customers", "customers__quarantine", "meter_reads", "meter_reads__quarantine"}
    assert "silver.payments" not in {s["step"] for s in first["steps"]}

    planned = plan(fed, as_of=DAY)
    assert {line for line in planned["tables"] if "silver" in line} == {f"create silver.{name}" for name in PAIR}
    will = {s["step"]: s["will_run"] for s in planned["steps"]}
    assert (will["silver.payments"], will["gold.fact_usage"], will[pipeline.PUBLISH]) == (True, True, True)
    second = run(fed)
    assert second["publication"] == first["publication"] + 1
    loaded = {f["file"]: f["rows_loaded"] for f in second["files"] if f["feed"] == "payments"}
    assert loaded == {"payments/1.jsonl": 5}
    assert tables(home) >= PAIR
    assert [c for c in verify(fed)["checks"] if c["status"] != "ok"] == []

    third = run(without)
    assert third["status"] == "nothing_to_do"
    assert tables(home) >= PAIR
    odd = {c["check"]: (c["status"], c["reason"]) for c in verify(without)["checks"] if c["status"] != "ok"}
    assert odd == {"accounting.duplicates": ("skipped", "no feed file for payments: give --feeds")}
    assert status(without)["quarantine"]["silver.payments__quarantine"]["PY-01"] == 1
    assert [line for line in doctor(without)["lines"] if line["state"] == "fail"] == []
    assert {f"silver.{name}" for name in PAIR} <= {one["table"] for one in maintain(without)["tables"]}
    crm = "id,name,street,city,state,zip,class,status,changed_at,seq,op\n"
    for day, seq in (("2025-01-05", 1), ("2025-02-10", 2)):
        crm += f"C1,Name {seq},1 Elm St,Albany,NY,12207,residential,active,{day} 00:00:00,{seq},U\n"
    (landing / "crm" / "later.csv").write_text(crm, encoding="utf-8")
    told = {s["step"]: s for s in run(without)["steps"]}
    assert told["gold.fact_payment"]["rows_written"] > 0, "facts that stand follow their customers without their feed"
    assert {c["check"] for c in verify(without)["checks"] if c["status"] != "ok"} == {"accounting.duplicates"}
    assert run(fed)["status"] == "nothing_to_do"
