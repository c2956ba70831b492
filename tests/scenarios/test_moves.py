"""An agreement whose end never came: verify names the overlap; and what an account means is led back to its records."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.explain import explain
from utilityflow.operate.plan import plan
from utilityflow.operate.verify import exit_code, verify
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # two runs and what is asked of them: minutes
FEED = "feed: {0}\nsystem: customer_management\nentity: {1}\nformat: csv\npath: {0}/*.csv\ncolumns: {{{2}}}\n{3}"
EVENT = "event: {effective_at: to_timestamp(since)}\n"
FEEDS = {
    "crm": ("customers", "customer_id: id", EVENT),
    "acc": ("accounts", "account_id: acct, customer_id: cust", EVENT),
    "agr": ("service_agreements", "agreement_id: id, account_id: acct, service_point_id: point, effective_from: to_date(begins), "
            "effective_to: to_date(ends)", EVENT),
    "daily": ("meter_reads", "customer_id: cust, meter_id: meter, usage_date: to_date(day), quantity: kwh", ""),
}  # fmt: skip
AGREEMENTS = "id,acct,point,begins,ends,since\n"
FILES = {
    "crm/1.csv": "id,since\nC1,2024-01-01\nC2,2025-03-16\n",
    "acc/1.csv": "acct,cust,since\nA1,C1,2024-01-01\nA2,C2,2025-03-16\nA2,C1,2025-04-01\n",
    "agr/1.csv": f"{AGREEMENTS}G1,A1,SP1,2024-01-01,,2024-01-01\nG2,A2,SP1,2025-03-16,9999-12-31,2025-03-16\n",
    "daily/1.csv": "cust,meter,day,kwh\nC1,M2,2025-03-15,8\nC1,M2,2025-03-16,7\n",
    "daily/2.csv": "cust,meter,day,kwh\nC2,M2,2025-03-16,7\n",  # the right customer, but not in the file that named the wrong one
}
ENDED = f"{AGREEMENTS}G1,A1,SP1,2024-01-01,2025-03-16,2025-03-16\n"


def test_an_end_that_never_came(spark: SparkSession, tmp_path: Path) -> None:
    folder, landing = tmp_path / "feeds", tmp_path / "landing"
    folder.mkdir()
    for name, (entity, columns, event) in FEEDS.items():
        (folder / f"{name}.yaml").write_text(FEED.format(name, entity, columns, event), "utf-8")
    settings = Settings(home=str(tmp_path / "home"), landing=str(landing), feeds=str(folder), time_zone="UTC")
    house = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts())

    def run(files: dict[str, str]) -> dict[str, Any]:
        for name, text in files.items():
            (landing / name).parent.mkdir(parents=True, exist_ok=True)
            (landing / name).write_text(text, "utf-8")
        answer = pipeline.run(settings, as_of=dt.date(2025, 5, 1))
        assert answer["error"] is None, answer["error"]
        return {s["step"]: s for s in answer["steps"]}

    run(FILES)
    result = verify(settings, only=["history", "marts"])
    assert exit_code(result) == 5
    (broken,) = [c for c in result["checks"] if c["status"] != "ok"]
    assert (broken["check"], broken["count"]) == ("history.agreements", 1)
    assert "holds from 2025-03-16, another agreement of its service point until 9999-12-31" in broken["offenders"][0]

    who = {(r["feed"], r["identifier"]): r for r in house.table("gold.customer_identity").read().collect()}
    assert {key: (r["customer_id"], r["rule"]) for key, r in who.items() if key[1].startswith("A")} == {
        ("acc", "A1"): ("C1", "named"), ("acc", "A2"): (None, "conflict"),
        ("agr", "A1"): ("C1", "account"), ("agr", "A2"): (None, "conflict"),
    }  # fmt: skip
    told = explain(settings, "customer_identity", str(who["agr", "A2"]["identity_key"]))
    assert [(r["file"], r["row_number"]) for r in told["records"]] == [("acc/1.csv", 2), ("acc/1.csv", 3), ("agr/1.csv", 2)]
    assert told["why"].startswith("conflict: 1 record(s) of agr name it")

    # identity of a read: another customer in another file is another read (docs/feeds.md, moves)
    facts = house.table("gold.fact_usage").read().where("date_key = 20250316").collect()
    assert {(r["customer_id"], r["usage_kwh"]) for r in facts} == {("C1", 7), ("C2", 7)}

    (landing / "agr" / "2.csv").write_text(ENDED, "utf-8")
    will = {s["step"]: s["why"] for s in plan(settings, as_of=dt.date(2025, 5, 1))["steps"] if s["will_run"]}
    assert {"gold.dim_service_agreement", "gold.customer_identity"} <= set(will) and "gold.dim_account" not in will
    steps = run({})
    assert steps["gold.dim_account"]["status"] == "skipped"
    assert steps["gold.dim_service_agreement"]["rows_written"] == 1, "the end is type 1: the version stays"
    assert steps["gold.customer_identity"]["rows_written"] == 1, "A1 is named once more"
    assert verify(settings, only=["history", "marts"])["status"] == "ok"
