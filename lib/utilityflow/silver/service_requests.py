"""Service requests: each state that a source told of, with the local days on which it was opened, due and closed.

How states and duplicates are kept: schemas/silver/service_requests.yaml. Source of the rules: reference of the domain, "What
other real feeds of these kinds do" (revised records; absence from one file proves nothing) and its vector V16.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame

from utilityflow.silver.words import local_day, spelled

FILLED = (
    "request_id", "customer_id", "account_id", "service_point_id", "premise_id", "request_type", "request_detail", "agency",
    "department", "channel", "priority", "status", "resolution", "opened_at", "opened_date", "due_at", "due_date",
    "closed_at", "closed_date", "updated_at", "address", "city", "zip_code", "district", "region", "latitude", "longitude",
)  # fmt: skip
DAY = "opened_date"  # equal records agree in it


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical states from typed columns. There are no defaults: a request without a status is quarantined.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps (not used: what it does not map stays null).
    :param zone: the utility's zone, in which days are cut.
    """
    return typed.withColumns({
        **{n: spelled(n) for n in ("channel", "priority", "status")},
        **{f"{n}_date": local_day(f"{n}_at", f"{n}_date", zone) for n in ("opened", "due", "closed")},
    })  # fmt: skip
