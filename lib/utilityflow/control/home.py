"""The home: one folder that holds everything an environment writes, readable by its owner alone, with one writer.

``home.json`` fixes what may not change (the utility's time zone) and says which layout wrote it. The one writer is who has
the lease (``lease.py``).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

from utilityflow.control.lease import SECONDS, Lease, take
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import rename
from utilityflow.settings import Settings

LAYOUT = 1


@dataclass(frozen=True)
class Home:
    """Places inside a home, and the zone in which its days are cut."""

    path: Path
    zone: str

    @property
    def lakehouse(self) -> Path:
        """Root of the Delta tables, ``<layer>/<table>`` below it."""
        return self.path / "lakehouse"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that is the default target."""
        return self.path / "warehouse" / "utilityflow.duckdb"

    @property
    def tmp(self) -> Path:
        """Scratch space; emptied at the start of each run."""
        return self.path / "tmp"

    @property
    def logs(self) -> Path:
        """JSON logs and run journals."""
        return self.path / "logs"

    def data_bytes(self, bound: int, tables: Iterable[str] = ("",)) -> int:
        """Bytes of Parquet in the lakehouse, or in some of its tables; counting stops above ``bound``."""
        total = 0
        for folder, _, names in chain.from_iterable(os.walk(self.lakehouse / name.replace(".", "/")) for name in tables):
            total += sum(os.stat(os.path.join(folder, n)).st_size for n in names if n.endswith(".parquet"))  # noqa: PTH116, PTH118 - os.walk's own texts
            if total > bound:
                break
        return total

    def today(self) -> dt.date:
        """Today in the utility's zone: the default as-of date. The only clock that reaches data, and only by default."""
        return dt.datetime.now(ZoneInfo(self.zone)).date()


def open_home(settings: Settings, *, create: bool) -> Home:
    """Open the home of these settings, making a new one when ``create``.

    :raises UtilityFlowError: UF-1006 when another time zone is asked for than the home's, UF-1008 when the folder cannot
        be used, UF-1009 when a newer version of the suite wrote it.
    """
    path = settings.home_path
    marker = path / "home.json"
    if marker.is_file():
        return _existing(path, marker, settings.time_zone)
    if path.exists() and not path.is_dir():
        raise UtilityFlowError("UF-1008", f"the home {path} is not a folder")
    if (path / "lakehouse").exists():
        raise UtilityFlowError("UF-1008", f"{path} holds a lakehouse but no home.json", hint="restore the file")
    home = Home(path, settings.time_zone or "UTC")
    if create:
        with _usable(path):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o700)
            draft = path / "home.json.new"
            draft.write_text(json.dumps({"layout": LAYOUT, "time_zone": home.zone}) + "\n", encoding="utf-8")
            rename(draft, marker, "home.json")
    return home


def _existing(path: Path, marker: Path, zone: str | None) -> Home:
    try:
        fixed = json.loads(marker.read_text(encoding="utf-8"))
        layout, home_zone = int(fixed["layout"]), str(fixed["time_zone"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UtilityFlowError("UF-1008", f"{marker} cannot be read: {error}") from None
    if layout > LAYOUT:
        raise UtilityFlowError(
            "UF-1009", f"{path} has layout {layout}, this version knows {LAYOUT}", hint="update the suite"
        )
    if zone and zone != home_zone:
        raise UtilityFlowError("UF-1006", f"the home's time zone is {home_zone}, not {zone}",
                               hint="a zone is fixed when a home is made; use another home")  # fmt: skip
    return Home(path, home_zone)


@contextlib.contextmanager
def hold(home: Home, what: str = "a command", *, seconds: float = SECONDS) -> Iterator[Lease]:
    """Hold the home as its one writer.

    :param what: the command, for others to read. :param seconds: of silence after which others may take over.
    :raises UtilityFlowError: UF-4004 naming the holder; UF-1008 when the home cannot be written.
    """
    with _usable(home.path):
        for folder in (home.lakehouse, home.warehouse.parent, home.tmp, home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        lease = take(home.path, what, seconds=seconds)
    try:
        _empty(home.tmp)
        yield lease
    finally:
        lease.give_back()


def _empty(folder: Path) -> None:
    own = f"spark-{os.getpid()}"  # the running session's spill files
    for child in folder.iterdir():
        if child.name == own:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
        if path.is_dir() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path))
    except OSError as error:
        raise UtilityFlowError("UF-1008", f"the home {path} cannot be written: {error.strerror}") from None
