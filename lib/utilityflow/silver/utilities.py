"""Utilities: change events of the electric utilities that file master data with a regulator (form EIA-861).

What a utility is, and what its key: schemas/silver/utilities.yaml. Source: reference of the domain, section 1.3 and vector V6.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame

from utilityflow.silver.words import codes

NERC = ("tre", "frcc", "mro", "npcc", "rfc", "serc", "spp", "wecc")
RTO = ("caiso", "ercot", "pjm", "nyiso", "spp", "miso", "isone", "other")
ACTIVITIES = (
    "generation", "transmission", "buying_transmission", "distribution", "buying_distribution", "wholesale_marketing",
    "retail_marketing", "bundled", "alt_fuel_vehicle", "alt_fuel_vehicle_2",
)  # fmt: skip
FILLED = (
    "utility_number", "state", "utility_name", "ownership_type", "nerc_region", *(f"nerc_{n}" for n in NERC),
    *(f"rto_{n}" for n in RTO), *(f"activity_{n}" for n in ACTIVITIES), "effective_at", "sequence", "operation",
)  # fmt: skip

# what a feed that does not map the column means
DEFAULTS = {"operation": "upsert"}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:  # noqa: ARG001 - events are instants
    """Canonical change events from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone (not used: events are instants).
    """
    return typed.withColumns(codes(DEFAULTS, mapped))
