"""Expressions of feed files: checked against the allow-list, rewritten to try semantics, analysed in a zone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column
from pyspark.sql import functions as F

from utilityflow.bronze.sqltext import Parser
from utilityflow.errors import UtilityFlowError
from utilityflow.session import by_connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# what an expression may read beside the raw columns
EXTRA_COLUMNS = frozenset({"_file_name"})


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    ``text``: as written in the feed file; ``sql``: what the engine gets; ``columns_read``: the cleaned names of the raw
    columns that it reads (``_file_name`` is not among them); ``named``: whether it reads ``_file_name``.
    """

    text: str
    sql: str
    columns_read: frozenset[str]
    named: bool = False

    def cast(self, kind: str) -> Expression:
        """The same, try-cast to a type; an expression that already is of that type costs nothing."""
        return Expression(self.text, f"try_cast({self.sql} AS {kind})", self.columns_read, self.named)


@functools.lru_cache(maxsize=2048)
def parse_expression(text: str, where: str = "expression") -> Expression:
    """Check and rewrite one expression.

    :param where: what errors carry, usually ``file:line: 'key'``.
    :raises UtilityFlowError: UF-1011 naming the place, the character and what is not allowed.
    """
    parser = Parser(text, where)
    sql = parser.parse()
    return Expression(text, sql, frozenset(parser.columns - EXTRA_COLUMNS), not EXTRA_COLUMNS.isdisjoint(parser.columns))


@contextmanager
def in_zone(spark: SparkSession, zone: str, *, ansi: bool = False) -> Iterator[None]:
    """While inside, the engine analyses in a zone, by default without ANSI errors; then its settings are as before.

    :raises UtilityFlowError: UF-1002 over Spark Connect, for another zone than the session's: there it would be forgotten
        before the rows are computed, and stamps would be hours off.
    """
    if by_connect(spark) and zone != (own := spark.conf.get("spark.sql.session.timeZone")):
        message = f"over Spark Connect feeds are read in the zone {own} only, not in {zone}"
        raise UtilityFlowError("UF-1002", message, hint="run it by spark-submit.sh")
    wanted = {"spark.sql.session.timeZone": zone, "spark.sql.ansi.enabled": str(ansi).lower()}
    before = {key: spark.conf.get(key) for key in wanted}
    try:
        for key, value in wanted.items():
            spark.conf.set(key, value)
        yield
    finally:
        for key, old in before.items():
            spark.conf.set(key, str(old))


def select_in_zone(
    spark: SparkSession, frame: DataFrame, columns: Mapping[str, Expression | Column | str], zone: str
) -> DataFrame:
    """All columns of the frame and the new ones, analysed in ``zone``.

    Zone and ANSI mode are stamped on expressions when they are parsed and analysed, so what is analysed here keeps try
    semantics and the feed's zone however the session is set when the rows are computed.

    :param columns: new column -> expression; one that the frame has is replaced.
    """
    with in_zone(spark, zone):
        made = {name: _column(value) for name, value in columns.items()}
        kept = [F.col(f"`{name}`") for name in frame.columns if name not in made]
        result = frame.select(*kept, *[column.alias(name) for name, column in made.items()])
        result.schema  # noqa: B018 - forces the analysis while zone and mode hold
        return result


def _column(value: Expression | Column | str) -> Column:
    if isinstance(value, Expression):
        return F.expr(value.sql)
    return F.expr(value) if isinstance(value, str) else value
