"""The file ledger: which content arrived, under which names, and what became of its records.

One entry per feed and SHA-256. A name is a path under the landing root; content stands while at least one name holds it.
The rules (DESIGN.md sections 3, 4 and 10): the same content under another name is skipped; changed content under a known
name supersedes what that name held (or stands beside it with ``same_name: append``); superseded content that is
delivered again is applied again; content that was rolled back is held until it is released. Of a snapshot feed a further name
of standing content may bring a further time of it (silver/snapshots.py finds out), and a name can be refused, or held after a
rollback, while the content stands by others. This module decides; it reads and writes nothing but its own table.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from utilityflow.lakehouse import Lakehouse
from utilityflow.session import local_frame

TABLE = "ops.file_ledger"
# held: rolled back, and not taken again until somebody releases it (requeue); released: as if it had never arrived
Status = Literal["landed", "loaded", "leaving", "superseded", "rejected", "held", "released"]
Decision = Literal["loaded", "superseding", "skipped", "rejected"]


@dataclass
class Entry:
    """One content of one feed. ``number`` is the ledger number of its present application, its order among all files.

    Of snapshot feeds: ``times`` are the snapshot times that its names gave when silver was derived last; ``refused`` are names
    under which the content lies there and does not count: (reason, hash of the feed definition that refused it), "" for
    names that are held after a rollback, whatever the definition.
    """

    feed: str
    sha256: str
    file_name: str
    size: int
    definition: str
    number: int = 0
    status: Status = "landed"
    reason: str | None = None
    names: set[str] = field(default_factory=set)
    stamps: dict[str, list[int]] = field(default_factory=dict)
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    rows_superseded: int = 0
    rows_duplicate: int = 0
    snapshot_time: dt.datetime | None = None
    run_id: str = ""
    times: dict[str, dt.datetime] = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    # the times at which silver holds it by the last ledger that was written: those of ``times`` as they were read
    derived: frozenset[dt.datetime] = field(default=frozenset(), compare=False)
    # this run put the rows into bronze, under ``number``; content that came before stands there under an older one
    appended: bool = field(default=False, compare=False)

    @property
    def stands(self) -> bool:
        """Whether the content counts: it arrived, was accepted and no newer content took all its names."""
        return self.status in ("landed", "loaded")

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """read, loaded, quarantined, superseded, duplicate."""
        return self.rows_read, self.rows_loaded, self.rows_quarantined, self.rows_superseded, self.rows_duplicate

    @property
    def held_names(self) -> set[str]:
        """Names that were rolled back while the content goes on standing by others."""
        return {name for name, (_, definition) in self.refused.items() if not definition}

    @property
    def held_as(self) -> list[str]:
        """Under which names it waits for a release: the one first seen, where all of it is held."""
        return [self.file_name] if self.status == "held" else sorted(self.held_names)

    def supersede(self) -> None:
        """All its names hold newer content now; the silver step removes its rows and ends with ``superseded``."""
        self.status = "leaving"
        self.rows_superseded = self.rows_read
        self.rows_loaded = self.rows_quarantined = self.rows_duplicate = 0


class Ledger:
    """The ledger in memory. ``changed`` are the entries that a run must write back."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: dict[tuple[str, str], Entry] = {(e.feed, e.sha256): e for e in entries}
        self.number = max((e.number for e in self.entries.values()), default=0)
        self.changed: dict[tuple[str, str], Entry] = {}

    def of_feed(self, feed: str) -> list[Entry]:
        """Entries of a feed in ledger order."""
        return sorted((e for e in self.entries.values() if e.feed == feed), key=lambda e: e.number)

    def standing(self, feeds: Iterable[str]) -> list[Entry]:
        """Standing entries of some feeds in ledger order."""
        wanted = set(feeds)
        return sorted((e for e in self.entries.values() if e.feed in wanted and e.stands), key=lambda e: e.number)

    def pending(self, feeds: Iterable[str]) -> list[Entry]:
        """Entries that are in bronze but not yet judged, in ledger order."""
        return [e for e in self.standing(feeds) if e.status == "landed"]

    def leaving(self, feeds: Iterable[str]) -> list[Entry]:
        """Entries that were superseded and whose rows silver may still hold."""
        wanted = set(feeds)
        return [e for e in self.entries.values() if e.feed in wanted and e.status == "leaving"]

    def mark(self, entry: Entry) -> None:
        """Note that ``entry`` must be written back."""
        self.entries[entry.feed, entry.sha256] = entry
        self.changed[entry.feed, entry.sha256] = entry

    def known(self, feed: str, name: str, size: int, mtime_ns: int, definition: str) -> Entry | None:
        """The entry that a file is known as by name, size and time, without reading it."""
        for entry in self.entries.values():
            if entry.feed == feed and entry.stamps.get(name) == [size, mtime_ns]:
                if entry.stands and name in entry.names:
                    return entry
                if name in entry.held_names or entry.refused.get(name, ("", ""))[1] == definition:
                    return entry
                if entry.status == "rejected" and entry.definition == definition and name in entry.names:
                    return entry
                if entry.status == "held" and name in entry.names:
                    return entry
        return None

    def arrive(self, feed: str, name: str, sha256: str, size: int, mtime_ns: int, definition: str, *,
               append: bool = False, reason: str | None = None,
               number: int | None = None) -> tuple[Decision, Entry, list[Entry]]:  # fmt: skip
        """Content was found under a name: decide what it is.

        :param append: the feed's ``same_name`` is ``append``.
        :param reason: why the file cannot be taken; it is then rejected and what stood before goes on standing.
        :param number: the number that an interrupted run gave it already; None takes the next.
        :return: the decision, the entry, and the entries that are superseded by it.
        """
        entry = self.entries.get((feed, sha256))
        if entry is not None and name in entry.held_names:
            entry.stamps[name] = [size, mtime_ns]
            self.mark(entry)
            return "skipped", entry, []
        if entry is not None and entry.stands:
            entry.names.add(name)
            entry.stamps[name] = [size, mtime_ns]
            entry.refused.pop(name, None)
            self.mark(entry)
            return "skipped", entry, [] if append else self._release(feed, name, sha256)
        if entry is not None and entry.status == "held":
            entry.names.add(name)
            entry.stamps[name] = [size, mtime_ns]
            self.mark(entry)
            return "skipped", entry, []
        if entry is None:
            entry = Entry(feed, sha256, name, size, definition)
        entry.definition, entry.reason = definition, reason
        entry.stamps[name] = [size, mtime_ns]
        if reason is not None:
            entry.status = "rejected"
            entry.names.add(name)
            self.mark(entry)
            return "rejected", entry, []
        self.number = self.number + 1 if number is None else max(self.number, number)
        entry.number = number or self.number
        entry.status, entry.names = "landed", {name}
        entry.rows_superseded = 0
        entry.times, entry.derived, entry.snapshot_time = {}, frozenset(), None  # of its names of before
        entry.refused.pop(name, None)
        self.mark(entry)
        replaced = [] if append else self._release(feed, name, sha256)
        return ("superseding" if replaced else "loaded"), entry, replaced

    def reinstate(self, entry: Entry, names: Iterable[str] | None = None) -> list[Entry]:
        """``entry`` was rejected after it had superseded what held its names: that goes on standing. Returns it.

        :param names: those of its names that were refused; None: all.
        """
        found = []
        for name in list(entry.names if names is None else names):
            held = [e for e in self.leaving([entry.feed]) if name in e.stamps]
            # a snapshot that stands by other names too had a time by this one
            others = [e for e in self.standing([entry.feed]) if e is not entry and name in e.times and name not in e.names]
            if held:
                old = max(held, key=lambda e: e.number)
                old.status, old.rows_superseded = "landed", 0
            elif others:
                old = max(others, key=lambda e: e.number)
            else:
                continue
            old.names.add(name)
            self.mark(old)
            found.append(old)
        return found

    def roll_back(self, then: Ledger, why: str) -> list[Entry]:
        """Make every content what it was ``then``, at an earlier publication, and hold what was taken in since.

        Done twice it changes nothing more. A held entry keeps its number, so that numbers go on rising.

        :param why: the reason that held entries give. :returns: the held entries, and those of which names are held.
        """
        for key, entry in list(self.entries.items()):
            old = then.entries.get(key)
            became = _as_it_was(entry, old, why)
            if became.status == "held":
                became.reason = why if entry.status != "held" else entry.reason
            if became != entry:
                self.mark(became)
        return self.held()

    def held(self) -> list[Entry]:
        """What is held after a rollback: whole contents, and those of which single names are."""
        return [e for e in self.entries.values() if e.held_as]

    def release(self, entry: Entry) -> None:
        """Let held content be taken as new where it is found again, or, where names of it are held, under these."""
        held = entry.held_names
        entry.refused = {name: told for name, told in entry.refused.items() if name not in held}
        entry.stamps = {name: stamp for name, stamp in entry.stamps.items() if name not in held}
        if entry.status == "held":
            entry.status, entry.reason, entry.names, entry.stamps = "released", None, set(), {}
        self.mark(entry)

    def _release(self, feed: str, name: str, sha256: str) -> list[Entry]:
        """Take ``name`` from every other content that holds it; returns those that no name holds any more."""
        gone = []
        for other in self.of_feed(feed):
            if other.sha256 != sha256 and name in other.refused.keys() - other.held_names:
                del other.refused[name]  # newer content lies there
                self.mark(other)
            if other.sha256 == sha256 or name not in other.names:
                continue
            other.names.discard(name)
            if other.stands and not other.names:
                other.supersede()
                gone.append(other)
            self.mark(other)
        return gone


def _as_it_was(entry: Entry, old: Entry | None, why: str) -> Entry:
    """What content is after a rollback to a time when it was ``old`` (None: it had not arrived)."""
    if old is None and entry.status in ("rejected", "released", "held"):
        return entry
    if old is None:  # its records leave bronze too
        fresh = Entry(entry.feed, entry.sha256, entry.file_name, entry.size, entry.definition, entry.number, "held")
        fresh.names, fresh.stamps, fresh.run_id = set(entry.names), dict(entry.stamps), entry.run_id
        return fresh
    if not old.stands and entry.number > old.number:  # it came again since
        return replace(old, status="held", number=entry.number, names=set(entry.names), stamps=dict(entry.stamps))
    if entry.status == old.status == "rejected":
        return entry
    became = replace(old, names=set(old.names), refused=dict(old.refused), stamps=dict(old.stamps))
    if not old.derived:  # no snapshot: another name of it means nothing
        return became
    since = {n for n in entry.names - old.names if entry.times.get(n) not in old.derived}
    for name in since | (entry.refused.keys() - old.names):
        became.refused[name] = entry.refused.get(name, (why, ""))
        became.stamps[name] = entry.stamps[name]
    return became


def read_ledger(house: Lakehouse, version: int | None = None) -> Ledger:
    """The ledger as committed by the last run that ended, or as it was at a version."""
    table = house.table(TABLE)
    if table.version() <= 0:  # not there, or as it was created: empty
        return Ledger()
    return Ledger(_entry(row.asDict()) for row in table.read(version).collect())


def write_ledger(house: Lakehouse, ledger: Ledger, run_id: str) -> int:
    """Write the changed entries back in one commit; returns their number."""
    if not ledger.changed:
        return 0
    table = house.table(TABLE)
    rows = []
    for entry in ledger.changed.values():
        entry.run_id = run_id
        rows.append(_row(entry))
    frame = local_frame(house.spark, rows, table.contract.struct())
    if table.version() <= 0:
        table.append(frame)
    else:
        _merge(table, frame)
    ledger.changed.clear()
    return len(rows)


def _merge(table: Any, frame: Any) -> None:
    table.merge(frame, on="target.feed = source.feed AND target.file_sha256 = source.file_sha256",
                clauses="WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")  # fmt: skip


def _row(e: Entry) -> tuple[Any, ...]:
    return (e.feed, e.sha256, e.file_name, sorted(e.names), e.size, e.status, e.reason, e.rows_read, e.rows_loaded,
            e.rows_quarantined, e.rows_superseded, e.rows_duplicate, e.number, json.dumps(e.stamps, sort_keys=True),
            e.definition, e.snapshot_time, e.run_id, _told(e))  # fmt: skip


def _told(e: Entry) -> str | None:
    """Times and refusals of a snapshot's names as JSON."""
    if not e.times and not e.refused:
        return None
    times = {name: at.isoformat() for name, at in e.times.items()}
    return json.dumps({"times": times, "refused": e.refused}, sort_keys=True)


def _entry(row: Mapping[str, Any]) -> Entry:
    at = row["snapshot_time"]  # the engine hands instants out without a zone, in the process's own
    at = at and at.astimezone(dt.timezone.utc)
    told = json.loads(row.get("snapshots") or "{}")
    times = {name: dt.datetime.fromisoformat(text) for name, text in told.get("times", {}).items()}
    if at and not times:  # written before names had times of their own
        times = {row["file_name"]: at}
    return Entry(
        feed=row["feed"], sha256=row["file_sha256"], file_name=row["file_name"], size=row["size"],
        definition=row["definition"], number=row["batch_id"], status=row["status"], reason=row["reason"],
        names=set(row["names"]), stamps=json.loads(row["stamps"]), rows_read=row["rows_read"],
        rows_loaded=row["rows_loaded"], rows_quarantined=row["rows_quarantined"],
        rows_superseded=row["rows_superseded"], rows_duplicate=row["rows_duplicate"],
        snapshot_time=at, run_id=row["run_id"], times=times, derived=frozenset(times.values()),
        refused={name: (reason, definition) for name, (reason, definition) in told.get("refused", {}).items()},
    )  # fmt: skip
