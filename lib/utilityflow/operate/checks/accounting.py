"""Invariants 1 and 2: every record is accounted for, and the same content is applied at most once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from utilityflow.control.ledger import Entry
from utilityflow.lakehouse import Table
from utilityflow.operate.checks.base import Check, Evidence, Found, named, rows_of, together
from utilityflow.operate.scene import Narrowed, Scene
from utilityflow.quality.rules import broken_any
from utilityflow.silver import snapshots
from utilityflow.silver.judging import ENTITIES, identity_hash, judged, record_hash

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

    from utilityflow.bronze.feeds import Feed
    from utilityflow.contracts import Contract

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_PLACE = ["_file_sha256", "_row_number"]


def ledger_balances(evidence: Evidence) -> Found:
    """The ledger's own figures: read = loaded + quarantined + superseded + duplicates."""

    def offenders() -> Iterator[str]:
        for e in evidence.scene.ledger.entries.values():
            read, *parts = e.counts
            if e.status in ("loaded", "superseded") and read != sum(parts):
                yield f"{_file(e)}: {read} records read, {' + '.join(map(str, parts))} accounted for"

    return named(offenders())


def bronze_agrees(evidence: Evidence) -> Found:
    """Bronze holds as many rows of a file as the ledger says were read, and no file that the ledger does not know."""

    def offenders() -> Iterator[str]:
        known = evidence.scene.ledger.entries
        for (feed, sha), found in evidence.bronze.items():
            if (feed, sha) not in known:
                yield f"bronze.{feed}: {found.rows} rows of sha256 {sha[:12]}, which the ledger does not know"
        for key, e in known.items():
            there = evidence.bronze[key].rows if key in evidence.bronze else 0
            if there != e.rows_read:
                yield f"{_file(e)}: {e.rows_read} records read by the ledger, {there} rows in bronze.{e.feed}"

    return named(offenders())


def silver_agrees(evidence: Evidence) -> Found:
    """Silver and quarantine hold as many records of each standing file as the ledger says."""

    def offenders() -> Iterator[str]:
        for e in evidence.scene.ledger.entries.values():
            if e.status != "loaded":
                continue
            key = (e.feed, e.sha256, e.number)
            for what, told, there in (
                ("silver", e.rows_loaded, evidence.silver.get(key, 0)),
                ("quarantine", e.rows_quarantined, evidence.fenced.get(key, 0)),
            ):
                if told != there:
                    yield f"{_file(e)}: {told} records in {what} by the ledger, {there} are there"

    return named(offenders())


def nothing_superseded(evidence: Evidence) -> Found:
    """Silver and quarantine hold no rows of files that do not stand, nor rows under another ledger number."""

    def offenders() -> Iterator[str]:
        for where, counts in (("silver", evidence.silver), ("quarantine", evidence.fenced)):
            for (feed, sha, number), n in counts.items():
                e = evidence.scene.ledger.entries.get((feed, sha))
                state = (
                    "which the ledger does not know"
                    if e is None
                    else f"which is {e.status} as ledger number {e.number}"
                )
                if e is None or e.status not in ("loaded", "leaving") or e.number != number:
                    yield f"{where}: {n} rows of {feed} sha256 {sha[:12]} under ledger number {number}, {state}"

    return named(offenders())


def snapshots_stand(evidence: Evidence) -> Found:
    """Silver holds a content that is several snapshots at the time of each of them, not only at that of the first.

    At the first a key may have an effective time of its own; from then on all its keys have the snapshots' times.
    """
    scene = evidence.scene
    several = [e for e in scene.ledger.entries.values() if e.status == "loaded" and len(e.derived) > 1]

    def offenders() -> Iterator[str]:
        for feed in sorted({e.feed for e in several} & scene.feeds.keys()):
            table = scene.house.table(f"silver.{scene.feeds[feed].entity}")
            entries = [e for e in several if e.feed == feed]
            mine = F.col("_file_sha256").isin([e.sha256 for e in entries]) & (F.col("_row_number") > 0)
            rows = table.read().where((F.col("_feed") == feed) & mine)
            keys = F.count_distinct(*table.contract.property("identity"))
            every = {r[0]: r[1] for r in rows.groupBy("_file_sha256").agg(keys).collect()}
            by_time = rows.groupBy("_file_sha256", F.unix_micros("effective_at")).agg(keys).collect()
            there = {(r[0], r[1]): r[2] for r in by_time}
            for e in entries:
                for at in sorted(e.derived)[1:]:
                    micros = (at - EPOCH) // dt.timedelta(microseconds=1)
                    found, wanted = there.get((e.sha256, micros), 0), every.get(e.sha256, 0)
                    if found != wanted:
                        yield f"{_file(e)}: {wanted} keys, of which silver holds {found} at {at.isoformat()}"

    return named(offenders())


def bronze_once(evidence: Evidence) -> Found:
    """No record of a content stands twice in bronze."""
    suspects = [key for key, rows in evidence.bronze.items() if not rows.dense or rows.batches > 1]
    found = []
    for feed, sha in suspects:
        rows = evidence.scene.house.table(f"bronze.{feed}").read().where(F.col("_file_sha256") == sha)
        twice = rows.groupBy("_row_number").count().where("count > 1")
        some = [r[0] for r in twice.orderBy("_row_number").limit(3).collect()]
        if some:
            name = evidence.scene.file(sha, feed)
            found.append(f"bronze.{feed}: {name} stands more than once, for example record {', '.join(map(str, some))}")
    return named(found)


def records_once(evidence: Evidence) -> Found:
    """No two standing records of silver agree in all canonical columns."""
    return together(_equal_records(table) for table in _silver_tables(evidence.scene))


def _equal_records(table: Table) -> Found:
    hashes = table.read().where("_row_number > 0").groupBy("_record_hash").agg(F.count(F.lit(1)).alias("n"))
    return rows_of(
        hashes.where("n > 1"), lambda r: f"{table.name}: {r['n']} equal records with hash {r['_record_hash']}"
    )


def hashes_agree(evidence: Evidence) -> Found:
    """The hashes of silver's rows are those of their values: no row was changed by hand."""
    return together(_changed_rows(evidence.scene, table) for table in _silver_tables(evidence.scene))


def _changed_rows(scene: Scene, table: Table) -> Found:
    bad = with_other_hash(table.read(), table.contract, _snapshot_feeds(scene))

    def say(row: Row) -> str:
        place = f"record {row['_row_number']} of {scene.file(row['_file_sha256'])}"
        return f"{table.name}: {place} does not agree with its hash"

    return rows_of(bad, say)


def with_other_hash(rows: DataFrame, contract: Contract, snapshot_feeds: Sequence[str]) -> DataFrame:
    """Rows of a silver table whose ``_record_hash`` or ``_identity`` is not that of their columns."""
    plain, own = record_hash(contract), record_hash(contract, of_snapshot=True)
    right = F.when(F.col("_feed").isin(*snapshot_feeds), own).otherwise(plain) if snapshot_feeds else plain
    wrong = F.col("_record_hash") != right
    if "_identity" in contract.column_names:
        wrong = wrong | (F.col("_identity") != identity_hash(contract))
    return rows.where(wrong)


# -- duplicates, judged again ----------------------------------------------------------------------------------------


def duplicates_are_equal(evidence: Evidence) -> Found:
    """A good bronze record that silver does not hold equals one that it holds; a broken one is in quarantine.

    The records that are in neither are judged again from bronze. What was a duplicate before the contract gained columns, equals
    in all others.
    """
    scene = evidence.scene
    loaded = sorted({e.feed for e in scene.ledger.entries.values() if e.status == "loaded"})
    found = together(_unaccounted(scene, scene.feeds[feed]) for feed in loaded if feed in scene.feeds)
    missing = [feed for feed in loaded if feed not in scene.feeds]
    if missing and not found.count:
        return Found(skipped=f"no feed file for {', '.join(missing)}: give --feeds")
    return found


def _unaccounted(scene: Scene, feed: Feed) -> Found:
    entries = [e for e in scene.ledger.standing([feed.feed]) if e.status == "loaded"]
    table, fence = (scene.house.table(f"silver.{feed.entity}{suffix}") for suffix in ("", "__quarantine"))
    mine = F.col("_feed") == feed.feed
    held = table.read().where(mine & (F.col("_row_number") > 0)).select(*_PLACE)
    out = fence.read().where(mine).select(*_PLACE)
    bronze = (
        scene.house.table(f"bronze.{feed.feed}").read().where(F.col("_file_sha256").isin([e.sha256 for e in entries]))
    )
    # sorted, not broadcast: on disk millions of places look small, as hashes of files compress well
    absent = bronze.join(held.hint("merge"), _PLACE, "left_anti").join(out, _PLACE, "left_anti")
    if not absent.head(1):
        return Found()
    doubtful = _judged_again(scene, feed, entries, table, absent)
    known = table.read().select("_record_hash").withColumn("_known", F.lit(True)).distinct()
    either = F.explode(F.array_distinct(F.array("_own", "_before"))).alias("_record_hash")
    told = [*_PLACE, "_own", "_bad"]
    found = doubtful.select(*told, either).join(known.hint("merge"), "_record_hash", "left")
    lost = found.groupBy(*told).agg(F.max("_known").alias("_known")).where(F.col("_bad") | F.col("_known").isNull())

    def say(row: Row) -> str:
        place = f"record {row['_row_number']} of {scene.file(row['_file_sha256'], feed.feed)}"
        if row["_bad"]:
            return f"{place} is broken but not in quarantine"
        return f"{place} is in neither {table.name} nor quarantine, and equals no record there"

    return rows_of(lost, say)


def _judged_again(scene: Scene, feed: Feed, entries: Sequence[Entry], table: Table, absent: DataFrame) -> DataFrame:
    """(file, record, ``_own``, ``_before``, ``_bad``) of the absent records: their hash, and that without columns gained."""
    names = [*_PLACE, "_own", "_before", "_bad"]
    if feed.mode == "events":
        frame, rules = judged(scene.run(Narrowed(scene.house, f"bronze.{feed.feed}", absent)), feed, entries)
        before = record_hash(table.contract, as_before=True)
        hashes = {"_own": F.col("_record_hash"), "_before": before, "_bad": broken_any(rules)}
        return frame.withColumns(hashes).select(*names)
    # what a snapshot's rows say depends on the other snapshots, so all of them are judged
    frame, rules = judged(scene.run(), feed, entries)
    marked = snapshots.marked(frame, broken_any(rules), snapshots.of(entries))
    good = snapshots.upserts(marked.where("NOT _bad"), table.contract.property("identity"))
    hashes = {name: record_hash(table.contract, of_snapshot=True, as_before=name == "_before") for name in ("_own", "_before")}
    rows = good.withColumns(hashes).select(*names)
    broken = marked.where("_bad").withColumns({name: F.col("_record_hash") for name in hashes})
    rows = rows.unionByName(broken.select(*names))
    return rows.join(absent.select(*_PLACE), _PLACE, "left_semi")


def _silver_tables(scene: Scene) -> list[Table]:
    tables = [scene.house.table(f"silver.{entity}") for entity in ENTITIES]
    return [t for t in tables if t.version() > 0]


def _snapshot_feeds(scene: Scene) -> list[str]:
    return [n for n, f in scene.feeds.items() if f.mode == "snapshot"]


def _file(entry: Entry) -> str:
    return f"{entry.feed} {entry.file_name} (sha256 {entry.sha256[:12]})"


CHECKS = (
    Check(
        "accounting.ledger",
        1,
        "in the ledger, records read = loaded + quarantined + superseded + duplicates",
        ledger_balances,
    ),
    Check("accounting.bronze", 1, "bronze holds the records that the ledger counts", bronze_agrees),
    Check("accounting.snapshots", 1, "silver holds a content that is several snapshots at each one's time", snapshots_stand),
    Check("accounting.silver", 1, "silver and quarantine hold the records that the ledger counts", silver_agrees),
    Check(
        "accounting.duplicates",
        1,
        "what silver and quarantine do not hold equals a record that silver holds",
        duplicates_are_equal,
        slow=True,
    ),
    Check("accounting.hashes", 1, "silver's hashes agree with its values", hashes_agree, slow=True),
    Check("once.bronze", 2, "no content stands twice in bronze", bronze_once),
    Check("once.superseded", 2, "silver and quarantine hold no superseded content", nothing_superseded),
    Check("once.records", 2, "no two standing records of silver are equal", records_once, slow=True),
)
