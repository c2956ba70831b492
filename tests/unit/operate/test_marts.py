"""What looks at tables made of others reads what these were made of, and takes one that was rolled back to nothing as empty."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.gold import compliance, customer360, monthly
from utilityflow.operate.checks.base import Evidence
from utilityflow.operate.checks.facts import filings_equal_their_rebuild
from utilityflow.operate.checks.marts import marts_equal_their_rebuild
from utilityflow.operate.explain_customers import _events, customer
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
BILL = """bill_id string, cancels_bill_id string, kind string, account_id string, customer_id string, date_key int,
    _file_sha256 string, _row_number bigint"""
PAYMENT = """payment_key bigint, payment_id string, kind string, related_payment_id string, customer_id string, account_id string,
    bill_id string, status string, date_key int, amount decimal(18,4), currency string, _file_sha256 string, _row_number bigint"""
DAY = dt.date(2025, 3, 31)


def scene_of(tables: dict[str, list[DataFrame]], consumed: dict[str, Any]) -> Any:
    """A scene with tables by name, each as a list of its states from version 1 on; others are not there."""

    def table(name: str) -> Any:
        states = tables.get(name, [])
        return SimpleNamespace(name=name, contract=CONTRACTS[name], version=lambda: len(states),
                               read=lambda version=None: states[(version or 0) - 1])  # fmt: skip

    return SimpleNamespace(house=SimpleNamespace(table=table), contracts=CONTRACTS, consumed=consumed)


def rows(spark: SparkSession, table: str, *given: dict[str, Any]) -> DataFrame:
    contract = CONTRACTS[table]
    common = {"quality_flags": [], "_record_hash": 0, "_feed": "f", "_file_sha256": "a" * 64, "_batch_id": 1, "_row_number": 1}
    filled = [tuple((common | row).get(name) for name in contract.column_names) for row in given]
    return local_frame(spark, filled, ", ".join(f"{c.name} {c.type}" for c in contract.columns))


def test_filings_are_compared_with_what_their_fact_was_made_of(spark: SparkSession) -> None:
    """A filing and an audit event came after; the fact is right until the next run. A wrong one is still found."""
    one = {"filing_id": "F1", "regulation": "R", "due_date": DAY, "status": "due"}
    at = dt.datetime(2025, 1, 5, tzinfo=dt.timezone.utc)
    event = {"event_id": "A1", "occurred_at": at, "occurred_date": DAY, "action": "review", "object_kind": "filing",
             "object_id": "F1", "filing_id": "F1", "outcome": "finding", "severity": "high"}  # fmt: skip
    filings = [rows(spark, compliance.FILINGS, one), rows(spark, compliance.FILINGS, one, one | {"filing_id": "F2"})]
    audits = [rows(spark, compliance.AUDITS), rows(spark, compliance.AUDITS, event)]
    fact = compliance.compliance_facts(filings[0], audits[0], CONTRACTS[compliance.NAME])
    tables = {compliance.FILINGS: filings, compliance.AUDITS: audits, compliance.NAME: [fact]}

    def found(fact: DataFrame, **told: int) -> int:
        consumed = {compliance.NAME: {f"silver.{n}": version for n, version in told.items()}}
        return filings_equal_their_rebuild(Evidence(scene_of(tables | {compliance.NAME: [fact]}, consumed))).count

    assert found(fact, compliance_filings=1, audit_events=1) == 0
    assert found(fact, compliance_filings=2, audit_events=1) == 1, "F2 would be missing, had it been told of"
    assert found(fact, compliance_filings=1, audit_events=2) == 1, "F1 would have a finding"
    assert found(fact.withColumn("submissions", F.lit(7)), compliance_filings=1, audit_events=1) == 1
    assert found(fact.limit(0)) == 0, "rolled back to where it had not been made"


@pytest.mark.parametrize("name", [monthly.NAME, customer360.NAME])
def test_a_mart_that_was_rolled_back_to_nothing_is_no_error(spark: SparkSession, name: str) -> None:
    empty = local_frame(spark, [], CONTRACTS[name].struct())
    assert marts_equal_their_rebuild(Evidence(scene_of({name: [empty]}, {name: {}}))).count == 0


def test_a_customer_of_a_mart_of_which_nothing_is_told(spark: SparkSession) -> None:
    contract = CONTRACTS[customer360.NAME]
    held = rows(spark, contract.name, {contract.primary_key[0]: 1, "customer_id": "A", "customer_key": 2})
    with pytest.raises(UtilityFlowError) as caught:
        customer(scene_of({contract.name: [held]}, {contract.name: {}}), contract, "1")
    assert (caught.value.code, caught.value.hint) == ("UF-4006", "'utilityflow run' brings the mart up")


def test_a_payment_is_found_through_its_bill_as_the_mart_finds_it(spark: SparkSession) -> None:
    days = {"B1": 20250201, "B2": 20250401}
    bills = local_frame(spark, [(b, None, "bill", "A1", "A", day, "b", 1) for b, day in days.items()], BILL)
    payments = local_frame(spark, [
        (1, "P1", "payment", None, None, None, "B1", "posted", 20250301, 10, "USD", "p", 1),
        (2, "P2", "payment", None, "B", None, None, "posted", 20250301, 20, "USD", "p", 2),
        (3, "P3", "payment", None, None, None, "B1", "posted", 20250401, 30, "USD", "p", 3),  # after the day
        (4, "P4", "payment", None, None, None, "B1", "pending", 20250301, 40, "USD", "p", 4),
    ], PAYMENT)  # fmt: skip
    frames = {customer360.BILLS: bills, customer360.PAYMENTS: payments}
    found = _events(frames, DAY)
    assert {(r["customer_id"], r["_row_number"]) for r in found[customer360.PAYMENTS].collect()} == {("A", 1), ("B", 2)}
    assert [(r["customer_id"], r["bill_id"]) for r in found[customer360.BILLS].collect()] == [("A", "B1")]
    last = customer360.last_payments(payments, bills, None, DAY).where("customer_id = 'A'").collect()
    assert [r["last_payment_amount"] for r in last] == [10], "what the mart says is among the records"
    assert _events({customer360.PAYMENTS: payments}, DAY)[customer360.PAYMENTS] is payments
