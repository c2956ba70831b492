"""fact_usage: the final read of each identity, its version of the customer, and the re-keying of facts that history moves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract, sql_text
from utilityflow.control.run import Run, StepResult
from utilityflow.lakehouse import FEW_ROWS, Table
from utilityflow.scd2 import UNKNOWN_KEY, Dimension, affected_intervals, concerned, surrogate_key, version_of
from utilityflow.session import local_frame
from utilityflow.silver.duplicates import ORDER, repeated, start

NAME, READS, CUSTOMERS, METERS = "gold.fact_usage", "silver.meter_reads", "gold.dim_customer", "gold.dim_meter"
EARLY, GAP, MIXED, INCOMPLETE = "before_first_version", "delete_gap", "mixed", "incomplete_day"
_LOOKED_UP = (EARLY, GAP)
MANY_ROWS = 1_000_000  # so many keys (8 bytes each) are broadcast
KINDS = ("day", "interval", "period")
_DAY = dt.timedelta(days=1)


# -- pure functions --------------------------------------------------------------------------------------------------


def quality_rank(contract: Contract) -> Column:
    """INT rank of ``read_quality``, 0 for the best; the order is the contract's list of allowed values."""
    allowed = contract.column("read_quality").allowed
    pairs = [x for i, name in enumerate(allowed) for x in (F.lit(name), F.lit(i))]
    return F.element_at(F.create_map(*pairs), F.col("read_quality"))


def final_reads(reads: DataFrame, contract: Contract) -> DataFrame:
    """One read per identity (of intervals: per identity and start): best quality, then newest file, then later record."""
    lost = losers(reads, F.broadcast(repeated(contract, reads)), contract)
    return reads.join(F.broadcast(lost), list(ORDER), "left_anti")


def losers(reads: DataFrame, several: DataFrame, contract: Contract) -> DataFrame:
    """ORDER of the reads that are not final. Only identities that repeat are sorted, and only narrow columns are read.

    :param several: as ``silver.duplicates.repeated`` gives it.
    """
    narrow = reads.select("_identity", start(contract), quality_rank(contract).alias("_quality"), *ORDER)
    best = Window.partitionBy("_identity", "_start").orderBy("_quality", *[F.desc(n) for n in ORDER])
    told = narrow.join(several, ["_identity", "_start"], "left_semi")
    return told.withColumn("_rank", F.row_number().over(best)).where("_rank > 1").select(*ORDER)


def local_days(intervals: DataFrame, zone: str) -> DataFrame:
    """Interval reads added up to the local day: energy, highest demand in kW, whether the day is complete.

    A local day has 23, 24 or 25 hours; ``incomplete_day`` is flagged against its own length.
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
    short = F.when(F.col("_covered") < day_end - day_start, F.array(F.lit(INCOMPLETE))).otherwise(
        F.array().cast("array<string>")
    )
    return grouped.select(
        *same, F.expr("try_cast(_sum AS decimal(18,6))").alias("quantity"), F.expr("try_cast(_peak AS decimal(8,2))").alias("peak_demand"),  # noqa: E501
        F.when(F.col("_low") == F.col("_high"), F.col("_low")).otherwise(MIXED).alias("read_quality"),
        F.array_union("_flags", short).alias("quality_flags"),
        *[F.col(f"_first.{n}").alias(n) for n in ("_file_sha256", "_row_number", "rate_schedule")], "_batch_id",
    )  # fmt: skip


def facts(
    final: DataFrame, contract: Contract, zone: str, meters: Dimension, kinds: Collection[str] = KINDS
) -> DataFrame:
    """Fact rows without the customer's key: one per identity, ``usage_date`` beside them.

    :param final: the final reads.
    :param kinds: the kinds of period that they hold; work for others is left out of the plan.
    """
    days = local_days(final.where("period_kind = 'interval'"), zone)
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
        "meter_key": surrogate_key(meters, None),  # inferred members only, until meters have a feed
        "date_key": F.year(day) * 10000 + F.month(day) * 100 + F.dayofmonth(day),
        "usage_kwh": F.when(delivered, F.expr("try_cast(round(quantity, 2) AS decimal(10,2))")),
    })  # fmt: skip


def _one_of_each(rows: DataFrame, contract: Contract) -> DataFrame:
    """Where a day came both as a total and as intervals, the better of the two: quality, then the newer file."""
    best = Window.partitionBy("_identity").orderBy(quality_rank(contract), F.desc("_batch_id"), F.desc("_row_number"))
    return rows.withColumn("_rank", F.row_number().over(best)).where("_rank = 1").drop("_rank")


def with_customer(rows: DataFrame, dim_rows: DataFrame, customers: Dimension, columns: Sequence[str]) -> DataFrame:
    """Fact rows with ``customer_key`` and the flags of the lookup, in the contract's columns.

    :param rows: facts with ``usage_date``; flags of an earlier lookup are taken off first.
    """
    found = version_of(rows, dim_rows, customers, day="usage_date", first_day="period_start")
    gap = f"customer_key = {UNKNOWN_KEY} AND customer_id IS NOT NULL"
    looked = f"filter(array(IF({EARLY}, '{EARLY}', NULL), IF({gap}, '{GAP}', NULL)), flag -> flag IS NOT NULL)"
    own = f"array_except(quality_flags, array({', '.join(map(sql_text, _LOOKED_UP))}))"
    # most facts have no flag at all, and need no work on arrays
    none = f"size(quality_flags) = 0 AND NOT {EARLY} AND NOT ({gap})"
    flags = F.expr(f"CASE WHEN {none} THEN quality_flags ELSE array_sort(concat({own}, {looked})) END")
    return found.withColumn("quality_flags", flags).select(*columns)


# -- the step --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Reads from which facts are made anew: ``rows`` of them, of these ``kinds`` of period, on days from first to last."""

    reads: DataFrame
    kinds: frozenset[str]
    rows: int
    days: tuple[dt.date, dt.date]


@dataclass(frozen=True)
class Scope:
    """What changed among the reads since the last time.

    ``fresh``: all reads of days of which there were none before; their facts are appended. ``touched``: the reads of
    identities that changed on other days; ``identities``: those identities (None: all); ``days``: the smallest and the
    largest day on which their reads can lie (None: any).
    """

    fresh: Part | None
    touched: Part | None
    identities: DataFrame | None
    days: tuple[dt.date, dt.date] | None


def run_fact_usage(run: Run) -> StepResult:
    """Bring fact_usage to the standing reads and the customers' present history.

    The facts of new days are appended (MERGE would shuffle them), then one MERGE brings the rest. Only the last commit
    says what was consumed, so a run that died between the two is done again, and finds the appended facts equal.
    """
    house, fact = run.house, run.house.table(NAME)
    now = {n: house.table(n).version() for n in (READS, CUSTOMERS)}
    was = run.consumed.get(NAME, {})
    if was == now and fact.version() > 0:
        return StepResult(NAME, "skipped", version=fact.version(), consumed=now)
    before = fact.version()
    scope = _scope(run, fact, was, now)
    moved = CUSTOMERS in was and was[CUSTOMERS] < now[CUSTOMERS]
    last = scope.touched is None and scope.identities is None and not moved
    written = 0
    if scope.fresh is not None:
        run.say(f"{NAME}: adding the facts of new days", step=NAME)
        rows = _made(run, scope.fresh, now)
        fact.append(rows, note={"consumed": now} if last else {}, rows_expected=scope.fresh.rows)
        written = fact.rows_appended()
    if not last:
        written += _merge(run, fact, before, scope, _rekeyed(run, before, was, now) if moved else None, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=fact.version(), consumed=now)


# -- what changed ----------------------------------------------------------------------------------------------------


def _scope(run: Run, fact: Table, was: Mapping[str, Any], now: Mapping[str, int]) -> Scope:
    """The reads whose facts have to be made, parted into whole new days and identities on other days."""
    table = run.house.table(READS)
    if READS in was and was[READS] == now[READS]:
        return Scope(None, None, None, None)
    reads = table.read(now[READS])
    if READS not in was:
        standing = _by_day(reads)
        if fact.version() <= 0:
            return Scope(_part(reads, standing), None, None, None)
        return Scope(None, _part(reads, standing), reads.select("_identity").distinct(), None)
    changes = table.changes(was[READS], now[READS])
    news, olds = _changes_by_day(changes, int(table.note(was[READS]).get("batch") or 0))
    days = sorted({day for day, _ in (*news, *olds)})
    if not days:
        return Scope(None, None, None, None)
    span = (days[0] - _DAY, days[-1] + _DAY)
    near = _on(reads, span)
    standing = _by_day(near)
    fresh = _fresh_days(news, olds, standing, _days_held(fact, span))
    others = [d for d in days if d not in fresh]
    whole = near.where(F.col("usage_date").isin(sorted(fresh))) if fresh else None
    part = None if whole is None else _part(whole, {k: n for k, n in standing.items() if k[0] in fresh})
    if not others:
        return Scope(part, None, None, None)
    identities = changes.where(F.col("usage_date").isin(others)).select("_identity").distinct()
    identities = run.staged(identities, "usage_touched")
    span = (others[0] - _DAY, others[-1] + _DAY)
    touched = _on(reads, span).join(F.broadcast(identities), "_identity", "left_semi")
    around = {k: n for k, n in standing.items() if span[0] <= k[0] <= span[1]}
    return Scope(part, _part(touched, around), identities, span)


def _by_day(reads: DataFrame) -> dict[tuple[dt.date, str], int]:
    """Rows by day and kind of period."""
    grouped = reads.groupBy("usage_date", "period_kind").agg(F.count(F.lit(1)).alias("n"))
    return {(r["usage_date"], r["period_kind"]): r["n"] for r in grouped.collect()}


def _changes_by_day(
    changes: DataFrame, batch: int
) -> tuple[dict[tuple[dt.date, str], int], dict[tuple[dt.date, str], int]]:
    """By day and kind: reads of files applied after ``batch`` that were added and not taken out again; other changes.

    A file's repeated records are written and taken out again within one step: such a pair is no change.
    """
    later = F.col("_batch_id") > batch
    sign = F.when(F.col("_change_type") == "insert", 1).otherwise(-1)
    grouped = changes.groupBy("usage_date", "period_kind").agg(
        F.sum(F.when(later, sign).otherwise(0)).alias("new"), F.count(F.when(~later, 1)).alias("old")
    )
    rows = grouped.collect()
    news = {(r["usage_date"], r["period_kind"]): r["new"] for r in rows if r["new"]}
    return news, {(r["usage_date"], r["period_kind"]): r["old"] for r in rows if r["old"]}


def _fresh_days(news: Mapping[tuple[dt.date, str], int], olds: Mapping[tuple[dt.date, str], int],
                standing: Mapping[tuple[dt.date, str], int], held: Collection[dt.date]) -> set[dt.date]:  # fmt: skip
    """Days of which every read is new, and none of whose reads can share an identity with a read of another day.

    A billed period of one day ends, and is dated, on the day after the one that a day's total of that identity is.
    """
    days = {day for day, _ in standing}
    whole = {
        d for d in days
        if d not in held and all(news.get((d, k), 0) == standing.get((d, k), 0) and not olds.get((d, k)) for k in KINDS)
    }  # fmt: skip

    def holds(day: dt.date, *kinds: str) -> bool:
        return any((day, k) in standing or (day, k) in olds for k in kinds)

    while True:
        left = {
            d for d in whole
            if (d + _DAY in whole or not holds(d + _DAY, "period"))
            and (d - _DAY in whole or not holds(d, "period") or not holds(d - _DAY, "day", "interval"))
        }  # fmt: skip
        if left == whole:
            return whole
        whole = left


def _days_held(fact: Table, span: tuple[dt.date, dt.date]) -> set[dt.date]:
    """Days within the span of which the table holds facts already."""
    if fact.version() <= 0:
        return set()
    rows = fact.read().where(F.col("date_key").between(*(int(f"{d:%Y%m%d}") for d in span)))
    keys = [r[0] for r in rows.select("date_key").distinct().collect()]
    return {dt.date(k // 10000, k // 100 % 100, k % 100) for k in keys}


def _on(reads: DataFrame, span: tuple[dt.date, dt.date]) -> DataFrame:
    months = [f"{d:%Y-%m}" for d in span]
    return reads.where(F.col("usage_date").between(*span) & F.col("billing_period").between(*months))


def _part(reads: DataFrame, standing: Mapping[tuple[dt.date, str], int]) -> Part | None:
    if not standing:
        return None
    days = sorted(day for day, _ in standing)
    return Part(reads, frozenset(k for _, k in standing), sum(standing.values()), (days[0], days[-1]))


# -- writing ---------------------------------------------------------------------------------------------------------


def _made(run: Run, part: Part, now: Mapping[str, int]) -> DataFrame:
    customers, meters = _dimensions(run)
    rows = facts(_final(run, part), run.house.contracts[READS], run.zone, meters, part.kinds)
    contract = run.house.contracts[NAME]
    columns = contract.column_names
    later = [c for c in contract.columns if c.added and c.name not in rows.columns]  # nothing fills them yet
    rows = rows.withColumns({c.name: F.lit(None).cast(c.type) for c in later}) if later else rows
    return with_customer(rows, run.house.table(CUSTOMERS).read(now[CUSTOMERS]), customers, columns)


def _final(run: Run, part: Part) -> DataFrame:
    """The final reads of a part; of many, who loses is staged, so that the engine knows how few they are."""
    contract = run.house.contracts[READS]
    if part.rows <= FEW_ROWS:
        return final_reads(part.reads, contract)
    known = run.repeated.get(READS)
    several = known.rows if known is not None and known.covers(part.days) else None
    if several is None:
        several = run.staged(repeated(contract, part.reads), "usage_repeated")
    lost = run.staged(losers(part.reads, several, contract), "usage_losers")
    return part.reads.join(lost, list(ORDER), "left_anti")


def _dimensions(run: Run) -> tuple[Dimension, Dimension]:
    contracts = run.house.contracts
    return Dimension.from_contract(contracts[CUSTOMERS]), Dimension.from_contract(contracts[METERS])


def _rekeyed(run: Run, version: int, was: Mapping[str, Any], now: Mapping[str, int]) -> DataFrame:
    """Facts whose lookup may have moved, looked up again: those in the intervals in which the history changed.

    :param version: of the facts, before those of new days were added with their right keys.
    """
    customers, _ = _dimensions(run)
    dim, fact = run.house.table(CUSTOMERS), run.house.table(NAME)
    shape = [*customers.key, customers.surrogate_key, customers.valid_from, customers.valid_to]
    before, after = dim.read(was[CUSTOMERS]).select(*shape), dim.read(now[CUSTOMERS]).select(*shape)
    keys = (
        before.join(after, shape[1:], "left_anti")
        .unionByName(after.join(before, shape[1:], "left_anti"))
        .select(*customers.key)
    )
    keys = run.staged(keys.distinct(), "usage_moved_keys")
    own = [f.join(F.broadcast(keys), list(customers.key), "left_semi") for f in (before, after)]
    intervals = run.staged(affected_intervals(own[0], own[1], customers), "usage_intervals")
    parts = ("date_key div 10000", "date_key div 100 % 100", "date_key % 100")
    day = F.make_date(*[F.expr(part).cast("int") for part in parts])
    dated = fact.read(version).withColumn("usage_date", day)
    hit = concerned(dated, F.broadcast(intervals), customers, day="usage_date", first_day="period_start")
    return with_customer(hit, dim.read(now[CUSTOMERS]), customers, fact.contract.column_names)


def _merge(
    run: Run, fact: Table, version: int, scope: Scope, moved: DataFrame | None, now: Mapping[str, int]
) -> int:
    """Write the facts of touched identities and the re-keyed ones, as far as they differ; returns their number."""
    columns = list(fact.contract.column_names)
    touched = scope.identities
    parts = [] if scope.touched is None else [_made(run, scope.touched, now)]
    if moved is not None:
        key = F.col("_identity").alias("usage_key")
        others = moved if touched is None else moved.join(F.broadcast(touched.select(key)), "usage_key", "left_anti")
        parts.append(others)
    wanted = local_frame(run.house.spark, [], fact.contract.struct()) if not parts else reduce(
        DataFrame.unionByName, (p.select(*columns) for p in parts)
    )  # fmt: skip
    wanted = run.staged(wanted, "usage_wanted")
    gone = None if touched is None else _gone(run, scope, touched, wanted)
    staged = run.staged(_differing(fact.read(version), wanted, gone, columns), "usage_changed")
    months: dict[str, int] = {r[0]: r[1] for r in staged.groupBy("billing_period").count().collect()}
    if not months:
        return 0
    listed = ", ".join(f"'{m}'" for m in sorted(months))
    fact.merge(
        staged,
        on=f"target.usage_key = source.usage_key AND target.billing_period IN ({listed})",
        clauses="WHEN MATCHED AND source._action = 'D' THEN DELETE WHEN MATCHED THEN UPDATE SET * "
        "WHEN NOT MATCHED AND source._action = 'U' THEN INSERT *",
        note={"consumed": now},
    )
    return sum(months.values())


def _gone(run: Run, scope: Scope, touched: DataFrame, wanted: DataFrame) -> DataFrame:
    """Keys of the facts whose last read is gone: of the touched identities, or (days unknown) of all."""
    known = touched.select(F.col("_identity").alias("usage_key"))
    if scope.days is None:
        known = run.house.table(NAME).read().select("usage_key")
    return known.join(wanted.select("usage_key"), "usage_key", "left_anti")


def _differing(present: DataFrame, wanted: DataFrame, gone: DataFrame | None, columns: Sequence[str]) -> DataFrame:
    """Complete rows that the table lacks or holds otherwise (``_action`` U) and those that must go (D)."""
    others = [n for n in columns if n != "usage_key"]
    held = present.join(_small(wanted.select("usage_key")), "usage_key", "left_semi")
    old = held.select("usage_key", *[F.col(n).alias(f"_old_{n}") for n in others])
    differs = F.expr(" OR ".join(f"NOT ({n} <=> _old_{n})" for n in others))
    compared = wanted.join(old, "usage_key", "left")
    changed = compared.where(differs).select(*columns, F.lit("U").alias("_action"))
    if gone is None:
        return changed
    dead = present.join(F.broadcast(gone), "usage_key", "left_semi").select(*columns, F.lit("D").alias("_action"))
    return changed.unionByName(dead)


def _small(keys: DataFrame) -> DataFrame:
    """Few keys are broadcast, so that the table is not shuffled to find their rows."""
    return F.broadcast(keys) if keys.limit(MANY_ROWS + 1).count() <= MANY_ROWS else keys
