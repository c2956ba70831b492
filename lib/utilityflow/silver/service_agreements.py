"""Service agreements: change events of what binds an account to a service point, from a move-in to a move-out.

Its days, and how a move is told: schemas/silver/service_agreements.yaml. Source: reference of the domain, "Names of things".
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import codes, spelled

FILLED = (
    "agreement_id", "account_id", "customer_id", "service_point_id", "commodity", "rate_schedule", "status", "effective_from",
    "effective_to", "start_reason", "end_reason", "effective_at", "sequence", "operation",
)  # fmt: skip

# what a feed that does not map the column means
DEFAULTS = {"commodity": "electric", "status": "active", "operation": "upsert"}
OPEN_END = "DATE'9999-12-31'"  # how many systems write that no end is known


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - events are instants
    """Canonical change events from typed columns; an end on 9999-12-31 is none.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone (not used: events are instants).
    """
    return typed.withColumns({
        **codes(DEFAULTS, mapped),
        **{name: spelled(name) for name in ("start_reason", "end_reason")},
        "effective_to": F.expr(f"IF(effective_to = {OPEN_END}, NULL, effective_to)"),
    })  # fmt: skip
