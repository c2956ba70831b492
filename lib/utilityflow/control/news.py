"""What came to a silver table since a version, and what left it, without the change feed of files that only came.

Delta's change feed hands rows out one by one, as objects, and skips no file by its statistics: a month of reads costs twice as
much there as in the table itself. A month mostly comes, and its ledger numbers are higher than all that stood.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from utilityflow.lakehouse import Table


@dataclass(frozen=True)
class News:
    """How the rows of a later version differ from those of an earlier one.

    ``rows``: the table's columns and ``_change_type``, insert or delete; for each row of the table, its inserts less its
    deletes are how often it stands more than before. A row that came and left again in between may be told, both ways, or not.
    ``batch``: the highest ledger number that the table held before; 0: that is not known, or it held none.
    """

    rows: DataFrame
    batch: int


def news(table: Table, since: int, until: int) -> News:
    """The rows of ``until`` that those of ``since`` lack, and the other way round.

    With the number B that the note of ``since`` tells, rows are told apart by ``_batch_id``. Above B none stood (no silver
    commit notes a number below that of a row, see ``silver.apply``), so what stands of them at ``until`` is what came: a file
    that was applied, repeated records that were written with it and taken out again, or a file that was superseded in the
    meantime need no other look. Up to B the change feed tells, but only of commits that may have touched such a row:
    superseded files, snapshots derived anew, what was promoted in a file of before, a file that was applied together with
    later ones but has a number below B, a RESTORE. By the log, all files of the other commits hold higher numbers alone.

    Where the log does not tell (it is not on a local disk, or incomplete) or the note has no number (a foreign commit, a table
    as it was created), all is as the change feed tells it.
    """
    batch = int(table.note(since).get("batch") or 0)
    mixed = _touching(table, since, until, batch) if batch else None
    if mixed is None:
        return News(table.changes(since, until), batch)
    number = F.col("_batch_id")
    came = table.read(until).where(number > batch)
    shape = [*came.columns, "_change_type"]
    parts = [came.withColumn("_change_type", F.lit("insert"))]
    parts += [table.changes(first - 1, last).where(number <= batch).select(*shape) for first, last in _spans(mixed)]
    return News(reduce(DataFrame.unionByName, parts), batch)


def _touching(table: Table, since: int, until: int, batch: int) -> list[int] | None:
    """The commits after ``since`` that may have added or removed rows of ledger numbers up to ``batch``; None: not known.

    A file's lowest number is known from the commit that added it. What was added before ``since`` is taken to hold older rows.
    """
    lowest: dict[str, int] = {}
    found = []
    for version in range(since + 1, until + 1):
        actions = table.actions(version)
        if actions is None:
            return None
        # first what leaves: a file that gets a deletion vector does both, and its rows that leave are those of before
        touched = [lowest.get(str(file["path"]), 0) for file in _moved(actions, "remove")]
        lowest |= {str(action["add"]["path"]): _lowest(action["add"]) for action in actions if "add" in action}
        touched += [lowest[str(file["path"])] for file in _moved(actions, "add")]
        if any(number <= batch for number in touched):
            found.append(version)
    return found


def _moved(actions: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Mapping[str, Any]]:
    """The files that came, or left, with rows that did; OPTIMIZE only arranges them."""
    return (action[kind] for action in actions if kind in action and action[kind].get("dataChange", True))


def _lowest(add: Mapping[str, Any]) -> int:
    """No row of the file has a ledger number below this one; 0 where its statistics do not tell."""
    told = json.loads(add.get("stats") or "{}").get("minValues") or {}
    return int(told.get("_batch_id") or 0)


def _spans(versions: Sequence[int]) -> list[tuple[int, int]]:
    """Rising numbers as spans, each from first to last without a gap."""
    spans: list[tuple[int, int]] = []
    for version in versions:
        if spans and spans[-1][1] == version - 1:
            spans[-1] = (spans[-1][0], version)
        else:
            spans.append((version, version))
    return spans
