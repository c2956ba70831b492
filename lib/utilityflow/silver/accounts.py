"""Accounts: change events of what is billed and pays, and who answers for it.

What an account is, and what it is not: schemas/silver/accounts.yaml. Source: reference of the domain, "Names of things".
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import codes

FILLED = (
    "account_id", "customer_id", "status", "billing_cycle", "currency", "opened_date", "closed_date", "effective_at",
    "sequence", "operation",
)  # fmt: skip

# what a feed that does not map the column means
DEFAULTS = {"status": "active", "operation": "upsert"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - events are instants
    """Canonical change events from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone (not used: events are instants).
    """
    return typed.withColumns({**codes(DEFAULTS, mapped), "currency": F.upper("currency")})
