"""One run: what every step is given, and what it leaves for the run tables."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from utilityflow.control.home import Home
from utilityflow.control.ledger import Entry, Ledger
from utilityflow.control.profile import Profile
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger("utilityflow")
Days = tuple[dt.date, dt.date]  # first and last
_T = TypeVar("_T")


def new_run_id() -> str:
    """A run's name in logs, commits, lineage and alerts: its start (UTC) and eight random digits."""
    return f"{dt.datetime.now(dt.timezone.utc):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class StepResult:
    """What a step did. ``consumed`` are the input versions that its output now reflects."""

    step: str
    status: str
    rows_written: int = 0
    seconds: float = 0.0
    version: int | None = None
    consumed: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)

    def as_json(self) -> dict[str, Any]:
        """The shape of DESIGN.md section 10."""
        return {"step": self.step, "status": self.status, "rows_written": self.rows_written,
                "seconds": round(self.seconds, 3), "version": self.version}  # fmt: skip


@dataclass
class Tally:
    """How one rule did in one run."""

    table: str
    rule: str
    dimension: str
    severity: str
    evaluated: int
    failed: int


@dataclass(frozen=True)
class Repeated:
    """Records of a silver table's days that speak of what others speak of too (silver.duplicates): found once in a run.

    ``days``: first and last; None: of all days. ``records``: as ``told_again`` gives them, without the doubles.
    """

    days: Days | None
    records: DataFrame

    def covers(self, days: Days) -> bool:
        """Whether all of these days were looked at."""
        return self.days is None or (self.days[0] <= days[0] and days[1] <= self.days[1])


@dataclass
class Run:
    """The state of a run in memory; everything that must outlast it is in the lakehouse."""

    settings: Settings
    home: Home
    house: Lakehouse
    ledger: Ledger
    feeds: Mapping[str, Any]
    as_of: dt.date
    run_id: str
    consumed: dict[str, dict[str, Any]]
    files: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    steps: list[StepResult] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    metrics: list[tuple[str, str, float]] = field(default_factory=list)
    rehash: bool = False  # landed files are read even where name, size and time are known
    started: float = field(default_factory=time.time)
    repeated: dict[str, Repeated] = field(default_factory=dict)  # by silver table
    shared: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, UtilityFlowError] = field(default_factory=dict)  # by feed: sources that could not be asked
    broken: dict[str, UtilityFlowError] = field(default_factory=dict)  # by table: not made, as its step or one before it failed
    numbers: Iterator[int] = field(default_factory=count, repr=False)
    locks: dict[str, threading.Lock] = field(default_factory=dict, repr=False)

    @property
    def zone(self) -> str:
        """The utility's zone."""
        return self.home.zone

    @property
    def stage(self) -> Path:
        """Scratch folder of this run."""
        folder = self.home.tmp / self.run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def staged(self, frame: DataFrame, name: str) -> DataFrame:
        """The frame computed once, into Parquet in a folder of its own under ``stage``, and read back from there.

        Two calls never share a folder, whatever they are named: steps and parts of steps run at once.
        """
        folder = str(self.stage / f"{name}-{next(self.numbers)}")
        frame.write.parquet(folder)
        return self.house.spark.read.schema(frame.schema).parquet(folder)

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """What several steps of a run need: made by the one that asks first, while others that ask for it wait."""
        with self.locks.setdefault(name, threading.Lock()):
            if name not in self.shared:
                self.shared[name] = make()
        found: _T = self.shared[name]
        return found

    def refuse(self, entry: Entry, reason: str) -> list[Entry]:
        """Reject content that had been taken in; returns the entries that it had superseded and that stand again."""
        entry.status, entry.reason, entry.rows_read = "rejected", reason, 0
        self.ledger.mark(entry)
        return self.reinstated(entry)

    def reinstated(self, entry: Entry, names: Collection[str] | None = None) -> list[Entry]:
        """What stood where a refused entry (None: all its ``names``) had come, stands again, and is not told as superseded."""
        back = self.ledger.reinstate(entry, names)
        for old in back:
            key = old.feed, old.file_name, old.sha256
            if self.files.get(key, {}).get("status") == "superseded":
                del self.files[key]
        return back

    def say(self, message: str, **fields: Any) -> None:
        """One progress line for people and one JSON line for machines (no personal data)."""
        log.info(message, extra={"fields": {"run_id": self.run_id, **fields}})


def note_beginning(run_id: str, as_of: dt.date, wanted: Sequence[str]) -> None:
    """What a run was asked for, in its journal: ``asked_for`` finds it there, so that it can be resumed."""
    fields = {"run_id": run_id, "as_of": as_of.isoformat(), "select": list(wanted)}
    log.info(f"run {run_id} as of {as_of}", extra={"fields": fields})


def asked_for(home: Home, run_id: str) -> tuple[dt.date, list[str]]:
    """As-of date and selected steps of a run of this home.

    :raises UtilityFlowError: UF-1004 when the home's journals do not know the run.
    """
    known = sorted((path.stem for path in home.logs.glob("*Z-*.jsonl")), reverse=True)
    if run_id not in known:
        hint = nearest(run_id, known) or "utilityflow status lists the last runs"
        raise UtilityFlowError("UF-1004", f"{home.path} knows no run '{run_id}'", hint=hint)
    for line in (home.logs / f"{run_id}.jsonl").read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, KeyError):
            told = json.loads(line)
            return dt.date.fromisoformat(told["as_of"]), list(told["select"])
    raise UtilityFlowError("UF-1004", f"run {run_id} ended before it had begun to work", hint="utilityflow run")


class JsonLines(logging.Formatter):
    """Log records as JSON lines: time (UTC), level, message and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds")
        fields = getattr(record, "fields", {})
        return json.dumps({"at": at, "level": record.levelname, "message": record.getMessage(), **fields}, default=str)


class _Journal(logging.FileHandler):
    """A log that is lost in silence when the disk is full: what the run ends with is told by the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        """No traceback in front of a user."""

    def close(self) -> None:
        """Close, whatever could not be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def journal(home: Home, run_id: str) -> Iterator[Path]:
    """Write the run's JSON log to ``logs/<run_id>.jsonl`` while the block runs. Recovery never needs it."""
    path = home.logs / f"{run_id}.jsonl"
    handler = _Journal(path, encoding="utf-8")
    handler.setFormatter(JsonLines())
    log.addHandler(handler)
    before = log.level
    if not log.isEnabledFor(logging.INFO):  # in a notebook nobody has said what is to be logged; the journal wants it all
        log.setLevel(logging.INFO)
    try:
        yield path
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
        handler.close()
