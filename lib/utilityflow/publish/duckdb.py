"""The default target: one DuckDB file that is built beside, verified there and swapped in by rename.

A reader sees one publication or the next, never half; one that holds the old file open goes on reading it. The new file
starts as a copy of the old one in which only the changed partitions are replaced. It is signed (``gold.publication``)
after it agreed with the lakehouse, so a file with a number is a verified one.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from utilityflow.contracts import Column, Contract, duckdb_type
from utilityflow.control.publication import Publication, TableState
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import crash_point, rename
from utilityflow.publish import performance, twice
from utilityflow.publish.commits import DataFile
from utilityflow.publish.content import partition_name, partition_where

SCHEMA = "gold"
STANDS = "_stands"  # column of staged rows that moved: whether the row is there, or gone
_OWN = ("publication", "publication_tables")
_REPORTED = {"INT": "INTEGER", "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
_Config = dict[str, str | bool | int | float | list[str]]
_CONFIG: _Config = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}  # no network


@dataclass(frozen=True)
class Load:
    """What the target takes of one table: all of it, the partitions that changed, or only the rows that moved.

    ``changed``: the partitions that changed, None for the whole table. ``folder``: rows that were staged as plain Parquet
    files with the contract's columns. ``files``: data files of the lakehouse that are taken as they are, beside the staged
    rows where only rows move, in their place where the whole table is loaded. ``versions``: set where only rows move: the
    commits that the staged rows come from; with STANDS false they are rows that left.
    """

    contract: Contract
    state: TableState
    changed: frozenset[str] | None
    folder: Path
    files: tuple[DataFile, ...] = ()
    versions: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """Rows of what changed."""
        parts = self.state.partitions
        return sum(part.rows for name, part in parts.items() if self.changed is None or name in self.changed)

    @property
    def keeps(self) -> bool:
        """Whether rows of the old file stay."""
        moved = self.versions is not None
        return moved or (self.changed is not None and any(name not in self.changed for name in self.state.partitions))

    @property
    def staged(self) -> bool:
        """Whether there are rows to stage."""
        return bool(self.versions) if self.versions is not None else self.rows > 0 and not self.files


@dataclass(frozen=True)
class Contents:
    """What a file says of itself: its publication, and the columns of its tables as (name, type)."""

    number: int
    run_id: str
    hashes: Mapping[str, str]
    columns: Mapping[str, tuple[tuple[str, str], ...]]

    def holds(self, publication: Publication) -> bool:
        """Whether the file is that very publication (a number alone could be another lakehouse's)."""
        return (self.number, self.run_id) == (publication.number, publication.run_id) and dict(self.hashes) == {
            name: state.content_hash for name, state in publication.tables.items()
        }

    def fits(self, contract: Contract) -> bool:
        """Whether the file's table has the contract's columns."""
        return self.columns.get(contract.table) == tuple((c.name, _reported(c)) for c in contract.columns)


def _reported(column: Column) -> str:
    kind = duckdb_type(column.physical_type).replace(" ", "")
    return _REPORTED.get(kind, kind) + (" NOT NULL" if column.required else "")


def warehouse(home: Path) -> Path:
    """The file that consumers open."""
    return home / "warehouse" / "utilityflow.duckdb"


def beside(home: Path) -> Path:
    """The file that is built and verified before it becomes the warehouse."""
    return home / "warehouse" / "utilityflow.duckdb.next"


def _log_of(file: Path) -> Path:
    return file.with_name(file.name + ".wal")


# -- what is there ----------------------------------------------------------------------------------------------------


def contents(home: Path, file: Path) -> Contents | None:
    """What the file holds; None when it is missing, unfinished or cannot be read. Someone else may hold it open."""
    if not file.is_file() or (file == beside(home) and _log_of(file).exists()):
        return None
    with contextlib.suppress(duckdb.Error):
        return _contents(file)
    copy = home / "tmp" / f"read-{uuid.uuid4().hex}.duckdb"  # a writer keeps us out, a copy is free
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        return _contents(copy)
    except duckdb.Error:
        return None
    finally:
        copy.unlink(missing_ok=True)


def _contents(file: Path) -> Contents | None:
    # attached to a database in memory: a connection of its own to the path would be shared with one to a file that
    # a rename has since replaced
    with contextlib.closing(duckdb.connect(":memory:", config=_CONFIG)) as db:
        db.execute(f"ATTACH {_text(str(file))} AS held (READ_ONLY)")
        found = db.execute(
            "SELECT table_name, column_name, data_type || if(is_nullable, '', ' NOT NULL') FROM duckdb_columns() "
            "WHERE database_name = 'held' AND schema_name = ? ORDER BY table_name, column_index", [SCHEMA]
        ).fetchall()  # fmt: skip
        columns: dict[str, tuple[tuple[str, str], ...]] = {}
        for table, column, kind in found:
            columns[table] = (*columns.get(table, ()), (column, kind))
        if not set(_OWN) <= set(columns):
            return None
        signed = db.execute(f"SELECT publication, run_id FROM held.{SCHEMA}.publication").fetchall()
        hashes = db.execute(f"SELECT table_name, content_hash FROM held.{SCHEMA}.publication_tables").fetchall()
        return Contents(signed[0][0], signed[0][1], dict(hashes), columns) if len(signed) == 1 else None


def number(home: Path) -> int | None:
    """Number of the publication that the warehouse holds; None when there is none that can be read."""
    found = contents(home, warehouse(home))
    return found.number if found else None


def behind(home: Path, publication: Publication) -> bool:
    """Whether the warehouse is not (or not yet) that publication."""
    found = contents(home, warehouse(home))
    return found is None or not found.holds(publication)


# -- build and swap ---------------------------------------------------------------------------------------------------


def discard(home: Path) -> None:
    """Remove an unfinished file; the published one is not touched."""
    for file in (beside(home), _log_of(beside(home))):
        file.unlink(missing_ok=True)


def build(
    home: Path, publication: Publication, loads: Sequence[Load], *, on_base: bool, memory: str,
    runs: Sequence[performance.RunTable] = (),
) -> dict[str, int]:  # fmt: skip
    """Make the next file, verify it against the lakehouse's figures and sign it.

    :param loads: one per table of the publication.
    :param on_base: start from a copy of the published file, otherwise from nothing (then every load is a whole table).
    :param runs: the run tables, which the views over them show; none: neither.
    :param memory: bound of DuckDB's memory, for example ``1GB``; beyond it it spills under the home's ``tmp``.
    :returns: rows that were loaded, by table.
    :raises UtilityFlowError: UF-4002 naming table, check and both figures, or the memory that was too little; UF-4007 when
        the disk is full. The next file is gone then, the published one as it was.
    """
    file = beside(home)
    discard(home)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with crash_point("build warehouse"), _translated(memory):
            if on_base:
                shutil.copyfile(warehouse(home), file)
                file.chmod(0o600)
            with contextlib.closing(_connect(home, file, memory)) as db:
                loaded = _fill(db, publication, loads, runs)
            if _log_of(file).exists():
                raise UtilityFlowError("UF-4002", f"{file} could not be closed cleanly")
            file.chmod(0o600)
        return loaded
    except BaseException:
        discard(home)
        raise


def swap(home: Path) -> None:
    """Make the next file the warehouse, in one rename."""
    # the log of someone who opened the old file for writing must not be taken for the new file's
    _log_of(warehouse(home)).unlink(missing_ok=True)
    rename(beside(home), warehouse(home), "swap warehouse")


@contextlib.contextmanager
def _translated(memory: str) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        text = str(error).splitlines()[0]
        what = f"the warehouse could not be built in the memory that 'publish_memory' gives it ({memory}): {text}"
        hint = "raise 'publish_memory' in the settings, and look whether the home's disk has room for what DuckDB spills"
        raise UtilityFlowError("UF-4002", what, hint=hint) from error
    except duckdb.Error as error:
        text = str(error).splitlines()[0]
        code = "UF-4007" if "No space left" in str(error) or "Read-only file system" in str(error) else "UF-4002"
        raise UtilityFlowError(code, f"the warehouse could not be built: {text}") from error


def _connect(home: Path, file: Path, memory: str) -> duckdb.DuckDBPyConnection:
    spill = home / "tmp" / "duckdb"
    spill.parent.mkdir(parents=True, exist_ok=True)  # DuckDB makes the folder when it spills, and takes it away
    settings = {
        **_CONFIG,
        "memory_limit": memory,
        "threads": min(4, os.cpu_count() or 1),
        "temp_directory": str(spill),
        "preserve_insertion_order": False,
    }
    db = duckdb.connect(str(file), config=settings)
    db.execute("SET TimeZone = 'UTC'")
    return db


def _fill(
    db: duckdb.DuckDBPyConnection, publication: Publication, loads: Sequence[Load], runs: Sequence[performance.RunTable]
) -> dict[str, int]:
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    found = db.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = ?", [SCHEMA]).fetchall()
    there = {row[0] for row in found}
    for view in db.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = ?", [SCHEMA]).fetchall():
        db.execute(f'DROP VIEW {SCHEMA}."{view[0]}"')
    for table in there - {load.contract.table for load in loads}:
        db.execute(f'DROP TABLE {SCHEMA}."{table}"')
    known = _remember_keys(db, loads, there)
    loaded = {load.contract.name: _replace(db, load, load.contract.table in there) for load in loads}
    for load in loads:
        _check_totals(db, load)
        _check_key(db, load)
        _check_references(db, load, {other.contract.name for other in loads}, known)
    if any(load.contract.name == "gold.dim_customer" for load in loads):
        db.execute(
            f"CREATE VIEW {SCHEMA}.current_customers AS SELECT * FROM {SCHEMA}.dim_customer "
            "WHERE is_current AND customer_id <> '?'"
        )
    if any(load.contract.name == twice.MART for load in loads):
        twice.put(db, SCHEMA)
    if runs:
        performance.put(db, SCHEMA, runs)
    _sign(db, publication)
    db.execute("CHECKPOINT")
    return loaded


def _replace(db: duckdb.DuckDBPyConnection, load: Load, there: bool) -> int:
    """Take out what changed and put in what it became; returns the rows put in."""
    table = f'{SCHEMA}."{load.contract.table}"'
    staged = _staged(load)
    if not load.keeps or not there:
        db.execute(f"DROP TABLE IF EXISTS {table}")
        db.execute(load.contract.duckdb_ddl(SCHEMA))
    elif load.versions is not None and staged:
        same = " AND ".join(f'held."{name}" = moved."{name}"' for name in load.contract.primary_key)
        db.execute(f"DELETE FROM {table} AS held USING {staged} AS moved WHERE {same}")
    elif load.versions is None and load.changed:
        db.execute(f"DELETE FROM {table} WHERE {partition_where(load.contract, load.changed, 'duckdb')}")
    names = _names(load.contract.column_names)
    return sum(_count(db, f"INSERT INTO {table} ({names}) {source}") for source in _sources(load, load.contract.column_names))


def _sources(load: Load, columns: Sequence[str]) -> list[str]:
    """Queries for these columns of the rows to load, one for each place where they lie."""
    found = []
    if staged := _staged(load):
        only = f" WHERE {STANDS}" if load.versions is not None else ""
        found.append(f"SELECT {_names(columns)} FROM {staged}{only}")
    places: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
    for file in load.files:
        places.setdefault(file.values, []).append(str(file.path))
    for values, files in sorted(places.items(), key=str):
        # a data file does not hold the columns of its partition
        given = {name: "NULL" if value is None else _text(value) for name, value in values}
        shown = [f'{given[name]} AS "{name}"' if name in given else f'"{name}"' for name in columns]
        found.append(f"SELECT {', '.join(shown)} FROM {_parquet(files)}")
    return found


def _staged(load: Load) -> str:
    files = [str(file) for file in sorted(load.folder.glob("*.parquet"))]
    return _parquet(files) if files else ""


def _parquet(files: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(_text(f) for f in files)}], hive_partitioning = false)"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _sign(db: duckdb.DuckDBPyConnection, publication: Publication) -> None:
    db.execute(f"CREATE TABLE {SCHEMA}.publication (publication BIGINT, as_of DATE, time_zone VARCHAR, run_id VARCHAR)")
    columns = 'table_name VARCHAR, version BIGINT, "rows" BIGINT, content_hash VARCHAR'
    db.execute(f"CREATE TABLE {SCHEMA}.publication_tables ({columns})")
    for name, state in sorted(publication.tables.items()):
        db.execute(f"INSERT INTO {SCHEMA}.publication_tables VALUES (?, ?, ?, ?)",
                   [name, state.version, state.rows, state.content_hash])  # fmt: skip
    db.execute(f"INSERT INTO {SCHEMA}.publication VALUES (?, ?, ?, ?)",
               [publication.number, publication.as_of, publication.zone, publication.run_id])  # fmt: skip


# -- verify -----------------------------------------------------------------------------------------------------------


def _differs(name: str, check: str, here: object, there: object) -> UtilityFlowError:
    return UtilityFlowError("UF-4002", f"{name}: {check} {here} in the warehouse and {there} in the lakehouse")


def _check_totals(db: duckdb.DuckDBPyConnection, load: Load) -> None:
    """Rows and sums of every partition, the kept ones too, against what Spark counted at the pinned version."""
    contract, partitions = load.contract, load.state.partitions
    keys = [f'"{name}"::VARCHAR' for name in contract.partition_by]
    measures = {c.name: m for c in contract.columns if (m := _measure(c))}
    statement = f'SELECT {", ".join([*keys, "count(*)", *measures.values()])} FROM {SCHEMA}."{contract.table}"'
    found: dict[str, tuple[Any, ...]] = {}
    for row in db.execute(statement + (" GROUP BY " + ", ".join(keys) if keys else "")).fetchall():
        found[partition_name(contract.partition_by, row[: len(keys)])] = row[len(keys) :]
    for name in sorted({*found, *partitions}):
        place = f" of {name}" if name else ""
        rows, *totals = found.get(name, (0,))
        wanted = partitions[name].rows if name in partitions else 0
        if rows != wanted:
            raise _differs(contract.name, f"the number of rows{place} is", rows, wanted)
        for column, total in zip(measures, totals, strict=False):
            expected = partitions[name].sums.get(column)
            if expected is not None and not _same(total, expected, contract.column(column)):
                raise _differs(contract.name, f"the sum of {column}{place} is", total or 0, expected)


def _same(here: Any, there: Decimal, column: Column) -> bool:
    if column.type == "double":  # the sum of floating numbers depends on the order
        a, b = float(here or 0), float(there)
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    return Decimal(str(here or 0)) == there


def _measure(column: Column) -> str | None:
    """The sum that ``content.partition_hashes`` takes of the column, in DuckDB's SQL."""
    name, kind = f'"{column.name}"', column.type
    if kind in ("smallint", "int", "bigint", "double") or kind.startswith("decimal("):
        return f"sum({name})"
    return {
        "boolean": f"sum({name}::INT)",
        "date": f"sum({name} - DATE '1970-01-01')",
        "timestamp": f"sum(epoch_us({name})::HUGEINT)",
    }.get(kind)


def _scope(load: Load) -> str:
    """Condition for the rows that were loaded: of rows that moved within their partitions, as others need no look."""
    held = "true" if load.changed is None else f"({partition_where(load.contract, load.changed, 'duckdb')})"
    if load.versions is None:
        return held
    keys = _names(load.contract.primary_key)
    loaded = " UNION ALL ".join(_sources(load, load.contract.primary_key))
    return f"({held} AND ({keys}) IN (SELECT ({keys}) FROM ({loaded})))" if loaded else "false"


def _check_key(db: duckdb.DuckDBPyConnection, load: Load) -> None:
    """The loaded rows have one primary key each (that of a partitioned table determines the partition)."""
    key = ", ".join(f'"{name}"' for name in load.contract.primary_key)
    if not key or load.rows == 0:
        return
    doubled = _count(
        db, f'SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {SCHEMA}."{load.contract.table}" '
        f"WHERE {_scope(load)} GROUP BY {key} HAVING count(*) > 1)"
    )  # fmt: skip
    if doubled:
        plain = ", ".join(load.contract.primary_key)
        message = f"{load.contract.name}: {doubled} of the loaded rows have a primary key ({plain}) that another row has"
        raise UtilityFlowError("UF-4002", message)


def _references(contract: Contract) -> list[tuple[str, str, str]]:
    """Foreign keys as (column, referenced ``layer.table``, its column)."""
    pairs = (contract.property("foreignKeys") or {}).items()
    return [(column, *target.rsplit(".", 1)) for column, target in pairs]


def _remember_keys(db: duckdb.DuckDBPyConnection, loads: Sequence[Load], there: set[str]) -> dict[tuple[str, str], str]:
    """Keys of the referenced tables before they are replaced, in temporary tables."""
    known: dict[tuple[str, str], str] = {}
    replaced = {load.contract.name: load for load in loads if load.changed is None or load.changed}
    for load in loads:
        for _, target, key in _references(load.contract) if load.keeps else ():
            if target in replaced and (target, key) not in known and replaced[target].contract.table in there:
                known[target, key] = f"known_{len(known)}"
                db.execute(f'CREATE TEMP TABLE {known[target, key]} AS SELECT DISTINCT "{key}" AS key '
                           f'FROM {SCHEMA}."{replaced[target].contract.table}"')  # fmt: skip
    return known


def _check_references(
    db: duckdb.DuckDBPyConnection, load: Load, names: set[str], known: Mapping[tuple[str, str], str]
) -> None:
    """No orphans: among the loaded rows; among the kept ones when the referenced table lost a key that it had."""
    table = f'{SCHEMA}."{load.contract.table}"'
    for column, target, key in _references(load.contract):
        if target not in names:
            continue
        other = f'{SCHEMA}."{target.partition(".")[2]}"'
        present = "true" if load.contract.column(column).required else f'fact."{column}" IS NOT NULL'
        orphans = _count(
            db, f"SELECT count(*) FROM {table} AS fact ANTI JOIN {other} AS dim "
            f'ON fact."{column}" = dim."{key}" WHERE {present} AND {_scope(load)}'
        )  # fmt: skip
        if (target, key) in known:
            lost = f'(SELECT key FROM {known[target, key]} ANTI JOIN {other} AS dim ON key = dim."{key}")'
            if _count(db, f"SELECT count(*) FROM {lost}"):
                orphans += _count(
                    db, f"SELECT count(*) FROM {table} AS fact SEMI JOIN {lost} AS lost "
                    f'ON fact."{column}" = lost.key WHERE NOT {_scope(load)}'
                )  # fmt: skip
        if orphans:
            what = f"{load.contract.name}: {orphans} rows have a {column} that is not in {target}, 0 may"
            raise UtilityFlowError("UF-4002", what)


def _count(db: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = db.execute(statement).fetchone()
    return int(row[0]) if row else 0


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
