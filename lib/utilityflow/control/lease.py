"""The lease: at most one writer per home, with a heartbeat, a rising token, and take-over from a holder that fell silent.

``lease.json`` in the home says who holds it. It is read and written under the operating system's lock on ``home.lock``,
which is held for moments only. A holder whose process is gone (on this machine) is replaced at once; one that has not
been heard of for ``seconds`` is replaced too, and is *fenced*: its token is no longer the newest, so that its next
commit, rename or publication refuses (UF-4008), wherever it was frozen in the meantime. ``logs/lease.jsonl`` keeps who
took, took over, was unlocked.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from utilityflow.errors import UtilityFlowError

PATIENCE = 30.0  # seconds to wait for one who takes, beats or publishes
SECONDS = 120.0  # of silence after which a holder is taken for dead; it beats four times in that time
Clock = Callable[[], float]
_OURS: set[tuple[str, int]] = set()  # homes and tokens that this process holds


@dataclass(frozen=True)
class Holder:
    """Who holds the home. ``token`` rises with each holder; ``began`` is the process's start, as pids come again."""

    token: int
    what: str
    process: int
    machine: str
    began: str
    since: float
    beat: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.what} (process {self.process} on {self.machine}, since {_instant(self.since)})"

    @property
    def gone(self) -> bool:
        """Whether its process is known to be no more: only one of this machine, boot and container can be."""
        here = _here()
        return self.began.startswith(here) and self.machine == os.uname().nodename and _began(self.process) != self.began

    def silent(self, now: float) -> bool:
        """Whether it has not been heard of for longer than it may be. A beat of the future counts as one of now."""
        return now - self.beat > self.seconds


class Lease:
    """A held lease: beats in a thread of its own until it is given back.

    :param path: the home. :param clock: seconds since 1970.
    """

    def __init__(self, path: Path, holder: Holder, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self.holder = holder
        _OURS.add((str(path), holder.token))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        """Ours."""
        return self.holder.token

    def require(self) -> None:
        """Pass only while the lease is ours: called before each commit, rename and outside write.

        :raises UtilityFlowError: UF-4008 naming who has it now.
        """
        now = read(self._path)
        if now is None or now.token != self.holder.token:
            taken = f"taken over by {now}" if now else "taken away (utilityflow unlock)"
            message = f"the lease of {self._path} was {taken}; this process wrote nothing more"
            raise UtilityFlowError("UF-4008", message, hint="run again: the next run finds what is missing")

    @contextlib.contextmanager
    def fenced(self) -> Iterator[None]:
        """Nobody can take the lease over while the block runs; what must not come late is done in it.

        :raises UtilityFlowError: UF-4008 as ``require``.
        """
        with _locked(self._path):
            self.require()
            yield

    def give_back(self) -> None:
        """End the heartbeat and leave the lease, if it is still ours."""
        self._done.set()
        self._thread.join()
        _OURS.discard((str(self._path), self.holder.token))  # free for this process even where a full disk keeps the file
        with contextlib.suppress(OSError), _locked(self._path):
            if (now := read(self._path)) and now.token == self.holder.token:
                _write(self._path, replace(now, process=0, what="nobody"))

    def _beat(self) -> None:
        while not self._done.wait(self.holder.seconds / 4):
            try:
                with _locked(self._path):
                    now = read(self._path)
                    if now is None or now.token != self.holder.token:
                        return  # lost: the next `require` says so
                    _write(self._path, replace(now, beat=self._clock()))
            except OSError:  # a full disk or a folder that is gone: the writes will tell
                continue


def take(path: Path, what: str, *, seconds: float = SECONDS, clock: Clock = time.time) -> Lease:
    """Take the lease of a home.

    :param what: the command, for others to read.
    :raises UtilityFlowError: UF-4004 naming the holder.
    """
    with _locked(path):
        before, now = read(path), clock()
        if before is not None and held(path, before, now):
            message = f"{path} is held by {before}"
            hint = "wait until it ends; if that process is known to be dead: utilityflow unlock --force"
            raise UtilityFlowError("UF-4004", message, hint=hint)
        token = before.token + 1 if before is not None else 1
        holder = Holder(token, what, os.getpid(), os.uname().nodename, _began(os.getpid()), now, now, seconds)
        _write(path, holder)
        if before is not None and before.process:
            silent = f"nothing was heard of it for {now - before.beat:.0f} s"
            why = silent if before.silent(now) and not before.gone else "its process is gone, or gave up"
            _audit(path, now, "taken over", holder, {"from": str(before), "why": why})
    return Lease(path, holder, clock)


def held(path: Path, holder: Holder, now: float) -> bool:
    """Whether somebody is at work in the home under this lease."""
    if holder.began == _began(os.getpid()) and holder.process == os.getpid():
        return (str(path), holder.token) in _OURS
    return bool(holder.process) and not holder.gone and not holder.silent(now)


def at_work(path: Path) -> Holder | None:
    """Who holds the home now, if anybody."""
    holder = read(path)
    return holder if holder is not None and held(path, holder, time.time()) else None


def unlock(path: Path, *, force: bool, clock: Clock = time.time) -> str:
    """Take the lease away from whoever has it; says what was done. With ``force`` also from a living holder, who is fenced.

    :raises UtilityFlowError: UF-4004 when somebody holds it and ``force`` is not given; UF-1008 where there is no home.
    """
    if not path.is_dir():
        raise UtilityFlowError("UF-1008", f"there is no home at {path}")
    with _locked(path):
        before, now = read(path), clock()
        if before is None or not before.process:
            return "nobody holds the home"
        if held(path, before, now) and not force:
            raise UtilityFlowError("UF-4004", f"{path} is held by {before}", hint="--force takes it away all the same")
        after = replace(before, token=before.token + 1, process=0, what="nobody", beat=now)
        _write(path, after)
        _audit(path, now, "unlocked", after, {"from": str(before), "by": f"process {os.getpid()}", "forced": force})
    return f"taken away from {before}"


def read(path: Path) -> Holder | None:
    """What ``lease.json`` says; None when there is none.

    :raises UtilityFlowError: UF-1008 when it cannot be understood.
    """
    file = path / "lease.json"
    try:
        return Holder(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        hint = "remove the file if no run is at work"
        raise UtilityFlowError("UF-1008", f"{file} cannot be read: {error}", hint=hint) from None


def _write(path: Path, holder: Holder) -> None:
    # not through the one door: it keeps no data, and its own check would call itself
    draft = path / "lease.json.new"
    draft.write_text(json.dumps(asdict(holder)) + "\n", encoding="utf-8")
    draft.replace(path / "lease.json")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The operating system's lock on the home, which others hold for moments, or while they publish."""
    descriptor = os.open(path / "home.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    hint = f"it has been publishing for over {PATIENCE:.0f} s, or was frozen while it did"
                    raise UtilityFlowError("UF-4004", f"{path} is held by {read(path)}", hint=hint) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _here() -> str:
    """This boot and this container, as far as the kernel tells."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}/"  # noqa: PTH116 - of the namespace, not of a link
    return "/"


def _began(process: int) -> str:
    """Boot, container and tick in which a running process started; "" when there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return f"{_here()}{fields[19]}" if fields[0] not in "ZX" else ""  # a zombie writes nothing any more
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:  # no /proc (macOS)
        os.kill(process, 0)
    except OSError:
        return ""
    return "/running"


def _audit(path: Path, now: float, event: str, holder: Holder, more: dict[str, Any]) -> None:
    logs = path / "logs"
    logs.mkdir(exist_ok=True)
    line = {"at": _instant(now), "event": event, "token": holder.token, "now": str(holder), **more}
    with (logs / "lease.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def _instant(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat(timespec="seconds")
