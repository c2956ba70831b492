"""A Delta table on a local disk, examined without the engine: is its log whole, are its files there as it says."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

# deletion vectors are named by a UUID in Z85; Python decodes the alphabet of RFC 1924
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_B85 = str.maketrans(_Z85, _B85)
_UUID_LENGTH = 20

Live = dict[str, Mapping[str, Any]]  # path of a data file -> its ``add``


def damage(log: Path, until: int | None = None) -> Iterator[str]:
    """What is wrong with the table of a ``_delta_log``: gaps, entries that do not parse, files missing or of other size.

    :param until: the version to look at, default the newest.
    """
    versions = sorted(int(p.stem) for p in log.glob("*.json") if p.stem.isdigit() and len(p.stem) == 20)
    versions = [v for v in versions if until is None or v <= until]
    if not versions or (until is not None and versions[-1] != until):
        yield f"{log} holds no commit" + ("" if until is None else f" {until}")
        return
    missing = sorted(set(range(versions[0], versions[-1] + 1)) - set(versions))
    if missing:
        yield f"commit {missing[0]} of {versions[-1]} is missing from the log"
    live: Live = {}
    if versions[0] > 0:
        start = _checkpoint(log, versions[0] - 1)
        if start is None or start[0] > versions[-1]:
            yield f"the log begins with version {versions[0]} and no checkpoint leads to it"
            return
        live, versions = start[1], [v for v in versions if v > start[0]]
    for version in versions:
        yield from _apply(log / f"{version:020d}.json", version, live)
    for add in live.values():
        yield from _file(log.parent, unquote(str(add["path"])), int(add["size"]))
        vector = add.get("deletionVector")
        if vector and vector["storageType"] == "u":
            yield from _file(log.parent, vector_file(vector["pathOrInlineDv"]), None)


def _apply(commit: Path, version: int, live: Live) -> Iterator[str]:
    """Carry a commit over to the live files: first what leaves, as a file that gets a deletion vector does both."""
    actions = []
    for number, line in enumerate(commit.read_text("utf-8", "replace").splitlines(), 1):
        try:
            actions.append(json.loads(line))
        except ValueError:
            yield f"commit {version}, line {number}, is not JSON"
    for action in actions:
        if "remove" in action:
            live.pop(action["remove"]["path"], None)
    for action in actions:
        if "add" in action:
            live[action["add"]["path"]] = action["add"]


def _checkpoint(log: Path, at_least: int) -> tuple[int, Live] | None:
    """Version and live files of the first checkpoint from which the remaining commits go on."""
    import pyarrow.parquet as pq

    found = {int(p.name[:20]): p for p in log.glob("*.checkpoint.parquet") if p.name[:20].isdigit()}
    for version in sorted(v for v in found if v >= at_least):
        rows = pq.read_table(found[version], columns=["add"])["add"].to_pylist()
        return version, {add["path"]: add for add in rows if add and add["path"]}
    return None


def vector_file(name: str) -> str:
    """The path of a deletion vector's file below its table, by the name that the log gives it."""
    prefix, coded = name[:-_UUID_LENGTH], name[-_UUID_LENGTH:]
    identity = uuid.UUID(bytes=base64.b85decode(coded.translate(_TO_B85)))
    return f"{prefix}/deletion_vector_{identity}.bin" if prefix else f"deletion_vector_{identity}.bin"


def _file(folder: Path, path: str, size: int | None) -> Iterator[str]:
    file = folder / path
    if not file.is_file():
        yield f"the file {path} is missing"
    elif size is not None and file.stat().st_size != size:
        yield f"the file {path} has {file.stat().st_size} bytes, its log says {size}"
