"""What was published is what is there: content hashes at the pinned versions, and the warehouse file's rows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb

from utilityflow.contracts import Column, Contract
from utilityflow.control.publication import PartitionHash, Publication
from utilityflow.operate.checks.base import Check, Evidence, Found, named
from utilityflow.publish import duckdb as target
from utilityflow.publish.content import content_hash, partition_hashes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NOTHING = Found(skipped="nothing has been published yet")


def hashes_are_published(evidence: Evidence) -> Found:
    """The content hashes of the published versions, computed anew, are those of the record."""
    scene, publication = evidence.scene, evidence.scene.publication
    if publication is None:
        return NOTHING

    def offenders() -> Iterator[str]:
        for name, state in publication.tables.items():
            table = scene.house.table(name)
            if table.version() < state.version:
                yield f"{name}: version {state.version} is published, the table ends with version {table.version()}"
                continue
            yield from differing(name, table.read(state.version), table.contract, state.partitions)

    return named(offenders())


def differing(name: str, rows: DataFrame, contract: Contract, published: Mapping[str, PartitionHash]) -> Iterator[str]:
    """Partitions of a table whose content is not the published one."""
    found = partition_hashes(rows, contract)
    if content_hash(found) == content_hash(published):
        return
    for part in sorted({*found, *published}):
        here, there = found.get(part), published.get(part)
        if here != there:
            place = f" {part}" if part else ""
            told = f"{there.rows if there else 0} rows published, {here.rows if here else 0} there"
            yield f"{name}{place}: the content is not what was published ({told})"


def warehouse_agrees(evidence: Evidence) -> Found:
    """The warehouse file holds the last publication: its number, and rows and sums of every table."""
    scene, publication = evidence.scene, evidence.scene.publication
    if publication is None:
        return NOTHING
    file = target.warehouse(scene.home.path)
    held = target.contents(scene.home.path, file)
    if held is None:
        return named([f"{file} is missing or cannot be read; publication {publication.number} should be there"])
    if not held.holds(publication):
        return named([f"{file} holds publication {held.number}, the last one is {publication.number}"])
    with contextlib.closing(duckdb.connect(":memory:")) as db:
        db.execute(f"ATTACH '{str(file).replace(chr(39), chr(39) * 2)}' AS held (READ_ONLY)")
        contracts = scene.contracts
        return named(line for name in publication.tables for line in totals_differ(db, contracts[name], publication))


def totals_differ(db: duckdb.DuckDBPyConnection, contract: Contract, publication: Publication) -> Iterator[str]:
    """Rows and sums of one table of the file against the record."""
    state = publication.tables[contract.name]
    measured = [(c, m) for c in contract.columns if (m := _measure(c))]
    statement = (
        f'SELECT count(*), {", ".join(m for _, m in measured) or "0"} FROM held.{target.SCHEMA}."{contract.table}"'
    )
    rows, *totals = db.execute(statement).fetchone() or (0,)
    if rows != state.rows:
        yield f"{contract.name}: {rows} rows in the warehouse, {state.rows} were published"
    for (column, _), total in zip(measured, totals, strict=False):
        sums = [p.sums[column.name] for p in state.partitions.values() if column.name in p.sums]
        if sums and not _same(total, sum(sums, Decimal(0)), column):
            told = f"{total or 0} in the warehouse, {sum(sums)} was published"
            yield f"{contract.name}: the sum of {column.name} is {told}"


def _measure(column: Column) -> str | None:
    name, kind = f'"{column.name}"', column.type
    if kind in ("smallint", "int", "bigint", "double") or kind.startswith("decimal("):
        return f"sum({name})"
    return {"boolean": f"sum({name}::INT)", "date": f"sum({name} - DATE '1970-01-01')",
            "timestamp": f"sum(epoch_us({name})::HUGEINT)"}.get(kind)  # fmt: skip


def _same(here: Any, there: Decimal, column: Column) -> bool:
    if column.type == "double":
        return math.isclose(float(here or 0), float(there), rel_tol=1e-9, abs_tol=1e-9)
    return Decimal(str(here or 0)) == there


CHECKS = (
    Check("published.hashes", 7, "the published versions have the published content hashes", hashes_are_published),
    Check("published.warehouse", 7, "the warehouse holds the last publication", warehouse_agrees),
)
