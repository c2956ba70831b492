"""The data files of a Delta table on a local disk, examined without the engine: there as the log says, and whole."""

from __future__ import annotations

import base64
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from utilityflow.control.tablelog import Log
from utilityflow.publish import pages

# deletion vectors are named by a UUID in Z85; Python decodes the alphabet of RFC 1924
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_B85 = str.maketrans(_Z85, _B85)
_UUID_LENGTH = 20


@dataclass
class Files:
    """What a log says of files: those of the newest version, and all that it names.

    ``live``: path -> its ``add``, with ``version`` where a commit tells it.
    """

    live: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)


def files(log: Log, until: int | None = None, *, all_named: bool = True) -> Files:
    """The files of a version (default the newest), from the newest checkpoint before it and the commits after that.

    The log must be whole (``tablelog.findings``).

    :param all_named: also read the commits before that checkpoint, for the names of files that no longer hold.
    """
    found = Files()
    last = log.newest if until is None else until
    base = max((v for v in log.checkpoints if v <= last), default=-1)
    for name in log.checkpoints.get(base, ()):
        _sum_up(log.folder / name, found)
    for version in (v for v in log.versions if v <= last and (all_named or v > base)):
        _apply(log, version, found, counts=version > base)
    return found


def obstacles(log: Log, version: int) -> Iterator[str]:
    """Why a version of a table cannot be read any more."""
    base = max((v for v in log.checkpoints if v <= version), default=-1)
    missing = sorted(set(range(base + 1, version + 1)) - set(log.versions))
    if missing:
        yield f"commit {missing[0]} is missing from the log"
        return
    yield from damage(log, files(log, version))


def _sum_up(checkpoint: Path, found: Files) -> None:
    import pyarrow.parquet as pq

    if checkpoint.suffix != ".parquet":
        return
    there = {"add", "remove"} & set(pq.read_schema(checkpoint).names)
    rows = pq.read_table(checkpoint, columns=sorted(there))
    for row in rows.to_pylist():
        for kind in there:
            if (action := row[kind]) and action["path"]:
                _name(action, found)
                if kind == "add":
                    found.live[action["path"]] = action


def _apply(log: Log, version: int, found: Files, counts: bool) -> None:
    """Carry a commit over to the live files: first what leaves, as a file that gets a deletion vector does both."""
    actions = list(log.actions(version))
    for action in actions:
        for kind in ("add", "remove", "cdc"):
            if kind in action:
                _name(action[kind], found)
        if counts and "remove" in action:
            found.live.pop(action["remove"]["path"], None)
    for action in actions:
        if counts and "add" in action:
            found.live[action["add"]["path"]] = {**action["add"], "version": version}


def _name(action: Mapping[str, Any], found: Files) -> None:
    found.named.add(unquote(str(action["path"])))
    vector = action.get("deletionVector")
    if vector and vector["storageType"] == "u":
        found.named.add(vector_file(vector["pathOrInlineDv"]))


def damage(log: Log, found: Files, *, deep: bool = False) -> Iterator[str]:
    """Files that are missing or of another size than their log says; with ``deep`` also bytes that were not written so."""
    for add in found.live.values():
        path = unquote(str(add["path"]))
        since = f", of version {add['version']}," if "version" in add else ""
        yield from _file(log.folder.parent, path, int(add["size"]), since, deep)
        vector = add.get("deletionVector")
        if vector and vector["storageType"] == "u":
            yield from _vector(log.folder.parent / vector_file(vector["pathOrInlineDv"]), vector, since)


def orphans(log: Log, found: Files) -> list[Path]:
    """Data files that no commit names, as a process died before its commit.

    Delta itself leaves out files without a row, and a deletion vector when all rows of its file go: these are not told.
    """
    folder = log.folder.parent
    every = (p for p in folder.rglob("*.parquet") if log.folder not in p.parents)
    return sorted(p for p in every if p.relative_to(folder).as_posix() not in found.named and not _is_empty(p))


def _is_empty(file: Path) -> bool:
    """Whether it is a whole Parquet file without a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool(pq.read_metadata(file).num_rows == 0)
    except (pa.ArrowException, OSError):
        return False


def vector_file(name: str) -> str:
    """The path of a deletion vector's file below its table, by the name that the log gives it."""
    prefix, coded = name[:-_UUID_LENGTH], name[-_UUID_LENGTH:]
    identity = uuid.UUID(bytes=base64.b85decode(coded.translate(_TO_B85)))
    return f"{prefix}/deletion_vector_{identity}.bin" if prefix else f"deletion_vector_{identity}.bin"


def _file(folder: Path, path: str, size: int, since: str, deep: bool) -> Iterator[str]:
    file = folder / path
    if not file.is_file():
        yield f"the file {path}{since} is missing"
    elif file.stat().st_size != size:
        yield f"the file {path}{since} has {file.stat().st_size} bytes, its log says {size}"
    elif deep and (says := pages.damage(file)):
        yield f"the file {path}{since} is damaged: {says}"


def _vector(file: Path, vector: Mapping[str, Any], since: str) -> Iterator[str]:
    """A deletion vector lies in its file with its length before it and its CRC-32 behind it."""
    if not file.is_file():
        yield f"the file {file.name}{since} is missing"
        return
    start, size = int(vector.get("offset") or 1), int(vector["sizeInBytes"])
    with file.open("rb") as stream:
        stream.seek(start)
        text = stream.read(size + 8)
    length, data, told = text[:4], text[4 : 4 + size], text[4 + size :]
    if int.from_bytes(length, "big") != size or zlib.crc32(data) != int.from_bytes(told, "big"):
        yield f"the deletion vector {file.name}{since} does not agree with its checksum"
