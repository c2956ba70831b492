"""Service points: change events of the places at which premises are supplied, with their place in the network.

What is counted as a customer by IEEE 1366, and why it is no person: schemas/silver/service_points.yaml.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame

from utilityflow.silver.words import codes

FILLED = (
    "service_point_id", "premise_id", "account_id", "customer_id", "transformer_id", "circuit_id", "feeder_id",
    "substation_id", "district", "region", "status", "effective_at", "sequence", "operation",
)  # fmt: skip

# what a feed that does not map the column means
DEFAULTS = {"status": "active", "operation": "upsert"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical change events from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone (not used: events are instants).
    """
    return typed.withColumns(codes(DEFAULTS, mapped))
