"""agg_usage_monthly and customer_360 from run to run: when they are there, what a run writes of them, what they then say."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.explain import explain
from utilityflow.operate.plan import plan
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.slow]
MONTHS, VIEW = "gold.agg_usage_monthly", "gold.customer_360"
DAY, LATER = dt.date(2025, 3, 1), dt.date(2025, 4, 15)
FEEDS = {
    "crm": """system: customer_management
entity: customers
format: csv
columns: {customer_id: id, customer_name: name, customer_type: class}
event: {effective_at: to_timestamp(at), operation: case op when 'D' then 'delete' else 'upsert' end}
""",
    "daily": """system: usage_monitoring
entity: meter_reads
format: csv
columns: {customer_id: cust, meter_id: meter, quantity: kwh, peak_demand: "cast(kw as decimal(8,2))", usage_date: to_date(day),
          read_quality: q}
""",
    "bills": """system: billing
entity: bills
format: csv
columns: {bill_id: id, line_number: "1", kind: "'bill'", customer_id: cust, account_id: acct, charge: "'energy'",
          amount: "cast(amt as decimal(18,4))", currency: "'USD'", bill_date: to_date(day), due_date: to_date(due)}
""",
    "payments": """system: payment_processing
entity: payments
format: csv
columns: {payment_id: id, account_id: acct, amount: "cast(amt as decimal(18,4))", currency: "'USD'", method: "'card'",
          received_date: to_date(got), posted_date: to_date(got)}
""",
    "requests": """system: service_requests
entity: service_requests
format: csv
columns: {request_id: id, customer_id: cust, request_type: kind, request_detail: detail, status: state,
          opened_date: to_date(opened), closed_date: to_date(closed), updated_at: to_timestamp(opened)}
""",
    "points": """system: customer_management
entity: service_points
format: csv
columns: {service_point_id: id, customer_id: cust, account_id: acct, circuit_id: circuit}
event: {effective_at: to_timestamp(at)}
""",
    "outages": """system: regulatory_reporting
entity: outages
format: csv
columns: {outage_id: id, element_kind: "'circuit'", element_id: circuit, started_at: to_timestamp(off),
          restored_at: to_timestamp(on), updated_at: to_timestamp(on)}
""",
}
TWO = {
    "crm/1.csv": "id,name,class,at,op\nA,Ada,RES,2024-01-01 08:00:00,I\nB,Bob,RES,2024-01-01 08:00:00,I\n"
                 "C,Cy,COM,2024-01-01 08:00:00,I\n",
    "daily/1.csv": "cust,meter,kwh,kw,day,q\nA,M1,10,2.5,2025-01-10,actual\nA,M1,11,3.5,2025-01-11,estimated\n"
                   "A,M1,20,4.5,2025-02-10,actual\nB,M2,5,1,2025-02-10,actual\n",
}  # fmt: skip
OTHERS = {
    "bills/1.csv": "id,cust,acct,amt,day,due\nB1,A,AC1,100,2025-02-10,2025-03-10\n",
    "payments/1.csv": "id,acct,amt,got\nP1,AC1,40,2025-02-20\n",
    "requests/1.csv": "id,cust,kind,detail,state,opened,closed\nR1,A,Billing,Complaint,closed,2024-04-10,2024-04-11\n"
                      "R2,A,Billing,,open,2025-02-15,\n",
    "points/1.csv": "id,cust,acct,circuit,at\nS1,,AC1,K1,2024-01-01 00:00:00\nS2,B,,K1,2024-01-01 00:00:00\n",
    "outages/1.csv": "id,circuit,off,on\nO1,K1,2025-02-01 10:00:00,2025-02-01 11:00:00\n",
}  # fmt: skip
# a read of January that comes late; B has moved out
LATE = {
    "daily/2.csv": "cust,meter,kwh,kw,day,q\nA,M1,7,9.5,2025-01-12,actual\n",
    "crm/2.csv": "id,name,class,at,op\nB,,,2025-02-25 08:00:00,D\n",
}


class Home:
    """A home whose feeds and files come step by step."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=str(folder / "home"), landing=str(folder / "landing"), feeds=str(folder / "two"),
                                 time_zone="UTC")  # fmt: skip
        self.house = Lakehouse(spark, str(folder / "home" / "lakehouse"), load_contracts())

    def feed(self, name: str, *feeds: str) -> None:
        """From now on the feeds are these."""
        (self.folder / name).mkdir()
        for feed in feeds:
            text = f"feed: {feed}\npath: {feed}/*.csv\n{FEEDS[feed]}"
            (self.folder / name / f"{feed}.yaml").write_text(text, encoding="utf-8")
        self.settings = dataclasses.replace(self.settings, feeds=str(self.folder / name))

    def run(self, files: dict[str, str] | None = None, day: dt.date = DAY, wanted: tuple[str, ...] = ()) -> dict[str, Any]:
        """Land files and run; step -> its result, and ``status``."""
        for name, text in (files or {}).items():
            path = self.folder / "landing" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        answer = pipeline.run(self.settings, as_of=day, wanted=wanted)
        assert answer["error"] is None, answer["error"]
        assert not any(f["rows_quarantined"] for f in answer["files"]), answer["files"]
        return {s["step"]: s for s in answer["steps"]} | {"status": answer["status"]}

    def version(self, name: str) -> int:
        return self.house.table(name).version()

    def view(self, *names: str) -> dict[str, Any]:
        """Customer -> these columns of customer_360."""
        return {r["customer_id"]: tuple(r[n] for n in names) for r in self.house.table(VIEW).read().collect()}


USE = ("usage_kwh_12_months", "usage_kwh_last_month", "months_with_usage", "peak_demand_12_months")
MONEY = ("open_bills", "open_amount", "past_due_amount", "unapplied_amount", "last_payment_date", "last_payment_amount")
SERVICE = ("open_requests", "requests_12_months", "complaints_12_months", "outages_12_months", "minutes_without_supply_12_months")


def test_the_marts_follow_their_inputs(spark: SparkSession, tmp_path: Path) -> None:
    home = Home(spark, tmp_path)
    home.feed("two", "crm", "daily")
    assert not {MONTHS, VIEW} & set(home.run(TWO)), "two systems alone have neither"
    assert not home.house.table(MONTHS).exists()
    asked = home.run(wanted=(MONTHS,))
    assert list(asked) == [MONTHS, "status"] and asked[MONTHS]["rows_written"] == 3, "a mart that is asked for is made"
    assert not home.house.table(VIEW).exists()

    home.feed("all", *FEEDS)
    first = home.run(OTHERS)
    assert (first[MONTHS]["status"], first[VIEW]["rows_written"]) == ("skipped", 3)
    paid = dt.date(2025, 2, 20)
    assert home.view(*USE) == {"A": (41, 20, 2, Decimal("4.5")), "B": (5, 5, 1, 1), "C": (None,) * 4}
    assert home.view(*MONEY) == {"A": (1, 60, 0, 0, paid, 40), "B": (0, 0, 0, 0, None, None), "C": (0, 0, 0, 0, None, None)}
    assert home.view(*SERVICE) == {"A": (1, 2, 1, 1, 60), "B": (0, 0, 0, 1, 60), "C": (0, 0, 0, None, None)}

    before = home.version(MONTHS)
    second = home.run(LATE)
    assert home.version(MONTHS) == before + 1
    changes = home.house.table(MONTHS).changes(before).collect()
    moved = sorted((r["billing_period"], r["customer_id"], r["_change_type"], r["quantity"]) for r in changes)
    assert moved == [("2025-01", "A", "update_postimage", 28), ("2025-01", "A", "update_preimage", 21)], "of that month alone"
    assert (second[MONTHS]["rows_written"], second[VIEW]["rows_written"]) == (1, 2), "A has another January, B is gone"
    assert home.view(*USE) == {"A": (48, 20, 2, Decimal("9.5")), "C": (None,) * 4}

    versions = {n: home.version(n) for n in (MONTHS, VIEW)}
    assert home.run()["status"] == "nothing_to_do"
    assert {n: home.version(n) for n in (MONTHS, VIEW)} == versions
    planned = {s["step"]: s["will_run"] for s in plan(home.settings, as_of=LATER)["steps"]}
    assert planned[VIEW], "the day moves"

    third = home.run(day=LATER)
    assert (third[MONTHS]["status"], third[VIEW]["rows_written"]) == ("skipped", 1), "nothing of C is of a window"
    assert home.view(*USE)["A"] == (48, None, 2, Decimal("9.5")), "March has no reads"
    assert home.view(*MONEY)["A"] == (1, 60, 60, 0, paid, 40), "due since"
    assert home.view(*SERVICE)["A"] == (1, 1, 0, 1, 60), "a request is older than a year"
    assert [c for c in verify(home.settings)["checks"] if c["status"] != "ok"] == []
    leads_back(home)

    home.house.spark.sql(f"UPDATE delta.`{home.house.table(VIEW).path}` SET open_requests = 7 WHERE customer_id = 'C'")
    home.house.spark.sql(f"UPDATE delta.`{home.house.table(MONTHS).path}` SET facts = 7 WHERE customer_id = 'B'")
    (broken,) = verify(home.settings, only=["marts.rebuild"])["checks"]
    assert (broken["status"], broken["count"]) == ("failed", 4), "two rows, and what they should be"


def leads_back(home: Home) -> None:
    """Both are in the warehouse, and their rows lead to the lines that they are made of."""
    file = home.settings.home_path / "warehouse" / "utilityflow.duckdb"
    with duckdb.connect(str(file), read_only=True) as base:
        keys = dict(base.execute("SELECT customer_id, customer_360_key FROM gold.customer_360").fetchall())
        statement = "SELECT billing_period, usage_month_key FROM gold.agg_usage_monthly WHERE customer_id = 'A'"
        months = dict(base.execute(statement).fetchall())
        assert base.execute("SELECT * FROM gold.usage_counted_twice").fetchall() == []
    assert set(keys) == {"A", "C"} and set(months) == {"2025-01", "2025-02"}
    behind = explain(home.settings, "customer_360", str(keys["A"]))
    assert {(r["file"], r["row_number"]) for r in behind["records"]} == {
        ("crm/1.csv", 1), ("daily/1.csv", 1), ("daily/1.csv", 2), ("daily/1.csv", 3), ("daily/2.csv", 1), ("bills/1.csv", 1),
        ("payments/1.csv", 1), ("requests/1.csv", 1), ("requests/1.csv", 2), ("outages/1.csv", 1),
    }  # fmt: skip
    assert "customer_id" in behind["personal"]
    january = explain(home.settings, "agg_usage_monthly", str(months["2025-01"]))
    places = {(r["file"], r["row_number"]) for r in january["records"]}
    assert places == {("daily/1.csv", 1), ("daily/1.csv", 2), ("daily/2.csv", 1)}
