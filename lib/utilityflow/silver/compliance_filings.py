"""Filings with regulators: each state that a source told of, with the local day on which it was filed.

How states are kept, which one is final and what is late: schemas/silver/compliance_filings.yaml and
schemas/gold/fact_compliance.yaml. Source of the figures kept with a filing: reference of the domain, sections 1.3, 1.5 and
3.3 (restatement history of a filed figure; what it was made of, so that it can be made again).
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.silver.words import local_day, spelled

FILLED = (
    "filing_id", "regulation", "regulator", "docket", "district", "reporting_start", "reporting_end", "due_date",
    "filed_at", "filed_date", "status", "metric_code", "metric_value", "metric_unit", "snapshot_id", "penalty_amount",
    "currency", "updated_at",
)  # fmt: skip
DAY = "due_date"  # equal records agree in it


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical states from typed columns. There are no defaults: a filing without a status is quarantined.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps (not used: what it does not map stays null).
    :param zone: the utility's zone, in which the day of the filing is cut.
    """
    return typed.withColumns({
        **{n: spelled(n) for n in ("status", "metric_code")},
        "filed_date": local_day("filed_at", "filed_date", zone),
        "currency": F.upper("currency"),
    })  # fmt: skip
