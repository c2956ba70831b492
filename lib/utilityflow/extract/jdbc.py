"""One extract of a database: rows as exact texts become one landed Parquet file, or none when nothing new came.

Spark reads the rows in one query and one stream, bounded; a connection that breaks is asked again from the beginning, and
what had been read is thrown away. Nothing of the database's own messages is told, as they may quote rows and secrets.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from utilityflow.bronze.databases import Jdbc
from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.names import clean_names
from utilityflow.bronze.sources import start_of
from utilityflow.errors import UtilityFlowError, disk_refuses, nearest
from utilityflow.extract import dialects
from utilityflow.extract.landed import (
    Extracted,
    LandedFile,
    Mark,
    Refused,
    covered,
    file_name,
    landed_files,
    make_folder,
    mark_text,
    newest_full,
)
from utilityflow.lakehouse import rename
from utilityflow.settings import resolve_secret

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_T = TypeVar("_T")
FIRST_WAIT = 1.0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MICROSECOND = dt.timedelta(microseconds=1)
# words of databases and drivers for what another attempt does not mend, and how that is told
_FINAL: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("classnotfoundexception", "no suitable driver"), "UF-1007", "the driver of this database is not on the class path"),
    (("no such table", 'relation "', "invalid object name"), "UF-2013", "the table, or one that the query names, is not there"),
    (("no such column", 'column "', "invalid column name"), "UF-2013", "it does not know a column that is asked for"),
    (("authentication failed", "no password was provided", "login failed", "no pg_hba"), "UF-2012", "it refuses the user"),
    (("permission denied", "permission was denied"), "UF-2012", "the user may not read that"),
    (("unable to open database", "file is not a database"), "UF-2012", "the file is not there, or is no database"),
    (("syntax error", "incorrect syntax"), "UF-2013", "it does not understand the query"),
    (("unrecognized sql type", "unrecognized_sql_type"), "UF-2013", "a column is of a type that is not read; cast it in a query"),
)


@dataclass(frozen=True)
class Ask:
    """What one extract asks for. ``begin``: up to where rows have landed; ``since``: that less the overlap; ``at``: when."""

    begin: Mark | None
    since: Mark | None
    at: dt.datetime


class Database:
    """The database of a feed, as Spark's reader sees it.

    :raises UtilityFlowError: UF-1010 when a secret cannot be resolved.
    """

    def __init__(self, spark: SparkSession, feed: Feed, jdbc: Jdbc, say: Callable[[str], None],
                 sleep: Callable[[float], None] = time.sleep) -> None:  # fmt: skip
        self.spark, self.feed, self.jdbc, self.say, self.sleep = spark, feed, jdbc, say, sleep
        limits = jdbc.limits
        self.options = {
            **_usual(jdbc.kind, limits.seconds), **jdbc.properties,
            "url": jdbc.url, "driver": dialects.of(jdbc).driver, "fetchsize": str(limits.fetch_size),
            "queryTimeout": str(limits.seconds), "pushDownPredicate": "false",
            **({"user": resolve_secret(jdbc.user)} if jdbc.user else {}),
            **({"password": resolve_secret(jdbc.password)} if jdbc.password else {}),
        }  # fmt: skip

    def frame(self, query: str, texts: Sequence[str] = ()) -> DataFrame:
        """The rows of a query in brackets.

        :param texts: its columns, where all are texts: of an expression SQLite's driver knows no type, and says a number.
        """
        reader = self.spark.read.format("jdbc").options(**self.options).option("dbtable", query)
        if texts:
            reader = reader.option("customSchema", ", ".join(f"`{t.replace('`', '``')}` STRING" for t in texts))
        return reader.load()

    def columns(self) -> list[str]:
        """The columns of the table or query.

        :raises UtilityFlowError: UF-2013 when one is missing that the feed reads.
        """
        names = self.attempt(lambda: self.frame(dialects.columns_query(self.jdbc)).columns)
        cleaned = clean_names(names)
        for column, reader in self.feed.columns_read().items():
            if column not in cleaned:
                raise self.strange(f"no column '{column}', which '{reader}' reads", nearest(column, cleaned))
        increment = self.jdbc.increment
        if increment is not None and increment.column not in names:
            raise self.strange(f"no column '{increment.column}', which 'increment' reads", nearest(increment.column, names))
        return list(names)

    def strange(self, what: str, hint: str | None = None) -> UtilityFlowError:
        """The error for a database that answers otherwise than the feed says."""
        return UtilityFlowError("UF-2013", f"{self.feed.feed}: {self.jdbc.shown}: {what}; nothing was landed", hint=hint)

    def attempt(self, work: Callable[[], _T]) -> _T:
        """Do what asks the database, again where that may help.

        :raises UtilityFlowError: UF-1007, UF-2012 or UF-2013 in words of our own.
        """
        limits = self.jdbc.limits
        for number in range(1, limits.attempts + 1):
            try:
                return work()
            except Exception as error:
                if isinstance(error, UtilityFlowError) or disk_refuses(error):
                    raise
                found = cause_of(str(error))
                shown = error if os.environ.get("UTILITYFLOW_DEBUG") else None  # the engine's words may quote rows
                if found is not None:
                    raise UtilityFlowError(found[0], f"{self.feed.feed}: {self.jdbc.shown}: {found[1]}") from shown
                if number == limits.attempts:
                    what = f"{self.feed.feed}: {self.jdbc.shown}: the connection fails or breaks, {number} times"
                    raise UtilityFlowError("UF-2012", what, hint="the next run asks again") from shown
                wait = min(FIRST_WAIT * 2 ** (number - 1), limits.wait_seconds) * (0.5 + random.random() / 2)  # noqa: S311 - jitter
                again = f"attempt {number + 1} of {limits.attempts} in {wait:.1f} s"
                self.say(f"{self.feed.feed}: the connection fails or breaks; {again}")
                self.sleep(wait)
        raise AssertionError("the last attempt raises")


def _usual(kind: str, seconds: int) -> dict[str, str]:
    """Properties of a driver where the feed names none: no wait without end, and read only where that can be asked for.

    SQLite would make a file that is not there. Socket time-outs are seconds in PostgreSQL, milliseconds in SQL Server.
    """
    return {
        "sqlite": {"open_mode": "1", "busy_timeout": "30000"},
        "postgresql": {"readOnly": "true", "connectTimeout": "30", "socketTimeout": str(seconds), "tcpKeepAlive": "true"},
        "sqlserver": {"loginTimeout": "30", "socketTimeout": str(min(seconds * 1000, 2**31 - 1))},
    }[kind]


def cause_of(message: str) -> tuple[str, str] | None:
    """Code and words of ours for a message after which another attempt is of no use; None: it may be."""
    text = "\n".join(line for line in message.lower().splitlines() if not line.lstrip().startswith("at "))  # no stacks
    for words, code, told in _FINAL:
        if any(word in text for word in words):
            return code, told
    return None


def extract_jdbc(
    spark: SparkSession, feed: Feed, landing: Path, refused: Refused, say: Callable[[str], None], stage: Path, *,
    zone: str | None = None, now: dt.datetime | None = None, sleep: Callable[[float], None] = time.sleep,
) -> Extracted:  # fmt: skip
    """Ask the database of a feed for what changed, or for its whole state, and land it as one Parquet file of texts.

    :param refused: files that bronze did not take, whose content is asked for again.
    :param stage: scratch folder, emptied here. :param zone: of times without an offset, where the feed names none.
    :raises UtilityFlowError: UF-1007, UF-1010, UF-2012 to UF-2014; nothing is landed then.
    """
    if not isinstance(feed.extract, Jdbc):
        raise TypeError(f"{feed.feed} is no feed of a database")
    folder = make_folder(feed, landing)
    jdbc = feed.extract.resolved()
    database = Database(spark, feed, jdbc, say, sleep)
    files = landed_files(feed, landing, refused)
    ask = asking(jdbc, files, now or dt.datetime.now(dt.timezone.utc))
    columns = database.columns()
    shutil.rmtree(stage, ignore_errors=True)
    rows = _read(database, columns, ask, stage / "read")
    chosen, end = _choose(spark, feed, jdbc, rows, files, ask, zone or "UTC")
    if chosen is None:
        return Extracted(None, 0, 1, "nothing has changed")
    return _land(database, chosen, folder, landing, stage / "land", ask, end, refused)


def asking(jdbc: Jdbc, files: Sequence[LandedFile], at: dt.datetime) -> Ask:
    """What is to be asked for, by what has landed."""
    increment = jdbc.increment
    if increment is None:
        return Ask(None, None, at)
    start: Mark | None = None
    if increment.start is not None:
        start = int(increment.start) if increment.kind == "number" else start_of(increment.start)
    begin = covered(files, start)
    if begin is None:
        return Ask(None, None, at)
    if isinstance(begin, int):
        return Ask(begin, max(begin - increment.overlap_numbers, 0), at)
    try:
        return Ask(begin, begin - dt.timedelta(seconds=increment.overlap_seconds), at)
    except OverflowError:
        return Ask(begin, begin, at)


def _read(database: Database, columns: Sequence[str], ask: Ask, folder: Path) -> DataFrame:
    """The rows as texts, read once, into Parquet.

    :raises UtilityFlowError: UF-2014 when there are more than the feed allows; and as ``Database.attempt``.
    """
    query = dialects.rows_query(database.jdbc, columns, ask.since)
    bound = database.jdbc.limits.records

    def read() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        found = database.frame(query, columns)
        texts = found.select(*[found[f"`{c.replace('`', '``')}`"].cast("string").alias(c) for c in found.columns])
        texts.limit(bound + 1).write.parquet(str(folder))

    database.attempt(read)
    rows = database.spark.read.parquet(str(folder))
    if rows.count() > bound:
        what = f"{database.feed.feed}: the extract gets more than {bound:,} rows"
        raise UtilityFlowError("UF-2014", what, hint="nothing was landed; options.limits.records is the bound")
    return rows


# -- choosing --------------------------------------------------------------------------------------------------------


def _choose(spark: SparkSession, feed: Feed, jdbc: Jdbc, rows: DataFrame, files: Sequence[LandedFile], ask: Ask,
            zone: str) -> tuple[DataFrame | None, Mark]:  # fmt: skip
    """The rows to land (None: nothing new came), and up to where they reach.

    :raises UtilityFlowError: UF-2013 when no row has a mark, so that the next extract could not know where to begin.
    """
    from pyspark.sql import functions as F

    if jdbc.increment is None:
        last = newest_full(files)
        changed = last is None or _differ(rows, _landed(spark, [last], rows.columns))
        return (rows if changed and not rows.isEmpty() else None), ask.at
    mark = _mark(jdbc.increment.column, jdbc.increment.kind, feed.time_zone or zone)
    if ask.since is not None:
        rows = rows.where(mark.isNull() | (mark >= F.lit(_number(ask.since))))
    parts = [f for f in files if not f.full]
    since = "" if ask.since is None else mark_text(ask.since)
    late = [f for f in parts if mark_text(f.end) >= since]
    if late:
        rows = _without(rows, _landed(spark, late, rows.columns))
    if len(late) < len(parts) and not rows.where(mark.isNull()).isEmpty():  # asked for each time, so any file may hold them
        rows = _without(rows, _landed(spark, parts, rows.columns).where(mark.isNull()))
    count, latest = rows.agg(F.count("*"), F.max(mark)).first() or (0, None)
    if not count:
        return None, ask.at
    if latest is None and ask.begin is None:
        what = f"{feed.feed}: {jdbc.shown}: no row has a mark that can be read in '{jdbc.increment.column}'"
        raise UtilityFlowError("UF-2013", f"{what}; nothing was landed")
    return rows, _end(jdbc, ask, latest)


def _end(jdbc: Jdbc, ask: Ask, latest: int | None) -> Mark:
    """The latest mark that came, but of times never beyond the time of asking, whatever a row says."""
    if jdbc.increment is not None and jdbc.increment.kind == "number":
        return max(latest or 0, ask.begin if isinstance(ask.begin, int) else 0)
    try:
        moment = None if latest is None else min(_EPOCH + dt.timedelta(microseconds=latest), ask.at)
    except OverflowError:
        moment = ask.at
    return max(m for m in (moment, ask.begin) if isinstance(m, dt.datetime))


def _number(mark: Mark) -> int:
    """A mark as a whole number: microseconds since 1970 for an instant."""
    return mark if isinstance(mark, int) else (mark - _EPOCH) // _MICROSECOND


def _mark(name: str, kind: str, zone: str) -> Column:
    """BIGINT mark of a row, as ``_number`` gives it; null where it cannot be read."""
    from pyspark.sql import functions as F

    column = F.col(f"`{name}`")
    if kind == "number":
        return F.expr(f"try_cast(`{name}` AS bigint)")
    if kind != "time":
        factor = 1000 if kind == "epoch_millis" else 1_000_000
        return F.expr(f"try_cast(try_cast(`{name}` AS decimal(20,6)) * {factor} AS bigint)")
    moment = F.expr(f"try_cast(`{name}` AS timestamp)")
    own = column.rlike(r":.*(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)$")
    return F.unix_micros(F.when(own, moment).otherwise(F.to_utc_timestamp(moment, zone)))


def _landed(spark: SparkSession, files: Sequence[LandedFile], columns: Sequence[str]) -> DataFrame:
    """The rows of landed files, with these columns; one that a file lacks is null."""
    from pyspark.sql import functions as F

    frames = [spark.read.parquet(str(f.path)) for f in files]
    united = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)
    there = set(united.columns)
    return united.select(*[F.col(f"`{c}`") if c in there else F.lit(None).cast("string").alias(c) for c in columns])


def _without(rows: DataFrame, known: DataFrame) -> DataFrame:
    """The rows that are not among the known ones; null equals null."""
    other = known.toDF(*[f"_known_{n}" for n in range(len(known.columns))])
    pairs = [rows[f"`{c}`"].eqNullSafe(other[f"_known_{n}"]) for n, c in enumerate(rows.columns)]
    return rows.join(other, reduce(lambda a, b: a & b, pairs), "left_anti")


def _differ(one: DataFrame, other: DataFrame) -> bool:
    return not one.exceptAll(other).isEmpty() or not other.exceptAll(one).isEmpty()


# -- landing ---------------------------------------------------------------------------------------------------------


def _land(database: Database, rows: DataFrame, folder: Path, landing: Path, stage: Path, ask: Ask, end: Mark,
          refused: Refused) -> Extracted:  # fmt: skip
    """The rows as one Parquet file, by one rename."""
    feed = database.feed
    rows.coalesce(1).write.parquet(str(stage))
    (part,) = stage.glob("part-*.parquet")
    count = database.spark.read.parquet(str(part)).count()
    draft = folder / f".{feed.feed}.part"
    digest = hashlib.sha256()
    try:
        with part.open("rb") as source, draft.open("wb") as target:
            while piece := source.read(1 << 20):
                target.write(piece)
                digest.update(piece)
        if digest.hexdigest() in refused.hashes:
            return Extracted(None, 0, 1, "the source still answers what was rejected")
        name = file_name(feed, ask.begin, end, digest.hexdigest(), full=database.jdbc.increment is None)
        rename(draft, folder / name, f"landing {feed.feed}")
    finally:
        draft.unlink(missing_ok=True)
    return Extracted((folder / name).relative_to(landing).as_posix(), count, 1, f"landed {name}")
