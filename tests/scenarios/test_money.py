"""Two months of a small utility's customers, reads, bills and payments through the shipped feeds: every record, every cent."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections import Counter, defaultdict
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.control.ledger import read_ledger
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.checks.marts import unbalanced_accounts, unbalanced_bills
from utilityflow.settings import Settings
from utilityflow.simulate import simulate
from utilityflow.simulate.defects import SOURCE_ONLY, WHOLE, load_profile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.long]
SYSTEMS = ("customer_management", "usage_monitoring", "billing", "payment_processing")
MONEY = {"cis_bills": "bills", "pay_payments": "payments"}
# what no rule can tell from a right value, or what is repaired or flagged: such rows are loaded
LOADED = {("missing", "account_no"), ("padded", "account_no"), ("lost_point", "amount"), ("unknown_id", "account"),
          ("missing", "customer_no"), ("wrong_case", "method"), ("unknown_id", "bill_no"),
          ("scientific", "amount"), ("placeholder", "customer_no"),
          ("begins_early", "period_from"), ("swapped", "period_from"), ("swapped", "period_to")}  # fmt: skip
Row = dict[str, str]


def profile() -> dict[str, Any]:
    """The shipped defects; those of bills and payments often enough for few customers."""
    shipped = load_profile()
    return {s: [asdict(d) | {"rate": max(d.rate, 0.003) if s in SYSTEMS[2:] else d.rate} for d in getattr(shipped, s)]
            for s in SYSTEMS}  # fmt: skip


def ledger(folder: Path) -> list[Row]:
    found = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            found += list(csv.DictReader(stream))
    return found


def is_loaded(entry: Row) -> bool:
    """Whether a row with this defect reaches silver; a minus before a bill's charge is flagged alone."""
    taken_back = entry["clean_value"].startswith("-")
    flagged = (entry["kind"], entry["column"], entry["feed"]) == ("negative", "amount", "cis_bills") and not taken_back
    return flagged or entry["kind"] in (*WHOLE, *SOURCE_ONLY) or (entry["kind"], entry["column"]) in LOADED


def test_two_months_of_bills_and_payments(spark: SparkSession, tmp_path: Path) -> None:
    landing, defects = tmp_path / "landing", tmp_path / "defects"
    settings = Settings(home=str(tmp_path / "home"), landing=str(landing), time_zone="America/New_York")
    house = Lakehouse(spark, str(tmp_path / "home" / "lakehouse"), load_contracts())
    made: Counter[str] = Counter()
    for month in (1, 2):
        summary = simulate(spark, landing=landing, defects=defects, customers=150, months=2, start=dt.date(2024, 2, 1),
                           seed=7, only_month=month, profile=profile(), systems=SYSTEMS)  # fmt: skip
        made.update(summary.rows)
        answer = pipeline.run(settings, as_of=(dt.date(2024, 2, 29), dt.date(2024, 3, 31))[month - 1])
        assert answer["error"] is None, answer["error"]
        assert {f["status"] for f in answer["files"]} <= {"loaded", "skipped"}, answer["files"]

    # every record is accounted for, and what is kept out was planted
    entries = read_ledger(house).entries.values()
    read: Counter[str] = Counter()
    for entry in entries:
        assert entry.rows_read == sum(entry.counts[1:]), entry.file_name
        read[entry.feed] += entry.rows_read
    assert read == made
    planted = {feed: ledger(defects / feed) for feed in MONEY}
    for feed, entity in MONEY.items():
        mine = [e for e in entries if e.feed == feed]
        kept_out = [e for e in planted[feed] if not is_loaded(e)]
        # a record that came twice is quarantined once
        assert sum(e.rows_quarantined for e in mine) == len(kept_out) > 0, Counter((e["kind"], e["column"]) for e in kept_out)
        assert house.table(f"silver.{entity}").read().count() == sum(e.rows_loaded for e in mine)
    bills, payments = house.table("gold.fact_billing").read(), house.table("gold.fact_payment").read()
    assert bills.count() == house.table("silver.bills").read().count() > 600
    assert bills.where("service_point_key = -1").isEmpty(), "a bill names what it is for"
    assert 0 < payments.count() == house.table("silver.payments").read().count()

    # each customer that billing knows is one that customer management knows, or knew: a last bill comes after the move-out
    known = {r["customer_id"] for r in house.table("gold.dim_customer").read().where("NOT is_inferred").collect()}
    strangers = {r["customer_id"] for r in bills.select("customer_id").distinct().collect()} - known - {None}
    assert len(strangers) <= 3, f"only late move-ins are told of in the month after: {strangers}"

    rows = house.table("gold.receivables_ageing").read().collect()
    assert all(r["open_amount"] - r["unapplied"] == r["billed"] - r["received"] for r in rows)
    assert sum(r["billed"] for r in rows) == bills.agg({"amount": "sum"}).collect()[0][0]
    paid, aged = (house.table(f"gold.{name}").read() for name in ("payment_application", "receivables_ageing"))
    assert unbalanced_bills(paid).isEmpty() and unbalanced_accounts(paid, aged).isEmpty()
    sums = paid.selectExpr("sum(amount)", "sum(open_amount)", "sum(paid_directly) > 0 AND sum(paid_from_pool) > 0").first()
    assert tuple(sums) == (sum(r["billed"] for r in rows), sum(r["open_amount"] for r in rows), True)
    told = {r["account_id"]: (r["billed"], r["received"]) for r in rows if r["is_account"]}
    expected, damaged = clean_accounts(landing, planted)
    same = {account: money for account, money in expected.items() if account not in damaged}
    assert {a: told.get(a) for a in same} == same
    assert len(same) > 0.5 * len(expected) and any(paid for _, paid in same.values())


def clean_accounts(landing: Path, planted: dict[str, list[Row]]) -> tuple[dict[str, tuple[Decimal, Decimal]], set[str]]:
    """What the files say of each account (billed, received), and the accounts that a defect touches."""
    billed: dict[str, Decimal] = defaultdict(Decimal)
    received: dict[str, Decimal] = defaultdict(Decimal)
    for file in sorted((landing / "cis_bills").iterdir()):
        for row in csv.DictReader(file.read_text("utf-8").splitlines()[1:-1]):
            account = row["account_no"].strip()
            try:
                billed[account] += Decimal(row["amount"])
            except ArithmeticError:  # planted
                billed[account] += 0
    seen = set()
    for file in sorted((landing / "pay_payments").iterdir()):
        for line in file.read_text("utf-8").splitlines():
            row = json.loads(line, parse_float=Decimal, parse_int=Decimal)
            account = f"AC-{row['account'][:8]}-{row['account'][8:]}"
            if (row["payment_ref"], line) not in seen and isinstance(row["amount"], Decimal):
                received[account] += row["amount"]
            seen.add((row["payment_ref"], line))
    premises = {e["row_key"][6:14] for e in planted["cis_bills"]} | {e["row_key"][6:14] for e in planted["pay_payments"]}
    accounts = {a: (billed[a], received[a]) for a in billed if a}
    return accounts, {a for a in accounts if a[3:11] in premises}
