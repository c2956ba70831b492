"""What a table's commits did since a version, from the Delta log alone: which partitions, which new files, which changes.

All answers are None, or empty, where the log does not tell (it is not on a local disk, or incomplete): then the table is
taken whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from utilityflow.publish.content import partition_name

if TYPE_CHECKING:
    from utilityflow.lakehouse import Table

_Actions = list[dict[str, Any]]


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a table, of which every row stands. ``values``: its partition columns, which it does not hold."""

    path: Path
    values: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Moves:
    """What commits did to rows: ``files`` hold nothing but new rows; the change feed of ``versions`` tells the rest."""

    files: tuple[DataFile, ...]
    versions: tuple[int, ...]


def commit_id(table: Table, version: int) -> str:
    """What tells this commit from another of the same version number (a table made anew); ``""`` when not known."""
    file = _commit_file(table, version)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32] if file is not None and file.is_file() else ""


def changed_partitions(table: Table, since_version: int, until: int | None = None) -> set[str] | None:
    """Partitions whose rows the commits after ``since_version`` may have changed.

    Commits that only arrange rows anew (OPTIMIZE: ``dataChange`` false) count as no change.

    :param until: last version that counts, default the newest.
    :returns: names as ``partition_name`` gives them; None when all must be taken as changed: the log does not tell,
        versions went back, or a commit changed columns.
    """
    columns = table.contract.partition_by
    changed: set[str] = set()
    commits = _commits(table, since_version, table.version() if until is None else until)
    if commits is None:
        return None
    for actions in commits:
        for change in _changes(actions):
            values: dict[str, str | None] | None = change.get("partitionValues")
            if columns and (values is None or any(c not in values for c in columns)):
                return None  # the protocol lets a remove leave them out
            changed.add(partition_name(columns, [(values or {})[c] for c in columns]))
    return changed


def same_rows(table: Table, since_version: int) -> bool:
    """Whether the commits after ``since_version`` moved no row; columns may have been added to the table."""
    commits = (table.actions(version) for version in range(since_version + 1, table.version() + 1))
    return all(actions is not None and not _changes(actions) for actions in commits) and since_version <= table.version()


def moves(table: Table, since_version: int, until: int) -> Moves | None:
    """How the rows of version ``until`` differ from those of ``since_version``; None as ``changed_partitions``."""
    commits = _commits(table, since_version, until)
    if commits is None:
        return None
    added: dict[int, list[DataFile]] = {}
    feed: set[int] = set()
    holder: dict[str, int] = {}  # file -> the commit that added it
    for version, actions in enumerate(commits, since_version + 1):
        for action in actions:
            path = (action.get("remove") or action.get("add") or {}).get("path")
            if path in holder:  # rows of a new file have changed, or moved to another file, since
                feed.add(holder[path])
        if not _changes(actions):
            continue
        files = [_plain(table, action["add"]) for action in actions if "add" in action]
        whole = [file for file in files if file is not None]
        if len(whole) < len(files) or any("remove" in action or "cdc" in action for action in actions):
            feed.add(version)
            continue
        holder |= {str(action["add"]["path"]): version for action in actions if "add" in action}
        added[version] = whole
    files_left = [file for version, found in added.items() if version not in feed for file in found]
    return Moves(tuple(files_left), tuple(sorted(feed)))


def whole_files(table: Table, version: int) -> tuple[DataFile, ...]:
    """The data files that are the whole table; () where that cannot be said, or where rows of some file are deleted."""
    first = table.actions(0)
    if first is None or any("add" in action for action in first):
        return ()
    found = moves(table, 0, version)
    return () if found is None or found.versions else found.files


def _commit_file(table: Table, version: int) -> Path | None:
    return None if "://" in table.path else Path(table.path) / "_delta_log" / f"{version:020d}.json"


def _commits(table: Table, since: int, until: int) -> list[_Actions] | None:
    """Actions of each commit after ``since``; None when one is missing or changed columns, or versions went back."""
    if since < 0 or until < since:
        return None
    commits = []
    for version in range(since + 1, until + 1):
        actions = table.actions(version)
        if actions is None or any("metaData" in action for action in actions):
            return None
        commits.append(actions)
    return commits


def _changes(actions: _Actions) -> Sequence[dict[str, Any]]:
    """The files that came or left with rows that did."""
    found = (action.get("add") or action.get("remove") for action in actions)
    return [change for change in found if change is not None and change.get("dataChange", True)]


def _plain(table: Table, add: dict[str, Any]) -> DataFile | None:
    """The file of an ``add``, None when some of its rows are deleted or it lies elsewhere."""
    path = unquote(str(add["path"]))
    if add.get("deletionVector") or "://" in path or path.startswith("/"):
        return None
    values = add.get("partitionValues") or {}
    return DataFile(Path(table.path) / path, tuple((name, values.get(name)) for name in table.contract.partition_by))
