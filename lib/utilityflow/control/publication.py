"""The publication record, ``ops.publication``: which version of which table consumers see, with content hashes.

One row per publication and table, all rows of a publication in one commit: a publication is there whole or not at all.
The hashes are kept per partition, so that the next publication reads the changed partitions alone.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from utilityflow.control.tablelog import logs
from utilityflow.errors import UtilityFlowError
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from utilityflow.lakehouse import Commit, Lakehouse

TABLE = "ops.publication"


@dataclass(frozen=True)
class PartitionHash:
    """Content of one partition: rows, and the order-free sums of two independent 64-bit hashes of its rows.

    ``sums`` is what targets are checked with, no part of the content hash: the exact sum of each number, boolean (true
    is 1), date (days since 1970) and instant (microseconds since 1970) by column; nulls count as 0.
    """

    rows: int
    sum1: int
    sum2: int
    sums: Mapping[str, Decimal] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class TableState:
    """One table of a publication: Delta version, rows in all, content hash (64 hex digits), hashes by partition.

    ``commit`` identifies the commit behind the version, so that a table made anew with the same version number is
    not mistaken for the published one; empty when it is not known.
    """

    version: int
    rows: int
    content_hash: str
    partitions: Mapping[str, PartitionHash]
    commit: str = ""


@dataclass(frozen=True)
class Publication:
    """One publication: what consumers see. ``number`` rises by 1; ``tables`` by name (``gold.dim_customer``)."""

    number: int
    run_id: str
    as_of: dt.date
    zone: str
    tables: Mapping[str, TableState]


@dataclass(frozen=True)
class Recorded:
    """A publication as the way back needs it: content hashes of its tables, and versions of all tables of that time.

    ``versions`` by name, those of bronze, silver and the file ledger among them; empty where they were not recorded.
    ``identities``: the tables' own ids, which tables that were made anew do not share.
    """

    number: int
    run_id: str
    as_of: dt.date
    hashes: Mapping[str, str]
    versions: Mapping[str, int]
    identities: Mapping[str, str] = field(default_factory=dict)


def recorded(house: Lakehouse) -> list[Recorded]:
    """All publications, newest first."""
    table = house.table(TABLE)
    if table.version() <= 0:
        return []
    notes: dict[int, Mapping[str, Any]] = {}
    for note in table.notes():
        if isinstance(note.get("publication"), int) and isinstance(note.get("lakehouse"), dict):
            notes.setdefault(note["publication"], note)
    found: dict[int, Recorded] = {}
    for row in table.read().select("publication", "table_name", "content_hash", "as_of", "run_id").collect():
        number = int(row["publication"])
        told = notes.get(number, {})
        one = found.setdefault(number, Recorded(number, row["run_id"], row["as_of"], {}, told.get("lakehouse", {}),
                                                told.get("identities", {})))  # fmt: skip
        found[number] = replace(one, hashes={**one.hashes, row["table_name"]: row["content_hash"]})
    return sorted(found.values(), key=lambda one: -one.number)


def _tables_now(house: Lakehouse) -> dict[str, Any]:
    """Versions and identities of all tables that a way back has to know; nothing where they cannot be listed."""
    if "://" in house.root:
        return {}
    found = {n: log for n, log in logs(Path(house.root)).items() if not n.startswith("ops.") or n == "ops.file_ledger"}
    return {"lakehouse": {n: log.newest for n, log in found.items()}, "identities": {n: log.identity for n, log in found.items()}}


def last(house: Lakehouse) -> Publication | None:
    """The newest publication, None when nothing has been published yet (or the table is not there yet).

    :raises UtilityFlowError: UF-3003 when the record cannot be understood.
    """
    table = house.table(TABLE)
    version = table.version()
    if version <= 0:  # not there, or as it was created: empty
        return None
    note = table.note(version)
    commits = note.get("commits")
    if isinstance(note.get("publication"), int) and isinstance(commits, dict):
        rows = _rows_of_commit(Path(table.path), version)
        if rows:
            return _from_rows(rows, commits)
    # the newest commit is no publication: the first of the table, or maintenance; or it is not on a local disk
    frame = table.read(version)
    number = frame.agg({"publication": "max"}).collect()[0][0]
    if number is None:
        return None
    return _from_rows([row.asDict() for row in frame.where(f"publication = {int(number)}").collect()], {})


def _rows_of_commit(folder: Path, version: int) -> list[dict[str, Any]]:
    """Rows that this commit appended, read from its few files without a Spark job; [] when that cannot be done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    log = folder / "_delta_log" / f"{version:020d}.json"
    if not log.is_file():
        return []
    actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    if any("remove" in action or action.get("add", {}).get("deletionVector") for action in actions):
        return []
    files = [folder / unquote(action["add"]["path"]) for action in actions if "add" in action]
    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            rows += pq.ParquetFile(file, page_checksum_verification=True).read().to_pylist()
        except (OSError, pa.ArrowException) as error:
            hint = "utilityflow doctor names all damage and the way out"
            what = f"{TABLE}: the file {file} cannot be read: {type(error).__name__}"
            raise UtilityFlowError("UF-3003", what, hint=hint) from error
    return rows


def _from_rows(rows: Sequence[Mapping[str, Any]], commits: Mapping[str, str]) -> Publication:
    first = rows[0]
    try:
        tables = {
            row["table_name"]: TableState(
                int(row["version"]), int(row["rows"]), row["content_hash"], _decode(row["partitions"]),
                str(commits.get(row["table_name"], "")),
            )
            for row in sorted(rows, key=lambda r: str(r["table_name"]))
        }  # fmt: skip
    except (ValueError, TypeError, ArithmeticError) as error:
        what = f"{TABLE}: publication {first['publication']} cannot be read: {error}"
        raise UtilityFlowError("UF-3003", what) from None
    return Publication(int(first["publication"]), first["run_id"], first["as_of"], first["time_zone"], tables)


def rows_of(publication: Publication) -> list[dict[str, Any]]:
    """The publication as rows of ``ops.publication``, by table name."""
    return [
        {
            "publication": publication.number,
            "table_name": name,
            "version": state.version,
            "rows": state.rows,
            "content_hash": state.content_hash,
            "partitions": _encode(state.partitions),
            "as_of": publication.as_of,
            "time_zone": publication.zone,
            "run_id": publication.run_id,
        }
        for name, state in sorted(publication.tables.items())
    ]


def write(house: Lakehouse, publication: Publication) -> Commit:
    """Commit the publication: from here on it is what consumers see. Creates the table when it is not there.

    :raises UtilityFlowError: UF-3007 when the lakehouse already holds a publication of that number.
    """
    table = house.table(TABLE)
    table.ensure()
    names = table.contract.column_names
    data = [tuple(row[name] for name in names) for row in rows_of(publication)]
    frame = local_frame(house.spark, data, table.contract.struct())
    commits = {name: state.commit for name, state in publication.tables.items() if state.commit}
    note = {"publication": publication.number, "commits": commits, **_tables_now(house)}
    commit = table.append(frame, batch=publication.number, note=note)
    if not commit.happened:
        raise UtilityFlowError("UF-3007", f"publication {publication.number} was already committed by another run")
    return commit


def _encode(partitions: Mapping[str, PartitionHash]) -> str:
    value = {
        name: [part.rows, part.sum1, part.sum2, {column: str(total) for column, total in part.sums.items()}]
        for name, part in sorted(partitions.items())
    }
    return json.dumps(value, separators=(",", ":"))


def _decode(text: str) -> dict[str, PartitionHash]:
    result = {}
    for name, (rows, sum1, sum2, *more) in json.loads(text).items():
        sums = {column: Decimal(total) for column, total in (more[0] if more else {}).items()}
        result[name] = PartitionHash(int(rows), int(sum1), int(sum2), sums)
    return result
