"""fact_usage: the final read of each identity, its version of the customer, and the re-keying of facts that history moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.lakehouse import Table
from utilityflow.scd2 import UNKNOWN_KEY, Dimension, affected_intervals, concerned, surrogate_key, version_of
from utilityflow.session import local_frame

NAME, READS, CUSTOMERS, METERS = "gold.fact_usage", "silver.meter_reads", "gold.dim_customer", "gold.dim_meter"
EARLY, GAP, MIXED, INCOMPLETE = "before_first_version", "delete_gap", "mixed", "incomplete_day"
_LOOKED_UP = (EARLY, GAP)
MANY_ROWS = 200_000  # from here on new facts are appended before the MERGE


# -- pure functions --------------------------------------------------------------------------------------------------


def quality_rank(contract: Contract) -> Column:
    """INT rank of ``read_quality``, 0 for the best; the order is the contract's list of allowed values."""
    allowed = contract.column("read_quality").allowed
    pairs = [x for i, name in enumerate(allowed) for x in (F.lit(name), F.lit(i))]
    return F.element_at(F.create_map(*pairs), F.col("read_quality"))


def final_reads(reads: DataFrame, contract: Contract) -> DataFrame:
    """One read per identity (of intervals: per identity and start): best quality, then newest file, then later record.

    Only identities that repeat are sorted; finding them takes a count over one BIGINT column.
    """
    marked = reads.withColumn("_start", F.coalesce("interval_start", F.timestamp_seconds(F.lit(0))))
    repeated = marked.groupBy("_identity", "_start").agg(F.count(F.lit(1)).alias("n")).where("n > 1").drop("n")
    best = Window.partitionBy("_identity", "_start").orderBy(
        quality_rank(contract), F.desc("_batch_id"), F.desc("_row_number")
    )
    several = marked.join(F.broadcast(repeated), ["_identity", "_start"], "left_semi")
    chosen = several.withColumn("_rank", F.row_number().over(best)).where("_rank = 1").drop("_rank")
    single = marked.join(F.broadcast(repeated), ["_identity", "_start"], "left_anti")
    return single.unionByName(chosen).drop("_start")


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
    )  # fmt: skip
    short = F.when(F.col("_covered") < day_end - day_start, F.array(F.lit(INCOMPLETE))).otherwise(
        F.array().cast("array<string>")
    )
    return grouped.select(
        *same, F.expr("try_cast(_sum AS decimal(18,6))").alias("quantity"), F.expr("try_cast(_peak AS decimal(8,2))").alias("peak_demand"),  # noqa: E501
        F.when(F.col("_low") == F.col("_high"), F.col("_low")).otherwise(MIXED).alias("read_quality"),
        F.array_union("_flags", short).alias("quality_flags"),
        *[F.col(f"_first.{n}").alias(n) for n in ("_file_sha256", "_row_number", "rate_schedule")],
    )  # fmt: skip


def facts(reads: DataFrame, contract: Contract, zone: str, meters: Dimension) -> DataFrame:
    """Fact rows without the customer's key: one per identity, ``usage_date`` beside them."""
    final = final_reads(reads, contract)
    days = local_days(final.where("period_kind = 'interval'"), zone)
    whole = final.where("period_kind <> 'interval'").select(*days.columns)
    day = F.col("usage_date")
    delivered = (F.col("unit") == "kWh") & (F.col("direction") == "delivered")
    return whole.unionByName(days).withColumns({
        "usage_key": F.col("_identity"),
        "meter_key": surrogate_key(meters, None),  # inferred members only, until meters have a feed
        "date_key": F.year(day) * 10000 + F.month(day) * 100 + F.dayofmonth(day),
        "usage_kwh": F.when(delivered, F.expr("try_cast(round(quantity, 2) AS decimal(10,2))")),
    })  # fmt: skip


def with_customer(rows: DataFrame, dim_rows: DataFrame, customers: Dimension, columns: Sequence[str]) -> DataFrame:
    """Fact rows with ``customer_key`` and the flags of the lookup, in the contract's columns.

    :param rows: facts with ``usage_date``; flags of an earlier lookup are taken off first.
    """
    found = version_of(rows, dim_rows, customers, day="usage_date", first_day="period_start")
    gap = (F.col("customer_key") == UNKNOWN_KEY) & F.col("customer_id").isNotNull()
    nothing = F.array().cast("array<string>")
    looked = F.concat(
        F.when(F.col(EARLY), F.array(F.lit(EARLY))).otherwise(nothing),
        F.when(gap, F.array(F.lit(GAP))).otherwise(nothing),
    )
    own = F.array_except("quality_flags", F.array(*[F.lit(n) for n in _LOOKED_UP]))
    flags = F.array_sort(F.concat(own, looked))
    return found.withColumn("quality_flags", flags).select(*columns)


# -- the step --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scope:
    """The reads from which facts are made anew.

    ``touched``: the identities concerned; None when ``reads`` are whole days of which no read was there before.
    ``days``: smallest and largest date_key; None for all. ``rows``: how many reads.
    """

    reads: DataFrame
    touched: DataFrame | None
    days: tuple[int, int] | None
    rows: int


def run_fact_usage(run: Run) -> StepResult:
    """Bring fact_usage to the standing reads and the customers' present history, in one commit."""
    house, fact = run.house, run.house.table(NAME)
    now = {n: house.table(n).version() for n in (READS, CUSTOMERS)}
    was = run.consumed.get(NAME, {})
    if was == now and fact.version() > 0:
        return StepResult(NAME, "skipped", version=fact.version(), consumed=now)
    scope = _scope(run, was, now)
    history_moved = was.get(CUSTOMERS, -1) < now[CUSTOMERS]
    fresh = None if scope is None else _fresh(run, scope, now)
    if scope is not None and scope.touched is None and not _holds(fact, scope.days, any_day=history_moved):
        run.say(f"{NAME}: adding the facts of new days", step=NAME)
        fact.append(fresh, note={"consumed": now}, rows_expected=scope.rows)  # type: ignore[arg-type]
        return StepResult(NAME, "ok", _added(fact), version=fact.version(), consumed=now)
    moved = _rekeyed(run, was, now) if history_moved and CUSTOMERS in was else None
    written = _merge(run, fact, scope, fresh, _gone(run, scope, now), moved, {"consumed": now})
    return StepResult(NAME, "ok" if written else "skipped", written, version=fact.version(), consumed=now)


def _scope(run: Run, was: dict[str, Any], now: dict[str, int]) -> Scope | None:
    """The reads of the identities that changed since the last time; None when none did."""
    reads = run.house.table(READS).read(now[READS])
    if READS not in was:
        everything = reads.select("_identity").distinct() if run.house.table(NAME).version() > 0 else None
        return Scope(reads, everything, None, reads.count())
    if was[READS] == now[READS]:
        return None
    changes = run.house.table(READS).changes(was[READS], now[READS])
    inserted = F.col("_change_type") == "insert"
    seen = changes.agg(
        F.count(F.when(inserted, 1)).alias("new"), F.count(F.when(~inserted, 1)).alias("gone"),
        F.date_sub(F.min("usage_date"), 1).alias("low"), F.date_add(F.max("usage_date"), 1).alias("high"),
    ).head()  # fmt: skip
    if seen is None or seen["low"] is None:
        return None
    days = (int(f"{seen['low']:%Y%m%d}"), int(f"{seen['high']:%Y%m%d}"))
    months = (f"{seen['low']:%Y-%m}", f"{seen['high']:%Y-%m}")
    scope = reads.where(
        F.col("usage_date").between(seen["low"], seen["high"]) & F.col("billing_period").between(*months)
    )
    if not seen["gone"] and scope.count() == seen["new"]:
        return Scope(scope, None, days, seen["new"])
    touched = _staged(run, changes.select("_identity").distinct(), "touched")
    return Scope(scope.join(F.broadcast(touched), "_identity", "left_semi"), touched, days, seen["new"])


def _holds(fact: Table, days: tuple[int, int] | None, *, any_day: bool) -> bool:
    """Whether the table holds a fact of these days (or any, when history moved and older facts may need new keys)."""
    if fact.version() <= 0:
        return False
    rows = fact.read() if any_day or days is None else fact.read().where(F.col("date_key").between(*days))
    return bool(rows.head(1))


def _fresh(run: Run, scope: Scope, now: dict[str, int]) -> DataFrame:
    customers, meters = _dimensions(run)
    made = facts(scope.reads, run.house.contracts[READS], run.zone, meters)
    columns = run.house.contracts[NAME].column_names
    return with_customer(made, run.house.table(CUSTOMERS).read(now[CUSTOMERS]), customers, columns)


def _gone(run: Run, scope: Scope | None, now: dict[str, int]) -> DataFrame | None:
    """Keys of the facts whose last read is gone."""
    if scope is None or scope.touched is None:
        return None
    standing = run.house.table(READS).read(now[READS]).select("_identity")
    everything = run.house.table(NAME).read().select(F.col("usage_key").alias("_identity"))
    known = everything if scope.days is None else scope.touched
    return known.join(standing, "_identity", "left_anti").select(F.col("_identity").alias("usage_key"))


def _dimensions(run: Run) -> tuple[Dimension, Dimension]:
    contracts = run.house.contracts
    return Dimension.from_contract(contracts[CUSTOMERS]), Dimension.from_contract(contracts[METERS])


def _staged(run: Run, frame: DataFrame, name: str) -> DataFrame:
    folder = str(run.stage / f"usage_{name}")
    frame.write.mode("overwrite").parquet(folder)
    return run.house.spark.read.schema(frame.schema).parquet(folder)


def _rekeyed(run: Run, was: dict[str, Any], now: dict[str, int]) -> DataFrame:
    """Facts whose lookup may have moved, looked up again: those in the intervals in which the history changed."""
    customers, _ = _dimensions(run)
    dim, fact = run.house.table(CUSTOMERS), run.house.table(NAME)
    shape = [*customers.key, customers.surrogate_key, customers.valid_from, customers.valid_to]
    before, after = dim.read(was[CUSTOMERS]).select(*shape), dim.read(now[CUSTOMERS]).select(*shape)
    keys = (
        before.join(after, shape[1:], "left_anti")
        .unionByName(after.join(before, shape[1:], "left_anti"))
        .select(*customers.key)
    )
    keys = _staged(run, keys.distinct(), "moved_keys")
    own = [f.join(F.broadcast(keys), list(customers.key), "left_semi") for f in (before, after)]
    intervals = _staged(run, affected_intervals(own[0], own[1], customers), "intervals")
    digits = F.col("date_key").cast("string")
    dated = fact.read().withColumn("usage_date", F.to_date(digits, "yyyyMMdd"))
    hit = concerned(dated, F.broadcast(intervals), customers, day="usage_date", first_day="period_start")
    return with_customer(hit, dim.read(now[CUSTOMERS]), customers, fact.contract.column_names)


def _merge(
    run: Run, fact: Table, scope: Scope | None, fresh: DataFrame | None, gone: DataFrame | None, moved: DataFrame | None,
    note: dict[str, Any],
) -> int:  # fmt: skip
    """Write the rows that are new, differ from the table's or must go; returns their number.

    Many new rows are appended first, as MERGE would shuffle them twice; that commit says nothing of what was consumed, so
    that a run that dies after it does the step again, and finds them equal.
    """
    columns = list(fact.contract.column_names)
    empty = local_frame(run.house.spark, [], fact.contract.struct())
    rows = _staged(run, empty if fresh is None else fresh, "fresh")
    present = fact.read()
    if scope is not None and scope.days is not None:
        present = present.where(F.col("date_key").between(*scope.days))
    appended = 0
    if scope is not None and scope.rows > MANY_ROWS:
        new = rows.join(present.select("usage_key"), "usage_key", "left_anti").select(*columns)
        rows = _staged(run, rows.join(present.select("usage_key"), "usage_key", "left_semi").select(*columns), "known")
        fact.append(new, note={})
        appended = _added(fact)
    if moved is not None:
        others = moved.join(rows.select("usage_key"), "usage_key", "left_anti")
        if gone is not None:
            others = others.join(gone, "usage_key", "left_anti")
        rows = _staged(run, rows.unionByName(others.select(*columns)), "wanted")
    staged = _staged(run, _differing(fact, rows, gone, columns), "changed")
    months: dict[str, int] = {r[0]: r[1] for r in staged.groupBy("billing_period").count().collect()}
    if not months:
        return appended
    listed = ", ".join(f"'{m}'" for m in sorted(months))
    fact.merge(
        staged,
        on=f"target.usage_key = source.usage_key AND target.billing_period IN ({listed})",
        clauses="WHEN MATCHED AND source._action = 'D' THEN DELETE WHEN MATCHED THEN UPDATE SET * "
        "WHEN NOT MATCHED AND source._action = 'U' THEN INSERT *",
        note=note,
    )
    return appended + sum(months.values())


def _differing(fact: Table, rows: DataFrame, gone: DataFrame | None, columns: Sequence[str]) -> DataFrame:
    """Complete rows that the table lacks or holds otherwise (``_action`` U) and those that must go (D)."""
    others = [n for n in columns if n != "usage_key"]
    old = fact.read().select("usage_key", *[F.col(n).alias(f"_old_{n}") for n in others])
    differs = F.lit(False)
    for name in others:
        differs = differs | ~F.col(name).eqNullSafe(F.col(f"_old_{name}"))
    compared = rows.join(old, "usage_key", "left")
    changed = compared.where(differs).select(*columns, F.lit("U").alias("_action"))
    if gone is None:
        return changed
    dead = fact.read().join(F.broadcast(gone), "usage_key", "left_semi").select(*columns, F.lit("D").alias("_action"))
    return changed.unionByName(dead)


def _added(fact: Table) -> int:
    metrics = dict(fact.history(1)[0]["metrics"])
    rows: int = int(str(metrics.get("numOutputRows", 0)))
    return rows
