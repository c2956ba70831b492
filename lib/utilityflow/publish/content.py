"""The content hash of a table, per partition and free of row order, and which partitions a table's commits changed.

A row is encoded without ambiguity. Spark's ``xxhash64`` of several columns hashes each value with the hash of those
before it as seed; texts and decimals beyond 18 digits go in with their length, all other types have a fixed width. What
it lacks is nulls (it skips them), so a bit mask of the nulls goes first, and arrays bring their size and their nulls.

The two hashes of a row start from different seeds and take the columns in opposite order. A pair of rows collides in
such a chain when the states before some column differ just so that the values of that column cancel the difference;
with another seed and the opposite order the states there are other 64-bit values, so that a collision of one hash says
nothing about the other: both collide by chance with 2^-128. (Not cryptographic: they find errors, not forgers.)

Published hashes are compared with later ones: a change of the encoding needs all partitions hashed anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote

from utilityflow.contracts import Column, Contract, sql_text
from utilityflow.control.publication import PartitionHash

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression
    from pyspark.sql import DataFrame

    from utilityflow.lakehouse import Table

__all__ = [
    "PartitionHash", "changed_partitions", "commit_id", "conform", "content_hash", "merged", "partition_hashes",
    "partition_name", "partition_where", "restrict",
]  # fmt: skip

_SEEDS = (0x5DEECE66D1CE4E5B, -0x61C8864680B583EB)
_MASK_BITS = 60
_LOW = 0xFFFFFFFF
_INTEGERS = {"smallint", "int", "bigint"}


def content_hash(parts: Mapping[str, PartitionHash]) -> str:
    """64 hex digits over the sorted partitions; the same for the same rows, whatever their order and files."""
    lines = [f"{name}\t{part.rows}\t{part.sum1}\t{part.sum2}\n" for name, part in sorted(parts.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def merged(
    before: Mapping[str, PartitionHash], changed: Collection[str], now: Mapping[str, PartitionHash]
) -> dict[str, PartitionHash]:
    """Hashes of a table whose partitions ``changed`` became ``now``; a changed one that is missing there is gone."""
    return {name: part for name, part in before.items() if name not in changed} | dict(now)


# -- partitions -------------------------------------------------------------------------------------------------------


def partition_name(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """``a=1/b=x``, values as Delta writes them, percent-quoted, null as nothing; ``""`` without partition columns."""
    return "/".join(f"{c}={quote(v, safe='') if v else ''}" for c, v in zip(columns, values, strict=True))


def partition_where(contract: Contract, partitions: Collection[str], dialect: Literal["spark", "duckdb"]) -> str:
    """SQL condition that selects exactly these partitions; it prunes files."""
    if not contract.partition_by:
        return "true" if partitions else "false"
    mark = "`" if dialect == "spark" else '"'

    def term(name: str, value: str) -> str:
        text = unquote(value)
        if not text:
            return f"{mark}{name}{mark} IS NULL"
        literal = sql_text(text) if dialect == "spark" else "'" + text.replace("'", "''") + "'"
        kind = contract.column(name).type
        return f"{mark}{name}{mark} = " + (literal if kind == "string" else f"CAST({literal} AS {kind})")

    conditions = []
    for partition in sorted(partitions):
        pairs = [item.partition("=") for item in partition.split("/")]
        conditions.append(" AND ".join(term(name, value) for name, _, value in pairs))
    return " OR ".join(f"({c})" for c in conditions) or "false"


def restrict(frame: DataFrame, contract: Contract, partitions: Collection[str] | None) -> DataFrame:
    """The rows of these partitions; all for None."""
    return frame if partitions is None else frame.where(partition_where(contract, partitions, "spark"))


def conform(frame: DataFrame, contract: Contract) -> DataFrame:
    """The contract's columns in its order and types; one that this (older) version of the table lacks is null."""
    from pyspark.sql import functions as F

    there = set(frame.columns)
    return frame.select(
        *[(F.col(c.name) if c.name in there else F.lit(None)).cast(c.type).alias(c.name) for c in contract.columns]
    )


# -- hashes -----------------------------------------------------------------------------------------------------------


def partition_hashes(
    frame: DataFrame, contract: Contract, partitions: Collection[str] | None = None
) -> dict[str, PartitionHash]:
    """Hashes and sums by partition, in one Spark job.

    :param frame: the table's rows, at one version.
    :param partitions: only these (None: all). One that has no rows is missing from the answer; a table without
        partition columns has the one partition ``""``, with 0 rows when it is empty.
    """
    from pyspark.sql import functions as F

    if partitions is not None and not partitions:
        return {}
    rows = conform(restrict(frame, contract, partitions), contract)
    keys = [F.col(name).cast("string").alias(f"_p{i}") for i, name in enumerate(contract.partition_by)]
    measured = [(c, m) for c in contract.columns if (m := _measure(c)) is not None]
    hash1, hash2 = _row_hashes(contract)
    measures = [m.alias(f"_m{i}") for i, (_, m) in enumerate(measured)]
    prepared = rows.select(*keys, hash1.alias("_h1"), hash2.alias("_h2"), *measures)
    totals = [F.count(F.lit(1)), *_wide("_h1"), *_wide("_h2")]
    for i, (column, _) in enumerate(measured):
        totals += _wide(f"_m{i}") if _is_wide(column) else [F.sum(f"_m{i}")]
    grouped = prepared.groupBy(*[f"_p{i}" for i in range(len(keys))])
    answer = grouped.agg(*[t.alias(f"_t{i}") for i, t in enumerate(totals)]).collect()
    result = {}
    for row in answer:
        values = iter(row[len(keys) :])
        count, sum1, sum2 = next(values), _join(next(values), next(values)), _join(next(values), next(values))
        sums = {
            c.name: Decimal(_join(next(values), next(values))) if _is_wide(c) else Decimal(str(next(values) or 0))
            for c, _ in measured
        }
        result[partition_name(contract.partition_by, row[: len(keys)])] = PartitionHash(count, sum1, sum2, sums)
    return result


def _row_hashes(contract: Contract) -> tuple[Expression, Expression]:
    from pyspark.sql import functions as F

    columns = [contract.column(name) for name in contract.hashed_columns]
    masks = []
    for start in range(0, len(columns), _MASK_BITS):
        mask = F.lit(0).cast("bigint")
        for bit, column in enumerate(columns[start : start + _MASK_BITS]):
            if not column.required:
                flag = F.lit(1 << bit).cast("bigint")
                mask = mask.bitwiseOR(F.when(F.col(column.name).isNull(), flag).otherwise(F.lit(0).cast("bigint")))
        masks.append(mask)
    values = [_canonical(column) for column in columns]
    seeds = [F.lit(seed).cast("bigint") for seed in _SEEDS]
    forth = [part for value in values for part in value]
    back = [part for value in reversed(values) for part in value]
    return F.xxhash64(seeds[0], *masks, *forth), F.xxhash64(seeds[1], *masks, *back)


def _canonical(column: Column) -> list[Expression]:
    """The column as what is hashed: one width for all integers, one zero, one NaN, arrays with size and nulls."""
    from pyspark.sql import functions as F

    value = F.col(column.name)
    if column.type in _INTEGERS:
        return [value.cast("bigint")]
    if column.type == "double":
        return [F.when(value == F.lit(0.0), F.lit(0.0)).otherwise(value)]  # Spark hashes each NaN alike already
    if column.type.startswith("array<"):
        return [F.size(value), value, F.transform(value, lambda item: item.isNull())]
    # text, boolean, date (days), timestamp (UTC microseconds), decimal (unscaled, with the contract's scale)
    return [value]


def _measure(column: Column) -> Expression | None:
    """What targets are compared by, as a number; None for texts and arrays."""
    from pyspark.sql import functions as F

    value = F.col(column.name)
    if column.type in _INTEGERS:
        return value.cast("bigint")
    if column.type.startswith("decimal(") or column.type == "double":
        return value
    if column.type == "boolean":
        return value.cast("int")
    if column.type == "date":
        return F.unix_date(value)
    return F.unix_micros(value) if column.type == "timestamp" else None


def _is_wide(column: Column) -> bool:
    return column.type in ("bigint", "timestamp")


def _wide(name: str) -> list[Expression]:
    """Sums of the upper and lower 32 bits: no overflow up to 2^31 rows, and no slow decimals."""
    from pyspark.sql import functions as F

    return [F.sum(F.shiftright(name, 32)), F.sum(F.col(name).bitwiseAND(F.lit(_LOW).cast("bigint")))]


def _join(high: int | None, low: int | None) -> int:
    return (high or 0) * (1 << 32) + (low or 0)


# -- what changed -----------------------------------------------------------------------------------------------------


def commit_id(table: Table, version: int) -> str:
    """What tells this commit from another of the same version number (a table made anew); ``""`` when not known."""
    file = _commit_file(table, version)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32] if file is not None and file.is_file() else ""


def _commit_file(table: Table, version: int) -> Path | None:
    return None if "://" in table.path else Path(table.path) / "_delta_log" / f"{version:020d}.json"


def changed_partitions(table: Table, since_version: int, until: int | None = None) -> set[str] | None:
    """Partitions whose rows the commits after ``since_version`` may have changed, from the Delta log alone.

    Commits that only arrange rows anew (OPTIMIZE: ``dataChange`` false) count as no change.

    :param until: last version that counts, default the newest.
    :returns: names as ``partition_name`` gives them; None when all must be taken as changed: the log is not on a local
        disk or incomplete, versions went back, or a commit changed columns.
    """
    until = table.version() if until is None else until
    if since_version < 0 or until < since_version:
        return None
    changed: set[str] = set()
    for version in range(since_version + 1, until + 1):
        file = _commit_file(table, version)
        if file is None or not file.is_file():
            return None
        found = _changed_by(file, table.contract.partition_by)
        if found is None:
            return None
        changed |= found
    return changed


def _changed_by(file: Path, columns: Sequence[str]) -> set[str] | None:
    changed = set()
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            action = json.loads(line)
            if "metaData" in action:
                return None
            change = action.get("add") or action.get("remove")
            if change is None or not change.get("dataChange", True):
                continue
            values = change.get("partitionValues")
            if columns and (values is None or any(c not in values for c in columns)):
                return None  # the protocol lets a remove leave them out
            changed.add(partition_name(columns, [values[c] for c in columns]))
    return changed
