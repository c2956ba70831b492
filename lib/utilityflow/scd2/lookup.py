"""Facts find their version: the point-in-time join, and which facts an affected interval concerns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.scd2.dimension import UNKNOWN, UNKNOWN_KEY, Dimension
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
    dim = _sought(dim_rows.where(F.col(d.surrogate_key) != UNKNOWN_KEY), d)
    same_key: Column = F.lit(True)
    for i, name in enumerate(names):
        same_key = same_key & (F.col(name) == F.col(f"_dim_{i}"))
    own = [F.col(name) for name in facts.columns if name not in (d.surrogate_key, EARLY)]
    when = F.col(day)
    hit = same_key & _valid(when)
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


def _sought(versions: DataFrame, dimension: Dimension) -> DataFrame:
    """Versions under names that no fact has: ``_dim_0``..., ``_found``, ``_from``, ``_to``, ``_first`` (of its key)."""
    d = dimension
    return versions.select(
        *(F.col(name).alias(f"_dim_{i}") for i, name in enumerate(d.key)),
        F.col(d.surrogate_key).alias("_found"),
        F.col(d.valid_from).alias("_from"),
        F.col(d.valid_to).alias("_to"),
        (F.col(d.surrogate_key) == surrogate_key(d, None)).alias("_first"),
    )


def _valid(when: Column) -> Column:
    """Whether a version, as ``_sought`` gives it, is that of a moment; the first one is also that of all before it."""
    return (F.col("_first") | (F.col("_from") <= when)) & (when < F.col("_to"))


def histories(dim_rows: DataFrame, dimension: Dimension) -> DataFrame:
    """The versions of members that have another than one from the beginning on without an end, days without any filled with -1.

    :param dim_rows: as ``version_of`` takes them. :return: key, surrogate key, from, to.
    """
    d = dimension
    first, end = F.col(d.surrogate_key) == surrogate_key(d, None), d.bound("9999-12-31")
    known = dim_rows.where((F.col(d.surrogate_key) != UNKNOWN_KEY) & (~first | (F.col(d.valid_to) < end)))
    some = known.select(*d.key, d.surrogate_key, d.valid_from, d.valid_to)
    after = F.lead(d.valid_from).over(Window.partitionBy(*d.key).orderBy(d.valid_from))
    ends = some.withColumn("_next", F.coalesce(after, end)).where(F.col(d.valid_to) < F.col("_next"))
    nobody = F.lit(UNKNOWN_KEY).cast("bigint").alias(d.surrogate_key)
    gaps = ends.select(*d.key, nobody, F.col(d.valid_to).alias(d.valid_from), F.col("_next").alias(d.valid_to))
    return some.unionByName(gaps)


def version_of_known(
    facts: DataFrame, changed: DataFrame, dimension: Dimension, *, day: str, first_day: str | None = None
) -> DataFrame:
    """``version_of`` for facts whose member the dimension holds, whatever they name, and where most have one version alone.

    That one's key follows from the natural key, so that only members with a history are looked for: a small table is broadcast
    instead of a row per member.

    :param changed: as ``histories`` gives them.
    """
    d = dimension
    dim = _sought(changed, d)
    own, when = [F.col(name) for name in facts.columns if name != d.surrogate_key], F.col(day)
    names = [(F.col(name), F.col(f"_dim_{i}")) for i, name in enumerate(d.key)]
    nobody = reduce(or_, [name.isNull() | (name == F.lit(UNKNOWN)) for name, _ in names])
    same_key = [name == held for name, held in names]
    found = facts.join(dim, reduce(and_, same_key, _valid(when)), "left").select(*own, "_found")
    if first_day is not None:  # as in version_of: a fact that lies in a gap asks by its period's first day
        start = F.col(first_day)
        asks = (F.col("_found") == UNKNOWN_KEY) & (start != when)
        hit = (F.col("_from") <= start) & (start < F.col("_to"))
        other = dim.withColumnRenamed("_found", "_fallback")
        again = found.join(other, reduce(and_, [F.when(asks, name) == held for name, held in names], hit), "left")
        found = again.select(*own, F.coalesce("_fallback", "_found").alias("_found"))
    unknown = F.lit(UNKNOWN_KEY).cast("bigint")
    key = F.when(nobody, unknown).otherwise(F.coalesce("_found", surrogate_key(d, None)))
    return found.select(*own, key.alias(d.surrogate_key))


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
