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
SMALL = 16 * 1024**2  # bytes up to which a file is small to a run, which has other work
SPARE = 64  # so many files that a table could do without are worth a commit of a run
CROWD = 4  # small files of a partition that are written anew
WORK = 256 * 1024**2  # bytes that a run writes anew of one table; what is more is left to `maintain`


@dataclass(frozen=True)
class Crowd:
    """The small files of one partition. ``partition``: as ``partition_name`` gives it; ``bytes``: of them all."""

    partition: str
    files: int
    bytes: int


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
    return [Crowd(name, len(sizes), sum(sizes)) for name, sizes in sorted(found.items()) if len(sizes) > 1]


def arrange(table: Table, partitions: Sequence[str], small: int) -> None:
    """Write the small files of these partitions anew, and those with many deleted rows, in one commit."""
    where = partition_where(table.contract, partitions, "spark") if table.contract.partition_by else ""
    table.optimize(small, FULL, where=where)


def tidy(table: Table) -> int:
    """Arrange a table that has come to hold many small files; returns how many there were, 0 if it was left as it is."""
    found = crowds(table, SMALL)
    if sum(crowd.files - 1 for crowd in found) < SPARE:
        return 0
    wanted, work = list[Crowd](), 0
    for crowd in sorted([c for c in found if c.files >= CROWD] or found, key=lambda c: c.bytes / c.files):
        work += crowd.bytes
        if work <= WORK:
            wanted.append(crowd)
    if not wanted:
        return 0
    arrange(table, [crowd.partition for crowd in wanted], SMALL)
    return sum(crowd.files for crowd in wanted)
