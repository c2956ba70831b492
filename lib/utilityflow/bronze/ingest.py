"""Ingestion: landed files become bronze rows, each content once, in one commit per feed.

The ledger decides what is new (control/ledger.py). The commit's note lists its files with their ledger numbers, so that a
run that died after the commit and before the ledger was written is understood by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.inspect import Inspection, Limits, find_files, inspect_file, unchanged
from utilityflow.bronze.readers import block_reading, read_files
from utilityflow.control.ledger import Decision, Entry
from utilityflow.control.run import Run, StepResult
from utilityflow.errors import UtilityFlowError, disk_refuses
from utilityflow.lakehouse import Table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class Found:
    """A file of the landing root and what the ledger says of it."""

    name: str
    decision: Decision
    entry: Entry | None
    inspection: Inspection | None
    reason: str | None = None


def scan(run: Run, feed: Feed) -> list[Found]:
    """Look at the landing files of a feed and let the ledger decide on each; nothing is written."""
    found = []
    limits = Limits(max_decompressed_bytes=run.settings.thresholds.max_decompressed_bytes)
    landing = run.settings.landing_path
    for path in find_files(feed, landing):
        name = path.relative_to(landing).as_posix()
        known = None if run.rehash else _known(run, feed, path, name)
        if known is not None and name in known.refused:
            found.append(Found(name, "skipped" if name in known.held_names else "rejected", known, None, known.refused[name][0]))
            continue
        if known is not None and (known.status != "rejected" or f" {name}:" in (known.reason or "")):
            found.append(
                Found(name, "rejected" if known.status == "rejected" else "skipped", known, None, known.reason)
            )
            continue
        seen = inspect_file(feed, path, landing, limits)
        if not seen.stable:
            found.append(Found(name, "skipped", None, seen, str(seen.reason or "the file is still being written")))
            continue
        found.append(_decide(run, feed, name, seen))
    return found


def _known(run: Run, feed: Feed, path: Path, name: str) -> Entry | None:
    try:
        state = path.lstat()
    except OSError:
        return None
    return run.ledger.known(feed.feed, name, state.st_size, state.st_mtime_ns, feed.definition_hash())


def _decide(run: Run, feed: Feed, name: str, seen: Inspection) -> Found:
    reason = None if seen.reason is None else str(seen.reason)
    decision, entry, replaced = run.ledger.arrive(
        feed.feed, name, seen.sha256, seen.size, seen.mtime_ns, feed.definition_hash(),
        append=feed.same_name == "append", reason=reason,
    )  # fmt: skip
    for old in replaced:
        run.files[feed.feed, old.file_name, old.sha256] = {"status": "superseded"}
    held = entry.refused.get(name, (entry.reason if entry.status == "held" else reason, ""))
    return Found(name, decision, entry, seen, held[0])


def run_bronze(run: Run, feed: Feed) -> StepResult:
    """Bring ``bronze.<feed>`` up to what has landed; every file seen is listed in ``run.files``."""
    table = run.house.table(f"bronze.{feed.feed}")
    found = scan(run, feed)
    for item in found:
        _list(run, feed, item)
    new = [f for f in found if f.decision in ("loaded", "superseding") and f.entry is not None]
    # content that was superseded and came again is in bronze already: its rows were counted then
    fresh = [f for f in new if f.entry and f.inspection and not f.entry.rows_read]
    _note_drift(run, table, fresh)
    rows = _append(run, feed, table, fresh) if fresh else 0
    return StepResult(table.name, "ok" if new else "skipped", rows, version=table.version())


def _note_drift(run: Run, table: Table, fresh: Sequence[Found]) -> None:
    """Another order of columns and new columns are harmless, and told."""
    known = [n for n in table.read().columns if n not in table.contract.column_names] if table.version() > 0 else []
    for item in fresh:
        if item.inspection and item.entry:
            known = known or list(item.inspection.names)
            notes = [*item.inspection.notes, *item.inspection.drift(known)]
            item.entry.reason = "; ".join(notes) or None
            for note in notes:
                run.say(note, file=item.name)


def _list(run: Run, feed: Feed, item: Found) -> None:
    sha = item.entry.sha256 if item.entry else (item.inspection.sha256 if item.inspection else "")
    told = {"status": item.decision, "reason": item.reason}
    if item.decision == "skipped":  # what was taken over from a dead run is new to this one, and told as such already
        run.files.setdefault((feed.feed, item.name, sha), told)
    else:
        run.files[feed.feed, item.name, sha] = told
    if item.decision == "rejected":
        run.say(f"rejected {item.name}: {item.reason}", feed=feed.feed, file=item.name)


def _rows_in(table: Table, entry: Entry) -> int:
    return int(table.read().where(F.col("_file_sha256") == entry.sha256).count())


def _append(run: Run, feed: Feed, table: Table, fresh: Sequence[Found]) -> int:
    """One commit for all new files of the feed; a file that cannot be read after all is left out and told."""
    items = sorted(fresh, key=lambda f: f.entry.number if f.entry else 0)
    while items:
        run.say(f"{table.name}: reading {len(items)} file(s)", step=table.name, files=len(items))
        entries = [f.entry for f in items if f.entry]
        top = max(e.number for e in entries)
        try:
            with block_reading(run.house.spark):
                rows = _named(_read(run, feed, items), items)
                rows = rows.withColumn("_batch_id", number_of(entries))
                commit = table.append(
                    rows, batch=top, note={"batch": top, "files": [_told(e) for e in entries]}, widen=True
                )
        except Exception as error:
            if (isinstance(error, UtilityFlowError) and not error.code.startswith("UF-2")) or disk_refuses(error):
                raise
            sound = _without_changed(run, feed, items)
            if len(sound) == len(items):
                sound = _without_broken(run, feed, items)
            if len(sound) == len(items):
                raise
            items = sound
            continue
        commit.require(top)
        return _counted(run, feed, table, items)
    return 0


def number_of(entries: Sequence[Entry]) -> Column:
    """BIGINT ledger number of the file that a row is of, by ``_file_sha256``; by its hash, as maps are searched key by key."""
    pairs = [x for e in entries for x in (F.xxhash64(F.lit(e.sha256)), F.lit(e.number).cast("bigint"))]
    return F.element_at(F.create_map(*pairs), F.xxhash64("_file_sha256"))


def _read(run: Run, feed: Feed, items: Sequence[Found]) -> DataFrame:
    seen = [f.inspection for f in items if f.inspection]
    return read_files(run.house.spark, feed, seen, run.stage / f"read_{feed.feed}")


def _named(rows: DataFrame, items: Sequence[Found]) -> DataFrame:
    """The same with each raw column's original name as its comment: the one of the first file that has it."""
    original: dict[str, str] = {}
    for item in items:
        if item.inspection and len(item.inspection.raw_names) == len(item.inspection.names):
            for name, raw in zip(item.inspection.names, item.inspection.raw_names, strict=True):
                original.setdefault(name, raw)
    columns = [F.col(n).alias(n, metadata={"comment": original[n]}) if n in original else F.col(n) for n in rows.columns]
    return rows.select(*columns)


def _counted(run: Run, feed: Feed, table: Table, items: Sequence[Found]) -> int:
    """Rows per file as they stand in bronze; a file that changed under the reader's hands leaves again.

    Where the commit holds as many rows as the inspections counted, theirs are taken; silver's accounting checks each file.
    """
    numbers = [f.entry.number for f in items if f.entry]
    told = {f.entry.number: f.inspection.records for f in items if f.entry and f.inspection}
    counts = {number: count for number, count in told.items() if count is not None}
    if len(counts) < len(items) or sum(counts.values()) != table.rows_appended():
        rows = table.read().where(F.col("_batch_id").isin(numbers)).groupBy("_batch_id").count().collect()
        counts = {r[0]: r[1] for r in rows}
    kept = _without_changed(run, feed, items)
    gone = [f for f in items if f not in kept]
    for item in kept:
        if item.entry and item.inspection:
            item.entry.rows_read = counts.get(item.entry.number, 0)
            item.entry.appended = True
            expected = item.inspection.records
            if expected is not None and expected != item.entry.rows_read:
                raise UtilityFlowError(
                    "UF-3006", f"{item.name} has {expected} records, but {item.entry.rows_read} were read"
                )
    if gone:
        listed = ", ".join(str(f.entry.number) for f in gone if f.entry)
        table.delete(f"_batch_id IN ({listed})", note={"batch": max(numbers)})
    return sum(f.entry.rows_read for f in kept if f.entry)


def _without_changed(run: Run, feed: Feed, items: Sequence[Found]) -> list[Found]:
    """The files that are still what they were when they were inspected; the others are rejected for this run."""
    kept = []
    for item in items:
        if item.inspection and unchanged(item.inspection):
            kept.append(item)
        else:
            what = "vanished or changed while it was read"
            _refuse(run, feed, item, f"UF-2007: {item.name}: {what}; it is looked at again in the next run")
    return kept


def _without_broken(run: Run, feed: Feed, items: Sequence[Found]) -> list[Found]:
    """Reading failed although no file changed: each is read alone, those that fail are rejected, the others load."""
    kept = []
    for item in items:
        try:
            with block_reading(run.house.spark):
                _read(run, feed, [item]).write.format("noop").mode("overwrite").save()
            kept.append(item)
        except Exception as error:  # the engine's own words may quote data
            if disk_refuses(error) or _engine_died(error):
                raise
            what = f"the engine cannot read it ({type(error).__name__})"
            _refuse(run, feed, item, f"UF-2009: {item.name}: {what}; it is looked at again in the next run")
    return kept


_DEATHS = ("ExecutorLostFailure", "FetchFailed", "SparkContext was shut down", "stopped SparkContext")


def _engine_died(error: Exception) -> bool:
    """Whether executors were lost, or the whole engine: no file is to blame for it."""
    return any(words in str(error) for words in _DEATHS)


def _refuse(run: Run, feed: Feed, item: Found, reason: str) -> None:
    if item.entry is None:
        return
    run.refuse(item.entry, reason)
    item.entry.stamps.pop(item.name, None)
    run.files[feed.feed, item.name, item.entry.sha256] = {"status": "rejected", "reason": reason}
    run.say(f"rejected {item.name}: {reason}", feed=feed.feed, file=item.name)


# -- recovery --------------------------------------------------------------------------------------------------------


def _told(entry: Entry) -> dict[str, Any]:
    return {"sha256": entry.sha256, "name": entry.file_name, "number": entry.number, "size": entry.size,
            "stamps": entry.stamps, "definition": entry.definition}  # fmt: skip


def recover(run: Run) -> None:
    """Take over the files that bronze holds and the ledger does not know: a run died between the two.

    Of all feeds before the first new file gets a number, as theirs must not be given again.
    """
    for feed in run.feeds.values():
        _take_over(run, feed, run.house.table(f"bronze.{feed.feed}"))


def _take_over(run: Run, feed: Feed, table: Table) -> None:
    version, commits = table.version(), []
    while version > 0:
        note = table.note(version)
        listed = note.get("files", [])
        if "rollback" in note:  # what lies before it was dealt with by the rollback
            return
        version -= 1
        files = [f for f in listed if _unknown(run, feed, f)]
        if listed and not files:
            break
        if files:
            commits.append(files)
    for files in reversed(commits):  # in the order in which they came: the later content of a name supersedes the earlier
        run.say(f"{table.name}: taking over {len(files)} file(s) of an interrupted run", step=table.name)
        for told in files:
            size, mtime = next(iter(told["stamps"].values()))
            _, entry, _ = run.ledger.arrive(feed.feed, told["name"], told["sha256"], size, mtime, told["definition"],
                                            append=feed.same_name == "append", number=told["number"])  # fmt: skip
            entry.rows_read = _rows_in(table, entry)
            run.files[feed.feed, told["name"], told["sha256"]] = {"status": "loaded", "reason": None}


def _unknown(run: Run, feed: Feed, told: dict[str, Any]) -> bool:
    entry = run.ledger.entries.get((feed.feed, told["sha256"]))
    return entry is None or (entry.number < told["number"])
