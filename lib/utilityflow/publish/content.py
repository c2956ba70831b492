"""The content hash of a table, per partition and free of row order, taken whole or brought up to date with what changed.

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
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote

from utilityflow.contracts import Column, Contract, sql_text
from utilityflow.control.publication import PartitionHash

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = [
    "PartitionHash", "conform", "content_hash", "merged", "partition_hashes", "partition_name", "partition_where", "restrict",
    "with_added", "with_changes",
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
    return frame.selectExpr(*_conformed(contract, set(frame.columns)))


def _conformed(contract: Contract, there: Collection[str]) -> list[str]:
    held = ((c, f"`{c.name}`" if c.name in there else "NULL") for c in contract.columns)
    return [f"CAST({value} AS {c.type}) AS `{c.name}`" for c, value in held]


# -- hashes -----------------------------------------------------------------------------------------------------------


def partition_hashes(
    frame: DataFrame, contract: Contract, partitions: Collection[str] | None = None
) -> dict[str, PartitionHash]:
    """Hashes and sums by partition, in one Spark job.

    :param frame: the table's rows, at one version.
    :param partitions: only these (None: all). One that has no rows is missing from the answer; a table without
        partition columns has the one partition ``""``, with 0 rows when it is empty.
    """
    if partitions is not None and not partitions:
        return {}
    return _totals(conform(restrict(frame, contract, partitions), contract), contract, None)


def with_added(before: Mapping[str, PartitionHash], rows: DataFrame, contract: Contract) -> dict[str, PartitionHash]:
    """Hashes and sums of a table to which ``rows`` were added, and nothing else was done."""
    return _summed(before, _totals(conform(rows, contract), contract, None), contract)


def with_changes(before: Mapping[str, PartitionHash], changes: DataFrame, contract: Contract) -> dict[str, PartitionHash]:
    """Hashes and sums of a table after ``changes``: sums are free of order, so rows that left are taken off again.

    Not for a contract with ``double`` columns, whose sums are not exact.

    :param changes: rows of the change feed, with ``_change_type``.
    """
    sign = "IF(_change_type IN ('insert', 'update_postimage'), 1, -1) AS _sign"
    signed = changes.selectExpr(*_conformed(contract, set(changes.columns)), sign)
    return _summed(before, _totals(signed, contract, "_sign"), contract)


def _summed(
    before: Mapping[str, PartitionHash], more: Mapping[str, PartitionHash], contract: Contract
) -> dict[str, PartitionHash]:
    result = dict(before)
    for name, part in more.items():
        was = result.pop(name, PartitionHash(0, 0, 0))
        sums = {column: was.sums.get(column, Decimal(0)) + total for column, total in part.sums.items()}
        now = PartitionHash(was.rows + part.rows, was.sum1 + part.sum1, was.sum2 + part.sum2, sums)
        if now.rows or not contract.partition_by:
            result[name] = now
    return result


def _totals(rows: DataFrame, contract: Contract, sign: str | None) -> dict[str, PartitionHash]:
    """Counts and sums by partition; with ``sign``, the column of 1 and -1 by which each row counts."""
    from pyspark.sql import functions as F

    keys = [f"_p{i}" for i in range(len(contract.partition_by))]
    named = [f"CAST(`{name}` AS string) AS {key}" for name, key in zip(contract.partition_by, keys, strict=True)]
    measured = [(c, m) for c in contract.columns if (m := _measure(c)) is not None]
    hash1, hash2 = _row_hashes(contract)
    measures = [f"{m} AS _m{i}" for i, (_, m) in enumerate(measured)]
    prepared = rows.selectExpr(*named, f"{hash1} AS _h1", f"{hash2} AS _h2", *measures, *([sign] if sign else []))
    terms = ["1", *_wide("_h1"), *_wide("_h2")]
    for i, (column, _) in enumerate(measured):
        terms += _wide(f"_m{i}") if _is_wide(column) else [f"_m{i}"]
    # a product with a decimal would be a decimal of more than 18 digits, which is slow
    totals = [f"sum({term if sign is None else f'IF({sign} > 0, {term}, -({term}))'})" for term in terms]
    answer = prepared.groupBy(*keys).agg(*[F.expr(t).alias(f"_t{i}") for i, t in enumerate(totals)]).collect()
    result = {}
    for row in answer:
        values = iter(row[len(keys) :])
        count, sum1, sum2 = next(values) or 0, _join(next(values), next(values)), _join(next(values), next(values))
        sums = {
            c.name: Decimal(_join(next(values), next(values))) if _is_wide(c) else Decimal(str(next(values) or 0))
            for c, _ in measured
        }
        result[partition_name(contract.partition_by, row[: len(keys)])] = PartitionHash(count, sum1, sum2, sums)
    return result


def _row_hashes(contract: Contract) -> tuple[str, str]:
    """SQL of the two hashes of a row."""
    columns = [contract.column(name) for name in contract.hashed_columns]
    masks = []
    for start in range(0, len(columns), _MASK_BITS):
        part = enumerate(columns[start : start + _MASK_BITS])
        flags = [f"CASE WHEN `{c.name}` IS NULL THEN {1 << bit}L ELSE 0L END" for bit, c in part if not c.required]
        masks.append(" | ".join(["0L", *flags]))
    values = [_canonical(column) for column in columns]
    forth = [part for value in values for part in value]
    back = [part for value in reversed(values) for part in value]
    first, second = (f"{seed}L" for seed in _SEEDS)
    return f"xxhash64({', '.join([first, *masks, *forth])})", f"xxhash64({', '.join([second, *masks, *back])})"


def _canonical(column: Column) -> list[str]:
    """SQL of what is hashed of the column: one width for all integers, one zero, one NaN, arrays with size and nulls."""
    value = f"`{column.name}`"
    if column.type in _INTEGERS:
        return [f"CAST({value} AS bigint)"]
    if column.type == "double":
        return [f"CASE WHEN {value} = 0.0D THEN 0.0D ELSE {value} END"]  # Spark hashes each NaN alike already
    if column.type.startswith("array<"):
        return [f"size({value})", value, f"transform({value}, item -> item IS NULL)"]
    # text, boolean, date (days), timestamp (UTC microseconds), decimal (unscaled, with the contract's scale)
    return [value]


def _measure(column: Column) -> str | None:
    """SQL of what targets are compared by, as a number; None for texts and arrays."""
    value = f"`{column.name}`"
    if column.type in _INTEGERS:
        return f"CAST({value} AS bigint)"
    if column.type.startswith("decimal(") or column.type == "double":
        return value
    if column.type == "boolean":
        return f"CAST({value} AS int)"
    if column.type == "date":
        return f"unix_date({value})"
    return f"unix_micros({value})" if column.type == "timestamp" else None


def _is_wide(column: Column) -> bool:
    return column.type in ("bigint", "timestamp")


def _wide(name: str) -> list[str]:
    """The upper and lower 32 bits, to be added up apart: no overflow up to 2^31 rows, and no slow decimals."""
    return [f"shiftright({name}, 32)", f"{name} & {_LOW}L"]


def _join(high: int | None, low: int | None) -> int:
    return (high or 0) * (1 << 32) + (low or 0)
