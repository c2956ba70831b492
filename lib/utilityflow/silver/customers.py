"""Customers: change events of the customer feeds."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

FILLED = (
    "customer_id", "customer_name", "address", "city", "state", "zip_code", "customer_type", "account_status",
    "tariff_group", "district", "region", "effective_at", "sequence", "operation",
)  # fmt: skip


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical change events from typed columns: words in one case, an unmapped operation is an upsert.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps.
    :param zone: the utility's zone (not used: events are instants).
    """
    operation = F.lower("operation") if "operation" in mapped else F.lit("upsert")
    return typed.withColumn("operation", operation)
