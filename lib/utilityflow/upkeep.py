"""Few large files instead of many small ones: which partitions of a table hold too many, and writing those anew.

Each commit leaves a file at least for each partition that it touches, and what reads a table opens every file. A run arranges
what it has written where many small files have come together, ``utilityflow maintain`` wherever there are some. No row changes
by it, so no step has work afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utilityflow.control.tablelog import Log
from utilityflow.publish.content import partition_name, partition_where
from utilityflow.publish.deltalog import files

if TYPE_CHECKING:
    from utilityflow.lakehouse import Table

FULL = 128 * 1024**2  # bytes of a file that is not written anew, and that none grows beyond
SMALL = 4 * 1024**2  # bytes up to which a file is small to a run: what the engine reckons for opening one
SPARE = 64  # so many files that a table could do without are worth a commit of a run
CROWD = 4  # small files of a partition that are written anew
WORK = 256 * 1024**2  # bytes that a run writes anew of one table; what is more waits for the next run, or `maintain`


@dataclass(frozen=True)
class Crowd:
    """The small files of one partition. ``partition``: as ``partition_name`` gives it; ``bytes``: of them all.

    ``sizes``: of each, the smallest first.
    """

    partition: str
    files: int
    bytes: int
    sizes: tuple[int, ...] = ()


def crowds(table: Table, small: int) -> list[Crowd]:
    """Small files by partition, where there are two or more; [] where the log cannot be read without the engine.

    :param small: bytes under which a file is small.
    """
    if "://" in table.path:
        return []
    columns = table.contract.partition_by
    found: dict[str, list[int]] = defaultdict(list)
    for add in files(Log(table.name, Path(table.path) / "_delta_log"), all_named=False).live.values():
        if int(add["size"]) < small:
            values = dict(add.get("partitionValues") or {})  # a checkpoint's come as pairs
            found[partition_name(columns, [values.get(name) for name in columns])].append(int(add["size"]))
    return [Crowd(name, len(sizes), sum(sizes), tuple(sorted(sizes))) for name, sizes in sorted(found.items()) if len(sizes) > 1]


def arrange(table: Table, partitions: Sequence[str], small: int) -> None:
    """Write the small files of these partitions anew, and those with many deleted rows, in one commit."""
    where = partition_where(table.contract, partitions, "spark") if table.contract.partition_by else ""
    table.optimize(small, FULL, where=where)


def tidy(table: Table) -> int:
    """Arrange a table that has come to hold many small files; returns how many it wrote anew, 0 if it was left as it is."""
    found = crowds(table, SMALL)
    if sum(crowd.files - 1 for crowd in found) < SPARE:
        return 0
    whole, part, small = chosen(found)
    if whole:
        arrange(table, [crowd.partition for crowd in whole], SMALL)
    if part is not None:
        arrange(table, [part.partition], small)
    return sum(crowd.files for crowd in (*whole, *([part] if part else [])))


def chosen(found: Sequence[Crowd]) -> tuple[list[Crowd], Crowd | None, int]:
    """What a run writes anew, no more than WORK: whole crowds, those of the smallest files first, and part of the one after them.

    Without the part a table of one partition would never be arranged once its small files are more than WORK.

    :param found: as ``crowds`` gives them.
    :returns: the whole ones; the smallest files of the next one, None where these are too few; bytes under which those are.
    """
    whole, left = list[Crowd](), WORK
    for crowd in sorted([c for c in found if c.files >= CROWD] or found, key=lambda c: c.bytes / c.files):
        if crowd.bytes > left:
            part, small = _smallest(crowd, left)
            return whole, part, small
        whole.append(crowd)
        left -= crowd.bytes
    return whole, None, SMALL


def _smallest(crowd: Crowd, left: int) -> tuple[Crowd | None, int]:
    """Of a crowd of more than ``left`` bytes the smallest files that have no more, and the bytes under which they are."""
    count, work = 0, 0
    while (work := work + crowd.sizes[count]) <= left:
        count += 1
    small = crowd.sizes[count]
    sizes = tuple(size for size in crowd.sizes[:count] if size < small)  # the engine tells files apart by their size alone
    part = Crowd(crowd.partition, len(sizes), sum(sizes), sizes)
    return part if part.files >= CROWD else None, small
