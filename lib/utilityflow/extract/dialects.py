"""SQL by which a database is asked for the exact text of its values. Pure functions; one dialect per kind of database.

The database itself writes its values as text: a driver would round decimals and floats, and read stamps in some zone.
Names come from the feed file, where they were checked, or from the database; they are quoted. Values in the SQL are only
instants and whole numbers of our own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from utilityflow.bronze.databases import Following, Jdbc

# A time column may hold local times: the database is asked for so much more than is wanted, the rest is judged afterwards.
SLACK = dt.timedelta(hours=15)


@dataclass(frozen=True)
class Dialect:
    """``quote``: around names. ``text``: a column as its exact text. ``since``: of a time column and an instant, in SQL."""

    driver: str
    quote: tuple[str, str]
    text: Callable[[str], str]
    since: Callable[[str, str], str]
    number: Callable[[str], str]

    def name(self, name: str) -> str:
        """A name, quoted."""
        left, right = self.quote
        return left + name.replace(right, right * 2) + right


def _sqlite_text(column: str) -> str:
    """Floats as the shortest text of 15 or 17 digits that is the same double."""
    short, long = f"printf('%!.15g', {column})", f"printf('%!.17g', {column})"
    real = f"CASE WHEN CAST({short} AS REAL) = {column} THEN {short} ELSE {long} END"
    return f"CASE typeof({column}) WHEN 'real' THEN {real} WHEN 'blob' THEN hex({column}) ELSE CAST({column} AS TEXT) END"


DIALECTS: dict[str, Dialect] = {
    "sqlite": Dialect(
        "org.sqlite.JDBC",
        ('"', '"'),
        _sqlite_text,
        lambda column, moment: f"datetime({column}) >= datetime('{moment}') OR datetime({column}) IS NULL",
        lambda column: f"CAST({column} AS INTEGER)",
    ),
    "postgresql": Dialect(
        "org.postgresql.Driver",
        ('"', '"'),
        lambda column: f"to_json({column}) #>> '{{}}'",
        lambda column, moment: f"{column} >= TIMESTAMP '{moment}' OR {column} IS NULL",
        lambda column: column,
    ),
    "sqlserver": Dialect(
        "com.microsoft.sqlserver.jdbc.SQLServerDriver",
        ("[", "]"),
        lambda column: f"CONVERT(nvarchar(max), {column}, 126)",
        lambda column, moment: f"{column} >= CONVERT(datetime2, '{moment.replace(' ', 'T')}', 126) OR {column} IS NULL",
        lambda column: column,
    ),
}


def of(jdbc: Jdbc) -> Dialect:
    """The dialect of a feed's database."""
    return DIALECTS[jdbc.kind]


def relation(jdbc: Jdbc) -> str:
    """The feed's table or query, as it stands after FROM."""
    dialect = of(jdbc)
    if jdbc.table:
        return ".".join(dialect.name(part) for part in jdbc.table.split("."))
    return f"({jdbc.query}) uf_query"


def columns_query(jdbc: Jdbc) -> str:
    """What names the columns: no row is read."""
    return f"(SELECT * FROM {relation(jdbc)} WHERE 1 = 0) uf_columns"


def rows_query(jdbc: Jdbc, columns: Sequence[str], since: dt.datetime | int | None) -> str:
    """All columns as texts, of the rows that changed since then: at least those, and those without a mark."""
    dialect = of(jdbc)
    shown = ", ".join(f"{dialect.text(dialect.name(c))} AS {dialect.name(c)}" for c in columns)
    where = ""
    if since is not None and jdbc.increment is not None:
        where = f" WHERE {_since(dialect, jdbc.increment, since)}"
    return f"(SELECT {shown} FROM {relation(jdbc)}{where}) uf_rows"


def _since(dialect: Dialect, increment: Following, since: dt.datetime | int) -> str:
    column = dialect.name(increment.column)
    if isinstance(since, int):
        return f"{dialect.number(column)} >= {since:d} OR {column} IS NULL"
    if increment.kind == "time":
        return dialect.since(column, moment_text(since))
    seconds = (since - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(seconds=1)
    return f"{dialect.number(column)} >= {seconds * (1000 if increment.kind == 'epoch_millis' else 1):d} OR {column} IS NULL"


def moment_text(since: dt.datetime) -> str:
    """An instant, less SLACK, in whole seconds: digits and punctuation alone."""
    with contextlib.suppress(OverflowError):
        since = since.astimezone(dt.timezone.utc) - SLACK
    return f"{since.year:04d}{since:-%m-%d %H:%M:%S}"
