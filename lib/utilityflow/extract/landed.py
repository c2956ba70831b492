"""The landed files of an extract: their names say what they cover, so the next extract knows where to begin.

``<feed>_<begin>_<end>_<hash>.<format>`` holds what changed from begin to end: instants in UTC to the microsecond
(``20250301T000000000000Z``) or sequence numbers (``n00000000000000000042``), ``start`` for what has no beginning.
``<feed>_full_<asked>_<hash>.<format>`` holds a whole state. The hash is that of the content (SHA-256, 12 digits).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from utilityflow.bronze.feeds import Feed
from utilityflow.errors import UtilityFlowError

Mark: TypeAlias = "dt.datetime | int"
_STAMP = "%Y%m%dT%H%M%S%fZ"
_MARK = r"\d{8}T\d{12}Z|n\d{20}"
MOST_NUMBER = 10**20 - 1


@dataclass(frozen=True)
class LandedFile:
    """A landed file. ``begin`` None: without beginning, or a whole state (``full``). ``end``: of what it covers, or asked."""

    path: Path
    begin: Mark | None
    end: Mark
    full: bool
    digest: str


@dataclass(frozen=True)
class Refused:
    """What bronze did not take of a feed: names under the landing root and hashes (SHA-256) of rejected files."""

    names: Collection[str] = ()
    hashes: Collection[str] = ()


@dataclass(frozen=True)
class Extracted:
    """What an extract did. ``file``: the landed file under the landing root, None when nothing new came."""

    file: str | None
    records: int
    pages: int
    told: str


def mark_text(mark: Mark | None) -> str:
    """A mark as it stands in a file's name."""
    if mark is None:
        return "start"
    if isinstance(mark, int):
        return f"n{mark:020d}"
    utc = mark.astimezone(dt.timezone.utc)
    return f"{utc.year:04d}{utc:{_STAMP[2:]}}"  # years before 1000 keep their zeros


def mark_of(text: str) -> Mark | None:
    """The mark that a text of ``mark_text`` stands for."""
    if text == "start":
        return None
    if text.startswith("n"):
        return int(text[1:])
    return dt.datetime.strptime(text, _STAMP).replace(tzinfo=dt.timezone.utc)


def file_name(feed: Feed, begin: Mark | None, end: Mark, sha256: str, *, full: bool = False) -> str:
    """The name of a landed file."""
    first = "full" if full else mark_text(begin)
    return f"{feed.feed}_{first}_{mark_text(end)}_{sha256[:12]}.{feed.file_format}"


def folder_of(feed: Feed, landing: Path) -> Path:
    """The folder in which an extract lands its files; it need not exist."""
    return landing / feed.path.rpartition("/")[0]


def make_folder(feed: Feed, landing: Path) -> Path:
    """The same, made if need be.

    :raises UtilityFlowError: UF-2008 when it leads out of the landing root through a link, UF-1008 when it cannot be made.
    """
    folder = folder_of(feed, landing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UtilityFlowError("UF-1008", f"the landing folder {folder} cannot be made: {error.strerror}") from None
    if not folder.resolve().is_relative_to(landing.resolve()):
        raise UtilityFlowError("UF-2008", f"the landing folder of {feed.feed} leads out of the landing root")
    return folder


def landed_files(feed: Feed, landing: Path, refused: Refused) -> list[LandedFile]:
    """What an extract has landed and bronze did not refuse, in the order of names; other files are not among them."""
    form = rf"{feed.feed}_(start|full|{_MARK})_({_MARK})_([0-9a-f]{{12}})\.{feed.file_format}\Z"
    folder, found = folder_of(feed, landing), []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        parts = re.match(form, path.name)
        if parts is None or path.relative_to(landing).as_posix() in refused.names or not path.is_file():
            continue
        full, end = parts[1] == "full", mark_of(parts[2])
        if end is not None:
            found.append(LandedFile(path, None if full else mark_of(parts[1]), end, full, parts[3]))
    return found


def covered(files: Iterable[LandedFile], start: Mark | None) -> Mark | None:
    """Up to where changes have landed without a gap, from ``start`` on (None: from the beginning); None: nothing has."""
    reached = start
    parts = [f for f in files if not f.full]
    for file in sorted(parts, key=lambda f: (f.begin is not None, mark_text(f.begin), mark_text(f.end))):
        if file.begin is not None and (reached is None or _later(file.begin, reached)):
            break
        reached = file.end if reached is None or _later(file.end, reached) else reached
    return reached


def _later(one: Mark, other: Mark) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one > other
    if isinstance(one, dt.datetime) and isinstance(other, dt.datetime):
        return one > other
    raise UtilityFlowError("UF-1002", "the landed files go by times and by numbers", hint="move them to another folder")


def newest_full(files: Sequence[LandedFile]) -> LandedFile | None:
    """The whole state that was asked for last."""
    return max((f for f in files if f.full), key=lambda f: mark_text(f.end), default=None)
