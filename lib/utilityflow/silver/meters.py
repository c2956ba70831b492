"""Meters: change events of the devices that measure, and where each one hangs.

What is kept with history: schemas/gold/dim_meter.yaml.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame

from utilityflow.silver.words import codes

FILLED = (
    "meter_id", "serial_number", "make", "model", "commodity", "service_point_id", "premise_id", "installed_date", "removed_date",
    "firmware", "multiplier", "dials", "status", "effective_at", "sequence", "operation",
)  # fmt: skip

# what a feed that does not map the column means
DEFAULTS = {"commodity": "electric", "status": "installed", "operation": "upsert"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - events are instants
    """Canonical change events from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone (not used: events are instants).
    """
    return typed.withColumns(codes(DEFAULTS, mapped))
