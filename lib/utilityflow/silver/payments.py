"""Payments, reversals and refunds: one transaction per record, its amount signed as cash of the utility.

Signs, states of one transaction and duplicates: schemas/silver/payments.yaml. Source of the rules: reference of the domain,
"Billing and payment rules" (payment date beside posting date, returns, chargebacks, payments that nobody is known to have made).
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import codes, local_day, spelled

FILLED = (
    "payment_id", "kind", "related_payment_id", "account_id", "customer_id", "bill_id", "bill_date", "due_date", "disputed",
    "amount", "currency", "method", "channel", "reason", "status", "received_at", "received_date", "posted_at",
    "posted_date", "updated_at",
)  # fmt: skip
DAY = "received_date"  # equal records agree in it

# what a feed that does not map the column means
DEFAULTS = {"kind": "payment", "status": "posted"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical transactions from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone, in which the days of receipt and posting are cut.
    """
    return typed.withColumns({
        **codes(DEFAULTS, mapped),
        **{n: spelled(n) for n in ("method", "channel", "reason")},
        "currency": F.upper("currency"),
        "received_date": local_day("received_at", "received_date", zone),
        "posted_date": local_day("posted_at", "posted_date", zone),
    })  # fmt: skip
