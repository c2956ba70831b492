"""The crosswalk says whom an account means only where all evidence agrees, and tells of what is not known or not agreed."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold.identity import ACCOUNTS, BILLS, CUSTOMERS, NAME, PAYMENTS, SOURCES, identities, mentioned
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
POINTS, DAY = "silver.service_points", dt.date(2025, 2, 1)
NIGHT = dt.datetime(2025, 1, 1, 3, tzinfo=dt.timezone.utc)  # still the last day of 2024 in New York


def rows(spark: SparkSession, table: str, feed: str, *given: dict[str, Any]) -> DataFrame:
    """Records of one file of a feed, numbered in their order; days are DAY and events NIGHT's unless given."""
    contract, filled = CONTRACTS[table], []
    common = {"quality_flags": [], "_feed": feed, "_file_sha256": feed * 8, "effective_at": NIGHT, "operation": "upsert",
              **{day: DAY for day in SOURCES.values() if day}}  # fmt: skip
    for number, row in enumerate(given, start=1):
        record = common | {"_row_number": number} | row
        filled.append(tuple(record.get(name) for name in contract.column_names))
    return local_frame(spark, filled, ", ".join(f"{c.name} {c.type}" for c in contract.columns))


def found(frames: dict[str, DataFrame]) -> dict[tuple[str, str, str], dict[str, Any]]:
    table = identities(frames, mentioned(frames, "America/New_York"), CONTRACTS[NAME]).collect()
    made = {(r["feed"], r["identifier_kind"], r["identifier"]): r.asDict() for r in table}
    assert len({r["identity_key"] for r in table}) == len(made) == len(table)
    return made


@pytest.fixture(scope="module")
def crosswalk(spark: SparkSession) -> dict[tuple[str, str, str], dict[str, Any]]:
    def bill(bill_id: str, account: str | None, customer: str | None, **more: Any) -> dict[str, Any]:
        return {"bill_id": bill_id, "account_id": account, "customer_id": customer, **more}

    def paid(account: str | None, customer: str | None = None, bill_id: str | None = None) -> dict[str, Any]:
        return {"account_id": account, "customer_id": customer, "bill_id": bill_id}

    return found({
        CUSTOMERS: rows(spark, CUSTOMERS, "cis", {"customer_id": "C1"}, {"customer_id": "C2"},
                        {"customer_id": "C8", "operation": "delete"}),
        ACCOUNTS: rows(spark, ACCOUNTS, "acc", {"account_id": "A3", "customer_id": "C2"},
                       {"account_id": "A7", "operation": "delete", "_row_number": 0}),
        BILLS: rows(spark, BILLS, "bil", bill("B1", "A1", "C1"), bill("B2", "A2", "C2"), bill("B3", "A3", None),
                    bill("B4", "A4", "C1", bill_date=dt.date(2025, 3, 1)), bill("B5", "A4", "C2"), bill("B6", None, "C1")),
        PAYMENTS: rows(spark, PAYMENTS, "pay", paid("A1"), paid("A2", "C1"), paid("A5", None, "B1"), paid("A6"), paid("A3"),
                       paid("A7", None, "B3"), paid(None, "C8"), paid("?", "?")),
    })  # fmt: skip


ONES = {
    # feed, kind, identifier: customer, rule, candidates, records
    ("acc", "account", "A3"): ("C2", "named", ["C2"], 1),
    ("acc", "customer", "C2"): ("C2", "named", ["C2"], 1),
    ("bil", "account", "A1"): ("C1", "named", ["C1"], 1),
    ("bil", "account", "A2"): ("C2", "named", ["C2"], 1),  # that a payment names another is no evidence for billing's numbers
    ("bil", "account", "A3"): ("C2", "account", ["C2"], 1),
    ("bil", "account", "A4"): (None, "conflict", ["C1", "C2"], 2),
    ("bil", "customer", "C1"): ("C1", "named", ["C1"], 3),
    ("bil", "customer", "C2"): ("C2", "named", ["C2"], 2),
    ("pay", "account", "A1"): ("C1", "bill", ["C1"], 1),
    ("pay", "account", "A2"): (None, "conflict", ["C1", "C2"], 1),  # it names C1 itself, the bills of the account C2
    ("pay", "account", "A3"): ("C2", "account", ["C2"], 1),
    ("pay", "account", "A5"): ("C1", "bill", ["C1"], 1),  # no bill of its own: that which is paid
    ("pay", "account", "A6"): (None, "unmatched", [], 1),
    ("pay", "account", "A7"): (None, "unmatched", [], 1),  # the account was deleted, the bill names nobody
    ("pay", "customer", "C1"): ("C1", "named", ["C1"], 1),
    ("pay", "customer", "C8"): (None, "unmatched", [], 1),  # customer management only tells that he is gone
}


def test_rules_in_their_order_and_nothing_silently_chosen(crosswalk: dict[Any, dict[str, Any]]) -> None:
    columns = ("customer_id", "rule", "candidates", "records")
    assert {key: tuple(row[n] for n in columns) for key, row in crosswalk.items()} == ONES


def test_first_and_last_day_and_the_newest_record(crosswalk: dict[Any, dict[str, Any]]) -> None:
    row = crosswalk["bil", "account", "A4"]
    assert (row["first_seen"], row["last_seen"], row["_row_number"]) == (DAY, dt.date(2025, 3, 1), 4)
    assert crosswalk["acc", "account", "A3"]["first_seen"] == dt.date(2024, 12, 31), "a change's day in the utility's zone"


def test_a_home_with_few_tables(spark: SparkSession) -> None:
    one = {"account_id": "A1", "customer_id": "C5"}
    made = found({CUSTOMERS: rows(spark, CUSTOMERS, "cis"), POINTS: rows(spark, POINTS, "pts", one)})
    assert {key: (r["customer_id"], r["rule"]) for key, r in made.items()} == {
        ("pts", "account", "A1"): ("C5", "named"), ("pts", "customer", "C5"): (None, "unmatched")
    }  # fmt: skip
