"""fact_payment marks what may be one payment told twice, follows every change of it, and takes no money away."""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.operate.verify import verify
from utilityflow.resources import resource
from utilityflow.settings import Settings
from utilityflow.simulate import simulate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.long]
NAME, MARK = "gold.fact_payment", "is_suspected_duplicate"
PAYMENTS = """feed: payments
system: payment_processing
entity: payments
format: csv
path: payments/*.csv
columns: {payment_id: id, account_id: account, customer_id: cust, amount: "cast(amount as decimal(18,4))", currency: "'USD'",
          method: "'card'", kind: "'payment'", status: state, received_date: to_date(day), updated_at: to_timestamp(changed)}
"""
CUSTOMERS = """feed: crm
system: customer_management
entity: customers
format: csv
path: crm/*.csv
columns: {customer_id: id, customer_name: name}
event: {effective_at: to_timestamp(changed)}
"""
HEAD = "id,account,cust,amount,state,day,changed\n"


class House:
    """A home whose payments land in files of a few lines."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.landing = folder / "landing"
        for feed, text in {"payments": PAYMENTS, "crm": CUSTOMERS}.items():
            (folder / "feeds").mkdir(exist_ok=True)
            (folder / "feeds" / f"{feed}.yaml").write_text(text, encoding="utf-8")
            (self.landing / feed).mkdir(parents=True)
        self.settings = Settings(home=str(folder / "home"), landing=str(self.landing), feeds=str(folder / "feeds"),
                                 time_zone="UTC")  # fmt: skip
        self.lakehouse = Lakehouse(spark, str(folder / "home" / "lakehouse"), load_contracts())

    @property
    def table(self) -> Table:
        """The facts."""
        return self.lakehouse.table(NAME)

    def run(self, number: int, lines: str = "", customers: str = "") -> dict[str, Any]:
        """Payments that are marked after a run, and the names of their customers' versions."""
        if lines:
            (self.landing / "payments" / f"{number}.csv").write_text(HEAD + lines, encoding="utf-8")
        if customers:
            (self.landing / "crm" / f"{number}.csv").write_text(f"id,name,changed\n{customers}", encoding="utf-8")
        answer = pipeline.run(self.settings, as_of=dt.date(2025, 3, 1))
        assert answer["error"] is None, answer["error"]
        broken = verify(self.settings, only=["facts.events", "facts.version", "facts.count"])["checks"]
        assert [c for c in broken if c["status"] != "ok"] == []
        rows = self.table.read().collect()
        assert {r[MARK] for r in rows} <= {True, False}
        return {r["payment_id"]: r["customer_key"] for r in rows if r[MARK]}


def test_marks_follow_what_changes(spark: SparkSession, tmp_path: Path) -> None:
    house = House(spark, tmp_path)
    first = "P1,A1,C1,80,posted,2025-01-10,2025-01-10\nP4,A1,C1,80,posted,2025-01-20,2025-01-20\n"
    first += "P6,A1,C1,80,posted,2025-02-20,2025-02-20\n"
    assert house.run(1, first, "C1,Ann,2025-01-01\n") == {}
    # the second of the tenth; what came a day before the twentieth marks a payment that stands, whose customer changed as well
    second = "P2,A1,C1,80,posted,2025-01-11,2025-01-11\nP3,A1,C1,80,posted,2025-01-19,2025-01-19\n"
    was = {r["payment_id"]: r["customer_key"] for r in house.table.read().collect()}
    marked = house.run(2, second, "C1,Anne,2025-01-15\n")
    assert set(marked) == {"P2", "P4"}
    assert marked["P4"] != was["P4"], "it has the customer's new version"
    # a later change of the customer moves the marked fact's key and leaves its mark
    assert set(house.run(3, customers="C1,Anna,2025-01-20\n")) == {"P2", "P4"}
    # the first is taken back: the second stands alone
    assert set(house.run(4, "P1,A1,C1,80,cancelled,2025-01-10,2025-01-12\n")) == {"P4"}
    # the other is of another day in truth; beside the one of February it marks that
    assert set(house.run(5, "P3,A1,C1,80,posted,2025-02-19,2025-02-21\n")) == {"P6"}
    version = house.table.version()
    assert set(house.run(6, "P3,A1,C1,80,posted,2025-01-19,2025-01-18\n")) == {"P6"}, "an older state, told late"
    assert house.table.version() == version
    (house.landing / "payments" / "5.csv").write_text(HEAD + "P9,A9,C1,80,posted,2025-02-19,2025-02-21\n", encoding="utf-8")
    assert set(house.run(7)) == {"P4"}, "the file is corrected under its name: P3 is back on its day"


@pytest.mark.slow
def test_what_the_processor_sent_again_is_found(spark: SparkSession, tmp_path: Path) -> None:
    """Each payment that the simulator's ledger calls resent is marked, none else; the money received is that of all."""
    landing, defects = tmp_path / "landing", tmp_path / "defects"
    told = [{"kind": kind, "column": "payment_ref", "rate": 1, "among": "source"} for kind in ("repeated", "resent")]
    simulate(spark, landing=landing, defects=defects, customers=3000, months=2, start=dt.date(2024, 2, 1), seed=7, only_month=2,
             systems=("payment_processing",), profile={"payment_processing": told})  # fmt: skip
    (tmp_path / "feeds").mkdir()
    shipped = resource("conf", "feeds", "pay_payments.yaml").read_text("utf-8")
    (tmp_path / "feeds" / "pay_payments.yaml").write_text(shipped, encoding="utf-8")
    settings = Settings(home=str(tmp_path / "home"), landing=str(landing), feeds=str(tmp_path / "feeds"),
                        time_zone="America/New_York")  # fmt: skip
    answer = pipeline.run(settings, as_of=dt.date(2024, 3, 31))
    assert answer["error"] is None, answer["error"]
    ledger: list[dict[str, str]] = []
    for file in sorted((defects / "pay_payments").glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            ledger += csv.DictReader(stream)
    resent = {entry["row_key"] for entry in ledger if entry["kind"] == "resent"}
    facts = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts()).table(NAME).read()
    marked = {r["payment_id"] for r in facts.where(MARK).collect()}
    here = {r["payment_id"] for r in facts.select("payment_id").collect()}
    lacking = {ref for ref in resent if f"{ref[:-1]}1" not in here}  # the first was received in the month before
    assert marked == resent - lacking
    assert len(marked) > 3
