"""What entities of events share: codes in one spelling, and the local day of an instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F


def spelled(name: str) -> Column:
    """TEXT: the code in column ``name`` in lower case, each run of blanks and hyphens as one underscore."""
    return F.regexp_replace(F.lower(name), r"[\s-]+", "_")


def codes(defaults: Mapping[str, str], mapped: Collection[str]) -> dict[str, Column]:
    """The columns of codes: as the feed maps them, ``spelled``; of one that it does not map, what that means."""
    return {name: spelled(name) if name in mapped else F.lit(word) for name, word in defaults.items()}


def local_day(instant: str, day: str, zone: str) -> Column:
    """DATE: the day of column ``instant`` (UTC) in ``zone``; where it is null, column ``day`` as the source gives it."""
    return F.coalesce(F.to_date(F.from_utc_timestamp(instant, zone)), F.col(day))
