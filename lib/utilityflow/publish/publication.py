"""One publication: find what changed, build the target beside and verify it, commit the record, swap.

The order is what makes it safe to be killed anywhere. Before the record is committed consumers see the last
publication, and the next run does the work again; afterwards the next run finds the target behind and swaps it in
(``catch_up``).
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from utilityflow.control import publication as record
from utilityflow.control.publication import PartitionHash, Publication, TableState
from utilityflow.errors import UtilityFlowError
from utilityflow.parallel import in_parallel
from utilityflow.publish import duckdb as target
from utilityflow.publish import pages, performance
from utilityflow.publish.commits import DataFile, Moves, changed_partitions, commit_id, moves, same_rows, whole_files
from utilityflow.publish.content import (
    conform,
    content_hash,
    merged,
    partition_hashes,
    restrict,
    with_added,
    with_changes,
)
from utilityflow.publish.duckdb import STANDS, Load

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from utilityflow.lakehouse import Lakehouse, Table

Progress = Callable[[str], None]
_ROWS_PER_FILE = 500_000
_MOST_FILES = 8
# the ways in which a target was built: on a copy of the published one, where rows of it stay; from nothing, where there is none
# or nothing stays; from nothing after a copy had been tried, which did not agree or could not be filled
ON_COPY, ANEW = "on a copy of the published file", "from nothing"
GIVEN_UP = "from nothing, as a copy was tried and given up"
MANY_ROWS = 500_000  # changed partitions of so many rows are not read whole: the change feed tells what they lost and gained


@dataclass(frozen=True)
class Prepared:
    """A publication that lies verified beside the published one; ``finish`` makes it seen.

    ``loaded``: rows that were loaded by table, 0 for a table that had not changed. ``way``: ON_COPY, ANEW or GIVEN_UP.
    """

    house: Lakehouse
    home: Path
    publication: Publication
    loaded: Mapping[str, int]
    way: str


@dataclass(frozen=True)
class Outcome:
    """What was published, how many rows of each table had to be loaded for it, and in which way the target was built."""

    publication: Publication
    loaded: Mapping[str, int]
    way: str


@dataclass(frozen=True)
class _Change:
    """What became of a table: ``changed`` partitions (None: take all), and by which ``moves`` of rows if that is known."""

    name: str
    state: TableState
    changed: frozenset[str] | None
    moves: Moves | None = None


def publish(
    house: Lakehouse, home: Path, names: Sequence[str], *, as_of: dt.date, zone: str, run_id: str,
    memory: str = "1GB", progress: Progress | None = None,
) -> Outcome | None:  # fmt: skip
    """``prepare`` and ``finish`` in one; None when there is nothing to publish."""
    prepared = prepare(house, home, names, as_of=as_of, zone=zone, run_id=run_id, memory=memory, progress=progress)
    return finish(prepared) if prepared else None


def prepare(
    house: Lakehouse, home: Path, names: Sequence[str], *, as_of: dt.date, zone: str, run_id: str,
    memory: str = "1GB", held: Collection[str] = (), progress: Progress | None = None,
) -> Prepared | None:  # fmt: skip
    """Build and verify the next publication beside the published one. Commits nothing.

    :param names: the gold tables to publish, ``gold.<table>``.
    :param held: of these, the ones whose step failed: they stay as they are published, or unpublished. Where one has moved
        since, or needs a member whose key has moved, nothing is published.
    :returns: None when all tables have the content that is published already (the target is brought up to it if it was
        behind).
    :raises UtilityFlowError: UF-4002 when the target does not agree with the lakehouse, or a held table has moved; UF-3003
        for a table that is not there; UF-4007 when the disk is full.
    """
    tell = progress or _silent
    before = record.last(house)
    lost = before is not None and not _recovered(house, home, before, memory, tell)
    known = before.tables if before else {}
    _require_unmoved(house, sorted(set(names) & set(held)), known)
    changes = in_parallel(house.spark, lambda name: _change(house, name, known.get(name)), sorted(set(names) - set(held)))
    changes += [_Change(name, known[name], frozenset()) for name in sorted(set(names) & set(held) & set(known))]
    if not changes:
        return None
    states = {change.name: change.state for change in changes}
    if before and not lost and {n: s.content_hash for n, s in states.items()} == {
        n: s.content_hash for n, s in known.items()
    }:
        target.discard(home)
        return None
    publication = Publication(before.number + 1 if before else 1, run_id, as_of, zone, states)
    for change in changes:
        tell(f"publication {publication.number}: {_told(change)}")
    loaded, way = _build(house, home, publication, changes, before if not lost else None, memory, tell)
    return Prepared(house, home, publication, loaded, way)


def finish(prepared: Prepared) -> Outcome:
    """Commit the publication record and swap the target in.

    :raises UtilityFlowError: UF-3007 when a publication of that number is there already.
    """
    with prepared.house.fenced():  # a writer that was frozen and replaced must not come late
        record.write(prepared.house, prepared.publication)
        target.swap(prepared.home)
    return Outcome(prepared.publication, prepared.loaded, prepared.way)


def catch_up(
    house: Lakehouse, home: Path, publication: Publication, *, memory: str = "1GB", progress: Progress | None = None
) -> bool:
    """Bring a target that is behind (or missing, or damaged) up to the published state.

    A verified file of that publication that lies beside is swapped in; otherwise it is built from its versions.

    :returns: whether there was something to do.
    """
    if not target.behind(home, publication):
        return False
    tell = progress or _silent
    beside = target.contents(home, target.beside(home))
    if beside is None or not beside.holds(publication):
        tell(f"publication {publication.number}: the warehouse is missing or behind, building it anew")
        whole = [_Change(name, state, None) for name, state in sorted(publication.tables.items())]
        _build(house, home, publication, whole, None, memory, tell)
    with house.fenced():
        target.swap(home)
    return True


def _recovered(house: Lakehouse, home: Path, before: Publication, memory: str, tell: Progress) -> bool:
    """Whether the target now is the last publication; False when its versions cannot be read any more."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    try:
        catch_up(house, home, before, memory=memory, progress=tell)
    except (PySparkException, Py4JJavaError):  # vacuumed, or a table was made anew: only a new publication helps
        tell(f"publication {before.number} cannot be read any more and is replaced by a new one")
        return False
    except UtilityFlowError as error:
        if error.code != "UF-4002":
            raise
        tell(f"publication {before.number} cannot be built again and is replaced by a new one: {error.message}")
        return False
    return True


def _require_unmoved(house: Lakehouse, held: Sequence[str], known: Mapping[str, TableState]) -> None:
    """What is published of a table is what stands, so that a way back finds it: a step that failed half-way blocks all.

    That the table gained a column is no move: its rows stand as they were.
    """
    for name in held:
        table, state = house.table(name), known.get(name)
        if state is None:
            same = table.version() <= 0 or same_rows(table, 0)
        else:
            same = same_rows(table, state.version) and state.commit in ("", commit_id(table, state.version))
        if not same:
            what = f"{name} is not as it was published last, and its step failed"
            raise UtilityFlowError("UF-4002", what, hint="mend what made the step fail and run again")


# -- what changed -----------------------------------------------------------------------------------------------------


def _change(house: Lakehouse, name: str, published: TableState | None) -> _Change:
    """State of the table now and the partitions that its commits touched since it was published (None: take all)."""
    table = house.table(name)
    version = table.version()
    if version < 0:
        raise UtilityFlowError("UF-3003", f"{name} is to be published but does not exist")
    # a table made anew counts its versions from 0 again: the commit behind the published version must still be the same
    same = published is not None and published.commit != "" and commit_id(table, published.version) == published.commit
    changed = changed_partitions(table, published.version, version) if published and same else None
    moved = _moves(table, published, changed, version) if published and changed is not None else None
    if published and moved is not None:
        parts = followed(table, published.partitions, moved)
    elif published and changed is not None:
        hashes = partition_hashes(table.read(version), table.contract, changed) if changed else {}
        parts = merged(published.partitions, changed, hashes)
    else:
        parts = partition_hashes(table.read(version), table.contract)
    rows = sum(part.rows for part in parts.values())
    state = TableState(version, rows, content_hash(parts), parts, commit_id(table, version))
    return _Change(name, state, frozenset(changed) if changed is not None else None, moved)


def _moves(table: Table, published: TableState, changed: set[str], version: int) -> Moves | None:
    """The rows that moved since, where following them is cheaper than reading the changed partitions, and possible."""
    contract = table.contract
    held = sum(part.rows for name, part in published.partitions.items() if name in changed)
    inexact = any(column.type == "double" for column in contract.columns)
    if not changed or held < MANY_ROWS or inexact or not contract.primary_key or not contract.property("changeFeed"):
        return None
    return moves(table, published.version, version) if table.tells_changes(published.version) else None


def followed(table: Table, before: Mapping[str, PartitionHash], moved: Moves) -> Mapping[str, PartitionHash]:
    """The hashes and sums of a table after rows moved: those of new files as the rows lie there (the change feed would hand
    them on at twice the cost), of the other commits by the change feed.
    """  # noqa: D205
    parts = before
    if moved.files:
        parts = with_added(parts, _rows_of(table, moved.files), table.contract)
    if moved.versions:
        parts = with_changes(parts, _changes_of(table, moved.versions), table.contract)
    return parts


def _rows_of(table: Table, files: Sequence[DataFile]) -> DataFrame:
    """The rows of data files, with their partition columns."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import StructType

    shape = table.read().schema
    kinds = {f.name: f.dataType for f in shape}
    inside = StructType([f for f in shape if f.name not in table.contract.partition_by])
    paths: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
    for file in files:
        paths.setdefault(file.values, []).append(str(file.path))
    reader = table.house.spark.read.schema(inside).option("recursiveFileLookup", "true")  # folders' names are no columns here
    frames = [
        reader.parquet(*found).withColumns({name: F.lit(value).cast(kinds[name]) for name, value in values})
        for values, found in paths.items()
    ]
    return reduce(lambda a, b: a.unionByName(b), frames)


def _changes_of(table: Table, versions: Sequence[int]) -> DataFrame:
    """What the change feed tells of these commits."""
    return reduce(lambda a, b: a.unionByName(b), (table.changes(v - 1, v) for v in versions))


def _told(change: _Change) -> str:
    count = len(change.state.partitions)
    if change.changed is None:
        return f"{change.name}, whole, {change.state.rows:,} rows"
    if not change.changed:
        return f"{change.name}, unchanged, {change.state.rows:,} rows"
    rows = sum(change.state.partitions[p].rows for p in change.changed if p in change.state.partitions)
    if change.moves is not None:
        return f"{change.name}, {len(change.changed)} of {count} partitions changed by rows, {change.state.rows:,} rows"
    return f"{change.name}, {len(change.changed)} of {count} partitions changed, {rows:,} of {change.state.rows:,} rows"


# -- stage and build --------------------------------------------------------------------------------------------------


def _build(
    house: Lakehouse, home: Path, publication: Publication, changes: Sequence[_Change], base: Publication | None,
    memory: str, tell: Progress,
) -> tuple[dict[str, int], str]:  # fmt: skip
    """Stage and build, on a copy of the published file where that saves work; if that does not agree, from nothing.

    :returns: rows that were loaded, by table, and the way: ON_COPY, ANEW or GIVEN_UP.
    """
    way = ANEW
    held = target.contents(home, target.warehouse(home)) if base else None
    if held is not None and base is not None and held.holds(base):
        loads = [_load(house, home, c, c.changed if held.fits(house.contracts[c.name]) else None) for c in changes]
        if any(load.keeps for load in loads):
            try:
                return _build_from(house, home, publication, loads, True, memory), ON_COPY
            except UtilityFlowError as error:
                if error.code != "UF-4002":
                    raise
                tell(f"publication {publication.number}: building anew, the copy did not agree: {error.message}")
                way = GIVEN_UP
    return _build_from(house, home, publication, [_load(house, home, c, None) for c in changes], False, memory), way


def _load(house: Lakehouse, home: Path, change: _Change, changed: frozenset[str] | None) -> Load:
    """What to load: the rows that moved, the changed partitions, or the whole table."""
    table, folder = house.table(change.name), home / "tmp" / "publish" / change.name
    if changed is not None and change.moves is not None:
        return Load(table.contract, change.state, changed, folder, change.moves.files, change.moves.versions)
    files = whole_files(table, change.state.version) if changed is None else ()
    return Load(table.contract, change.state, changed, folder, files)


def _build_from(
    house: Lakehouse, home: Path, publication: Publication, loads: Sequence[Load], on_base: bool, memory: str
) -> dict[str, int]:
    staging = home / "tmp" / "publish"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with house.door("stage warehouse"):
            staging.mkdir(parents=True)
            in_parallel(house.spark, lambda load: _stage(house, load), [load for load in loads if load.staged])
            runs = performance.run_tables(house, staging)
            for load in loads:  # DuckDB reads these itself, and does not compare checksums
                pages.require(load.contract.name, [file.path for file in load.files])
        return target.build(home, publication, loads, on_base=on_base, memory=memory, runs=runs)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stage(house: Lakehouse, load: Load) -> None:
    """Write the rows to load as few plain Parquet files: the contract's columns in its order, instants in UTC.

    Of rows that moved also those that left, ``STANDS`` false: each key once, as its last change left it.
    """
    table = house.table(load.contract.name)
    if load.versions is None:
        rows = conform(restrict(table.read(load.state.version), load.contract, load.changed), load.contract)
        files = min(_MOST_FILES, load.rows // _ROWS_PER_FILE + 1)
    else:
        rows, files = _last_changes(table, load.versions), 1
    rows.coalesce(files).write.option("compression", "snappy").parquet(str(load.folder))


def _last_changes(table: Table, versions: Sequence[int]) -> DataFrame:
    from pyspark.sql import functions as F

    told = _changes_of(table, versions)
    stands = F.col("_change_type").isin("insert", "update_postimage")
    row = F.struct(*table.contract.column_names, stands.alias(STANDS))
    key = [F.col(name).alias(f"_key_{name}") for name in table.contract.primary_key]
    last = told.groupBy(*key).agg(F.max_by(row, F.struct("_commit_version", stands)).alias("_last"))
    return last.select("_last.*")


def _silent(_: str) -> None:
    return None
