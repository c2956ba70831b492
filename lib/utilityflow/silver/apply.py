"""The silver step: the pending files of an entity become judged rows, each record read once and judged once.

Order of commits, each idempotent by content, so that a killed run ends in the same tables when it is started again:
rows of superseded files leave; quarantine; loaded rows; then records that equal a standing one leave again (finding them
in the written columns costs a narrow scan, finding them before would cost evaluating every expression twice).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from utilityflow.bronze.feeds import Feed
from utilityflow.contracts import Contract
from utilityflow.control.ledger import Entry
from utilityflow.control.run import Run, StepResult, Tally
from utilityflow.errors import UtilityFlowError
from utilityflow.keys import hash64
from utilityflow.lakehouse import Table
from utilityflow.quality.rules import Rule, broken_any, contract_rules, conversion_rules, judge, required, tallies
from utilityflow.silver import customers, meter_reads, snapshots
from utilityflow.silver.typed import check_mapping, typed


@dataclass(frozen=True)
class Entity:
    """How an entity is made: the columns that feeds fill and the function that conforms typed rows."""

    name: str
    filled: tuple[str, ...]
    conform: Callable[[DataFrame, Collection[str], str], DataFrame]


ENTITIES = {
    "customers": Entity("customers", customers.FILLED, customers.conform),
    "meter_reads": Entity("meter_reads", meter_reads.FILLED, meter_reads.conform),
}


def check_feeds(run_feeds: dict[str, Feed], contracts: Any) -> None:
    """Every feed fits its entity, before anything is read.

    :raises UtilityFlowError: UF-1012 or UF-1011 naming feed and column.
    """
    for feed in run_feeds.values():
        if feed.entity not in ENTITIES:
            raise UtilityFlowError(
                "UF-1012", f"{feed.source}: there is no entity '{feed.entity}'", hint=f"known: {', '.join(ENTITIES)}"
            )
        check_mapping(feed, contracts[f"silver.{feed.entity}"], ENTITIES[feed.entity].filled)


def judged(run: Run, feed: Feed, entries: Sequence[Entry]) -> tuple[DataFrame, list[Rule]]:
    """Judged rows of some standing files of one feed, and the rules that judged them.

    Columns: the contract's, ``_rules``, ``_reasons``, ``_record`` (struct of raw columns), PROVENANCE; ``_batch_id`` is
    the ledger number of each file's present application.
    """
    entity = ENTITIES[feed.entity]
    contract = run.house.contracts[f"silver.{feed.entity}"]
    raw = run.house.table(f"bronze.{feed.feed}").read()
    raw = raw.where(
        F.col("_file_sha256").isin([e.sha256 for e in entries]) & (F.col("_batch_id") <= max(e.number for e in entries))
    )
    raw = raw.withColumn("_batch_id", _number_of(entries))
    frame = typed(run.house.spark, raw, feed, contract, entity.filled, run.zone)
    mapped = set(feed.expressions())
    frame = entity.conform(frame, mapped, run.zone)
    if feed.mode == "snapshot":
        place, at = snapshots.places(entries)
        frame = frame.withColumns({"_place": place, "_at": at})
        frame = frame.withColumn("effective_at", F.coalesce("effective_at", "_at"))
    rules = conversion_rules(sorted(mapped)) + contract_rules(
        contract, run.zone, list(entity.filled) + _derived(contract)
    )
    if "sequence" in mapped:
        rules.append(required("sequence"))
    frame = judge(frame, rules)
    own = [F.col("_file_sha256")] if feed.mode == "snapshot" else []  # a snapshot is compared only with itself
    hashes = {"_record_hash": hash64([F.col(n) for n in canonical_columns(contract)] + own, domain="record")}
    if "_identity" in contract.column_names:
        hashes["_identity"] = identity_hash(contract)
    return frame.withColumns(hashes), rules


def canonical_columns(contract: Contract) -> list[str]:
    """The columns in which equal records agree: all but flags, hashes and provenance."""
    return [n for n in contract.column_names if not n.startswith("_") and n != "quality_flags"]


def identity_hash(contract: Contract) -> Column:
    """BIGINT hash of the columns that say what a record speaks of; of reads it is the usage key of their fact."""
    return hash64([F.col(n) for n in contract.property("identity")], domain=contract.table)


def _derived(contract: Contract) -> list[str]:
    return [n for n in ("period_kind",) if n in contract.column_names]


def _number_of(entries: Sequence[Entry]) -> Column:
    if len({e.number for e in entries}) == 1:
        return F.lit(entries[0].number).cast("bigint")
    pairs = [x for e in entries for x in (F.lit(e.sha256), F.lit(e.number).cast("bigint"))]
    return F.element_at(F.create_map(*pairs), F.col("_file_sha256"))


# -- the step --------------------------------------------------------------------------------------------------------


def run_silver(run: Run, entity: str) -> StepResult:
    """Bring ``silver.<entity>`` and its quarantine to the ledger's state; file counts are set in the ledger."""
    feeds = {n: f for n, f in run.feeds.items() if f.entity == entity}
    table, fence = run.house.table(f"silver.{entity}"), run.house.table(f"silver.{entity}__quarantine")
    states = {n for n, f in feeds.items() if f.mode == "snapshot"}
    pending, leaving = run.ledger.pending(feeds), run.ledger.leaving(feeds)
    if not pending and not leaving:
        return StepResult(table.name, "skipped", version=table.version())
    written = 0
    for name in sorted({e.feed for e in pending + leaving} & states):
        written += _snapshots(run, feeds[name], table, fence)
    _remove(run, table, fence, [e for e in leaving if e.feed not in states])
    per_feed = [(f, [e for e in pending if e.feed == n]) for n, f in feeds.items() if n not in states]
    written += _load(
        run, feeds, table, fence, [(f, e) for f, e in per_feed if e], any(e.feed not in states for e in leaving)
    )
    for entry in leaving:
        entry.status = "superseded"
        run.ledger.mark(entry)
    return StepResult(table.name, "ok", written, version=table.version())


def _carry(table: Table, **more: Any) -> dict[str, Any]:
    """A commit note that hands on the highest ledger number that the table holds."""
    return {"batch": int(table.note().get("batch") or 0), **more}


def _remove(run: Run, table: Table, fence: Table, leaving: Sequence[Entry]) -> None:
    if not leaving:
        return
    numbers = ", ".join(str(e.number) for e in leaving)
    run.say(f"{table.name}: removing the records of {len(leaving)} superseded file(s)", step=table.name)
    for target in (table, fence):
        if target.read().where(f"_batch_id IN ({numbers})").limit(1).count():
            target.delete(f"_batch_id IN ({numbers})", note=_carry(target, removed=[e.number for e in leaving]))


def _load(run: Run, feeds: dict[str, Feed], table: Table, fence: Table, per_feed: list[tuple[Feed, list[Entry]]],
          promote: bool) -> int:  # fmt: skip
    span: dict[str, Any] = {}
    # rising ledger numbers, as transaction ids must rise
    for feed, entries in sorted(per_feed, key=lambda pair: max(e.number for e in pair[1])):
        for key, value in _append(run, feed, entries, table, fence).items():
            span[key] = _wider(span.get(key), value, key)
    pending = [e for _, entries in per_feed for e in entries]
    promoted = _promote(run, feeds, table) if promote else {}
    doubles = _remove_doubles(run, table, span) if pending else {}
    return _count(run, feeds, table, fence, pending, doubles, promoted)


def _snapshots(run: Run, feed: Feed, table: Table, fence: Table) -> int:
    """Derive a snapshot feed's events anew from all its standing snapshots, in one commit."""
    entries = snapshots.accept(run, feed)
    if not entries:
        for target in (table, fence):
            target.delete(f"_feed = '{feed.feed}'", note=_carry(target))
        return 0
    key = run.house.contracts[table.name].property("identity")
    frame, rules = judged(run, feed, entries)
    stage = run.stage / f"snapshots_{feed.feed}"
    frame.withColumn("_bad", broken_any(rules)).write.mode("overwrite").parquet(str(stage))
    rows = run.house.spark.read.parquet(str(stage))
    events = _with_hash(snapshots.upserts(rows.where("NOT _bad"), key), table.contract)
    own = Window.partitionBy("_file_sha256", "_record_hash").orderBy("_row_number")
    kept = events.withColumn("_copy", F.row_number().over(own)).where("_copy = 1").select(*table.contract.column_names)
    gone = _deletions(snapshots.deletes(rows, key, entries), feed, entries, table.contract)
    top = max([e.number for e in entries] + [int(table.note().get("batch") or 0)])
    table.overwrite(kept.unionByName(gone), where=f"_feed = '{feed.feed}'", note={"batch": top, "feed": feed.feed})
    bad = rows.where("_bad")
    if bad.head(1) or fence.read().where(F.col("_feed") == feed.feed).head(1):
        fence.overwrite(
            _fenced(run, feed, fence, bad), where=f"_feed = '{feed.feed}'", note={"batch": top, "feed": feed.feed}
        )
    return _count_snapshots(run, table, rows, entries)


def _with_hash(events: DataFrame, contract: Contract) -> DataFrame:
    parts = [F.col(n) for n in canonical_columns(contract)] + [F.col("_file_sha256")]
    return events.withColumn("_record_hash", hash64(parts, domain="record"))


def _deletions(absent: DataFrame, feed: Feed, entries: Sequence[Entry], contract: Contract) -> DataFrame:
    """Delete events of (key, ``_place``) rows in the table's shape; ``_row_number`` 0 marks what no record says."""
    keys = contract.property("identity")
    names = {i: e for i, e in enumerate(entries)}
    stamp = F.element_at(
        F.create_map(*[x for i, e in names.items() for x in (F.lit(i), F.lit(snapshots.order(e)[0].timestamp()))]),
        F.col("_place"),
    )
    sha = F.element_at(
        F.create_map(*[x for i, e in names.items() for x in (F.lit(i), F.lit(e.sha256))]), F.col("_place")
    )
    number = F.element_at(
        F.create_map(*[x for i, e in names.items() for x in (F.lit(i), F.lit(e.number).cast("bigint"))]),
        F.col("_place"),
    )
    given = {"effective_at": stamp.cast("timestamp"), "sequence": number, "operation": F.lit("delete"),
             "quality_flags": F.array().cast("array<string>"), "_feed": F.lit(feed.feed), "_file_sha256": sha,
             "_row_number": F.lit(0).cast("bigint"), "_batch_id": number, "_record_hash": F.lit(0).cast("bigint")}  # fmt: skip
    columns = [
        F.col(c.name) if c.name in keys else given.get(c.name, F.lit(None).cast(c.type)).alias(c.name)
        for c in contract.columns
    ]
    return _with_hash(absent.select(*columns), contract).select(*contract.column_names)


def _count_snapshots(run: Run, table: Table, rows: DataFrame, entries: Sequence[Entry]) -> int:
    loaded = _rows_by(table.read().where((F.col("_feed") == entries[0].feed) & (F.col("_row_number") > 0)), "_batch_id")
    bad = _rows_by(rows.where("_bad"), "_batch_id")
    good = _rows_by(rows.where("NOT _bad"), "_batch_id")
    for entry in entries:
        entry.rows_loaded, entry.rows_quarantined = loaded.get(entry.number, 0), bad.get(entry.number, 0)
        entry.rows_duplicate = good.get(entry.number, 0) - entry.rows_loaded
        _balance(table, entry)
        entry.status = "loaded"
        run.ledger.mark(entry)
    return sum(loaded.values())


def _wider(old: Any, new: Any, key: str) -> Any:
    if old is None or new is None:
        return new if old is None else old
    return min(old, new) if key == "low" else max(old, new)


def _append(run: Run, feed: Feed, entries: list[Entry], table: Table, fence: Table) -> dict[str, Any]:
    """Write the loaded and the quarantined rows of one feed's pending files; returns the span of days written."""
    frame, rules = judged(run, feed, entries)
    bad = broken_any(rules)
    fresh, fresh_bad = _not_in(table, entries), _not_in(fence, entries)
    top = max(e.number for e in entries)
    note = {"batch": top, "feed": feed.feed, "numbers": [e.number for e in entries]}
    seen = Observation(f"judged_{feed.feed}_{run.run_id}")
    day = F.col("usage_date") if "usage_date" in table.contract.column_names else F.lit(None).cast("date")
    watched = frame.withColumn("_bad", bad).observe(
        seen, F.count(F.lit(1)).alias("rows"), F.count_if("_bad").alias("bad"),
        F.min(F.when(~F.col("_bad"), day)).alias("low"), F.max(F.when(~F.col("_bad"), day)).alias("high"), *tallies(rules),
    )  # fmt: skip
    good = (
        watched.where(~F.col("_bad") & F.col("_batch_id").isin(fresh))
        if len(fresh) < len(entries)
        else watched.where(~F.col("_bad"))
    )
    run.say(f"{table.name}: judging {len(entries)} file(s) of {feed.feed}", step=table.name, feed=feed.feed)
    expected = sum(e.rows_read for e in entries)
    commit = table.append(good.select(*table.contract.column_names), batch=top, note=note, rows_expected=expected)
    if not commit.happened and len(fresh) == len(entries):
        raise UtilityFlowError("UF-3007", f"{table.name}: the append of ledger number {top} was skipped as a duplicate")
    figures = seen.get
    _note_tallies(run, table.name, rules, figures)
    if figures["bad"] and fresh_bad:
        _quarantine(run, feed, fence, frame.where(bad & F.col("_batch_id").isin(fresh_bad)), top, note)
    run.metrics += [
        (table.name, f"{feed.feed}.rows_judged", float(figures["rows"])),
        (table.name, f"{feed.feed}.rows_bad", float(figures["bad"])),
    ]
    return {"low": figures["low"], "high": figures["high"]}


def _not_in(table: Table, entries: Sequence[Entry]) -> list[int]:
    """Ledger numbers of the files whose rows the table does not hold yet (an interrupted run may have written them)."""
    numbers = [e.number for e in entries]
    if table.version() <= 0 or int(table.note().get("batch") or max(numbers)) < min(numbers):
        return numbers
    found = {
        r[0] for r in table.read().where(F.col("_batch_id").isin(numbers)).select("_batch_id").distinct().collect()
    }
    return [n for n in numbers if n not in found]


def _quarantine(run: Run, feed: Feed, fence: Table, bad: DataFrame, top: int, note: dict[str, Any]) -> None:
    fence.append(_fenced(run, feed, fence, bad), batch=top, note=note)


def _fenced(run: Run, feed: Feed, fence: Table, bad: DataFrame) -> DataFrame:
    contract = run.house.contracts[f"silver.{feed.entity}"]
    rows = bad.select(
        F.col("_rules").alias("rules"), F.col("_reasons").alias("reasons"),
        F.coalesce(F.col("_corrupt_record"), F.to_json("_record", {"ignoreNullFields": "false"})).alias("record"),
        F.lit(f"{contract.version}:{feed.definition_hash()[:16]}").alias("rule_set"),
        "_file_name", "_feed", "_file_sha256", "_row_number", "_batch_id",
    )  # fmt: skip
    return rows.select(*fence.contract.column_names)


def _note_tallies(run: Run, table: str, rules: Sequence[Rule], figures: dict[str, Any]) -> None:
    for i, rule in enumerate(rules):
        run.tallies.append(Tally(table, rule.id, rule.dimension, rule.severity, figures["rows"], figures[f"rule_{i}"]))


# -- equal records ---------------------------------------------------------------------------------------------------


def _remove_doubles(run: Run, table: Table, span: dict[str, Any]) -> dict[int, int]:
    """Take out the records that equal one that stands earlier in ledger order; returns ledger number -> how many."""
    rows = table.read().where(F.col("_row_number") > 0)
    if span.get("low") is not None:
        rows = rows.where(F.col("usage_date").between(span["low"], span["high"]))
    hashes = rows.groupBy("_record_hash").agg(F.count(F.lit(1)).alias("n")).where("n > 1").select("_record_hash")
    if not hashes.head(1):
        return {}
    names = canonical_columns(table.contract)
    same = rows.join(F.broadcast(hashes), "_record_hash", "left_semi")
    order = [F.col("_batch_id"), F.col("_row_number")]
    first = same.groupBy("_record_hash", *names).agg(F.min(F.struct(*order)).alias("kept"))
    joined = same.alias("s").join(
        first.alias("f"), [F.col(f"s.{n}").eqNullSafe(F.col(f"f.{n}")) for n in ("_record_hash", *names)]
    )
    doubles = joined.where(F.struct(*[F.col(f"s.{n}") for n in ("_batch_id", "_row_number")]) != F.col("f.kept"))
    stage = run.stage / f"doubles_{table.contract.table}"
    keys = ["_batch_id", "_row_number"] + list(table.contract.partition_by)
    doubles.select(*[F.col(f"s.{n}").alias(n) for n in keys]).write.mode("overwrite").parquet(str(stage))
    staged = run.house.spark.read.parquet(str(stage))
    counts = {r[0]: r[1] for r in staged.groupBy("_batch_id").count().collect()}
    if counts:
        table.merge(
            staged,
            on=" AND ".join(f"target.{k} = source.{k}" for k in keys),
            clauses="WHEN MATCHED THEN DELETE",
            note=_carry(table),
        )
    return counts


def _promote(run: Run, feeds: dict[str, Feed], table: Table) -> dict[int, int]:
    """Records that were duplicates of a superseded one and equal none that stands: the first of each is loaded now."""
    frames = []
    for name, feed in feeds.items():
        entries = [e for e in run.ledger.standing([name]) if e.rows_duplicate > 0 and feed.mode == "events"]
        if entries:
            frame, rules = judged(run, feed, entries)
            frames.append(frame.where(~broken_any(rules)).select(*table.contract.column_names))
    if not frames:
        return {}
    standing = table.read().select("_record_hash")
    candidates = reduce(DataFrame.unionByName, frames).join(standing, "_record_hash", "left_anti")
    first = candidates.groupBy("_record_hash").agg(F.min(F.struct("_batch_id", "_row_number")).alias("kept"))
    chosen = (
        candidates.join(first, "_record_hash").where(F.struct("_batch_id", "_row_number") == F.col("kept")).drop("kept")
    )
    stage = run.stage / f"promoted_{table.contract.table}"
    chosen.select(*table.contract.column_names).write.mode("overwrite").parquet(str(stage))
    staged = run.house.spark.read.parquet(str(stage))
    counts = {r[0]: r[1] for r in staged.groupBy("_batch_id").count().collect()}
    if counts:
        table.append(staged, note=_carry(table, promoted=sorted(counts)))
    return counts


# -- accounting ------------------------------------------------------------------------------------------------------


def _count(run: Run, feeds: dict[str, Feed], table: Table, fence: Table, pending: Sequence[Entry], doubles: dict[int, int],
           promoted: dict[int, int]) -> int:  # fmt: skip
    """Count each pending file's rows in silver and quarantine and set them in the ledger; returns the rows loaded.

    :raises UtilityFlowError: UF-3006 when a record went missing.
    """
    total = sum(promoted.values())
    for entry in run.ledger.entries.values():
        if entry.stands and entry.number in promoted and entry not in pending:
            entry.rows_loaded += promoted[entry.number]
            entry.rows_duplicate -= promoted[entry.number]
            run.ledger.mark(entry)
    if not pending:
        return total
    numbers = [e.number for e in pending]
    loaded = _rows_by(table.read().where((F.col("_row_number") > 0) & F.col("_batch_id").isin(numbers)), "_batch_id")
    fenced = _rows_by(fence.read().where(F.col("_batch_id").isin(numbers)), "_batch_id")
    for entry in pending:
        entry.rows_loaded, entry.rows_quarantined = loaded.get(entry.number, 0), fenced.get(entry.number, 0)
        entry.rows_duplicate = doubles.get(entry.number, 0)
        if (
            sum(entry.counts[1:]) != entry.rows_read
        ):  # an interrupted run took duplicates out before it could count them
            entry.rows_duplicate = _doubles_of(run, feeds[entry.feed], entry, table)
        _balance(table, entry)
        entry.status = "loaded"
        run.ledger.mark(entry)
        total += entry.rows_loaded
    return total


def _doubles_of(run: Run, feed: Feed, entry: Entry, table: Table) -> int:
    """Good records of a file that silver does not hold under its number and that equal one that silver holds."""
    frame, rules = judged(run, feed, [entry])
    own = table.read().where(F.col("_batch_id") == entry.number).select("_row_number")
    absent = frame.where(~broken_any(rules)).join(own, "_row_number", "left_anti")
    return absent.join(table.read().select("_record_hash"), "_record_hash", "left_semi").count()


def _balance(table: Table, entry: Entry) -> None:
    found = sum(entry.counts[1:])
    if found != entry.rows_read:
        raise UtilityFlowError(
            "UF-3006", f"{table.name}: {entry.file_name} has {entry.rows_read} records, but {found} are accounted for"
        )


def _rows_by(frame: DataFrame, key: str) -> dict[Any, int]:
    return {r[0]: r[1] for r in frame.groupBy(key).count().collect()}
