"""Keep a dimension: rebuild the keys that changed, find the difference, write it as one MERGE of complete rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import reduce
from typing import Any, Protocol

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow.errors import UtilityFlowError
from utilityflow.parallel import for_threads
from utilityflow.scd2.difference import (
    ACTION,
    DELETE,
    FLIP,
    INSERT,
    MOVED,
    OLD,
    UPDATE,
    affected_intervals,
    compared,
)
from utilityflow.scd2.dimension import UNKNOWN_KEY, Dimension
from utilityflow.scd2.timeline import CONFLICTS, refusals, timeline, unknown_member, valid_on

Note = Mapping[str, Any] | None
ATTEMPTS = 4
KNOWN = "K"  # the action of the unknown member that stands already: every table but an empty one holds it
_CLAUSES = f"""
    WHEN MATCHED AND source.{ACTION} = '{DELETE}' THEN DELETE
    WHEN MATCHED AND source.{ACTION} = '{UPDATE}' THEN UPDATE SET *
    WHEN NOT MATCHED AND source.{ACTION} = '{INSERT}' THEN INSERT *"""


class Commit(Protocol):
    """What a write of the lakehouse answers."""

    @property
    def before(self) -> int:
        """Version of the table before it."""
    @property
    def after(self) -> int:
        """Version afterwards."""
    @property
    def metrics(self) -> Mapping[str, str]:
        """What the engine counted; may be empty."""
    @property
    def happened(self) -> bool:
        """Whether there is a new version."""


class Table(Protocol):
    """What the engine needs of a table of the lakehouse."""

    @property
    def name(self) -> str:
        """``layer.table``, for messages."""
    def version(self) -> int:
        """The newest version."""
    def read(self, version: int | None = None) -> DataFrame:
        """The rows, at a version."""
    def append(self, rows: DataFrame, *, batch: int | None = None, note: Note = None) -> Commit:
        """Append rows in one commit."""
    def merge(
        self, source: DataFrame, *, on: str, clauses: str, batch: int | None = None, note: Note = None, staged: bool = False
    ) -> Commit:
        """One MERGE, with the aliases ``target`` and ``source``; a ``staged`` source lies in files and may be read twice."""


@dataclass(frozen=True)
class Outcome:
    """What one ``apply`` did.

    :param inserted: rows, as ``updated`` and ``deleted``; all 0 when nothing had to change.
    :param conflicts: different upserts of the rebuilt keys at one time and sequence, beyond the one that won.
    :param commit: the last commit, None when there was none.
    :param before: key, surrogate key, from and to of the rebuilt keys' rows as they were; ``after``: as they are now.
    :param intervals: where facts find another version than before: see ``affected_intervals``. Computed on use, unless
        they were asked for with the call. All three lie in the scratch folder, so use them before that goes.
    """

    inserted: int
    updated: int
    deleted: int
    conflicts: int
    commit: Commit | None
    before: DataFrame = field(repr=False)
    after: DataFrame = field(repr=False)
    intervals: DataFrame = field(repr=False)
    attempts: int = 1

    @property
    def rows_written(self) -> int:
        """Rows inserted, updated or deleted."""
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True)
class _Work:
    """The arguments of one ``apply``, and what all its attempts share."""

    table: Table
    dimension: Dimension
    events: DataFrame
    keys: DataFrame | None
    needed: DataFrame | None
    zone: str
    as_of: date
    scratch: str
    spark: SparkSession = field(repr=False)
    intervals: bool
    idle: bool = False  # no key to rebuild: only the as-of date can change rows


def apply(
    table: Table,
    dimension: Dimension,
    events: DataFrame,
    keys: DataFrame | None,
    needed: DataFrame | None = None,
    *,
    zone: str,
    as_of: date,
    scratch: str,
    batch: int | None = None,
    note: Note = None,
    intervals: bool = False,
) -> Outcome:
    """Bring the dimension's table to what its standing events say.

    :param table: exists, in the contract's shape; an empty one also gets the unknown member.
    :param events: all standing events (see ``versions``), at least all those of ``keys``.
    :param keys: the keys to rebuild: those whose events, or whose need by facts, changed since the last time. None:
        all. Rows of other keys only follow the as-of date.
    :param needed: keys that standing facts need, at least those among ``keys``; None: none.
    :param scratch: folder for the staged difference, this call's own; the caller removes it afterwards.
    :param batch: strictly rising ledger number that makes the write idempotent; None: the diff alone does.
    :param intervals: find the affected intervals beside the write and keep them in ``scratch``, which is quicker than
        asking for them afterwards.
    :raises UtilityFlowError: UF-3004 two identities share a surrogate key (nothing is written); UF-3005 the table kept
        changing under our hands; UF-3007 the write was skipped although it was new.
    """
    work = _Work(table, dimension, events, keys, needed, zone, as_of, scratch.rstrip("/"), events.sparkSession, intervals)
    if keys is not None:
        few = _staged(_hashed(keys, dimension), f"{work.scratch}/keys")
        work = replace(work, keys=few, idle=few.isEmpty())
    total = {INSERT: 0, UPDATE: 0, DELETE: 0}
    before: DataFrame | None = None
    commit: Commit | None = None
    for attempt in range(1, ATTEMPTS + 1):
        version = table.version()
        staged = _stage(work, version, f"{work.scratch}/diff-{attempt}")
        before = staged.rows if commit is None or before is None else before
        if not staged.changes:
            return _outcome(work, total, staged, commit, before, attempt)
        with _looking(work, staged, attempt) as found:
            if staged.counts[INSERT]:
                _check_surrogate_keys(work, version, staged)
            if table.version() != version:
                continue
            written = _write(work, staged, batch if commit is None else None, note)
        if written is None:
            continue
        if not written.happened:
            if written.before != version:  # another writer left nothing for this difference to do
                continue
            message = f"{table.name}: the write of batch {batch} was skipped, yet it holds {staged.changes} changes"
            raise UtilityFlowError("UF-3007", message, hint="give each write a higher batch number than the last")
        commit = written
        done = _done(staged, written)
        # where nobody came between it did what was staged, whatever it says: rows of a task that ran again are counted again
        sure = staged.counts if (written.before, written.after) == (version, version + 1) else done or staged.counts
        total = {action: total[action] + sure[action] for action in total}
        if written.before == version and done == staged.counts:
            return _outcome(work, total, staged, commit, before, attempt, found.result() if found else None)
    message = f"{table.name} changed during each of {ATTEMPTS} attempts"
    raise UtilityFlowError("UF-3005", message, hint="one writer per dimension: end the other one and run again")


@dataclass(frozen=True)
class _Staged:
    """A difference written to Parquet, as ``compared`` gives it, and its counts."""

    rows: DataFrame
    changed: DataFrame
    counts: dict[str, int]
    conflicts: int
    into_empty: bool

    @property
    def changes(self) -> int:
        return sum(self.counts.values())


def _stage(work: _Work, version: int, folder: str) -> _Staged:
    d = work.dimension
    existing = _existing(work, work.table.read(version))
    if version <= 0:  # nothing was ever written; the optimizer then drops the join
        existing = existing.where(F.lit(False))
    unknown = F.col(d.surrogate_key) == F.lit(UNKNOWN_KEY)
    action = F.when(unknown, KNOWN).otherwise(F.col(ACTION))
    rows = _staged(compared(existing, _wanted(work), d).withColumn(ACTION, action), folder)
    found = rows.groupBy(ACTION).agg(F.count("*").alias("n"), F.sum(CONFLICTS).alias("conflicts")).collect()
    counts = {row[ACTION]: int(row["n"]) for row in found}
    conflicts = sum(int(row["conflicts"] or 0) for row in found)
    changed = rows.where(F.col(ACTION).isin(INSERT, UPDATE, DELETE))
    if counts.get(MOVED):
        moved = _staged(_moved(work, rows).withColumn(ACTION, F.lit(UPDATE)), f"{folder}-moved")
        counts[UPDATE] = counts.get(UPDATE, 0) + moved.count()
        changed = changed.unionByName(moved)
    changed = changed.select(*d.names, ACTION)
    if into_empty := KNOWN not in counts:
        changed = changed.unionByName(unknown_member(work.spark, d).withColumn(ACTION, F.lit(INSERT)))
        counts[INSERT] = counts.get(INSERT, 0) + 1
    counts = {name: counts.get(name, 0) for name in (INSERT, UPDATE, DELETE)}
    return _Staged(rows, changed, counts, conflicts, into_empty and not counts[UPDATE] + counts[DELETE])


def _wanted(work: _Work) -> DataFrame:
    """All rows that the keys to rebuild should have."""
    d = work.dimension
    if work.idle:
        nobody = unknown_member(work.spark, d).where(F.lit(False))
        return nobody.withColumn(CONFLICTS, F.lit(0).cast("bigint"))
    fit = refusals(work.events, d, zone=work.zone).where("_refused is null").drop("_refused")
    mine = _of_keys(fit, work)
    needed = None if work.needed is None else _of_keys(work.needed.select(*d.key), work)
    return timeline(mine, d, zone=work.zone, as_of=work.as_of, needed=needed)


def _of_keys(frame: DataFrame, work: _Work) -> DataFrame:
    return frame if work.keys is None else frame.join(work.keys, _same_key(work.dimension), "left_semi")


def _hashed(keys: DataFrame, d: Dimension) -> DataFrame:
    """Each key once, with the hash by which ``_same_key`` finds it."""
    distinct = keys.select(*(F.col(n).cast(d.types[n]).alias(f"_its_{n}") for n in d.key)).distinct()
    return distinct.withColumn("_hit", F.xxhash64(*distinct.columns))


def _same_key(d: Dimension) -> Column:
    """Rows belong to a key to rebuild. Spark looks them up by a 64-bit hash, in a third of the time that texts take; the
    keys themselves are compared by order, which no join can be planned by.
    """  # noqa: D205
    mine = {name: F.col(name).cast(d.types[name]) for name in d.key}
    same = F.xxhash64(*mine.values()) == F.col("_hit")
    for name, own in mine.items():
        same = same & (own <= F.col(f"_its_{name}")) & (own >= F.col(f"_its_{name}"))
    return same


def _existing(work: _Work, table: DataFrame) -> DataFrame:
    """Of the table the unknown member, the rows of the keys to rebuild, and (``_flip``) others whose ``is_current`` is of
    another day.
    """  # noqa: D205
    d = work.dimension
    if work.keys is None:
        return table
    unknown = F.col(d.surrogate_key) == F.lit(UNKNOWN_KEY)
    flips = F.col(d.current) != valid_on(d, F.col(d.valid_from), F.col(d.valid_to), work.zone, work.as_of)
    if work.idle:
        return table.where(unknown | flips).withColumn(FLIP, ~unknown)
    mine = F.col("_hit").isNotNull() | unknown
    found = table.join(work.keys, _same_key(d), "left").where(mine | flips).withColumn(FLIP, ~mine)
    return found.select(*d.names, FLIP)


def _moved(work: _Work, rows: DataFrame) -> DataFrame:
    """Equal rows whose named event no longer stands: they must lead to one that does. Others stay as they are."""
    d = work.dimension
    moved = rows.where(F.col(ACTION) == MOVED)
    names = [name for name in d.provenance if name in work.events.columns]
    if not names:
        return moved.limit(0)
    told = (F.col(name).cast(d.types[name]).alias(OLD + name) for name in names)
    standing = work.events.select(*d.key, *told)
    return moved.join(standing, [*d.key, *(OLD + name for name in names)], "left_anti")


def _check_surrogate_keys(work: _Work, version: int, staged: _Staged) -> None:
    """No new surrogate key may stand for two identities, among the inserts or between them and the table.

    :raises UtilityFlowError: UF-3004 with both identities.
    """
    d = work.dimension
    fresh, taken = staged.changed.where(F.col(ACTION) == INSERT), work.table.read(version)

    def together(shown: Callable[[DataFrame], DataFrame]) -> DataFrame:
        known = taken.join(fresh.select(d.surrogate_key), d.surrogate_key, "left_semi")
        return shown(fresh) if staged.into_empty else shown(fresh).unionAll(shown(known))

    # the usual question reads one column of the table
    keys = together(lambda rows: rows.select(d.surrogate_key)).groupBy(d.surrogate_key).agg(F.count("*").alias("n"))
    if not (doubles := keys.where("n > 1").orderBy(d.surrogate_key).limit(1).collect()):
        return
    # named by file and row where the table has them: a natural key may be personal data, and messages are logged
    names = (d.valid_from, *(d.provenance or d.key))
    said = [F.concat(F.lit(f" {name} "), F.coalesce(F.col(name).cast("string"), F.lit("-"))) for name in names]
    identity = F.concat(F.lit("the version with"), *said).alias("identity")
    key = doubles[0][d.surrogate_key]
    both = together(lambda rows: rows.where(F.col(d.surrogate_key) == F.lit(key)).select(d.surrogate_key, identity))
    row = both.agg(F.min("identity").alias("one"), F.max("identity").alias("other")).collect()[0]
    message = f"{work.table.name}: surrogate key {key} stands for {row['one']} and for {row['other']}"
    raise UtilityFlowError("UF-3004", message, hint="nothing was written; rename one of the two at its source")


@contextlib.contextmanager
def _looking(work: _Work, staged: _Staged, attempt: int) -> Iterator[Future[DataFrame] | None]:
    """Find the affected intervals, where they were asked for, beside the check and the write: Delta leaves cores idle."""
    if not work.intervals or attempt > 1:
        yield None
        return
    staging = for_threads(work.spark, _staged)
    with ThreadPoolExecutor(1, thread_name_prefix="intervals") as pool:
        yield pool.submit(staging, _intervals(work.dimension, staged.rows, staged.rows), f"{work.scratch}/intervals")


def _write(work: _Work, staged: _Staged, batch: int | None, note: Note) -> Commit | None:
    """One commit; None when another writer came between and the difference must be found anew."""
    if staged.into_empty:
        return work.table.append(staged.changed.drop(ACTION), batch=batch, note=note)
    key = work.dimension.surrogate_key
    try:
        on = f"target.{key} = source.{key}"
        return work.table.merge(staged.changed, on=on, clauses=_CLAUSES, batch=batch, note=note, staged=True)
    except Exception as error:
        if "Concurrent" in type(error).__name__ or "DELTA_CONCURRENT" in str(error):
            return None
        raise


def _done(staged: _Staged, commit: Commit) -> dict[str, int] | None:
    """What the commit says that it did; None where a MERGE does not say: then only another look can tell."""
    if staged.into_empty:  # an append: it writes what it was given
        return staged.counts
    names = {INSERT: "num_inserted_rows", UPDATE: "num_updated_rows", DELETE: "num_deleted_rows"}
    if not all(name in commit.metrics for name in names.values()):
        return None
    return {action: int(commit.metrics[name]) for action, name in names.items()}


def _outcome(
    work: _Work, total: dict[str, int], last: _Staged, commit: Commit | None, first: DataFrame, attempts: int,
    intervals: DataFrame | None = None,
) -> Outcome:  # fmt: skip
    """The intervals compare what stood before the first write with what the last one left."""
    return Outcome(
        inserted=total[INSERT],
        updated=total[UPDATE],
        deleted=total[DELETE],
        conflicts=last.conflicts,
        commit=commit,
        before=_before(first, work.dimension),
        after=_after(last.rows, work.dimension),
        intervals=_intervals(work.dimension, first, last.rows) if intervals is None else intervals,
        attempts=attempts,
    )


def _before(rows: DataFrame, d: Dimension) -> DataFrame:
    """The rows that compared ones stood for before, without the unknown member: key, surrogate key, from, to."""
    start, end = F.col("_old_from").alias(d.valid_from), F.col("_old_to").alias(d.valid_to)
    known = rows.where((F.col(ACTION) != KNOWN) & F.col("_old_from").isNotNull())
    return known.select(*d.key, d.surrogate_key, start, end)


def _after(rows: DataFrame, d: Dimension) -> DataFrame:
    """As ``_before``, afterwards."""
    known = rows.where(~F.col(ACTION).isin(KNOWN, DELETE))
    return known.select(*d.key, d.surrogate_key, d.valid_from, d.valid_to)


def _intervals(d: Dimension, first: DataFrame, last: DataFrame) -> DataFrame:
    """The affected intervals between two compared states; keys whose rows kept their times are not looked at."""
    same_times = F.col("_old_from").eqNullSafe(F.col(d.valid_from)) & F.col("_old_to").eqNullSafe(F.col(d.valid_to))
    states = [last] if first is last else [first, last]
    moved = [rows.where((F.col(ACTION) != KNOWN) & ((F.col(ACTION) == DELETE) | ~same_times)).select(*d.key) for rows in states]
    keys = reduce(DataFrame.unionByName, moved).distinct()
    before, after = (rows.join(keys, list(d.key), "left_semi") for rows in (_before(first, d), _after(last, d)))
    return affected_intervals(before, after, d)


def _staged(frame: DataFrame, folder: str) -> DataFrame:
    frame.write.mode("overwrite").option("compression", "snappy").parquet(folder)  # read soon, and gone soon
    return frame.sparkSession.read.schema(frame.schema).parquet(folder)

