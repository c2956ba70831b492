"""Facts find their version: the point-in-time join, and which facts an affected interval concerns."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.scd2.dimension import UNKNOWN_KEY, Dimension
from utilityflow.scd2.hashing import surrogate_key

EARLY = "before_first_version"


def version_of(
    facts: DataFrame,
    dim_rows: DataFrame,
    dimension: Dimension,
    *,
    day: str,
    first_day: str | None = None,
    key: Sequence[str] | None = None,
) -> DataFrame:
    """The facts with the surrogate key of the version that each one belongs to, and ``before_first_version``.

    The version valid on ``day``; in a gap, the one valid on ``first_day`` (the period's first day); before the first
    version, the first, flagged; else -1 (gap, null or unknown key). The number of rows never changes, as versions of a
    key do not overlap.

    :param dim_rows: rows of the dimension; only key, surrogate key, from and to are read. Small ones are broadcast.
    :param day: column of the fact, DATE (TIMESTAMP at microsecond grain).
    :param key: its natural key columns, by default named as the dimension's.
    """
    d = dimension
    names = list(key or d.key)
    # who finds nobody finds the unknown member, so its row need not stand in the join
    dim = dim_rows.where(F.col(d.surrogate_key) != UNKNOWN_KEY).select(
        *(F.col(name).alias(f"_dim_{i}") for i, name in enumerate(d.key)),
        F.col(d.surrogate_key).alias("_found"),
        F.col(d.valid_from).alias("_from"),
        F.col(d.valid_to).alias("_to"),
        (F.col(d.surrogate_key) == surrogate_key(d, None)).alias("_first"),
    )
    same_key: Column = F.lit(True)
    for i, name in enumerate(names):
        same_key = same_key & (F.col(name) == F.col(f"_dim_{i}"))
    own = [F.col(name) for name in facts.columns if name not in (d.surrogate_key, EARLY)]
    when = F.col(day)
    hit = same_key & (F.col("_first") | (F.col("_from") <= when)) & (when < F.col("_to"))
    found = facts.join(dim, hit, "left").select(*own, "_found", (when < F.col("_from")).alias("_early"))
    if first_day is not None:
        start = F.col(first_day)
        # only a version that ended can have been left for a gap; a fact that found its own, or whose period is one day,
        # asks with a null key, which is not even looked for
        ended = dim.where(F.col("_to") < d.bound("9999-12-31")).withColumnRenamed("_found", "_fallback")
        hit = (F.col("_from") <= start) & (start < F.col("_to"))
        for i, name in enumerate(names):
            asked = F.when(F.col("_found").isNull() & (start != when), F.col(name))
            hit = hit & (asked == F.col(f"_dim_{i}"))
        found = found.join(ended, hit, "left").select(
            *own, F.coalesce("_found", "_fallback").alias("_found"), "_early"
        )
    answer = F.coalesce(F.col("_found"), F.lit(UNKNOWN_KEY).cast("bigint"))
    early = F.coalesce(F.col("_early"), F.lit(False))
    return found.select(*own, answer.alias(d.surrogate_key), early.alias(EARLY))


def concerned(
    facts: DataFrame,
    intervals: DataFrame,
    dimension: Dimension,
    *,
    day: str,
    first_day: str | None = None,
    key: Sequence[str] | None = None,
) -> DataFrame:
    """The facts whose lookup may have changed: their day or their period's first day lies in an interval of the key.

    :param intervals: as ``affected_intervals`` gives them.
    """
    names = list(key or dimension.key)
    spans = intervals.select(
        *(F.col(name).alias(f"_dim_{i}") for i, name in enumerate(dimension.key)), "affected_from", "affected_to"
    )
    begin = dimension.bound("1900-01-01")

    def within(name: str) -> Column:
        low = (F.col("affected_from") == begin) | (F.col("affected_from") <= F.col(name))
        return low & (F.col(name) < F.col("affected_to"))

    hit = within(day) | within(first_day) if first_day is not None else within(day)
    for i, name in enumerate(names):
        hit = hit & (F.col(name) == F.col(f"_dim_{i}"))
    return facts.join(spans, hit, "left_semi")
