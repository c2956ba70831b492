"""Snapshot feeds: each file is the whole state; change events derive between neighbours in the order of snapshot time.

A key is first seen at its own effective time (where the feed maps one), afterwards at the snapshots' times; a key that the
next snapshot lacks is deleted at that snapshot's time. The events of a feed are a pure function of its standing snapshots,
so a late or a superseded snapshot changes both its sides.

A key that comes several times in one snapshot, with records that differ (``duplicate_keys`` of the feed): ``keep`` makes each
an event, of which the history engine chooses one and counts a conflict; ``first`` takes the record that stands first in the file,
``reject`` none; what they do not take goes to quarantine by the rule DUPLICATE_KEY. Equal records are duplicates in any case.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.bronze.expressions import parse_expression, select_in_zone
from utilityflow.bronze.feeds import Feed
from utilityflow.control.ledger import Entry
from utilityflow.control.run import Run
from utilityflow.errors import UtilityFlowError
from utilityflow.quality.rules import Rule

DUPLICATE_KEY = "duplicate_key"  # the rule that a record breaks whose key another record of its snapshot has taken
_TAKEN = "_key_taken"


def times(run: Run, feed: Feed, entries: Sequence[Entry]) -> None:
    """Set the snapshot time of entries that have none, from ``_file_name``, a column or a constant.

    :raises UtilityFlowError: UF-2009 when a file gives no time or more than one.
    """
    missing = [e for e in entries if e.snapshot_time is None]
    if not missing:
        return
    if feed.snapshot_time is None:
        raise UtilityFlowError("UF-1012", f"{feed.source}: mode snapshot needs 'snapshot_time'")
    raw = run.house.table(f"bronze.{feed.feed}").read().where(F.col("_file_sha256").isin([e.sha256 for e in missing]))
    expression = parse_expression(feed.snapshot_time, f"{feed.source}: snapshot_time")
    # the cast to an instant is made in the feed's zone too
    frame = select_in_zone(run.house.spark, raw.select("_file_sha256", *[c for c in raw.columns if c != "_file_sha256"]),
                           {"_at": expression.cast("timestamp")}, feed.time_zone or run.zone)  # fmt: skip
    found = (
        frame.groupBy("_file_sha256")
        .agg(F.min("_at").cast("double").alias("low"), F.max("_at").cast("double").alias("high"))
        .collect()
    )
    spans = {r["_file_sha256"]: (r["low"], r["high"]) for r in found}
    for entry in missing:
        low, high = spans.get(entry.sha256, (None, None))
        if low is None or low != high:
            what = "gives no time" if low is None else "gives more than one time"
            _reject(run, feed, entry, f"UF-2009: {entry.file_name}: snapshot_time {what}")
            continue
        entry.snapshot_time = dt.datetime.fromtimestamp(low, dt.timezone.utc)
        run.ledger.mark(entry)


def accept(run: Run, feed: Feed) -> list[Entry]:
    """The standing snapshots in the order of their times, new ones that are empty or shrunken beyond the bound rejected."""
    times(run, feed, run.ledger.standing([feed.feed]))
    accepted: list[Entry] = []
    back: list[Entry] = []
    for entry in sorted(run.ledger.standing([feed.feed]), key=order):
        older = accepted[-1] if accepted else None
        bound = older.rows_read * run.settings.thresholds.snapshot_min_share if older else 0
        if entry.status == "landed" and (entry.rows_read == 0 or entry.rows_read < bound):
            before = f", the snapshot before it {older.rows_read}" if older else ""
            told = f"the snapshot has {entry.rows_read} records{before}; nothing was closed"
            back += _reject(run, feed, entry, f"UF-2010: {entry.file_name}: {told}")
            continue
        accepted.append(entry)
    return accept(run, feed) if back else accepted


def _reject(run: Run, feed: Feed, entry: Entry, reason: str) -> list[Entry]:
    """Reject a snapshot; what it had superseded stands again and is returned.

    A rejected file counts no rows, so what bronze took of it before its time was known leaves again.
    """
    if entry.rows_read:
        table = run.house.table(f"bronze.{feed.feed}")
        table.delete(f"_file_sha256 = '{entry.sha256}'", note={"batch": int(table.note().get("batch") or 0)})
    return run.refuse(entry, reason)


def order(entry: Entry) -> tuple[dt.datetime, int]:
    """Snapshots are ordered by their time, at equal times by arrival."""
    return entry.snapshot_time or dt.datetime.min.replace(tzinfo=dt.timezone.utc), entry.number


def places(entries: Sequence[Entry]) -> tuple[Column, Column]:
    """(position of a row's snapshot, its time) by ``_file_sha256``; positions count from 0 in snapshot order."""
    pairs = [x for i, e in enumerate(entries) for x in (F.lit(e.sha256), F.lit(i))]
    stamps = [x for e in entries for x in (F.lit(e.sha256), F.lit(order(e)[0].timestamp()))]
    sha = F.col("_file_sha256")
    return F.element_at(F.create_map(*pairs), sha), F.element_at(F.create_map(*stamps), sha).cast("timestamp")


def taken(rows: DataFrame, key: Sequence[str], values: Column, which: str) -> tuple[DataFrame, Rule]:
    """The rows with a BOOLEAN column of whether their key is taken, and the rule that such rows break.

    :param rows: conformed rows of whole snapshots. :param values: hash of what a record says.
    :param which: ``first`` or ``reject``.
    """
    one = Window.partitionBy("_file_sha256", *key)
    if which == "first":
        differs = F.first(values).over(one.orderBy("_row_number")) != values
        reason = "an earlier record of the snapshot has the same key and says otherwise"
    else:
        differs = F.min(values).over(one) != F.max(values).over(one)
        reason = "another record of the snapshot has the same key and says otherwise"
    named = F.expr(" AND ".join(f"{n} IS NOT NULL" for n in key))
    return rows.withColumn(_TAKEN, named & differs), Rule(DUPLICATE_KEY, "uniqueness", "error", DUPLICATE_KEY, reason, _TAKEN)


def upserts(good: DataFrame, key: Sequence[str]) -> DataFrame:
    """Events of the rows that are there: the first sight of a key keeps its own effective time.

    :param good: judged rows with ``_place`` and ``_at``; ``effective_at`` as the feed maps it.
    """
    seen = Window.partitionBy(*key)
    first = F.col("_place") == F.min("_place").over(seen)
    return good.withColumns({
        "effective_at": F.when(first, F.col("effective_at")).otherwise(F.col("_at")),
        "sequence": F.coalesce("sequence", "_batch_id"),  # of two snapshots of one time the later delivery wins
    })  # fmt: skip


def deletes(present: DataFrame, key: Sequence[str], entries: Sequence[Entry]) -> DataFrame:
    """(key..., ``_place``) of the snapshots that lack a key which the one before holds.

    :param present: key columns and ``_place`` of every row, quarantined ones too: a broken row is no deletion.
    """
    standing = present.select(*key, "_place").where(F.col(key[0]).isNotNull()).distinct()
    expected = standing.withColumn("_place", F.col("_place") + 1).where(F.col("_place") < len(entries))
    return expected.join(standing, [*key, "_place"], "left_anti")
