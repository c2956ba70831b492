"""``maintain``: few large files instead of many small ones, and no files that no version needs any more.

It holds the home while it works. No row changes, so no step has work afterwards and the publication stays as it is. Killed
anywhere, it can be started again: a table is arranged in one commit, and what is removed was of no use before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from utilityflow import upkeep
from utilityflow.control.home import hold
from utilityflow.control.soundness import examine
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.scene import Scene, open_scene
from utilityflow.settings import Settings
from utilityflow.upkeep import Crowd

SMALL = 32 * 1024**2  # bytes up to which a file is written anew
MANY = 8  # small files of a table from which on arranging them is worth a commit
WINDOW = 168  # hours: Delta's own bound, under which a reader or writer at work could lose its files


@dataclass(frozen=True)
class Kept:
    """What was done to one table. ``bytes``: of its files before; ``arranged``: some, or all, of its small files."""

    table: str
    files_before: int
    files: int
    bytes: int
    arranged: bool
    why_not: str = ""


def maintain(settings: Settings, *, hours: int = WINDOW, most_bytes: int = 10 * 1024**3) -> dict[str, Any]:
    """Arrange and clean every table.

    :param hours: files that versions of so many hours need are kept; so long can readers use old versions, and so far back
        can a publication be gone back to.
    :param most_bytes: small files are arranged, of the smallest tables first, until so many bytes were read; the rest waits
        for the next call, a partition at least being arranged in each.
    :returns: ``hours``, ``tables`` (as ``Kept``).
    :raises UtilityFlowError: UF-1004 when ``hours`` is less than Delta's bound, UF-1008 when there is no lakehouse, UF-4004
        while a run holds the home; UF-3003, UF-3008, UF-3009 as a run.
    """
    if hours < WINDOW:
        message = f"files must be kept for at least {WINDOW} hours, not {hours}"
        raise UtilityFlowError("UF-1004", message, hint="readers and the way back to the last publications need them")
    scene = open_scene(settings)
    with hold(scene.home, "maintain", seconds=settings.lease_seconds) as lease:
        scene.house.guard = lease
        examine(scene.home, ())  # a table that is damaged, or not ours alone, is not arranged
        tables = [scene.house.table(name) for name in _names(scene)]
        awaited = _awaited(scene)
        sizes = {t.name: _size(t) for t in tables if t.exists()}
        done, left = [], most_bytes
        for table in sorted((t for t in tables if t.name in sizes), key=lambda t: sizes[t.name][1]):
            files, size = sizes[table.name]
            chosen, why_not = _chosen(upkeep.crowds(table, SMALL), left, nothing_yet=left == most_bytes)
            if chosen:
                left -= sum(crowd.bytes for crowd in chosen)
                upkeep.arrange(table, [crowd.partition for crowd in chosen], SMALL)
            if table.name in awaited:
                why_not = "not cleaned: a step has yet to take its changes"
            else:
                table.clean(hours)
            done.append(Kept(table.name, files, _size(table)[0] if chosen else files, size, bool(chosen), why_not))
    return {"hours": hours, "tables": [asdict(one) for one in sorted(done, key=lambda one: one.table)]}


def _awaited(scene: Scene) -> set[str]:
    """Tables whose changes a step has yet to take that failed when it was done last, or waits for one that did."""
    from utilityflow import pipeline, running

    steps = pipeline.graph(scene.feeds, scene.home.lakehouse)
    failed = running.failed_last(scene.house) & {step.name for step in steps}
    behind = pipeline.select(steps, [f"{name}+" for name in sorted(failed)]) if failed else []
    return {name for step in behind for name in scene.consumed.get(step, {})}


def _names(scene: Scene) -> list[str]:
    from utilityflow.pipeline import tables_of

    return tables_of(scene.feeds, scene.home.lakehouse)


def _size(table: Any) -> tuple[int, int]:
    """Files and bytes of the newest version."""
    row = table.house.spark.sql(f"DESCRIBE DETAIL delta.`{table.path}`").collect()[0]
    return int(row["numFiles"]), int(row["sizeInBytes"])


def _chosen(crowds: Sequence[Crowd], left: int, *, nothing_yet: bool) -> tuple[list[Crowd], str]:
    """The partitions to arrange, smallest first, and why not all.

    :param left: bytes that this call may still read. :param nothing_yet: it has arranged nothing: then one partition goes
        beyond the limit, or a large one would wait for ever.
    """
    if sum(crowd.files for crowd in crowds) < MANY:
        return [], "few small files"
    chosen: list[Crowd] = []
    for crowd in sorted(crowds, key=lambda c: c.bytes):
        if crowd.bytes > left and (chosen or not nothing_yet):
            return chosen, "the rest is beyond the limit of this call" if chosen else "beyond the limit of this call"
        chosen.append(crowd)
        left -= crowd.bytes
    return chosen, ""


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [
        f"{one['table']:<34} {one['files_before']:>6} -> {one['files']:>6} files {one['bytes'] / 1024**2:>10.1f} MiB"
        + (f"  ({one['why_not']})" if one["why_not"] else "")
        for one in result["tables"]
    ]
    lines.append(f"files of versions older than {result['hours']} hours are removed; younger ones can be gone back to")
    return "\n".join(lines)
