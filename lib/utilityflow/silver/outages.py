"""Outages by restoration step: each state that a source told of, with the local day on which supply was lost.

What a step is, how states are kept and which one is final: schemas/silver/outages.yaml. Source of the rules: reference of the
domain, section 1.1 (step restoration; open outages count in frequency, not in duration) and IEEE 1366 as it is quoted there.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import spelled

FILLED = (
    "outage_id", "step_id", "element_kind", "element_id", "circuit_id", "district", "started_at", "restored_at",
    "customers_interrupted", "cause", "weather", "storm", "planned", "loss_of_supply", "device_id", "status", "updated_at",
)  # fmt: skip
DAY = "started_date"  # equal records agree in it

# what a feed that does not map the column means
DEFAULTS = {"step_id": "1", "status": "confirmed"}
NO_UNLESS_SAID = ("storm", "planned", "loss_of_supply")  # null too: what cannot be read is quarantined by its conversion


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical states from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS.
    :param zone: the utility's zone, in which the day of the start is cut.
    """
    given = {n: F.lit(word) for n, word in DEFAULTS.items() if n not in mapped}
    if "status" in mapped:
        given["status"] = spelled("status")
    kind = spelled("element_kind")
    return typed.withColumns({
        **given,
        **{n: spelled(n) for n in ("cause", "weather")},
        **{n: F.coalesce(n, F.lit(False)) for n in NO_UNLESS_SAID},
        "element_kind": kind,
        "service_point_id": F.when(kind == "service_point", F.col("element_id")),
        DAY: F.to_date(F.from_utc_timestamp("started_at", zone)),
    })  # fmt: skip
