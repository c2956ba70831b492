"""What has to change: table rows against wanted rows, and the days on which a fact finds another version."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.scd2.dimension import BEGIN, END, UNKNOWN_KEY, Dimension

ACTION, FLIP, OLD = "_action", "_flip", "_old_"
INSERT, UPDATE, DELETE, SAME, MOVED = "I", "U", "D", "S", "P"  # MOVED: equal, but another event stands for it now


def difference(existing: DataFrame, wanted: DataFrame, dimension: Dimension) -> DataFrame:
    """The changes that turn ``existing`` into ``wanted``: complete rows with ``_action`` I, U or D; equal rows leave.

    :param existing: rows of the table. With a column ``_flip``, rows where it is true belong to keys that were not
        rebuilt: they become updates with the other ``is_current``.
    :param wanted: all rows that the rebuilt keys should have. Rows pair by natural and surrogate key.
    """
    rows = compared(existing, wanted, dimension).where(F.col(ACTION).isin(INSERT, UPDATE, DELETE))
    return rows.select(*dimension.names, ACTION)


def compared(existing: DataFrame, wanted: DataFrame, dimension: Dimension) -> DataFrame:
    """As ``difference``, with the equal rows too (S, and P where only the provenance differs; their attributes null).

    Beside each row stands its pre-image ``_old_from``, ``_old_to`` (null for an insert) and ``_old_<provenance>``;
    columns that ``wanted`` has beyond the table's stay.
    """
    d = dimension
    extra = [name for name in wanted.columns if name not in d.names]
    flip = FLIP if FLIP in existing.columns else f"false AS {FLIP}"
    old = existing.selectExpr(*(f"`{name}` AS `{OLD}{name}`" for name in d.names), flip)
    # not an equality that Spark could hash by: so the wanted side stays partitioned by natural key, as it was made
    pair: Column = F.col(OLD + d.surrogate_key).bitwiseXOR(F.col(d.surrogate_key)) == F.lit(0)
    for name in d.key:
        pair = pair & (F.col(OLD + name) == F.col(name))
    rows = old.join(wanted, pair, "full_outer")
    content = [name for name in d.names if name not in (*d.key, d.surrogate_key, *d.provenance)]
    action = (
        F.when(F.col(OLD + d.surrogate_key).isNull(), INSERT)
        .when(F.col(d.surrogate_key).isNull(), F.when(F.col(FLIP), UPDATE).otherwise(DELETE))
        .when(_differ(content), UPDATE)
        .when(_differ(d.provenance), MOVED)
        .otherwise(SAME)
    )
    return rows.withColumn(ACTION, action).selectExpr(
        *(f"{_kept(name, d)} AS `{name}`" for name in d.names),
        ACTION,
        f"`{OLD}{d.valid_from}` AS _old_from",
        f"`{OLD}{d.valid_to}` AS _old_to",
        *(f"CASE WHEN {ACTION} = '{MOVED}' THEN `{OLD}{name}` END AS `{OLD}{name}`" for name in d.provenance),
        *extra,
    )


def affected_intervals(before: DataFrame, after: DataFrame, dimension: Dimension) -> DataFrame:
    """Where a fact of a key finds another surrogate key, or another ``before_first_version``, than before.

    Before its first version a key's first version answers; in a gap, and for a key without rows, -1.

    :param before: all rows that the keys had (key, surrogate key, from, to). :param after: all that they have now.
    :return: key columns, ``affected_from``, ``affected_to``: half-open, merged, 1900-01-01 standing for all that is
        before, 9999-12-31 for the open end.
    """
    d = dimension
    nobody = F.struct(F.lit(UNKNOWN_KEY).cast("bigint").alias("found"), F.lit(False).alias("early"))
    ordered = Window.partitionBy(*d.key).orderBy("_at")
    until_here = ordered.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    shape = [*d.key, d.surrogate_key, d.valid_from, d.valid_to]
    sides = [rows.select(*shape, F.lit(now).alias("_now")) for rows, now in ((before, False), (after, True))]
    # one shuffle; all that follows is partitioned by the key
    steps = _steps(sides[0].unionByName(sides[1]).repartition(*d.key), d)
    points = steps.groupBy(*d.key, "_at").agg(
        F.max(F.when(~F.col("_now"), F.col("_what"))).alias("_before"),
        F.max(F.when(F.col("_now"), F.col("_what"))).alias("_after"),
    )
    was, now = (
        F.coalesce(F.last(name, ignorenulls=True).over(until_here), nobody) for name in ("_before", "_after")
    )
    edges = (
        points.withColumn("_changed", ~was.eqNullSafe(now))
        .withColumn("_edge", F.col("_changed") != F.coalesce(F.lag("_changed").over(ordered), F.lit(False)))
        .where("_edge")
    )
    return (
        edges.withColumn("affected_to", F.coalesce(F.lead("_at").over(ordered), d.bound(END)))
        .where("_changed")
        .select(*d.key, F.col("_at").alias("affected_from"), "affected_to")
    )


def _differ(names: Sequence[str]) -> Column:
    # as SQL text, here and below: each Column that Python builds costs a call of the JVM
    return F.expr(" OR ".join(f"NOT (`{OLD}{name}` <=> `{name}`)" for name in names) or "false")


def _kept(name: str, d: Dimension) -> str:
    """SQL of the value that a compared row carries: wanted; old for deletes and flips; null where all is equal."""
    gone, old, new = f"`{d.surrogate_key}` IS NULL", f"`{OLD}{name}`", f"`{name}`"
    if name == d.current:
        return f"CASE WHEN {gone} THEN {old} <> {FLIP} ELSE {new} END"
    either = f"CASE WHEN {gone} THEN {old} ELSE {new} END"
    if name in d.attributes or name in d.provenance:
        either = f"CASE WHEN {ACTION} <> '{SAME}' THEN {either} END"
    return either


def _steps(rows: DataFrame, d: Dimension) -> DataFrame:
    """The lookup of each key as a step function, before and ``_now``: from ``_at`` on, ``_what`` is what a fact finds."""
    ordered = Window.partitionBy(*d.key, "_now").orderBy(d.valid_from)
    start, end = F.col(d.valid_from), F.col(d.valid_to)
    following = F.coalesce(F.lead(d.valid_from).over(ordered), d.bound(END))

    def step(at: Column, found: Column, early: bool) -> Column:
        what = F.struct(found.cast("bigint").alias("found"), F.lit(early).alias("early"))
        return F.struct(at.alias("at"), what.alias("what"))

    first = (F.lag(d.valid_from).over(ordered).isNull()) & (start > d.bound(BEGIN))
    found = F.col(d.surrogate_key)
    steps = F.array(
        step(start, found, early=False),
        F.when(first, step(d.bound(BEGIN), found, early=True)),
        F.when(end < following, step(end, F.lit(UNKNOWN_KEY), early=False)),
    )
    return (
        rows.withColumn("_steps", steps)
        .select(*d.key, "_now", F.explode("_steps").alias("_step"))
        .where("_step is not null")
        .select(*d.key, "_now", F.col("_step")["at"].alias("_at"), F.col("_step")["what"].alias("_what"))
    )
