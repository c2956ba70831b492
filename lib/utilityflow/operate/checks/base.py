"""What a check is, what it finds, and what all checks share of the lakehouse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from utilityflow.operate.scene import Scene
from utilityflow.silver.judging import ENTITIES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Row

MOST = 10  # offenders that are named


@dataclass(frozen=True)
class Found:
    """What offends: how many, and up to MOST of them in words (surrogate keys, hashes, files; no personal data)."""

    count: int = 0
    offenders: tuple[str, ...] = ()
    skipped: str | None = None


@dataclass(frozen=True)
class Check:
    """A named check of an invariant of DESIGN.md section 4.

    :param what: what holds, in one sentence. :param slow: left out by ``--quick``.
    """

    name: str
    invariant: int
    what: str
    function: Callable[[Evidence], Found]
    slow: bool = False


def together(parts: Iterable[Found]) -> Found:
    """What several tables have, as one."""
    every = list(parts)
    offenders = tuple(o for part in every for o in part.offenders)
    return Found(sum(part.count for part in every), offenders[:MOST])


def named(offenders: Iterable[str]) -> Found:
    """Offenders that are all at hand."""
    every = list(offenders)
    return Found(len(every), tuple(every[:MOST]))


def rows_of(frame: DataFrame, say: Callable[[Row], str]) -> Found:
    """Offenders that are the rows of a frame; it is counted only when it has some."""
    first = frame.limit(MOST).collect()
    count = len(first) if len(first) < MOST else frame.count()
    return Found(count, tuple(say(row) for row in first))


@dataclass(frozen=True)
class FileRows:
    """The rows of one file in a bronze table. ``dense``: the record numbers are exactly 1 to ``rows``."""

    rows: int
    dense: bool
    batches: int


@dataclass
class Evidence:
    """A scene, and what several checks count: rows by file in bronze, in silver and in quarantine."""

    scene: Scene
    bronze: Mapping[tuple[str, str], FileRows] = field(default_factory=dict)
    silver: Mapping[tuple[str, str, int], int] = field(default_factory=dict)
    fenced: Mapping[tuple[str, str, int], int] = field(default_factory=dict)


def gather(scene: Scene) -> Evidence:
    """Count once what several checks need; narrow scans only."""
    house = scene.house
    bronze: dict[tuple[str, str], FileRows] = {}
    folder = scene.home.lakehouse / "bronze"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        table = house.table(f"bronze.{path.name}")
        if table.version() > 0:
            bronze |= {(path.name, sha): rows for sha, rows in file_rows(table.read()).items()}
    counts: list[dict[tuple[str, str, int], int]] = []
    several = {e.feed for e in scene.ledger.entries.values() if len(e.derived) > 1}
    for suffix in ("", "__quarantine"):
        found: dict[tuple[str, str, int], int] = {}
        for entity in ENTITIES:
            table = house.table(f"silver.{entity}{suffix}")
            if table.version() > 0:
                histories = house.contracts[f"silver.{entity}"].property("history")
                for key, n in applied(table.read(), several if histories else ()).items():
                    found[key] = found.get(key, 0) + n
        counts.append(found)
    return Evidence(scene, bronze, counts[0], counts[1])


def file_rows(bronze: DataFrame) -> dict[str, FileRows]:
    """Rows by file of one bronze table; see FileRows."""
    number = F.col("_row_number")
    squares = F.sum((number * number).cast("decimal(38,0)"))
    grouped = bronze.groupBy("_file_sha256").agg(
        F.count(F.lit(1)),
        F.min(number),
        F.max(number),
        F.sum(number.cast("decimal(38,0)")),
        squares,
        F.min("_batch_id"),
        F.max("_batch_id"),
    )
    result = {}
    for sha, n, low, high, total, square, first, last in grouped.collect():
        # n numbers within 1..n with the sums and square sums of 1..n; short of a forgery they are 1..n
        dense = (low, high) == (1, n) and total == n * (n + 1) // 2 and square == n * (n + 1) * (2 * n + 1) // 6
        result[sha] = FileRows(n, dense, 1 if first == last else 2)
    return result


def applied(rows: DataFrame, several: Collection[str] = ()) -> dict[tuple[str, str, int], int]:
    """(feed, sha, ledger number) -> records in a silver or quarantine table (derived deletions are none).

    :param several: feeds of which a record may be an event in several snapshots: it is one record.
    """
    if several:
        own, rows = F.col("_feed").isin(*several), rows.select("_feed", "_file_sha256", "_batch_id", "_row_number")
        rows = rows.where(~own).unionByName(rows.where(own).distinct())
    grouped = rows.groupBy("_feed", "_file_sha256", "_batch_id").agg(F.count_if(F.col("_row_number") > 0))
    return {(r[0], r[1], r[2]): r[3] for r in grouped.collect()}


def any_of(tests: Mapping[str, Column]) -> Column:
    """TEXT: the name of the first test that holds, null when none does."""
    return F.coalesce(*[F.when(test, F.lit(name)) for name, test in tests.items()])
