"""Payments that may be one payment told twice: which of them are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.gold.suspects import suspected, with_suspects
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
COLUMNS = {"payment_key": "bigint", "payment_id": "string", "kind": "string", "status": "string", "date_key": "int",
           "account_id": "string", "customer_id": "string", "amount": "decimal(18,4)", "currency": "string",
           "payment_method_key": "bigint", "bill_id": "string"}  # fmt: skip
FIRST = {"kind": "payment", "status": "posted", "date_key": 20250131, "account_id": "A1", "customer_id": "C1", "amount": "80.50",
         "currency": "USD", "payment_method_key": 1, "bill_id": "B1"}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "marked"),
    [
        ({}, True),  # on one day: the greater number
        ({"date_key": 20250201}, True),  # the day after, in the next month
        ({"date_key": 20250202}, False),
        ({"date_key": 20250130}, None),  # the day before: then the first is the later one
        ({"customer_id": None}, True),  # at the kiosk nobody is asked who pays
        ({"account_id": "A2"}, False),
        ({"amount": "80.51"}, False),
        ({"currency": "EUR"}, False),
        ({"payment_method_key": 2}, False),
        ({"bill_id": "B2"}, False),
        ({"bill_id": None}, False),
        ({"status": "pending"}, False),
        ({"status": "rejected"}, False),
        ({"kind": "reversal"}, False),
        ({"kind": "refund"}, False),
    ],
)
def test_what_is_like_another_is_marked(spark: SparkSession, other: dict[str, Any], marked: bool | None) -> None:
    """``marked``: whether the second is; None: the first is."""
    rows = [FIRST | {"payment_key": 1, "payment_id": "P1"}, FIRST | other | {"payment_key": 2, "payment_id": "P2"}]
    frame = local_frame(spark, [tuple(r[n] for n in COLUMNS) for r in rows], ", ".join(f"{n} {t}" for n, t in COLUMNS.items()))
    found = {r["payment_key"]: r["is_suspected_duplicate"] for r in with_suspects(frame, "payment_key").collect()}
    assert found == {1: marked is None, 2: marked is True}


def test_without_an_account_it_is_the_customer_and_nobody_is_no_one(spark: SparkSession) -> None:
    given = [("C1", 1), ("C1", 2), ("C2", 3), (None, 4), (None, 5)]
    rows = [FIRST | {"account_id": None, "customer_id": who, "payment_key": key, "payment_id": f"P{key}"} for who, key in given]
    # an account of a customer's name
    rows.append(FIRST | {"account_id": "C1", "customer_id": None, "payment_key": 6, "payment_id": "P6"})
    frame = local_frame(spark, [tuple(r[n] for n in COLUMNS) for r in rows], ", ".join(f"{n} {t}" for n, t in COLUMNS.items()))
    assert [r[0] for r in suspected(frame, "payment_key").collect()] == [2]
