"""The history of each key as a pure function of its events: shape, fold, collapse, close.

Nothing here reads a clock or a table; the order of the events, and how they were split into batches, cannot matter.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame, SparkSession, Window, WindowSpec
from pyspark.sql import functions as F

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.scd2.dimension import BEGIN, END, UNKNOWN, UNKNOWN_KEY, Dimension
from utilityflow.scd2.hashing import canonical, carries, local_day, row_hash, surrogate_key

OPERATIONS = ("upsert", "delete")
CONFLICTS = "_conflicts"  # how many different upserts lost a full tie; beside the rows of `timeline`, not in the table


def versions(
    events: DataFrame, dimension: Dimension, *, zone: str, as_of: date, needed: DataFrame | None = None
) -> DataFrame:
    """All versions of all keys of ``events``, as complete rows of the dimension's table.

    :param events: key columns, attributes, ``effective_at`` TIMESTAMP, ``sequence`` BIGINT (may be null or missing: the
        lowest), ``operation`` 'upsert' or 'delete' (missing: upsert), provenance columns (missing: null).
    :param zone: IANA zone in which days are cut. :param as_of: the day for which ``is_current`` is true.
    :param needed: keys that facts need; each one without a version gets an inferred member.
    :raises UtilityFlowError: UF-1012 when the events lack a column.
    """
    return timeline(events, dimension, zone=zone, as_of=as_of, needed=needed).select(*dimension.names)


def timeline(
    events: DataFrame, dimension: Dimension, *, zone: str, as_of: date, needed: DataFrame | None = None
) -> DataFrame:
    """As ``versions``, with the key's number of conflicts in ``_conflicts`` beside its first row, 0 beside others."""
    d = dimension
    told = _carried(shaped(events, d, zone), d) if d.partial else shaped(events, d, zone)
    runs = _collapsed(_folded(told if needed is None else told.unionByName(_wishes(needed, told, d)), d), d)
    ordered = _by_start(d)
    until_here = ordered.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    following = F.lead("_start").over(ordered)
    standing = ~F.col("_deleted") | (F.col("_needed") & F.col("_alone"))
    closed = runs.withColumns(
        {
            "_end": F.coalesce(following, d.bound(END)),
            "_alone": following.isNull(),
            "_first": F.col("_needed") | (F.count(F.when(~F.col("_deleted"), 1)).over(until_here) == 1),
            "_type1": _type1(d, ordered),
        }
    ).where(standing)
    start = F.when(~F.col("_first"), F.col("_start"))
    conflicts = F.when(F.col("_first"), F.col(CONFLICTS)).otherwise(F.lit(0)).alias(CONFLICTS)
    filled = {
        d.surrogate_key: surrogate_key(d, start),
        d.valid_from: F.col("_start"),
        d.valid_to: F.col("_end"),
        d.current: valid_on(d, F.col("_start"), F.col("_end"), zone, as_of),
        d.inferred: F.col("_needed"),
        **{name: F.col("_type1")[name] for name in d.type1},
    }
    return closed.select(*(filled.get(name, F.col(name)).alias(name) for name in d.names), conflicts)


def _wishes(needed: DataFrame, told: DataFrame, dimension: Dimension) -> DataFrame:
    """A row for each needed key, before all events and as empty as a delete: alone at the end, it is a member."""
    d = dimension
    kinds = d.types
    filled = {
        **{name: F.col(name).cast(kinds[name]) for name in d.key},
        "_start": d.bound(BEGIN),
        "_deleted": F.lit(True),
        "_needed": F.lit(True),
    }
    return needed.select(
        *(filled.get(field.name, F.lit(None)).cast(field.dataType).alias(field.name) for field in told.schema)
    )


def unknown_member(spark: SparkSession, dimension: Dimension) -> DataFrame:
    """The row -1 that every dimension holds: natural key ``?`` (-1 where it is no text), always valid, current."""
    d = dimension
    kinds = d.types
    filled = {
        d.surrogate_key: F.lit(UNKNOWN_KEY),
        d.valid_from: d.bound(BEGIN),
        d.valid_to: d.bound(END),
        d.current: F.lit(True),
        d.inferred: F.lit(False),
        **{name: F.lit(UNKNOWN if kinds[name].lower() == "string" else UNKNOWN_KEY) for name in d.key},
    }
    return spark.range(1).select(*(filled.get(name, F.lit(None)).cast(kinds[name]).alias(name) for name in d.names))


def refusals(events: DataFrame, dimension: Dimension, *, zone: str) -> DataFrame:
    """The events with a column ``_refused``: why the engine cannot take the row, or null.

    Reasons: ``null_key``, ``null_time``, ``unknown_operation``, ``time_out_of_range`` (a local day outside 1900-01-02
    to 9999-12-30; at microsecond grain also from the open end on, 9999-12-31 in UTC). ``apply`` leaves refused events
    out; silver quarantines them before, with file and line.
    """
    # instants, not local days: the filter meets every event of the table, and a zone's arithmetic is slow
    low, high = _midnight(date.fromisoformat(BEGIN) + timedelta(days=1), zone), _midnight(date.fromisoformat(END), zone)
    if dimension.grain == "microsecond":
        high = F.least(high, dimension.bound(END))  # west of Greenwich that day ends after the open end, a UTC midnight
    null_key = F.lit(False)
    for name in dimension.key:
        null_key = null_key | F.col(name).isNull()
    operation = F.col("operation") if "operation" in events.columns else F.lit("upsert")
    reason = (
        F.when(null_key, "null_key")
        .when(F.col("effective_at").isNull(), "null_time")
        .when(operation.isNull() | ~operation.isin(*OPERATIONS), "unknown_operation")
        .when((F.col("effective_at") < low) | (F.col("effective_at") >= high), "time_out_of_range")
    )
    return events.withColumn("_refused", reason)


def valid_on(dimension: Dimension, start: Column, end: Column, zone: str, as_of: date) -> Column:
    """Whether a version is current: valid on the as-of day; at microsecond grain, at that day's last instant."""
    if dimension.grain == "day":
        day = F.lit(as_of)
        return (start <= day) & (day < end)
    instant = _midnight(as_of + timedelta(days=1), zone)
    return (start < instant) & (instant <= end)


def _midnight(day: date, zone: str) -> Column:
    """The instant at which a local day begins."""
    local = datetime.combine(day, datetime.min.time(), ZoneInfo(zone))
    seconds = (local.astimezone(timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(seconds=1)
    return F.timestamp_seconds(F.lit(seconds))


def shaped(events: DataFrame, dimension: Dimension, zone: str) -> DataFrame:
    """Events with canonical types, ``_start`` (their day or instant), ``_deleted`` and ``_hash``; all else leaves."""
    d = dimension
    kinds = d.types
    have = {name.lower() for name in events.columns}
    for name in (*d.key, *d.attributes, "effective_at"):
        if name not in have:
            raise UtilityFlowError("UF-1012", f"{d.name}: the events have no column '{name}'", hint=nearest(name, have))
    deleted = F.col("operation") == F.lit("delete") if "operation" in have else F.lit(False)
    start = local_day(F.col("effective_at"), zone) if d.grain == "day" else F.col("effective_at")
    sequence = F.col("sequence").cast("bigint") if "sequence" in have else F.lit(None).cast("bigint")
    plain = events.select(
        *(canonical(F.col(name), kinds[name]).alias(name) for name in d.key),
        *(F.when(~deleted, canonical(F.col(name), kinds[name])).alias(name) for name in d.attributes),
        *((F.col(n) if n in have else F.lit(None)).cast(kinds[n]).alias(n) for n in d.provenance),
        start.alias("_start"),
        F.col("effective_at").alias("_at"),
        sequence.alias("_sequence"),
        deleted.alias("_deleted"),
        F.lit(False).alias("_needed"),
        *([_provided(events).alias("_provided")] if d.partial else []),
    )
    return plain.withColumn("_hash", F.when(~F.col("_deleted"), row_hash(d)))


def _provided(events: DataFrame) -> Column:
    """The attributes that an event carries, as an array: from one, or from a text in which commas separate them."""
    kinds = {name.lower(): kind for name, kind in events.dtypes}
    if "provided" not in kinds:
        return F.lit(None).cast("array<string>")
    return F.split("provided", ",") if kinds["provided"] == "string" else F.col("provided")


def _carried(events: DataFrame, dimension: Dimension) -> DataFrame:
    """Partial updates made whole: an attribute that an event does not carry keeps its value, back to a delete."""
    d = dimension
    past = Window.unboundedPreceding, Window.currentRow
    life = F.count(F.when(F.col("_deleted"), 1)).over(_in_order(d).rowsBetween(*past))
    ordered = Window.partitionBy(*d.key, "_life").orderBy(*_order(d)).rowsBetween(*past)
    kept = {
        name: F.last(F.when(F.col("_deleted") | carries(name), F.struct(name)), ignorenulls=True).over(ordered)[name]
        for name in d.attributes
    }
    return events.withColumn("_life", life).withColumns(kept).drop("_life", "_provided")


def _folded(events: DataFrame, dimension: Dimension) -> DataFrame:
    """The last event of each key and start; ``_conflicts`` counts the key's different upserts that lost a full tie."""
    d = dimension
    following = F.lead(F.struct("_start", "_at", "_sequence", "_hash")).over(_in_order(d))
    moment = F.struct("_at", "_sequence").eqNullSafe(F.struct(F.col("_next")["_at"], F.col("_next")["_sequence"]))
    conflict = F.col("_next").isNotNull() & moment & (F.col("_next")["_hash"] != F.col("_hash"))
    last = F.col("_next").isNull() | (F.col("_next")["_start"] != F.col("_start"))
    return (
        events.withColumn("_next", following)
        .withColumns({"_last": last, CONFLICTS: F.count(F.when(conflict, 1)).over(Window.partitionBy(*d.key))})
        .where("_last")
        .drop("_next", "_last")
    )


def _collapsed(winners: DataFrame, dimension: Dimension) -> DataFrame:
    """Only the events that begin something new; equal neighbours and deletes after deletes leave.

    ``_type1_last``: type-1 values of the key's latest upsert; ``_type1_before``: those of the run that ends here.
    """
    d = dimension
    ordered = _by_start(d)
    state = F.struct("_deleted", *d.type2)
    said = F.when(~F.col("_deleted"), F.struct(*(d.type1 or ("_deleted",))))
    return (
        winners.withColumns(
            {
                "_new": ~F.lag(state).over(ordered).eqNullSafe(state),
                "_type1_last": F.last(said, ignorenulls=True).over(
                    ordered.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
                ),
                "_type1_before": F.lag(said).over(ordered),
            }
        )
        .where("_new")
        .drop("_new")
    )


def _type1(dimension: Dimension, ordered: WindowSpec) -> Column:
    """What a version's type-1 columns hold: the newest of the key, or (``current``) the newest of its own run."""
    if dimension.type1_policy == "all":
        return F.col("_type1_last")
    is_last = F.lead("_start").over(ordered).isNull()
    return F.when(is_last, F.col("_type1_last")).otherwise(F.lead("_type1_before").over(ordered))


def _order(dimension: Dimension) -> list[Column]:
    """Events of a key in the order in which later ones win; of equal ones the first that came is named."""
    ties = [F.col(name).desc_nulls_last() for name in dimension.provenance]
    moment = [F.col("_start"), F.col("_at"), F.col("_sequence").asc_nulls_first()]
    return [*moment, F.col("_deleted"), F.col("_hash").desc_nulls_last(), *ties]


def _in_order(dimension: Dimension) -> WindowSpec:
    return Window.partitionBy(*dimension.key).orderBy(*_order(dimension))


def _by_start(dimension: Dimension) -> WindowSpec:
    return Window.partitionBy(*dimension.key).orderBy("_start")
