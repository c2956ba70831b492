"""Equal records: the first in ledger order is loaded, the others are duplicates, in the same or in later standing files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from utilityflow.bronze.feeds import Feed
from utilityflow.contracts import Contract, sql_text
from utilityflow.control.ledger import Entry, Ledger
from utilityflow.control.run import Days, Repeated, Run
from utilityflow.lakehouse import Table
from utilityflow.quality.rules import broken_any
from utilityflow.silver.judging import canonical_columns, judged, of_files

ORDER = ("_batch_id", "_row_number")  # ledger order
FEW_DOUBLES = 20_000  # 15 bytes each in the commit


def remove_doubles(run: Run, table: Table, rows: DataFrame, note: Mapping[str, object], days: Days | None,
                   many: bool) -> dict[int, int]:  # fmt: skip
    """Take out the records that equal one that stands earlier in ledger order; returns ledger number -> how many.

    :param rows: the table's rows among which a new one can have its equal: those of ``days``; None: all.
    :param many: there are so many that those that speak of the same are kept, for the step that chooses among them.
    """
    name, several = table.contract.table, repeated(table.contract, rows)
    # staged, so that the engine knows whether it is small enough to broadcast, and looks at them once
    told = told_again(table.contract, rows, run.staged(several, f"repeated_{name}") if many else F.broadcast(several))
    told = run.staged(told, f"told_{name}") if many else told
    gone = _doubles(table.contract, told)
    if many:
        gone = run.staged(gone, f"doubles_{name}")
        if "_identity" in told.columns:
            run.repeated[table.name] = Repeated(days, told.join(gone, list(ORDER), "left_anti"))
    listed = (gone.limit(FEW_DOUBLES + 1) if many else gone).collect()
    if not listed:
        return {}
    if len(listed) <= FEW_DOUBLES:  # named one by one they are found in a single narrow scan; MERGE takes two
        table.delete(_places(listed, table.contract), note=note)
        return Counter(row["_batch_id"] for row in listed)
    gone = gone if many else run.staged(gone, f"doubles_{name}")
    keys = [*ORDER, *table.contract.partition_by]
    on = " AND ".join(f"target.{k} = source.{k}" for k in keys) + _within(gone, table)
    table.merge(gone, on=on, clauses="WHEN MATCHED THEN DELETE", note=note)
    return rows_by(gone, "_batch_id")


def _places(doubles: Iterable[Row], contract: Contract) -> str:
    """SQL condition for records by partition, ledger number and row; one long list, as many short ones compile slowly."""
    rows = [(r["_batch_id"], r["_row_number"], *(r[name] for name in contract.partition_by)) for r in doubles]
    held = []
    for i, name in enumerate(contract.partition_by):
        values = {row[2 + i] for row in rows}
        if None not in values:
            held.append(_one_of(name, values))
    # row numbers stay below 2^40, as those of bronze do
    places = _one_of("shiftleft(_batch_id, 40) + _row_number", {(row[0] << 40) + row[1] for row in rows})
    return " AND ".join([*held, _one_of("_batch_id", {row[0] for row in rows}), places])


def repeated(contract: Contract, rows: DataFrame) -> DataFrame:
    """What more than one record speaks of: ``_identity`` and ``_start``, where records have an
    identity; else the ``_record_hash`` that more than one has.
    """  # noqa: D205
    names = contract.column_names
    told = [F.col("_identity"), start(contract)] if "_identity" in names else [F.col("_record_hash")]
    keys = rows.select(*told)
    return keys.groupBy(*keys.columns).agg(F.count(F.lit(1)).alias("n")).where("n > 1").drop("n")


def start(contract: Contract) -> Column:
    """``_start``: microseconds of the interval that a record is of, 0 for a day or a billed period."""
    kept = "interval_start" in contract.column_names
    return F.expr("coalesce(unix_micros(interval_start), 0L)" if kept else "0L").alias("_start")


def told_again(contract: Contract, rows: DataFrame, several: DataFrame) -> DataFrame:
    """The records of what several speak of, in narrow columns.

    Columns: ORDER, the partition's, ``_record_hash`` and, where records have an identity, ``_identity``, ``_start`` and
    ``read_quality``; else the canonical ones.

    :param several: as ``repeated`` gives it.
    """
    identified = "_identity" in contract.column_names
    more = ["_identity", "read_quality"] if identified else canonical_columns(contract)
    narrow = rows.select(*dict.fromkeys([*ORDER, *contract.partition_by, "_record_hash", *more]),
                         *([start(contract)] if identified else []))  # fmt: skip
    return narrow.join(several, several.columns, "left_semi")


def _doubles(contract: Contract, told: DataFrame) -> DataFrame:
    """ORDER and partition columns of the records that must go.

    Where records carry an identity, the two 64-bit hashes together decide (2^-128): few narrow columns are read. Else the
    values are compared, since one hash over millions of records is not enough.

    :param told: as ``told_again`` gives it.
    """
    identified = "_identity" in contract.column_names
    agreeing = ["_record_hash", *(["_identity"] if identified else canonical_columns(contract))]
    first = F.row_number().over(Window.partitionBy(*agreeing).orderBy(*ORDER))
    return told.withColumn("_copy", first).where("_copy > 1").select(*ORDER, *contract.partition_by)


def _within(staged: DataFrame, table: Table) -> str:
    """Literal conditions that let MERGE skip files: partitions and ledger numbers of the doubles."""
    terms = []
    for name in [*table.contract.partition_by, "_batch_id"]:
        values = [r[0] for r in staged.select(name).distinct().limit(200).collect()]
        if len(values) < 200:
            terms.append(f" AND {_one_of(f'target.{name}', values)}")
    return "".join(terms)


def _one_of(what: str, values: Iterable[Any]) -> str:
    """SQL condition: one of these texts or whole numbers."""
    return f"{what} IN ({', '.join(sql_text(v) if isinstance(v, str) else str(int(v)) for v in sorted(values))})"


def repeating(ledger: Ledger, feeds: Mapping[str, Feed]) -> list[Entry]:
    """The standing files of event feeds that hold records which stood elsewhere already."""
    events = [name for name, feed in feeds.items() if feed.mode == "events"]
    return [e for e in ledger.standing(events) if e.status == "loaded" and e.rows_duplicate > 0]


def promote(run: Run, feeds: Mapping[str, Feed], table: Table, fence: Table, note: Mapping[str, object],
            entries: Sequence[Entry]) -> int:  # fmt: skip
    """Records that were duplicates of a superseded one and equal none that stands: the first of each is loaded now.

    What a feed makes of a record may be another thing now than when it was loaded, or broken: it stands all the same.

    :param fence: the table's quarantine. :param entries: as ``repeating`` gives them. :return: how many rows were written.
    """
    frames = []
    for name in sorted({e.feed for e in entries}):
        frame, rules = judged(run, feeds[name], [e for e in entries if e.feed == name])
        frames.append(frame.where(~broken_any(rules)).select(*table.contract.column_names))
    if not frames:
        return 0
    standing = table.read()
    mine = of_files(numbers(entries))
    held = standing.where(mine).select(*ORDER).unionByName(fence.read().where(mine).select(*ORDER))
    absent = reduce(DataFrame.unionByName, frames).join(held, list(ORDER), "left_anti")
    candidates = absent.join(standing.select("_record_hash"), "_record_hash", "left_anti")
    first = candidates.groupBy("_record_hash").agg(F.min(F.struct(*ORDER)).alias("kept"))
    chosen = candidates.join(first, "_record_hash").where(F.struct(*ORDER) == F.col("kept")).drop("kept")
    staged = run.staged(chosen.select(*table.contract.column_names), f"promoted_{table.contract.table}")
    counts = rows_by(staged, "_batch_id")
    if counts:
        table.append(staged, note={**note, "promoted": sorted(counts)})
    return sum(counts.values())


def doubles_of(run: Run, feed: Feed, entry: Entry, table: Table) -> int:
    """Good records of a file that silver does not hold under its number and that equal one that silver holds."""
    frame, rules = judged(run, feed, [entry])
    own = table.read().where(F.col("_batch_id") == entry.number).select("_row_number")
    absent = frame.where(~broken_any(rules)).join(own, "_row_number", "left_anti")
    return absent.join(table.read().select("_record_hash"), "_record_hash", "left_semi").count()


def rows_by(frame: DataFrame, key: str) -> dict[int, int]:
    """Rows by a column's value."""
    return {r[0]: r[1] for r in frame.groupBy(key).count().collect()}


def numbers(entries: Sequence[Entry]) -> list[int]:
    """Ledger numbers."""
    return [e.number for e in entries]
