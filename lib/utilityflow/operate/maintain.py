"""``maintain``: few large files instead of many small ones, and no files that no version needs any more.

It holds the home while it works. No row changes, so no step has work afterwards and the publication stays as it is. Killed
anywhere, it can be started again: a table is arranged in one commit, and what is removed was of no use before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from utilityflow.control.home import hold
from utilityflow.control.soundness import examine
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.scene import Scene, open_scene
from utilityflow.settings import Settings

SMALL, FULL = 32 * 1024**2, 128 * 1024**2  # bytes of a file that is written anew, and of one that is not
MANY = 8  # files of a table from which on arranging them is worth a commit
WINDOW = 168  # hours: Delta's own bound, under which a reader or writer at work could lose its files


@dataclass(frozen=True)
class Kept:
    """What was done to one table. ``bytes``: of its files before."""

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
    :param most_bytes: tables are arranged, smallest first, until so many bytes were read; the rest waits for the next call.
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
        done, read = [], 0
        for table in sorted((t for t in tables if t.name in sizes), key=lambda t: sizes[t.name][1]):
            files, size = sizes[table.name]
            why_not = _why_not(files, size, most_bytes - read)
            if arranged := not why_not:
                read += size
                table.optimize(SMALL, FULL)
            if table.name in awaited:
                why_not = "not cleaned: a step has yet to take its changes"
            else:
                table.clean(hours)
            done.append(Kept(table.name, files, _size(table)[0] if arranged else files, size, arranged, why_not))
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


def _why_not(files: int, size: int, left: int) -> str:
    if files < MANY:
        return "few files"
    if size / files >= SMALL:
        return "large files"
    return "beyond the limit of this call" if size > left else ""


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [
        f"{one['table']:<34} {one['files_before']:>6} -> {one['files']:>6} files {one['bytes'] / 1024**2:>10.1f} MiB"
        + (f"  ({one['why_not']})" if one["why_not"] else "")
        for one in result["tables"]
    ]
    lines.append(f"files of versions older than {result['hours']} hours are removed; younger ones can be gone back to")
    return "\n".join(lines)
