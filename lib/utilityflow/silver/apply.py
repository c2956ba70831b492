"""The silver step: the pending files of an entity become judged rows, each record read once and judged once.

Order of commits, each idempotent by content, so that a killed run ends in the same tables when it is started again:
rows of superseded files leave; loaded rows; then, at once, the quarantine and the leave of records that equal a standing
one (finding them in the written columns costs a narrow scan, finding them before evaluating every expression twice).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, Observation, Window
from pyspark.sql import functions as F

from utilityflow.bronze.feeds import Feed
from utilityflow.contracts import Contract, sql_text
from utilityflow.control.ledger import Entry
from utilityflow.control.run import Run, StepResult, Tally
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import FEW_ROWS, Table
from utilityflow.parallel import in_parallel
from utilityflow.quality.rules import Rule, broken_any, tallies
from utilityflow.session import file_by_file, local_frame
from utilityflow.silver import snapshots
from utilityflow.silver.duplicates import doubles_of, numbers, promote, remove_doubles, repeating, rows_by
from utilityflow.silver.judging import ENTITIES, judged, of_files, quarantined, raw_rows, record_hash
from utilityflow.silver.snapshots import Snapshot

FEW_FILES = 100  # of so many it is counted while their rows are written how many each has
_FACTOR, _PRIME = 2_654_435_761, 4_294_967_291  # what spreads ledger numbers over 32 bits: their marks
_SIZE = 64  # rows of a file that are judged again together when silver lacks one of them
_BLOCK = f"_row_number div {_SIZE}"


@dataclass(frozen=True)
class _Silver:
    """The two tables of an entity, and the feeds that fill them."""

    run: Run
    feeds: Mapping[str, Feed]
    table: Table
    fence: Table


def run_silver(run: Run, entity: str) -> StepResult:
    """Bring ``silver.<entity>`` and its quarantine to the ledger's state; file counts are set in the ledger."""
    feeds = {n: f for n, f in run.feeds.items() if f.entity == entity}
    silver = _Silver(
        run, feeds, run.house.table(f"silver.{entity}"), run.house.table(f"silver.{entity}__quarantine")
    )
    table = silver.table
    states = {n for n, f in feeds.items() if f.mode == "snapshot"}
    moved = {n for n in states if snapshots.moved(run, feeds[n])}  # first, as what it refuses is not pending
    pending, leaving = run.ledger.pending(feeds), run.ledger.leaving(feeds)
    if not pending and not leaving and not moved:
        return StepResult(table.name, "skipped", version=table.version())
    written = 0
    for name in sorted({e.feed for e in pending + leaving} & states | moved):
        written += _snapshots(silver, feeds[name])
    gone = [e for e in leaving if e.feed not in states]
    _remove(silver, gone)
    written += _load(silver, [e for e in pending if e.feed not in states], bool(gone))
    for entry in run.ledger.leaving(feeds):  # but those whose successor was rejected
        entry.status = "superseded"
        run.ledger.mark(entry)
    return StepResult(table.name, "ok", written, version=table.version())


def _carry(table: Table, **more: Any) -> dict[str, Any]:
    """A commit note that hands on the highest ledger number that the table holds."""
    return {"batch": int(table.note().get("batch") or 0), **more}


def _remove(silver: _Silver, leaving: Sequence[Entry]) -> None:
    if not leaving:
        return
    listed = ", ".join(str(e.number) for e in leaving)
    name = silver.table.name
    silver.run.say(f"{name}: removing the records of {len(leaving)} superseded file(s)", step=name)
    for target in (silver.table, silver.fence):
        if target.read().where(f"_batch_id IN ({listed})").limit(1).count():
            target.delete(f"_batch_id IN ({listed})", note=_carry(target, removed=[e.number for e in leaving]))


# -- events ----------------------------------------------------------------------------------------------------------


@dataclass
class _Written:
    """What the table holds of some ledger numbers: rows by number, the span of their days, and rows by flag.

    ``blocks``: rows by ``_batch_id`` and ``_block`` as ``_held``, where there are many.
    """

    rows: dict[int, int]
    low: dt.date | None = None
    high: dt.date | None = None
    flags: Mapping[str, int] = field(default_factory=dict)
    blocks: DataFrame | None = None

    def joined(self, other: _Written) -> _Written:
        """Both together."""
        lows = [d for d in (self.low, other.low) if d is not None]
        highs = [d for d in (self.high, other.high) if d is not None]
        return _Written(self.rows | other.rows, min(lows, default=None), max(highs, default=None))


def _load(silver: _Silver, pending: Sequence[Entry], leaves: bool) -> int:
    """Write the pending files of event feeds, settle equal records and count; returns the rows loaded."""
    run, table = silver.run, silver.table
    # before new rows are written: a file that stands comes first in ledger order, and what equals it is a repeat
    promoted = _promoted(silver) if leaves else 0
    by_feed = [(f, [e for e in pending if e.feed == n]) for n, f in silver.feeds.items()]
    written = _Written({})
    fence: list[Callable[[], dict[int, int] | None]] = []
    # rising ledger numbers, as transaction ids must rise
    for feed, entries in sorted(((f, e) for f, e in by_feed if e), key=lambda pair: max(numbers(pair[1]))):
        frame, rules = judged(run, feed, entries)
        held = _append(silver, feed, entries, frame, rules)
        fence.append(_quarantine(silver, feed, entries, frame, rules, held))
        written = held.joined(written)
    if not pending:
        return promoted
    days = None if written.low is None or written.high is None else (written.low, written.high)
    many = sum(written.rows.values()) > FEW_ROWS
    settle = partial(remove_doubles, run, table, _span(table, written), _carry(table), days, many)
    # neither needs the other; all that is analysed in a feed's zone, which is the session's for a moment, is so by now
    work: list[Callable[[], Any]] = [settle, lambda: [write() for write in fence]]
    doubles, fenced = in_parallel(run.house.spark, lambda job: job(), work)
    return promoted + _count(silver, pending, written, doubles, _together(fenced))


def _together(told: Sequence[Mapping[int, int] | None]) -> dict[int, int] | None:
    """Counts of several feeds as one; None when one is not known."""
    known = [counts for counts in told if counts is not None]
    return {n: count for counts in known for n, count in counts.items()} if len(known) == len(told) else None


def _append(
    silver: _Silver, feed: Feed, entries: Sequence[Entry], frame: DataFrame, rules: Sequence[Rule]
) -> _Written:
    """Write the good rows of one feed's pending files; returns what silver now holds of them."""
    run, table = silver.run, silver.table
    fresh = _not_in(table, entries)
    flags = [rule.flag for rule in rules if rule.severity != "error"]
    run.say(f"{table.name}: judging {len(entries)} file(s) of {feed.feed}", step=table.name, feed=feed.feed)
    if not fresh:
        return _written(run, table, entries, flags)
    good = _of(frame.where(~broken_any(rules)), fresh, entries).select(*table.contract.column_names)
    expected = sum(e.rows_read for e in entries if e.number in fresh)
    if len(fresh) < len(entries) or len(fresh) > FEW_FILES or expected > FEW_ROWS:
        _commit(table, good, feed, entries, expected)
        return _written(run, table, entries, flags)
    seen = Observation(f"loaded_{feed.feed}_{run.run_id}")
    terms = [F.expr(f"{what} AS {name}") for name, (what, _) in _wanted(table.contract, flags).items()]
    if len(fresh) > 1:
        terms += [F.expr(f"count_if(_batch_id = {int(n)}) AS file_{int(n)}") for n in fresh]
    _commit(table, good.observe(seen, *terms), feed, entries, expected)
    figures = seen.get
    rows = {n: figures[f"file_{n}"] if len(fresh) > 1 else figures["n"] for n in fresh}
    if sum(rows.values()) != table.rows_appended():  # a task that ran again was counted again
        return _written(run, table, entries, flags)
    told = {flag: figures[f"flag_{i}"] for i, flag in enumerate(flags)}
    return _Written({n: count for n, count in rows.items() if count}, _day(figures["low"]), _day(figures["high"]), told)


def _commit(table: Table, rows: DataFrame, feed: Feed, entries: Sequence[Entry], expected: int) -> None:
    """Append rows of these files, of which the table holds none, under their highest ledger number."""
    top = max(numbers(entries))
    # never below a row's: after a rollback a file that had waited may come with a lower one (control.news relies on the note)
    held = int(table.note().get("batch") or 0)
    note = {"batch": max(top, held), "feed": feed.feed, "numbers": numbers(entries)}
    with file_by_file(table.house.spark, expected, len(entries)):
        table.append(rows, batch=top, note=note, rows_expected=expected).require(top)


def _quarantine(silver: _Silver, feed: Feed, entries: Sequence[Entry], frame: DataFrame, rules: Sequence[Rule],
                held: _Written) -> Callable[[], dict[int, int] | None]:  # fmt: skip
    """What writes the broken rows of the files of which silver lacks some, and notes how each rule did.

    It returns how many there are by ledger number, or None where the quarantine has to be asked: those that silver lacks, if
    rows and the sum of their numbers' marks say so (counts that are wrong and agree with both: one in 2^32).

    :param frame: the files' rows, judged by the rules.
    :param held: what silver holds of the files (without doubles, where an interrupted run took them out already).
    """
    run, table, fence = silver.run, silver.table, silver.fence
    short = [e for e in entries if held.rows.get(e.number, 0) < e.rows_read]
    missing = _not_in(fence, short) if short else []
    if not missing:

        def note() -> dict[int, int] | None:
            _note_tallies(run, table, rules, entries, {}, held.flags)
            return None if short else {}

        return note
    if held.blocks is not None:
        asked = [e for e in entries if e.number in missing]
        raw = _of(raw_rows(run, feed, entries), missing, entries)
        frame, rules = judged(run, feed, entries, _lacking(run, feed, raw, asked, held.blocks))
    seen = Observation(f"broken_{feed.feed}_{run.run_id}")
    bad = _of(frame.where(broken_any(rules)), missing, entries)
    sums = [F.count(F.lit(1)).alias("rows"), F.expr(f"sum(pmod(_batch_id * {_FACTOR}L, {_PRIME}L))").alias("marks")]
    figured = [*sums, *tallies(rules)]
    rows = quarantined(run, feed, fence, bad.observe(seen, *figured), rules)
    lacking = {e.number: e.rows_read - held.rows.get(e.number, 0) for e in short}

    def write() -> dict[int, int] | None:
        _commit(fence, rows, feed, entries, sum(lacking.values()))
        figures = seen.get
        if figures["rows"] != fence.rows_appended():  # a task that ran again was counted again
            figures = bad.agg(*figured).collect()[0].asDict()
        failed = {rule.id: int(figures[f"rule_{i}"]) for i, rule in enumerate(rules)}
        _note_tallies(run, table, rules, entries, failed, held.flags)
        marks = sum(count * (number * _FACTOR % _PRIME) for number, count in lacking.items())
        return lacking if (figures["rows"], figures["marks"]) == (sum(lacking.values()), marks) else None

    return write


def _lacking(run: Run, feed: Feed, raw: DataFrame, entries: Sequence[Entry], blocks: DataFrame) -> DataFrame:
    """The blocks of bronze rows of which silver lacks some, so that not all rows are judged again for a few broken ones.

    :param entries: the files; the records of each are numbered from 1 to ``rows_read``.
    """
    sizes = local_frame(run.house.spark, [(e.number, e.rows_read) for e in entries], "_batch_id bigint, _rows bigint")
    every = sizes.withColumn("_block", F.expr(f"explode(sequence(0L, {_BLOCK.replace('_row_number', '_rows')}))"))
    read = F.expr(f"least(_rows, (_block + 1) * {_SIZE} - 1) - greatest(1, _block * {_SIZE}) + 1")
    short = every.join(blocks, ["_batch_id", "_block"], "left").where(F.col("_held").isNull() | (F.col("_held") < read))
    short = run.staged(short.select("_batch_id", "_block"), f"lacking_{feed.feed}")
    return raw.withColumn("_block", F.expr(_BLOCK)).join(short, ["_batch_id", "_block"], "left_semi").drop("_block")


def _of(frame: DataFrame, wanted: Sequence[int], entries: Sequence[Entry]) -> DataFrame:
    return frame if len(wanted) == len(entries) else frame.where(F.col("_batch_id").isin(*wanted))


def _not_in(table: Table, entries: Sequence[Entry]) -> list[int]:
    """Ledger numbers of the files whose rows the table does not hold yet (an interrupted run may have written them)."""
    listed = numbers(entries)
    if table.version() <= 0 or int(table.note().get("batch") or max(listed)) < min(listed):
        return listed
    rows = table.read().where(of_files(listed))
    found = {r[0] for r in rows.select("_batch_id").distinct().collect()}
    return [n for n in listed if n not in found]


def _note_tallies(run: Run, table: Table, rules: Sequence[Rule], entries: Sequence[Entry], failed: Mapping[str, int],
                  flags: Mapping[str, int]) -> None:  # fmt: skip
    """How each rule did: broken rows by the quarantine's observation, warnings of loaded rows by their flags."""
    evaluated = sum(e.rows_read for e in entries)
    for rule in rules:
        broken = failed.get(rule.id, 0) + (flags.get(rule.flag, 0) if rule.severity != "error" else 0)
        run.tallies.append(Tally(table.name, rule.id, rule.dimension, rule.severity, evaluated, broken))
    run.metrics.append((table.name, f"{entries[0].feed}.rows_judged", float(evaluated)))


def _wanted(contract: Contract, flags: Sequence[str]) -> dict[str, tuple[str, str]]:
    """What is counted of written rows, by name, and how the counts of blocks add up."""
    # days as numbers since 1970: Spark 3.5 gives an observed date out as an object of the JVM
    of = ENTITIES[contract.table].day
    day = f"unix_date({of})" if of else "cast(NULL AS int)"
    wanted = {"n": ("count(1)", "sum"), "low": (f"min({day})", "min"), "high": (f"max({day})", "max")}
    held = {f"flag_{i}": f"count_if(array_contains(quality_flags, {sql_text(f)}))" for i, f in enumerate(flags)}
    return wanted | {name: (what, "sum") for name, what in held.items()}


def _day(number: int | None) -> dt.date | None:
    return None if number is None else dt.date(1970, 1, 1) + dt.timedelta(days=number)


def _written(run: Run, table: Table, entries: Sequence[Entry], flags: Sequence[str] = ()) -> _Written:
    rows = table.read().where(of_files(numbers(entries))).where("_row_number > 0")
    wanted = _wanted(table.contract, flags)
    terms = [f"{what} AS {name}" for name, (what, _) in wanted.items()]
    blocks: DataFrame | None = None
    if sum(e.rows_read for e in entries) > FEW_ROWS:  # first by block, which the quarantine asks for
        by_block = rows.withColumn("_block", F.expr(_BLOCK)).groupBy("_batch_id", "_block")
        rows = run.staged(by_block.agg(*map(F.expr, terms)), f"held_{table.contract.table}")
        blocks = rows.select("_batch_id", "_block", F.col("n").alias("_held"))
        terms = [f"{again}({name}) AS {name}" for name, (_, again) in wanted.items()]
    answer = rows.groupBy("_batch_id").agg(*map(F.expr, terms)).collect()
    lows, highs = ([day for r in answer if (day := _day(r[name]))] for name in ("low", "high"))
    told = {flag: sum(r[f"flag_{i}"] for r in answer) for i, flag in enumerate(flags)}
    counts = {r["_batch_id"]: r["n"] for r in answer}
    return _Written(counts, min(lows, default=None), max(highs, default=None), told, blocks)


def _span(table: Table, written: _Written) -> DataFrame:
    """The rows among which a new one can have its equal."""
    rows = table.read().where(F.col("_row_number") > 0)
    day = ENTITIES[table.contract.table].day
    if day is None or written.low is None or written.high is None:
        return rows
    rows = rows.where(F.col(day).between(written.low, written.high))
    if "billing_period" in table.contract.partition_by:
        rows = rows.where(F.col("billing_period").between(f"{written.low:%Y-%m}", f"{written.high:%Y-%m}"))
    return rows


# -- accounting ------------------------------------------------------------------------------------------------------


def _promoted(silver: _Silver) -> int:
    """Load what were repeats of records that have left, and count their files anew; returns how many rows were loaded.

    Counted is what stands, not what was written now: an interrupted run may have written it already.
    """
    entries = repeating(silver.run.ledger, silver.feeds)
    written = promote(silver.run, silver.feeds, silver.table, silver.fence, _carry(silver.table), entries)
    standing = rows_by(silver.table.read().where(of_files(numbers(entries))), "_batch_id") if entries else {}
    for entry in entries:
        loaded = standing.get(entry.number, 0)
        if loaded != entry.rows_loaded:
            entry.rows_duplicate += entry.rows_loaded - loaded
            entry.rows_loaded = loaded
            _balance(silver.table, entry)
            silver.run.ledger.mark(entry)
    return written


def _count(silver: _Silver, pending: Sequence[Entry], written: _Written, doubles: Mapping[int, int],
           fenced: Mapping[int, int] | None) -> int:  # fmt: skip
    """Set each pending file's counts in the ledger; returns the rows loaded.

    :param fenced: broken rows as they were counted on their way into the quarantine; where they do not account for all
        that silver lacks (or None) it is asked.
    :raises UtilityFlowError: UF-3006 when a record went missing.
    """
    lacking = sum(e.rows_read for e in pending) - sum(written.rows.get(e.number, 0) for e in pending)
    if fenced is None or sum(fenced.values()) != lacking:
        fenced = rows_by(silver.fence.read().where(of_files(numbers(pending))), "_batch_id")
    total = 0
    for entry in pending:
        entry.rows_quarantined = fenced.get(entry.number, 0)
        entry.rows_duplicate = doubles.get(entry.number, 0)
        entry.rows_loaded = written.rows.get(entry.number, 0) - entry.rows_duplicate
        if sum(entry.counts[1:]) != entry.rows_read:
            # an interrupted run took duplicates out before it could count them
            entry.rows_duplicate += doubles_of(silver.run, silver.feeds[entry.feed], entry, silver.table)
        _balance(silver.table, entry)
        entry.status = "loaded"
        silver.run.ledger.mark(entry)
        total += entry.rows_loaded
    return total


def _balance(table: Table, entry: Entry) -> None:
    found = sum(entry.counts[1:])
    if found != entry.rows_read:
        raise UtilityFlowError(
            "UF-3006", f"{table.name}: {entry.file_name} has {entry.rows_read} records, but {found} are accounted for"
        )


# -- snapshots -------------------------------------------------------------------------------------------------------


def _snapshots(silver: _Silver, feed: Feed) -> int:
    """Derive a snapshot feed's events anew from all its standing snapshots, in one commit."""
    run, table, fence = silver.run, silver.table, silver.fence
    shots = snapshots.accept(run, feed)
    mine = f"_feed = '{feed.feed}'"
    if not shots:
        for target in (table, fence):
            target.delete(mine, note=_carry(target))
        return 0
    snapshots.tell(run, feed, shots)
    entries = list({s.entry.sha256: s.entry for s in shots}.values())
    key = table.contract.property("identity")
    frame, rules = judged(run, feed, entries)
    rows = run.staged(snapshots.marked(frame, broken_any(rules), shots), f"snapshots_{feed.feed}")
    events = _with_hash(snapshots.upserts(rows.where("NOT _bad"), key), table.contract)
    own = Window.partitionBy("_file_sha256", "_record_hash").orderBy("_row_number")
    kept = events.withColumn("_copy", F.row_number().over(own)).where("_copy = 1").select(*table.contract.column_names)
    gone = _deletions(snapshots.deletes(rows, key, shots), feed, shots, table.contract)
    top = max([*numbers(entries), int(table.note().get("batch") or 0)])
    table.overwrite(kept.unionByName(gone), where=mine, note={"batch": top, "feed": feed.feed})
    bad = snapshots.quarantine(rows, shots)
    if bad.head(1) or fence.read().where(mine).head(1):
        note = {"batch": top, "feed": feed.feed}
        fence.overwrite(quarantined(run, feed, fence, bad, rules), where=mine, note=note)
    return _count_snapshots(run, table, rows, shots, entries)


def _with_hash(events: DataFrame, contract: Contract) -> DataFrame:
    return events.withColumn("_record_hash", record_hash(contract, of_snapshot=True))


def _deletions(absent: DataFrame, feed: Feed, shots: Sequence[Snapshot], contract: Contract) -> DataFrame:
    """Delete events of (key, ``_place``) rows in the table's shape; ``_row_number`` 0 marks what no record says."""
    keys = contract.property("identity")

    def of_place(values: Sequence[Any]) -> Any:
        return F.element_at(F.create_map(*[x for i, v in enumerate(values) for x in (F.lit(i), F.lit(v))]), F.col("_place"))

    stamp = of_place([s.at.timestamp() for s in shots]).cast("timestamp")
    number = of_place([s.entry.number for s in shots]).cast("bigint")
    given = {"effective_at": stamp, "sequence": number, "operation": F.lit("delete"),
             "quality_flags": F.array().cast("array<string>"), "_feed": F.lit(feed.feed),
             "_file_sha256": of_place([s.entry.sha256 for s in shots]), "_row_number": F.lit(0).cast("bigint"),
             "_batch_id": number, "_record_hash": F.lit(0).cast("bigint")}  # fmt: skip
    columns = [
        F.col(c.name) if c.name in keys else given.get(c.name, F.lit(None).cast(c.type)).alias(c.name)
        for c in contract.columns
    ]
    return _with_hash(absent.select(*columns), contract).select(*contract.column_names)


def _count_snapshots(run: Run, table: Table, rows: DataFrame, shots: Sequence[Snapshot], entries: Sequence[Entry]) -> int:
    """Set the counts of all files: of their records, each of which is an event once for every snapshot that it is of."""
    mine = table.read().where((F.col("_feed") == entries[0].feed) & (F.col("_row_number") > 0))
    loaded = rows_by(snapshots.records(mine, shots), "_batch_id")
    bad = rows_by(snapshots.records(rows.where("_bad"), shots), "_batch_id")
    good = rows_by(snapshots.records(rows.where("NOT _bad"), shots), "_batch_id")
    for entry in entries:
        entry.rows_loaded, entry.rows_quarantined = loaded.get(entry.number, 0), bad.get(entry.number, 0)
        entry.rows_duplicate = good.get(entry.number, 0) - entry.rows_loaded
        _balance(table, entry)
        entry.status = "loaded"
        snapshots.derived(run, entry)
    return sum(loaded.values())
