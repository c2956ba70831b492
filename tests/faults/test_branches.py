"""A gold step that fails stops what needs it, and nothing else; what it left behind is published when that is consistent."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.engine

FEEDS = {
    "crm": """system: customer_management
entity: customers
format: csv
path: crm/*.csv
columns: {customer_id: id, customer_name: name}
event: {effective_at: to_timestamp(at)}
""",
    "daily": """system: usage_monitoring
entity: meter_reads
format: csv
path: daily/*.csv
columns: {customer_id: cust, meter_id: meter, quantity: kwh, usage_date: to_date(day)}
""",
    "cash": """system: payment_processing
entity: payments
format: csv
path: cash/*.csv
columns: {payment_id: id, customer_id: cust, amount: "cast(amt as decimal(18,4))", received_date: to_date(got), method: how,
          currency: "'USD'"}
""",
}
CRM, DAILY, CASH = "id,name,at\n", "cust,meter,kwh,day\n", "id,cust,amt,got,how\n"
RUNS = [
    {"crm/1.csv": CRM + "A,Ada,2025-01-01 08:00:00\n", "daily/1.csv": DAILY + "A,M1,1,2025-01-02\n",
     "cash/1.csv": CASH + "P1,A,10,2025-01-02,card\n"},
    {"crm/2.csv": CRM + "A,Ada Q,2025-02-01 08:00:00\n", "daily/2.csv": DAILY + "A,M1,2,2025-02-02\n",
     "cash/2.csv": CASH + "P2,A,20,2025-02-02,card\n"},
    {},
    # the new name holds from later on: the version that P2 and the read of that day point to goes
    {"crm/2.csv": CRM + "A,Ada Q,2025-02-10 08:00:00\n"},
    {},
]  # fmt: skip


@pytest.mark.long
@pytest.mark.fault(61, "a gold step fails, the others do not")
def test_a_failed_branch_stops_only_what_needs_it(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None]
) -> None:
    for name, text in FEEDS.items():
        place = tmp_path / "feeds" / f"{name}.yaml"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"feed: {name}\n{text}", encoding="utf-8")
    settings = Settings(**{n: str(tmp_path / n) for n in ("home", "landing", "feeds")})
    step = pipeline.run_event_fact

    def failing(run: Any, **given: Any) -> Any:
        if given["spec"].grain.name == "gold.fact_payment":
            raise ZeroDivisionError("planted")
        return step(run, **given)

    answers, seen = [], []
    for number, files in enumerate(RUNS):
        for name, text in files.items():
            path = tmp_path / "landing" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        with monkeypatch.context() as patched:
            if number in (1, 3):
                patched.setattr(pipeline, "run_event_fact", failing)
            answers.append(pipeline.run(settings, as_of=dt.date(2025, 3, 1)))
        with duckdb.connect(str(tmp_path / "home" / "warehouse" / "utilityflow.duckdb"), read_only=True) as db:
            named = "SELECT {} FROM gold.{} JOIN gold.dim_customer USING (customer_key) ORDER BY ALL"
            seen.append((db.execute(named.format("payment_id, customer_name", "fact_payment")).fetchall(),
                         db.execute(named.format("usage_kwh, customer_name", "fact_usage")).fetchall()))  # fmt: skip
    told = [(a["status"], a["publication"], a["error"] and a["error"]["code"]) for a in answers]
    assert told == [("succeeded", 1, None), ("failed", 2, "UF-4001"), ("succeeded", 3, None), ("failed", 3, "UF-4001"),
                    ("succeeded", 4, None)]  # fmt: skip
    cash, usage = [("P1", "Ada")], [(1, "Ada")]
    whole = ([*cash, ("P2", "Ada Q")], [*usage, (2, "Ada Q")])
    assert seen == [(cash, usage), (cash, whole[1]), whole, whole, ([*cash, ("P2", "Ada")], [*usage, (2, "Ada")])]
    statuses = {s["step"]: s["status"] for s in answers[1]["steps"]}
    assert (statuses["gold.fact_payment"], statuses["gold.fact_usage"]) == ("failed", "ok")
    message = answers[1]["error"]["message"]
    assert "gold.fact_payment" in message and "ZeroDivisionError" in message
    assert "nothing was published" in answers[3]["error"]["message"]
    fault(detected="UF-4001", unaided=True, rows_lost=0, wrong=0)


def test_what_needs_a_failed_step_is_not_run(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dimension that fails keeps the facts of it from being made; with nothing published before, only whole branches are."""
    place = tmp_path / "feeds" / "crm.yaml"
    place.parent.mkdir()
    place.write_text(f"feed: crm\n{FEEDS['crm']}", encoding="utf-8")
    path = tmp_path / "landing" / "crm" / "1.csv"
    path.parent.mkdir(parents=True)
    path.write_text(CRM + "A,Ada,2025-01-01 08:00:00\n", encoding="utf-8")
    settings = Settings(**{n: str(tmp_path / n) for n in ("home", "landing", "feeds")})

    def fails(_: Any) -> Any:
        raise ZeroDivisionError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_dim_meter", fails)
        answer = pipeline.run(settings, as_of=dt.date(2025, 3, 1))
    statuses = {s["step"]: s["status"] for s in answer["steps"]}
    assert {n: statuses[f"gold.{n}"] for n in ("dim_customer", "dim_meter", "fact_usage")} == {
        "dim_customer": "ok", "dim_meter": "failed", "fact_usage": "skipped"}  # fmt: skip
    assert "left as they were: gold.dim_meter, gold.fact_usage" in answer["error"]["message"]
    with duckdb.connect(str(tmp_path / "home" / "warehouse" / "utilityflow.duckdb"), read_only=True) as db:
        tables = {row[0] for row in db.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'").fetchall()}
    assert "dim_customer" in tables and not {"dim_meter", "fact_usage"} & tables
    assert pipeline.run(settings, as_of=dt.date(2025, 3, 1))["status"] == "succeeded"
