"""Rate schedules: change events of the tariffs by which use is priced.

What a rate schedule is, and what of it is kept as text: schemas/silver/rate_schedules.yaml.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import codes, spelled

FILLED = (
    "rate_schedule", "rate_name", "customer_class", "commodity", "pricing", "currency", "unit", "fixed_charge", "energy_charge",
    "demand_charge", "tiers", "net_metering", "status", "effective_at", "sequence", "operation",
)  # fmt: skip

# what a feed that does not map the column means
DEFAULTS = {"commodity": "electric", "status": "active", "operation": "upsert"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - events are instants
    """Canonical change events from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone (not used: events are instants).
    """
    return typed.withColumns({**codes(DEFAULTS, mapped), "pricing": spelled("pricing"), "currency": F.upper("currency")})
