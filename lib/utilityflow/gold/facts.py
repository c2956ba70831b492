"""Facts of usage as pure functions: the final read of each identity, days from intervals, the version of the customer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract, sql_text
from utilityflow.gold.days import day_key
from utilityflow.scd2 import UNKNOWN_KEY, Dimension, version_of
from utilityflow.silver.duplicates import ORDER, repeated, told_again

EARLY, GAP, MIXED = "before_first_version", "delete_gap", "mixed"
INCOMPLETE, OVERLONG = "incomplete_day", "overlong_day"
_LOOKED_UP = (EARLY, GAP)
KINDS = ("day", "interval", "period")


def quality_rank(contract: Contract) -> Column:
    """INT rank of ``read_quality``, 0 for the best; the order is the contract's list of allowed values."""
    allowed = contract.column("read_quality").allowed
    pairs = [x for i, name in enumerate(allowed) for x in (F.lit(name), F.lit(i))]
    return F.element_at(F.create_map(*pairs), F.col("read_quality"))


def final_reads(reads: DataFrame, contract: Contract) -> DataFrame:
    """One read per identity (of intervals: per identity and start): best quality, then newest file, then later record."""
    lost = losers(told_again(contract, reads, F.broadcast(repeated(contract, reads))), contract)
    return reads.join(F.broadcast(lost), list(ORDER), "left_anti")


def losers(told: DataFrame, contract: Contract) -> DataFrame:
    """ORDER of the reads that are not final.

    :param told: the reads of identities that have several, as ``silver.duplicates.told_again`` gives them: only those
        are sorted, in narrow columns.
    """
    best = Window.partitionBy("_identity", "_start").orderBy(quality_rank(contract), *[F.desc(n) for n in ORDER])
    return told.withColumn("_rank", F.row_number().over(best)).where("_rank > 1").select(*ORDER)


def without_overlaps(intervals: DataFrame, contract: Contract) -> DataFrame:
    """Of the intervals of one identity that overlap the better alone: quality, then newest file, then later record.

    A day can be told in half-hours and again in hours; repeats are known by their start alone, so that every second half-hour
    would be added to the hour that holds it. Intervals of one length on one grid cannot overlap: only the identities that have
    others, most often none, are looked at one by one, and the rest are not shuffled.

    :param intervals: final interval reads.
    """
    start, end = F.unix_micros("interval_start"), F.unix_micros("interval_end")
    length = end - start
    grids = intervals.select("_identity", length.alias("_length"), (start % length).alias("_phase")).groupBy("_identity")
    differ = F.expr("min(_length) < max(_length) OR min(_phase) < max(_phase) AS _differ")
    several = F.broadcast(grids.agg(differ).where("_differ").select("_identity"))
    rank = F.struct(-quality_rank(contract), "_batch_id", "_row_number")
    told = F.collect_list(F.struct(start.alias("start"), end.alias("end"), rank.alias("rank")))
    theirs = intervals.join(several, "_identity", "left_semi").withColumn("_told", told.over(Window.partitionBy("_identity")))
    beaten = F.exists("_told", lambda other: (other["start"] < end) & (start < other["end"]) & (rank < other["rank"]))
    return intervals.join(several, "_identity", "left_anti").unionByName(theirs.where(~beaten).drop("_told"))


def local_days(intervals: DataFrame, zone: str) -> DataFrame:
    """Interval reads added up to the local day: energy, highest demand in kW, whether they cover the day.

    A local day has 23, 24 or 25 hours; ``incomplete_day`` and ``overlong_day`` are flagged against its own length.
    """
    seconds = F.unix_timestamp("interval_end") - F.unix_timestamp("interval_start")
    kilowatts = F.when(F.col("unit") == "kWh", F.col("quantity") * 3600 / seconds)
    day_start = F.unix_timestamp(F.to_utc_timestamp(F.col("period_start").cast("timestamp"), zone))
    day_end = F.unix_timestamp(F.to_utc_timestamp(F.col("period_end").cast("timestamp"), zone))
    same = ["_identity", "customer_id", "meter_id", "commodity", "register", "direction", "unit", "period_start", "period_end",
            "usage_date", "billing_period"]  # fmt: skip
    grouped = intervals.withColumns({"_seconds": seconds, "_kw": kilowatts}).groupBy(*same).agg(
        F.sum("quantity").alias("_sum"), F.max(F.greatest("peak_demand", "_kw")).alias("_peak"),
        F.sum("_seconds").alias("_covered"), F.min("read_quality").alias("_low"), F.max("read_quality").alias("_high"),
        F.flatten(F.collect_set("quality_flags")).alias("_flags"),
        F.min(F.struct("interval_start", "_file_sha256", "_row_number", "rate_schedule")).alias("_first"),
        F.max("_batch_id").alias("_batch_id"),
    )  # fmt: skip
    covered, whole = F.col("_covered"), day_end - day_start
    wrong = F.when(covered < whole, F.array(F.lit(INCOMPLETE))).when(covered > whole, F.array(F.lit(OVERLONG)))
    wrong = F.coalesce(wrong, F.array().cast("array<string>"))
    return grouped.select(
        *same, F.expr("try_cast(_sum AS decimal(18,6))").alias("quantity"), F.expr("try_cast(_peak AS decimal(8,2))").alias("peak_demand"),  # noqa: E501
        F.when(F.col("_low") == F.col("_high"), F.col("_low")).otherwise(MIXED).alias("read_quality"),
        F.array_union("_flags", wrong).alias("quality_flags"),
        *[F.col(f"_first.{n}").alias(n) for n in ("_file_sha256", "_row_number", "rate_schedule")], "_batch_id",
    )  # fmt: skip


def facts(final: DataFrame, contract: Contract, zone: str, kinds: Collection[str] = KINDS) -> DataFrame:
    """Fact rows without the keys of customer and meter: one per identity, ``usage_date`` beside them.

    :param final: the final reads.
    :param kinds: the kinds of period that they hold; work for others is left out of the plan.
    """
    intervals = final.where("period_kind = 'interval'")
    days = local_days(without_overlaps(intervals, contract) if "interval" in kinds else intervals, zone)
    if "interval" not in kinds:
        united = final.select(*days.columns)
    elif set(kinds) == {"interval"}:
        united = days
    else:
        united = _one_of_each(final.where("period_kind <> 'interval'").select(*days.columns).unionByName(days), contract)
    day = F.col("usage_date")
    delivered = (F.col("unit") == "kWh") & (F.col("direction") == "delivered")
    return united.withColumns({
        "usage_key": F.col("_identity"),
        "date_key": day_key(day),
        "usage_kwh": F.when(delivered, F.expr("try_cast(round(quantity, 2) AS decimal(10,2))")),
    })  # fmt: skip


def _one_of_each(rows: DataFrame, contract: Contract) -> DataFrame:
    """Where a day came both as a total and as intervals, the better of the two: quality, then the newer file.

    Before both comes that the intervals cover the day: the actual value of a part of it says less than an estimate of all.
    """
    partial = F.arrays_overlap("quality_flags", F.array(F.lit(INCOMPLETE), F.lit(OVERLONG)))
    order = (partial, quality_rank(contract), F.desc("_batch_id"), F.desc("_row_number"))
    best = Window.partitionBy("_identity").orderBy(*order)
    return rows.withColumn("_rank", F.row_number().over(best)).where("_rank = 1").drop("_rank")


def with_customer(
    rows: DataFrame, dim_rows: DataFrame, customers: Dimension, columns: Sequence[str], kinds: Collection[str] = KINDS
) -> DataFrame:
    """Fact rows with ``customer_key`` and the flags of the lookup, in the contract's columns.

    :param rows: facts with ``usage_date``; flags of an earlier lookup are taken off first.
    :param kinds: the kinds of period that they are of; only a billed period can ask for the version of its first day.
    """
    first_day = "period_start" if "period" in kinds else None
    found = version_of(rows, dim_rows, customers, day="usage_date", first_day=first_day)
    gap = f"customer_key = {UNKNOWN_KEY} AND customer_id IS NOT NULL"
    looked = f"filter(array(IF({EARLY}, '{EARLY}', NULL), IF({gap}, '{GAP}', NULL)), flag -> flag IS NOT NULL)"
    own = f"array_except(quality_flags, array({', '.join(map(sql_text, _LOOKED_UP))}))"
    # most facts have no flag at all, and need no work on arrays
    none = f"size(quality_flags) = 0 AND NOT {EARLY} AND NOT ({gap})"
    flags = F.expr(f"CASE WHEN {none} THEN quality_flags ELSE array_sort(concat({own}, {looked})) END")
    return found.withColumn("quality_flags", flags).select(*columns)
