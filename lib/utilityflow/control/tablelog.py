"""The Delta logs of a home, without the engine: whether each is whole and what the last run left, whose commits follow.

From the names in a log, its commits after the newest checkpoint (few and small) and a note of the last run: the *heads*, where
each table stood when it ended. Delta itself does not miss the newest commits of a log, nor a line of one.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_COMMIT = re.compile(r"(\d{20})\.json\Z")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet\Z")
_V2 = re.compile(r"(\d{20})\.checkpoint\.[0-9a-f-]{36}\.(?:json|parquet)\Z")
# what the contracts' own tables ask for; both lanes and Synapse's Delta 3.2 read and write them
_FEATURES = {"appendOnly", "changeDataFeed", "checkConstraints", "deletionVectors", "generatedColumns", "invariants"}
_READER, _WRITER = 3, 7  # versions that only list features
_MADE_FROM = {"silver": "from bronze", "gold": "from silver"}
_ONLY_HISTORY = {"ops.run", "ops.step", "ops.metric", "ops.quality_result", "ops.alert"}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a table: code, the words for it (table and file named), and what to do."""

    table: str
    code: str
    says: str
    way_out: str


@dataclass(frozen=True)
class Head:
    """Where a table stood when a run ended: version, the table's identity, CRC-32 of each commit from version ``first``."""

    version: int
    identity: str
    first: int
    sums: tuple[str, ...]

    def as_json(self) -> list[Any]:
        """Short: it stands in the note of a commit."""
        return [self.version, self.identity, self.first, "".join(self.sums)]

    @classmethod
    def of_json(cls, given: list[Any]) -> Head:
        """The reverse of ``as_json``."""
        version, identity, first, sums = given
        return cls(int(version), str(identity), int(first), tuple(sums[i : i + 8] for i in range(0, len(sums), 8)))


class Log:
    """One ``_delta_log`` as it is now; each commit is read once.

    :param name: ``layer.table``.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        found = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        self.versions = sorted(int(m.group(1)) for n in found if (m := _COMMIT.match(n)))
        self.checkpoints = _complete(found)
        self._texts: dict[int, bytes] = {}

    @property
    def newest(self) -> int:
        """Newest version, -1 when there is none."""
        return max([*self.versions[-1:], *self.checkpoints], default=-1)

    @property
    def base(self) -> int:
        """Version of the newest checkpoint, -1 when there is none: what comes after it is needed, commit by commit."""
        return max(self.checkpoints, default=-1)

    @property
    def tail(self) -> list[int]:
        """Versions after the newest checkpoint whose commits are there."""
        return [v for v in self.versions if v > self.base]

    def file(self, version: int) -> Path:
        """The file of a commit."""
        return self.folder / f"{version:020d}.json"

    def text(self, version: int) -> bytes:
        """A commit as it lies there."""
        if version not in self._texts:
            self._texts[version] = self.file(version).read_bytes()
        return self._texts[version]

    def actions(self, version: int) -> Iterator[dict[str, Any]]:
        """The actions of a commit that can be understood."""
        for line in self.text(version).splitlines():
            try:
                action = json.loads(line)
            except ValueError:
                continue
            if isinstance(action, dict):
                yield action

    @cached_property
    def identity(self) -> str:
        """The table's own id, which a table made anew does not share."""
        return str(self._told("metaData").get("id", ""))

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        """What the table asks of its readers and writers."""
        return self._told("protocol")

    def _told(self, kind: str) -> Mapping[str, Any]:
        """The last action of a kind."""
        mark = f'"{kind}"'.encode()
        for version in reversed(self.tail):
            if mark in self.text(version):
                for action in self.actions(version):
                    if isinstance(action.get(kind), dict):
                        return dict(action[kind])
        return self._summed_up(kind)

    def _summed_up(self, kind: str) -> Mapping[str, Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for file in self.checkpoints.get(self.base, ()):
            if file.endswith(".parquet"):
                try:
                    rows = pq.read_table(self.folder / file, columns=[kind]).column(kind).to_pylist()
                except (pa.ArrowException, OSError, KeyError):
                    return {}
                if told := next((row for row in rows if row and any(row.values())), None):
                    return dict(told)
        return {}

    def head(self) -> Head:
        """What the next run is to find again."""
        tail = self.tail
        return Head(self.newest, self.identity, tail[0] if tail else self.newest + 1, tuple(map(self._sum, tail)))

    def _sum(self, version: int) -> str:
        return f"{zlib.crc32(self.text(version)):08x}"

    def is_anew(self, head: Head) -> bool:
        """Whether this is another table than the one that stood here, or none at all."""
        return self.newest < 0 or bool(head.identity and self.identity and head.identity != self.identity)

    def changed(self, head: Head) -> int | None:
        """The first commit that is not what the run left; None when all are."""
        for version, wanted in enumerate(head.sums, head.first):
            if version > self.newest or (version in self.versions and self._sum(version) != wanted):
                return version
        return None


def _complete(names: list[str]) -> dict[int, list[str]]:
    """Checkpoints of which every part is there."""
    found: dict[int, list[str]] = {}
    parts: dict[tuple[int, int], list[str]] = {}
    for name in sorted(names):
        if (match := _CHECKPOINT.match(name)) and match.group(3):
            parts.setdefault((int(match.group(1)), int(match.group(3))), []).append(name)
        elif match or (match := _V2.match(name)):
            found.setdefault(int(match.group(1)), []).append(name)
    for (version, count), files in parts.items():
        if len(files) == count:
            found.setdefault(version, files)
    return found


def logs(lakehouse: Path) -> dict[str, Log]:
    """Every table's log by ``layer.table``; a folder whose CREATE was cut off holds no commit and is left out."""
    found = {}
    for folder in sorted(lakehouse.glob("*/*/_delta_log")):
        log = Log(f"{folder.parent.parent.name}.{folder.parent.name}", folder)
        if log.newest >= 0 or any(p.name != "_delta_log" for p in folder.parent.iterdir()):
            found[log.name] = log
    return found


# -- what may be wrong ------------------------------------------------------------------------------------------------


def findings(log: Log, head: Head | None = None) -> Iterator[Finding]:
    """Damage of a log, what differs from the head, features that not every engine knows, commits of others since."""
    broken = list(_damage(log))
    yield from broken
    if broken:
        return
    if head is not None and not log.is_anew(head) and (version := log.changed(head)) is not None:
        says = f"the commit {log.file(version)} is not what the run that wrote it left"
        if version > log.newest:
            says = f"a run left version {head.version}, but the log ends with version {log.newest}: commits are lost"
        yield Finding(log.name, "UF-3003", f"{log.name}: {says}", way_out(log))
        return
    yield from _protocol(log)
    yield from foreign(log, head)


def _damage(log: Log) -> Iterator[Finding]:
    def bad(says: str, out: str = "") -> Finding:
        return Finding(log.name, "UF-3003", f"{log.name}: {says}", out or way_out(log))

    if log.newest < 0:
        yield bad(f"{log.folder.parent} holds files, but its log holds no commit")
        return
    if (file := _broken_checkpoint(log)) is not None:
        yield bad(f"the checkpoint {file} cannot be read", _without(log, file))
        return
    wanted = range(log.base + 1, log.newest + 1)
    there = set(log.versions)
    for version in wanted:
        if version not in there:
            if log.base < 0 and version < log.versions[0]:
                yield bad(f"the log begins with version {log.versions[0]} and no checkpoint leads to it")
            else:
                yield bad(f"commit {version} of {log.newest} is missing from the log: {log.file(version)}")
            return
    for version in wanted:
        for number, line in enumerate(log.text(version).splitlines() or [b""], 1):
            try:
                whole = isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                yield bad(f"line {number} of the commit {log.file(version)} is not JSON")
                break


def _broken_checkpoint(log: Log) -> Path | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in log.checkpoints.get(log.base, ()):
        file = log.folder / name
        try:
            if name.endswith(".parquet"):
                pq.read_table(file, columns=["protocol"], page_checksum_verification=True)
        except (pa.ArrowException, OSError, KeyError):
            return file
    return None


def _without(log: Log, file: Path) -> str:
    """What to do about a broken checkpoint: where the commits lead to the same state without it, it can go."""
    before = max((v for v in log.checkpoints if v < log.base), default=-1)
    if set(range(before + 1, log.newest + 1)) <= set(log.versions):
        also = f" and {log.folder / '_last_checkpoint'}" if (log.folder / "_last_checkpoint").exists() else ""
        return f"remove {file}{also}: the commits before it are all there and say the same"
    return way_out(log)


def way_out(log: Log) -> str:
    """How a table whose files are damaged is brought back."""
    layer, folder = log.name.partition(".")[0], log.folder.parent
    back = f"restore {folder} from a backup"
    if layer in _MADE_FROM:
        return f"{back}, or move it away and run again: it is made anew {_MADE_FROM[layer]}"
    if log.name in _ONLY_HISTORY:
        return f"{back}, or move it away and run again: only the account of past runs is lost"
    return back


def _protocol(log: Log) -> Iterator[Finding]:
    told = log.protocol
    reader, writer = int(told.get("minReaderVersion") or 1), int(told.get("minWriterVersion") or 2)
    asked = {*(told.get("readerFeatures") or ()), *(told.get("writerFeatures") or ())} - _FEATURES
    names = [f"the feature {name}" for name in sorted(asked)]
    names += [f"reader version {reader}"] if reader > _READER or reader == 2 else []
    names += [f"writer version {writer}"] if writer > _WRITER or writer in (5, 6) else []
    if names:
        also = " and cannot be read there either" if reader > 2 and set(told.get("readerFeatures") or ()) - _FEATURES else ""
        says = (f"{log.name} asks for {', '.join(names)}, which another program has set: Synapse pools (Delta 3.2) and the other "
                f"lane may not know it; the table is not written to any more{also}")  # fmt: skip
        out = f"take it back with that program (ALTER TABLE ... DROP FEATURE), or {way_out(log)}"
        yield Finding(log.name, "UF-3009", says, out)


def foreign(log: Log, head: Head | None) -> Iterator[Finding]:
    """Commits after the head that change rows and were not made by the suite; a RESTORE to before them undoes them."""
    since = head.version if head is not None and not log.is_anew(head) else -1
    strange: list[str] = []
    trusted = since
    for version in (v for v in log.versions if v > since):
        info, moves = _about(log, version)
        back = info.get("operationParameters", {}).get("version") if info.get("operation") == "RESTORE" else None
        if back is not None and str(back).isdigit() and int(back) <= trusted:
            strange, trusted = [], version
        elif not is_ours(info) and moves:
            strange.append(f"version {version} ({info.get('operation', 'unknown operation')} by {_who(info)})")
        elif not strange:
            trusted = version
    if strange:
        says = f"{log.name}: another program changed rows: {', '.join(strange[:5])}"
        place = log.folder.parent
        out = f"RESTORE TABLE delta.`{place}` TO VERSION AS OF {trusted}, with any engine" if trusted >= 0 else ""
        yield Finding(log.name, "UF-3008", says, f"{out}; or {way_out(log)}" if out else way_out(log))


def is_ours(info: Mapping[str, Any]) -> bool:
    """Whether a commit bears the suite's note."""
    try:
        return "run_id" in json.loads(info.get("userMetadata") or "{}")
    except (ValueError, TypeError):
        return False


def _who(info: Mapping[str, Any]) -> str:
    user = f"{info['userName']} with " if info.get("userName") else ""
    return f"{user}{info.get('engineInfo') or 'an unknown engine'}"


def _about(log: Log, version: int) -> tuple[Mapping[str, Any], bool]:
    """What a commit says of itself, and whether rows came or left with it (not asked of our own)."""
    info: Mapping[str, Any] = {}
    moves = False
    for action in log.actions(version):
        if isinstance(action.get("commitInfo"), dict):
            info = action["commitInfo"]
            if is_ours(info):
                break
        file = action.get("add") or action.get("remove")
        moves = moves or (isinstance(file, dict) and bool(file.get("dataChange", True)))
    return info, moves


# -- heads ------------------------------------------------------------------------------------------------------------


def last_note(lakehouse: Path) -> Mapping[str, Any]:
    """What the last run that ended noted beside its row in ``ops.run``: ``heads`` and ``suite``; {} when there is none."""
    log = Log("ops.run", lakehouse / "ops" / "run" / "_delta_log")
    for version in reversed(log.versions):
        for action in log.actions(version):
            try:
                note = json.loads((action.get("commitInfo") or {}).get("userMetadata") or "{}")
            except (ValueError, TypeError):
                continue
            if isinstance(note, dict) and "heads" in note:
                return note
    return {}
