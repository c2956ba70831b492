"""The step of fact_usage: what changed among reads, the facts of new days, and the facts of reads that changed."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.control.news import news
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import CUSTOMERS, METERS, Grain, differing, members_at, rekeyed, whole, with_keys, write
from utilityflow.gold.days import date, number
from utilityflow.gold.facts import KINDS, facts, final_reads, losers
from utilityflow.lakehouse import FEW_ROWS, Table
from utilityflow.parallel import in_parallel
from utilityflow.session import file_by_file
from utilityflow.silver.duplicates import ORDER, repeated, told_again

NAME, READS = "gold.fact_usage", "silver.meter_reads"
LOOKED_UP = (CUSTOMERS, METERS)
GRAIN = Grain(NAME, READS, "usage_key", "billing_period", "period_start")
_DAY = dt.timedelta(days=1)


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
    """Bring fact_usage to the standing reads and the present history of customers and meters.

    The facts of new days are appended, and beside that it is found which others differ: those that the table lacks are
    appended too, and one MERGE replaces or deletes the rest (a MERGE that inserts would shuffle the table). Only the last
    commit says what was consumed, so a run that died between them is done again, and finds the appended facts equal.
    """
    house, fact = run.house, run.house.table(NAME)
    now = {n: house.table(n).version() for n in (READS, *LOOKED_UP)}
    was = run.consumed.get(NAME, {}) if fact.version() > 0 else {}  # a table made anew reflects nothing yet
    if was == now:
        return StepResult(NAME, "skipped", version=fact.version(), consumed=now)
    if was.keys() != now.keys():  # what a home of before lacks: every fact is looked up
        was = {}
    before = fact.version()
    scope = _scope(run, fact, was, now)
    moved = [name for name in LOOKED_UP if name in was and was[name] < now[name]]
    last = scope.touched is None and scope.identities is None and not moved

    def add() -> int:
        if scope.fresh is None:
            return 0
        run.say(f"{NAME}: adding the facts of new days", step=NAME)
        rows = _made(run, scope.fresh, now)
        first, final = scope.fresh.days
        with file_by_file(house.spark, scope.fresh.rows, (final - first).days + 1):
            fact.append(rows, note={"consumed": now} if last else {}, rows_expected=scope.fresh.rows)
        return fact.rows_appended()

    def find() -> DataFrame:
        return _changed(run, fact.read(before), scope, rekeyed(run, GRAIN, before, was, now, moved) if moved else None, now)

    work: list[Callable[[], Any]] = [add] if last else [add, find]
    written, *changed = in_parallel(house.spark, lambda job: job(), work)
    written += sum(write(GRAIN, fact, rows, now) for rows in changed)
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
    told = news(table, was[READS], now[READS])
    added, olds = _changes_by_day(told.rows, told.batch)
    days = sorted({day for day, _ in (*added, *olds)})
    if not days:
        return Scope(None, None, None, None)
    span = (days[0] - _DAY, days[-1] + _DAY)
    near = _on(reads, span)
    standing = _standing(near, added, told.batch)
    fresh = _fresh_days(added, olds, standing, _days_held(fact, span))
    others = [d for d in days if d not in fresh]
    whole = near.where(F.col("usage_date").isin(sorted(fresh))) if fresh else None
    part = None if whole is None else _part(whole, {k: n for k, n in standing.items() if k[0] in fresh})
    if not others:
        return Scope(part, None, None, None)
    identities = told.rows.where(F.col("usage_date").isin(others)).select("_identity").distinct()
    identities = run.staged(identities, "usage_touched")
    span = (others[0] - _DAY, others[-1] + _DAY)
    touched = _on(reads, span).join(F.broadcast(identities), "_identity", "left_semi")
    around = {k: n for k, n in standing.items() if span[0] <= k[0] <= span[1]}
    return Scope(part, _part(touched, around), identities, span)


def _by_day(reads: DataFrame) -> dict[tuple[dt.date, str], int]:
    """Rows by day and kind of period."""
    grouped = reads.groupBy("usage_date", "period_kind").agg(F.count(F.lit(1)).alias("n"))
    return {(r["usage_date"], r["period_kind"]): r["n"] for r in grouped.collect()}


def _standing(near: DataFrame, added: Mapping[tuple[dt.date, str], int], batch: int) -> dict[tuple[dt.date, str], int]:
    """Rows of ``near`` by day and kind: of files applied after ``batch`` all that stand were added; the others are counted.

    :param near: the reads on all days of ``added`` (as ``_changes_by_day`` gives it) and perhaps on others.
    """
    if not batch:
        return _by_day(near)
    standing = Counter(_by_day(near.where(F.col("_batch_id") <= batch)))
    standing.update(added)
    return dict(standing)


def _changes_by_day(
    changes: DataFrame, batch: int
) -> tuple[dict[tuple[dt.date, str], int], dict[tuple[dt.date, str], int]]:
    """By day and kind: reads of files applied after ``batch`` that were added and not taken out again; other changes.

    A file's repeated records are written and taken out again within one step: such a pair is no change. Where ``batch`` is not
    known (0), all reads count as added, less those that left: 0 where as many left as came, which need not be equal.
    """
    later = F.col("_batch_id") > batch
    sign = F.when(F.col("_change_type") == "insert", 1).otherwise(-1)
    grouped = changes.groupBy("usage_date", "period_kind").agg(
        F.sum(F.when(later, sign).otherwise(0)).alias("new"), F.count(F.when(~later, 1)).alias("old")
    )
    rows = grouped.collect()
    added = {(r["usage_date"], r["period_kind"]): r["new"] for r in rows if r["new"] or not batch}
    return added, {(r["usage_date"], r["period_kind"]): r["old"] for r in rows if r["old"]}


def _fresh_days(added: Mapping[tuple[dt.date, str], int], olds: Mapping[tuple[dt.date, str], int],
                standing: Mapping[tuple[dt.date, str], int], held: Collection[dt.date]) -> set[dt.date]:  # fmt: skip
    """Days of which every read is new, and none of whose reads can share an identity with a read of another day.

    A billed period of one day ends, and is dated, on the day after the one that a day's total of that identity is.

    :param added: less than 0 where more left than came, and it is not known of which files.
    """
    days = {day for day, _ in standing}
    whole = {
        d for d in days
        if d not in held and all(added.get((d, k), 0) == standing.get((d, k), 0) and not olds.get((d, k)) for k in KINDS)
    }  # fmt: skip

    def holds(day: dt.date, *kinds: str) -> bool:
        return any((day, k) in standing or (day, k) in olds or added.get((day, k), 0) < 0 for k in kinds)

    while True:
        left = {
            d for d in whole
            if (d + _DAY in whole or not holds(d + _DAY, "period"))
            and (d - _DAY in whole or not holds(d, "period") or not holds(d - _DAY, "day", "interval"))
        }  # fmt: skip
        if left == whole:
            return whole
        whole = left


def _facts_on(facts: DataFrame, span: tuple[dt.date, dt.date]) -> DataFrame:
    first, last = span
    within = F.col("date_key").between(number(first), number(last))
    return facts.where(within & F.col("billing_period").between(f"{first:%Y-%m}", f"{last:%Y-%m}"))


def _days_held(fact: Table, span: tuple[dt.date, dt.date]) -> set[dt.date]:
    """Days within the span of which the table holds facts already."""
    if fact.version() <= 0:
        return set()
    rows = _facts_on(fact.read(), span)
    keys = [r[0] for r in rows.select("date_key").distinct().collect()]
    return {date(k) for k in keys}


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
    contract = run.house.contracts[NAME]
    rows = whole(facts(_final(run, part), run.house.contracts[READS], run.zone, part.kinds), contract)
    return with_keys(rows, members_at(run, LOOKED_UP, now), contract.column_names, part.kinds)


def _final(run: Run, part: Part) -> DataFrame:
    """The final reads of a part; of many, who loses is staged, so that the engine knows how few they are."""
    contract = run.house.contracts[READS]
    if part.rows <= FEW_ROWS:
        return final_reads(part.reads, contract)
    known = run.repeated.get(READS)
    if known is not None and known.covers(part.days):
        told = known.records
    else:
        told = told_again(contract, part.reads, run.staged(repeated(contract, part.reads), "usage_repeated"))
    lost = run.staged(losers(told, contract), "usage_losers")
    return part.reads.join(lost, list(ORDER), "left_anti")


def _changed(
    run: Run, present: DataFrame, scope: Scope, moved: DataFrame | None, now: Mapping[str, int]
) -> DataFrame:
    """The facts of touched identities, as far as they differ, and the re-keyed ones: see ``differing``."""
    columns = run.house.contracts[NAME].column_names
    parts = []
    if scope.identities is not None:
        present = present if scope.days is None else _facts_on(present, scope.days)
        made = present.limit(0) if scope.touched is None else _made(run, scope.touched, now).select(*columns)
        wanted = run.staged(made, "usage_wanted")
        parts.append(differing(GRAIN, present, wanted, _gone(run, scope, scope.identities, wanted), columns))
        key = F.col("_identity").alias("usage_key")
        moved = None if moved is None else moved.join(F.broadcast(scope.identities.select(key)), "usage_key", "left_anti")
    parts += [] if moved is None else [moved]
    return run.staged(reduce(DataFrame.unionByName, parts), "usage_changed")


def _gone(run: Run, scope: Scope, touched: DataFrame, wanted: DataFrame) -> DataFrame:
    """Keys of the facts whose last read is gone: of the touched identities, or (days unknown) of all."""
    known = touched.select(F.col("_identity").alias("usage_key"))
    if scope.days is None:
        known = run.house.table(NAME).read().select("usage_key")
    return known.join(wanted.select("usage_key"), "usage_key", "left_anti")
