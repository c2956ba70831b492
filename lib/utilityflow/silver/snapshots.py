"""Snapshot feeds: each file is the whole state; change events derive between neighbours in the order of snapshot time.

A key is first seen at its own effective time (where the feed maps one), afterwards at the snapshots' times; a key that the
next snapshot lacks is deleted at that snapshot's time. The events of a feed are a pure function of its standing snapshots,
so a late or a superseded snapshot changes both its sides.

A snapshot is a content at a time: bronze holds a content once, but a state can come back. Where ``snapshot_time`` reads
``_file_name``, each name of a content brings a snapshot, and the same records are events at several places (decision 022).

A key that comes several times in one snapshot, with records that differ (``duplicate_keys`` of the feed): ``keep`` makes each
an event, of which the history engine chooses one and counts a conflict; ``first`` takes the record that stands first in the file,
``reject`` none; what they do not take goes to quarantine by the rule DUPLICATE_KEY. Equal records are duplicates in any case.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.bronze.expressions import Expression, parse_expression, select_in_zone
from utilityflow.bronze.feeds import Feed
from utilityflow.control.ledger import Entry
from utilityflow.control.run import Run
from utilityflow.errors import UtilityFlowError
from utilityflow.quality.rules import Rule
from utilityflow.session import local_frame

DUPLICATE_KEY = "duplicate_key"  # the rule that a record breaks whose key another record of its snapshot has taken
_TAKEN = "_key_taken"
CARRIED = ("_uf_place", "_uf_at")  # beside raw columns, so under names that no raw column has
_RECORD = ("_file_sha256", "_row_number")
_Span: TypeAlias = "tuple[float | None, float | None]"


@dataclass(frozen=True)
class Snapshot:
    """A content at a time; ``name``: the file that says so (the one first seen where several say the same)."""

    entry: Entry
    at: dt.datetime
    name: str

    @property
    def fresh(self) -> bool:
        """Whether silver does not hold it yet."""
        return self.at not in self.entry.derived


def of(entries: Sequence[Entry]) -> list[Snapshot]:
    """The snapshots of some contents by their times, at equal times by arrival of the contents; their places are these."""
    found = []
    for entry in entries:
        by_time: dict[dt.datetime, list[str]] = {}
        for name in sorted(entry.names & entry.times.keys()):
            by_time.setdefault(entry.times[name], []).append(name)
        found += [
            Snapshot(entry, at, entry.file_name if entry.file_name in names else names[0]) for at, names in by_time.items()
        ]
    return sorted(found, key=lambda shot: (shot.at, shot.entry.number))


def dated_by_name(feed: Feed) -> bool:
    """Whether a further name of a content may make it a further snapshot."""
    return feed.snapshot_time is not None and _expression(feed).named


def _expression(feed: Feed) -> Expression:
    return parse_expression(feed.snapshot_time or "", f"{feed.source}: snapshot_time")


def moved(run: Run, feed: Feed) -> bool:
    """Whether contents that silver holds are snapshots of other times now: a name came to one of them, or left it."""
    entries = run.ledger.standing([feed.feed])
    times(run, feed, entries)
    return any(e.status == "loaded" and {e.times.get(n) for n in e.names} != e.derived for e in entries)


def times(run: Run, feed: Feed, entries: Sequence[Entry]) -> list[Entry]:
    """Set the snapshot times of names that have none, from ``_file_name``, a column or a constant.

    A file that gives no time or more than one is rejected (UF-2009): the name, or all of a content that no other name holds.

    :return: what rejected files had superseded and stands again.
    """
    if feed.snapshot_time is None:
        raise UtilityFlowError("UF-1012", f"{feed.source}: mode snapshot needs 'snapshot_time'")
    expression = _expression(feed)
    missing = {e.sha256: sorted(e.names - e.times.keys()) for e in entries if not e.names <= e.times.keys()}
    if not expression.named:  # one time for all names
        known = {e.sha256: next(iter(e.times.values())) for e in entries if e.sha256 in missing and e.times}
        spans = _spans(run, feed, expression, [(sha, names[0]) for sha, names in missing.items() if sha not in known])
        own = {sha: (at.timestamp(), at.timestamp()) for sha, at in known.items()} | {sha: s for (sha, _), s in spans.items()}
        spans = {(sha, name): own[sha] for sha, names in missing.items() for name in names if sha in own}
    else:
        spans = _spans(run, feed, expression, [(sha, name) for sha, names in missing.items() for name in names])
    back: list[Entry] = []
    for entry in (e for e in entries if e.sha256 in missing):
        bad: dict[str, str] = {}
        for name in missing[entry.sha256]:
            low, high = spans.get((entry.sha256, name), (None, None))
            if low is None or low != high:
                what = "gives no time" if low is None else "gives more than one time"
                bad[name] = f"UF-2009: {name}: snapshot_time {what}"
            else:
                entry.times[name] = dt.datetime.fromtimestamp(low, dt.timezone.utc)
        run.ledger.mark(entry)
        back += _refuse(run, feed, entry, bad)
    return back


def _spans(run: Run, feed: Feed, expression: Expression, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], _Span]:
    """First and last time, in seconds since 1970, that each of these contents gives under a name; none for null."""
    if not asked:
        return {}
    spark = run.house.spark
    rows = local_frame(spark, asked, "_file_sha256 string, _file_name string")
    if expression.columns_read:
        bronze = run.house.table(f"bronze.{feed.feed}").read().where(F.col("_file_sha256").isin([sha for sha, _ in asked]))
        read = bronze.select("_file_sha256", *[F.col(f"`{n}`") for n in sorted(expression.columns_read)])
        rows = read.join(F.broadcast(rows), "_file_sha256")
    # the cast to an instant is made in the feed's zone too
    frame = select_in_zone(spark, rows, {"_uf_at": expression.cast("timestamp")}, feed.time_zone or run.zone)
    ends = (F.min("_uf_at").cast("double").alias("low"), F.max("_uf_at").cast("double").alias("high"))
    found = frame.groupBy("_file_sha256", "_file_name").agg(*ends).collect()
    return {(r["_file_sha256"], r["_file_name"]): (r["low"], r["high"]) for r in found}


def accept(run: Run, feed: Feed) -> list[Snapshot]:
    """The standing snapshots by their times, new ones that are empty or shrunken beyond the bound rejected."""
    back = times(run, feed, run.ledger.standing([feed.feed]))
    accepted: list[Snapshot] = []
    for shot in of(run.ledger.standing([feed.feed])):
        entry, older = shot.entry, accepted[-1].entry if accepted else None
        bound = older.rows_read * run.settings.thresholds.snapshot_min_share if older else 0
        if shot.fresh and (entry.rows_read == 0 or entry.rows_read < bound):
            before = f", the snapshot before it {older.rows_read}" if older else ""
            told = f"the snapshot has {entry.rows_read} records{before}; nothing was closed"
            names = sorted(n for n in entry.names if entry.times.get(n) == shot.at)
            back += _refuse(run, feed, entry, {name: f"UF-2010: {name}: {told}" for name in names})
            continue
        accepted.append(shot)
    return accept(run, feed) if back else accepted


def _refuse(run: Run, feed: Feed, entry: Entry, reasons: Mapping[str, str]) -> list[Entry]:
    """Refuse names of a content, or all of it where no other holds it. :return: what they had superseded and stands again.

    A rejected file counts no rows, so what bronze took of it before its time was known leaves again.
    """
    if not reasons:
        return []
    if entry.names <= reasons.keys() and not entry.derived:
        if entry.rows_read:
            table = run.house.table(f"bronze.{feed.feed}")
            table.delete(f"_file_sha256 = '{entry.sha256}'", note={"batch": int(table.note().get("batch") or 0)})
        return run.refuse(entry, reasons.get(entry.file_name, next(iter(reasons.values()))))
    for name, reason in reasons.items():
        entry.names.discard(name)
        entry.times.pop(name, None)
        entry.refused[name] = (reason, feed.definition_hash())
        run.files[feed.feed, name, entry.sha256] = {"status": "rejected", "reason": reason}
        run.say(f"rejected {name}: {reason}", feed=feed.feed, file=name)
    if not entry.names:  # its other names went to newer content
        entry.supersede()
    run.ledger.mark(entry)
    return run.reinstated(entry, reasons.keys())


def tell(run: Run, feed: Feed, shots: Sequence[Snapshot]) -> None:
    """List the files by which contents that are known came again: no row more is read, their records are events once more."""
    leaving = run.ledger.leaving([feed.feed])
    for shot in shots:
        entry, key = shot.entry, (feed.feed, shot.name, shot.entry.sha256)
        if not shot.fresh or run.files.get(key, {}).get("status", "skipped") != "skipped":
            continue
        if not entry.derived and shot.name == entry.file_name:  # landed by a run that only read it: its counts are told here
            continue
        status = "superseding" if any(shot.name in e.times for e in leaving) else "loaded"
        reason = f"the content of {entry.file_name}, which is the state again at {shot.at.isoformat()}"
        run.files[key] = {"status": status, "reason": reason, "again": True}
        run.say(f"{shot.name}: {reason}", feed=feed.feed, file=shot.name)


def derived(run: Run, entry: Entry) -> None:
    """Note that silver holds a content at the times that its names give now."""
    entry.times = {name: at for name, at in entry.times.items() if name in entry.names}
    entry.derived = frozenset(entry.times.values())
    entry.snapshot_time = min(entry.derived)
    run.ledger.mark(entry)


def spread(raw: DataFrame, shots: Sequence[Snapshot]) -> DataFrame:
    """Raw rows, each once for every snapshot that it is of: ``_file_name`` is the snapshot's, CARRIED its place and its time.

    Places count from 0 in snapshot order; times are seconds since 1970.
    """
    rows = [(s.entry.sha256, s.name, i, s.at.timestamp()) for i, s in enumerate(shots)]
    place, at = CARRIED
    told = local_frame(raw.sparkSession, rows, f"_file_sha256 string, _file_name string, {place} int, {at} double")
    return raw.drop("_file_name").join(F.broadcast(told), "_file_sha256")


def placed(rows: DataFrame) -> DataFrame:
    """With ``_place`` and ``_at`` (TIMESTAMP) instead of CARRIED."""
    place, at = CARRIED
    return rows.withColumns({"_place": F.col(place), "_at": F.col(at).cast("timestamp")}).drop(*CARRIED)


def marked(frame: DataFrame, broken: Column, shots: Sequence[Snapshot]) -> DataFrame:
    """Judged rows with ``_broken`` and ``_bad``: whether the record breaks a rule at this place, and at any.

    What a record says may depend on its snapshot's name and time. It is quarantined whole, so that it is counted once.
    """
    rows = frame.withColumn("_broken", broken)
    one = Window.partitionBy(*_RECORD)
    return rows.withColumn("_bad", F.max("_broken").over(one) if repeats(shots) else F.col("_broken"))


def quarantine(rows: DataFrame, shots: Sequence[Snapshot]) -> DataFrame:
    """Of rows as ``marked`` gives them those that go to quarantine: each bad record at the first place where it is broken."""
    bad = rows.where("_broken")
    if not repeats(shots):
        return bad
    copy = F.row_number().over(Window.partitionBy(*_RECORD).orderBy("_place"))
    return bad.withColumn("_copy", copy).where("_copy = 1").drop("_copy")


def repeats(shots: Sequence[Snapshot]) -> bool:
    """Whether a content is several snapshots."""
    return len({s.entry.sha256 for s in shots}) < len(shots)


def records(rows: DataFrame, shots: Sequence[Snapshot]) -> DataFrame:
    """``_batch_id`` and ``_row_number`` of the rows' records, each once, at however many places it is an event."""
    found = rows.select("_batch_id", "_row_number")
    return found.distinct() if repeats(shots) else found


def taken(rows: DataFrame, key: Sequence[str], values: Column, which: str) -> tuple[DataFrame, Rule]:
    """The rows with a BOOLEAN column of whether their key is taken, and the rule that such rows break.

    :param rows: conformed rows of whole snapshots with ``_place``. :param values: hash of what a record says.
    :param which: ``first`` or ``reject``.
    """
    one = Window.partitionBy("_place", *key)
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


def deletes(present: DataFrame, key: Sequence[str], shots: Sequence[Snapshot]) -> DataFrame:
    """(key..., ``_place``) of the snapshots that lack a key which the one before holds.

    :param present: key columns and ``_place`` of every row, quarantined ones too: a broken row is no deletion.
    """
    standing = present.select(*key, "_place").where(F.col(key[0]).isNotNull()).distinct()
    expected = standing.withColumn("_place", F.col("_place") + 1).where(F.col("_place") < len(shots))
    return expected.join(standing, [*key, "_place"], "left_anti")
