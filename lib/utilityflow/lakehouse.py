"""Tables by name: create from contract, read at a version, append, MERGE, replace, delete, read changes.

Every Delta commit, file rename and outside write of the suite passes ``crash_point`` here: it is where a crash test kills
the process, so a write that goes another way would be left out of it (a test looks for such writes).
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from utilityflow.contracts import Catalog, Contract
from utilityflow.errors import UtilityFlowError
from utilityflow.migration import steps
from utilityflow.parallel import copied

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FEW_ROWS = 500_000
_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_OPTIMIZE = "spark.databricks.delta.optimize.{}"
_TXN_APP = "spark.databricks.delta.write.txnAppId"
_TXN_VERSION = "spark.databricks.delta.write.txnVersion"
# A MERGE that inserts joins by a left outer join of source and target, so the source cannot be broadcast. A Bloom filter of
# its keys keeps the other rows of the target out of the shuffle; Spark plans one only where neither side looks small.
_FILTERED = {
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.autoBroadcastJoinThreshold": "64MB",
    "spark.sql.optimizer.runtime.bloomFilter.enabled": "true",
    "spark.sql.optimizer.runtime.bloomFilter.applicationSideScanSizeThreshold": "0",
    "spark.sql.optimizer.runtime.bloomFilter.creationSideThreshold": "1GB",
    "spark.databricks.delta.merge.materializeSource": "none",
}
_COMMIT_FILE = re.compile(r"(\d{20})\.json\Z")


class CrashPoints:
    """Names the points that a process passes; when told to, ends the process there as a power cut would.

    ``UF_CRASH_AT=<n>`` kills at the n-th passed point (1-based; each write passes one before and one after), ``<name>#<n>``
    at the n-th of that name; ``UF_CRASH_LOG=<file>`` appends number and name of each passed point, ``<name>#<n>``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Pass the point ``name``."""
        log, at = os.environ.get("UF_CRASH_LOG"), os.environ.get("UF_CRASH_AT")
        if not log and not at:
            return
        with self._lock:
            self._passed[name] += 1
            number, named = str(self._passed.total()), f"{name}#{self._passed[name]}"
            if log:
                with Path(log).open("a", encoding="utf-8") as stream:
                    stream.write(f"{number} {named}\n")
            if at in (number, named):
                os.kill(os.getpid(), signal.SIGKILL)


_POINTS = CrashPoints()


@contextlib.contextmanager
def crash_point(name: str) -> Iterator[None]:
    """The one door: wrap every commit, rename and outside write in it."""
    _POINTS.reach(f"before {name}")
    yield
    _POINTS.reach(f"after {name}")


def rename(source: Path, target: Path, name: str) -> None:
    """Atomic rename over ``target``, durable: the file and its folder are flushed to disk."""
    with crash_point(name):
        descriptor = os.open(source, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        source.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True)
class Commit:
    """What a write did: the table's version before and after, and the engine's metrics."""

    table: str
    before: int
    after: int
    metrics: Mapping[str, str] = field(default_factory=dict)

    @property
    def happened(self) -> bool:
        """False when the write was skipped as a duplicate (same transaction id) or had nothing to do."""
        return self.after > self.before

    def require(self, batch: int) -> None:
        """For writes that are known to be new.

        :raises UtilityFlowError: UF-3007 when the table took ``batch`` for a ledger number that it has seen.
        """
        if not self.happened:
            what = f"{self.table}: the append of ledger number {batch} was skipped as a duplicate"
            raise UtilityFlowError("UF-3007", what)


class Guard(Protocol):
    """What tells whether this process may still write (a lease)."""

    @property
    def token(self) -> int:
        """Rises with each holder; stands in every commit."""
    def require(self) -> None:
        """Pass while we may write.

        :raises UtilityFlowError: UF-4008 when another has taken over.
        """
    def fenced(self) -> contextlib.AbstractContextManager[None]:
        """Nobody can take over while the block runs; ``require`` before."""


class Lakehouse:
    """The tables under one root folder, by name ``layer.table``.

    :param root: folder (or abfss URL) that holds ``<layer>/<table>``.
    :param environment: part of the transaction ids, so that copies of a lakehouse do not share them.
    :param run_id: written into every commit's userMetadata, the key that joins logs, tables and lineage.
    :param epoch: part of the transaction ids too: how often the tables were rolled back (RESTORE keeps the ids that it
        undoes, so that what is written again would be taken for done).
    :param guard: asked before each commit; its token stands beside the run_id.
    """

    def __init__(self, spark: SparkSession, root: str, contracts: Catalog, *, environment: str = "local",
                 run_id: str = "", epoch: int = 0, guard: Guard | None = None) -> None:  # fmt: skip
        self.spark = spark
        self.root = str(root).rstrip("/")
        self.contracts = contracts
        self.environment = environment
        self.run_id = run_id
        self.epoch = epoch
        self.guard = guard
        self.lock = threading.RLock()
        self.commits: list[Commit] = []

    def apart(self) -> Lakehouse:
        """The same tables, through a session of its own where it can be had: what is set in one is not seen in the others."""
        house = copy.copy(self)
        house.spark = copied(self.spark) or self.spark
        return house

    @contextlib.contextmanager
    def door(self, name: str) -> Iterator[None]:
        """``crash_point`` for those who may still write.

        :raises UtilityFlowError: UF-4008 when another process has taken over.
        """
        if self.guard is not None:
            self.guard.require()
        with crash_point(name):
            yield

    def fenced(self) -> contextlib.AbstractContextManager[None]:
        """A block during which nobody takes over; see ``Guard.fenced``."""
        return self.guard.fenced() if self.guard is not None else contextlib.nullcontext()

    def table(self, name: str) -> Table:
        """The table of that name; it need not exist yet.

        :raises UtilityFlowError: UF-3001 when no contract describes it.
        """
        try:
            contract = self.contracts[name]
        except KeyError:
            raise UtilityFlowError("UF-3001", f"no contract describes the table {name}") from None
        return Table(self, contract)


class Table:
    """One Delta table with its contract."""

    def __init__(self, house: Lakehouse, contract: Contract) -> None:
        self.house = house
        self.contract = contract
        self.name = contract.name
        self.path = f"{house.root}/{contract.layer}/{contract.table}"

    def __repr__(self) -> str:
        return f"Table({self.name})"

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def _log(self) -> Path | None:
        return None if "://" in self.path else Path(self.path) / "_delta_log"

    def exists(self) -> bool:
        """Whether the table has a first commit."""
        if self._log is not None:
            return self._log.is_dir() and any(
                _COMMIT_FILE.match(p.name) or ".checkpoint." in p.name for p in self._log.iterdir()
            )
        from delta.tables import DeltaTable

        return bool(DeltaTable.isDeltaTable(self.house.spark, self.path))

    def version(self) -> int:
        """Newest version, -1 for a table that does not exist yet."""
        if self._log is not None:
            if not self._log.is_dir():
                return -1
            return max((int(m.group(1)) for p in self._log.iterdir() if (m := _COMMIT_FILE.match(p.name))), default=-1)
        if not self.exists():
            return -1
        return int(self.history(1)[0]["version"])

    def history(self, limit: int) -> list[dict[str, Any]]:
        """Newest commits first: version, operation, operationMetrics, userMetadata (parsed, {} when foreign)."""
        rows = self.house.spark.sql(f"DESCRIBE HISTORY delta.`{self.path}` LIMIT {int(limit)}").collect()
        return [
            {"version": int(r["version"]), "operation": r["operation"], "metrics": dict(r["operationMetrics"] or {}),
             "note": _parse(r["userMetadata"])}
            for r in rows
        ]  # fmt: skip

    def note(self, version: int | None = None) -> dict[str, Any]:
        """What our commit wrote into userMetadata at ``version`` (default the newest); {} for a foreign commit."""
        version = self.version() if version is None else version
        if version < 0:
            return {}
        info = self._commit_info(version)
        if info is not None:
            return _parse(info.get("userMetadata"))
        for row in self.history(50):
            if row["version"] == version:
                found: dict[str, Any] = row["note"]
                return found
        return {}

    def notes(self) -> Iterator[dict[str, Any]]:
        """The notes of the commits, newest first, as far back as the log on a local disk goes."""
        for version in range(self.version(), -1, -1):
            info = self._commit_info(version)
            if info is None:
                return
            yield _parse(info.get("userMetadata"))

    def actions(self, version: int) -> list[dict[str, Any]] | None:
        """The actions of a commit, as Delta's protocol has them; None where its file is not on a local disk."""
        lines = self._commit_lines(version)
        return None if lines is None else [json.loads(line) for line in lines]

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, version: int | None = None) -> DataFrame:
        """The table's rows, at a version when one is given."""
        reader = self.house.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path)

    def changes(self, since: int, until: int | None = None) -> DataFrame:
        """Rows inserted and deleted after version ``since``, with ``_change_type``, ``_commit_version``.

        :raises UtilityFlowError: UF-3001 when the contract has no change feed.
        """
        if not self.contract.property("changeFeed"):
            raise UtilityFlowError("UF-3001", f"{self.name} has no change feed by its contract")
        reader = (
            self.house.spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", since + 1)
        )
        if until is not None:
            reader = reader.option("endingVersion", until)
        return reader.load(self.path)

    def tells_changes(self, version: int) -> bool:
        """Whether commits after ``version`` wrote a change feed, by the last properties that were set until then.

        False where the log does not tell (it is not on a local disk, or incomplete).
        """
        for number in range(version, -1, -1):
            lines = self._commit_lines(number)
            if lines is None:
                return False
            for line in lines:
                if line.startswith('{"metaData"'):
                    told = json.loads(line)["metaData"].get("configuration", {})
                    return bool(told.get("delta.enableChangeDataFeed") == "true")
        return False

    # -- shape -----------------------------------------------------------------------------------------------------

    def migration(self) -> list[tuple[str, str]]:
        """What brings the live table to its contract: see ``migration.steps``.

        :raises UtilityFlowError: UF-3002 naming table and column.
        """
        return steps(self.contract, {f.name: f for f in self.read().schema}, self.path)

    def ensure(self) -> list[str]:
        """Create the table, or bring it to what its contract has become; returns what was done, in words.

        :raises UtilityFlowError: UF-3002 as ``migration``.
        """
        if not self.exists():
            self._clear_debris()
            with self.house.door(f"create {self.name}"):
                self.house.spark.sql(self.contract.delta_ddl(self.path))
            return [f"create {self.name}"]
        todo = self.migration()
        with self.house.lock if todo else contextlib.nullcontext():
            for words, statement in todo:
                # what the last write noted goes on holding
                with (
                    self._with({_USER_METADATA: self._note({**self.note(), **self._mine()})}),
                    self.house.door(words or f"set properties {self.name}"),
                ):
                    self.house.spark.sql(statement)
        return [words for words, _ in todo if words]

    def _clear_debris(self) -> None:
        """Remove what a CREATE that was cut off left: Delta takes any folder that is not empty for a table, would leave it
        as it is, and the first append would make a table that knows no contract. Data without a log are refused (UF-3003).
        """  # noqa: D205
        folder = Path(self.path)
        if self._log is None or not folder.is_dir():
            return
        if any(p.name != "_delta_log" for p in folder.iterdir()):
            raise UtilityFlowError("UF-3003", f"{self.name}: {folder} holds files but no Delta log", hint="move them away")
        shutil.rmtree(folder)

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(self, rows: DataFrame, *, batch: int | None = None, note: Mapping[str, Any] | None = None,
               widen: bool = False, rows_expected: int | None = None) -> Commit:  # fmt: skip
        """Append rows; with ``batch`` the write is idempotent: a batch number that was seen is skipped.

        :param widen: let new columns widen the table (bronze only).
        :param rows_expected: roughly how many; few rows are shuffled by partition first, so that a small load over many
            months does not leave a file per task and month (a large one would pay more for the shuffle than it gains).
        """
        writer = rows.write.format("delta").mode("append").option("userMetadata", self._note(note))
        if widen:
            writer = writer.option("mergeSchema", "true")
        if self.contract.partition_by and rows_expected is not None and rows_expected <= FEW_ROWS:
            writer = writer.option("optimizeWrite", "true")
        app, number = self._transaction(batch)
        writer = writer.option("txnAppId", app).option("txnVersion", number)
        return self._commit("append", lambda: writer.save(self.path))

    def rows_appended(self) -> int:
        """Rows that the newest commit, an append, wrote by its own count."""
        info = self._commit_info(self.version())
        metrics = self.history(1)[0]["metrics"] if info is None else info.get("operationMetrics", {})
        return int(str(metrics.get("numOutputRows", 0)))

    def _commit_info(self, version: int) -> dict[str, Any] | None:
        """What the log says of a commit; None where it is not on a local disk or says nothing."""
        for line in self._commit_lines(version) or ():
            if line.startswith('{"commitInfo"'):
                info: dict[str, Any] = json.loads(line)["commitInfo"]
                return info
        return None

    def _commit_lines(self, version: int) -> list[str] | None:
        """The actions of a commit, one JSON text each; None where its file is not on a local disk."""
        file = None if self._log is None else self._log / f"{version:020d}.json"
        return file.read_text(encoding="utf-8").splitlines() if file is not None and file.is_file() else None

    def overwrite(self, rows: DataFrame, *, where: str | None = None, note: Mapping[str, Any] | None = None) -> Commit:
        """Replace all rows, or those that satisfy ``where`` (a predicate that the new rows satisfy too)."""
        app, number = self._transaction(None)
        writer = rows.write.format("delta").mode("overwrite").option("userMetadata", self._note(note))
        writer = writer.option("txnAppId", app).option("txnVersion", number)
        if where:
            writer = writer.option("replaceWhere", where)
        return self._commit("overwrite", lambda: writer.save(self.path))

    def merge(self, source: DataFrame, *, on: str, clauses: str, batch: int | None = None,
              note: Mapping[str, Any] | None = None, staged: bool = False) -> Commit:  # fmt: skip
        """``MERGE INTO target USING source ON <on> <clauses>``; aliases ``target`` and ``source``.

        :param staged: the source is a filter over staged files, which Delta need not copy before it reads them twice; of
            the target only rows with a key that the source may hold are then shuffled (decision 010).
        """
        view = f"source_{uuid.uuid4().hex}"
        source.createOrReplaceTempView(view)
        statement = f"MERGE INTO delta.`{self.path}` AS target USING {view} AS source ON {on} {clauses}"
        large = staged and self.house.spark.conf.get("spark.sql.adaptive.enabled") == "true"
        try:
            return self._sql("merge", statement, batch, note, _FILTERED if large else {})
        finally:
            self.house.spark.catalog.dropTempView(view)

    def delete(self, condition: str, *, note: Mapping[str, Any] | None = None) -> Commit:
        """Delete the rows that satisfy ``condition``."""
        return self._sql("delete", f"DELETE FROM delta.`{self.path}` WHERE {condition}", None, note)

    def restore(self, version: int, note: Mapping[str, Any]) -> Commit:
        """Make the rows and columns those of an older version, in a new commit."""
        extra = {_USER_METADATA: json.dumps({**note, **self._mine()}, sort_keys=True)}
        return self._arrange("restore", f"RESTORE TABLE delta.`{self.path}` TO VERSION AS OF {int(version)}", extra)

    # -- upkeep ----------------------------------------------------------------------------------------------------

    def optimize(self, small: int, full: int, where: str = "") -> Commit:
        """Write files of under ``small`` bytes, and those with many deleted rows, anew as files of up to ``full`` bytes.

        No row changes: what the last write noted goes on holding.

        :param where: SQL condition over partition columns, for the partitions that are arranged; none: all.
        """
        bounds = {_OPTIMIZE.format("minFileSize"): str(small), _OPTIMIZE.format("maxFileSize"): str(full)}
        note = {_USER_METADATA: json.dumps({**self.note(), **self._mine()}, sort_keys=True)}
        return self._arrange("optimize", f"OPTIMIZE delta.`{self.path}`{f' WHERE {where}' if where else ''}", bounds | note)

    def clean(self, hours: int) -> Commit:
        """Remove files that no version of the last ``hours`` needs; Delta refuses less than its own bound, 168."""
        usual = {"spark.databricks.delta.vacuum.logging.enabled": "false",  # no commits that say so: the log is for data
                 "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8"}  # 10,000 tasks for a small folder, else
        return self._arrange("vacuum", f"VACUUM delta.`{self.path}` RETAIN {int(hours)} HOURS", usual)

    def _arrange(self, kind: str, statement: str, extra: Mapping[str, str]) -> Commit:
        with self.house.lock:
            return self._under(self.house.spark, extra, kind, statement)

    def _under(self, session: SparkSession, extra: Mapping[str, str], kind: str, statement: str) -> Commit:
        """The commit of a statement, in a session with these settings."""
        self._no_stale_setting()
        with self._with(extra, session):
            return self._commit(kind, lambda: session.sql(statement).collect())

    @contextlib.contextmanager
    def _with(self, extra: Mapping[str, str], session: SparkSession | None = None) -> Iterator[None]:
        """A session's settings, by default the house's, changed while the block runs."""
        conf = (session or self.house.spark).conf
        before = {key: conf.get(key, None) for key in extra}
        for key, value in extra.items():
            conf.set(key, value)
        try:
            yield
        finally:
            for key, old in before.items():
                if old is None:
                    conf.unset(key)
                else:
                    conf.set(key, old)

    def _sql(self, kind: str, statement: str, batch: int | None, note: Mapping[str, Any] | None,
             extra: Mapping[str, str] | None = None) -> Commit:  # fmt: skip
        # SQL statements take the transaction id and the note from their session: each gets one of its own, so that statements
        # of several threads run at once; where there is none to be had, they wait for each other
        app, number = self._transaction(batch)
        mine = {_TXN_APP: app, _TXN_VERSION: str(number), _USER_METADATA: self._note(note), **(extra or {})}
        own = copied(self.house.spark)
        with contextlib.nullcontext() if own else self.house.lock:
            return self._under(own or self.house.spark, mine, kind, statement)

    def _no_stale_setting(self) -> None:
        """A transaction id that somebody left in the session could turn this write, or his next one, into none.

        :raises UtilityFlowError: UF-3010 naming the setting.
        """
        left = [key for key in (_TXN_APP, _TXN_VERSION) if self.house.spark.conf.get(key, None) is not None]
        if left:
            what = f"{self.name}: the session holds {' and '.join(left)} of another write"
            raise UtilityFlowError("UF-3010", what, hint="unset it: spark.conf.unset(...)")

    def _commit(self, kind: str, write: Any) -> Commit:
        before = self.version()
        with self.house.door(f"{kind} {self.name}"):
            answer = write()
        metrics = {k: str(v) for k, v in answer[0].asDict().items()} if isinstance(answer, list) and answer else {}
        commit = Commit(self.name, before, self.version(), metrics)
        self.house.commits.append(commit)
        return commit

    def _note(self, note: Mapping[str, Any] | None) -> str:
        return json.dumps({**self._mine(), **(note or {})}, sort_keys=True)

    def _mine(self) -> dict[str, Any]:
        """Who writes: the run, and the token of its lease."""
        return {"run_id": self.house.run_id} | ({"lease": self.house.guard.token} if self.house.guard else {})

    def _transaction(self, batch: int | None) -> tuple[str, int]:
        """A batch number makes the write idempotent; without one the number is the next version, which never was used."""
        name = f"utilityflow:{self.house.environment}:{self.name}:{self.house.epoch}"
        return (name, batch) if batch is not None else (f"{name}:free", self.version() + 1)


def _parse(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
