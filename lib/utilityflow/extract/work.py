"""The work file of an extract: pages already fetched, so that one that was cut off is gone on with and nothing is half landed.

It lies beside the landed files under a name that no feed takes (``.<feed>.work``). Lines: ``A`` what is asked, then for each
page its new records (``R``) and a closing line (``P``: the page after it, its size, a checksum of its records). What follows
the last sound closing line is cut away.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from utilityflow.extract.pages import Position


@dataclass(frozen=True)
class Fetched:
    """A page as it was kept: its new records as texts, the page after it (None: there is none), bytes of the answer."""

    records: list[str]
    after: Position | None
    size: int


class WorkFile:
    """The pages fetched so far for one ask."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def asked(self) -> dict[str, Any] | None:
        """What the pages in it were asked for; None when there is no file that can be gone on with."""
        try:
            with self.path.open("rb") as stream:
                first = stream.readline(1 << 20)
            told = json.loads(first[2:]) if first.startswith(b"A ") and first.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    def begin(self, ask: dict[str, Any]) -> None:
        """A new file for this ask; what was there is lost."""
        self.close()
        self._file = self.path.open("wb")
        self._write(b"A " + json.dumps(ask, sort_keys=True).encode() + b"\n")

    def go_on(self) -> Iterator[Fetched]:
        """The sound pages, in their order; once all were given, what follows them is cut away and ``add`` goes on."""
        self.close()
        good = 0
        for page, good in _pages(self.path):  # noqa: B007 - the last value counts
            if page is not None:
                yield page
        self._file = self.path.open("r+b")
        self._file.truncate(good)
        self._file.seek(good)

    def add(self, records: Sequence[str], after: Position | None, size: int) -> None:
        """Keep a page; after this call a kill of the process does not lose it."""
        body = b"".join(b"R " + text.encode() + b"\n" for text in records)
        following = None if after is None else [after.value, after.turn]
        closing = json.dumps({"after": following, "size": size, "crc": zlib.crc32(body)})
        self._write(body + b"P " + closing.encode() + b"\n")

    def records(self) -> Iterator[str]:
        """The texts of all records kept."""
        for page, _ in _pages(self.path):
            if page is not None:
                yield from page.records

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def drop(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise ValueError("the work file was not begun")
        self._file.write(data)
        self._file.flush()


def _pages(path: Path) -> Iterator[tuple[Fetched | None, int]]:
    """Sound pages with the place where each ends; the first item is that of the line that says what is asked."""
    with path.open("rb") as stream:
        place = len(stream.readline())
        yield None, place
        lines: list[bytes] = []
        for line in stream:
            place += len(line)
            if line.startswith(b"R ") and line.endswith(b"\n"):
                lines.append(line)
                continue
            page = _page(lines, line)
            if page is None:
                return
            yield page, place
            lines = []


def _page(lines: Sequence[bytes], closing: bytes) -> Fetched | None:
    if not closing.startswith(b"P ") or not closing.endswith(b"\n"):
        return None
    try:
        told = json.loads(closing[2:])
        if zlib.crc32(b"".join(lines)) != told["crc"]:
            return None
        after = None if told["after"] is None else Position(*told["after"])
        return Fetched([line[2:-1].decode() for line in lines], after, told["size"])
    except (ValueError, KeyError, TypeError):
        return None
