"""Audit events: who did what to which thing, when, and what came of it, with the local day.

What an event is and which objects are personal: schemas/silver/audit_events.yaml. Source: reference of the domain, section 3.3
(who changed a rule, every unmasking is logged).
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import spelled

FILLED = (
    "event_id", "occurred_at", "actor_id", "action", "object_kind", "object_id", "filing_id", "outcome", "severity", "remarks",
)  # fmt: skip
DAY = "occurred_date"  # equal records agree in it
FILING = "filing"
# kinds of objects that are no people and lead to none; the identifier of any other object is taken for personal data, and
# stands in a column of its own
OPEN = (FILING, "metric", "rule", "report", "dataset")


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical events from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps (not used: what it does not map stays null).
    :param zone: the utility's zone, in which the day of the event is cut.
    """
    kind = spelled("object_kind")
    of_a_person = ~F.coalesce(kind.isin(*OPEN), F.lit(False))
    return typed.withColumns({
        **{n: spelled(n) for n in ("action", "outcome", "severity")},
        "object_kind": kind,
        "object_id": F.when(~of_a_person, F.col("object_id")),
        "subject_id": F.when(of_a_person, F.col("object_id")),
        "filing_id": F.coalesce("filing_id", F.when(kind == FILING, F.col("object_id"))),
        DAY: F.to_date(F.from_utc_timestamp("occurred_at", zone)),
    })  # fmt: skip
