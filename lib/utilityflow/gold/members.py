"""Small dimensions without history: the words that standing records use, each a member, and the row -1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.marts import replace_rows
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN_KEY


@dataclass(frozen=True)
class Words:
    """A dimension of words: ``columns`` (its natural key) are those of ``source``, by name there."""

    name: str
    source: str
    columns: Mapping[str, str]


PAYMENT_METHOD = Words("gold.dim_payment_method", "silver.payments", {"payment_method": "method", "payment_channel": "channel"})
REQUEST_TYPE = Words("gold.dim_request_type", "silver.service_requests", {"request_type": "request_type"})
WORDS = (PAYMENT_METHOD, REQUEST_TYPE)


def member_key(words: Words, contract: Contract) -> Column:
    """BIGINT key of the member that a row of the source names, -1 where it names none.

    :param contract: of the source.
    """
    names = list(words.columns.values())
    nothing = " AND ".join(f"{n} IS NULL" for n in names)
    own = hash64(contract, names, domain=words.name.partition(".")[2])
    return F.when(F.expr(nothing), F.lit(UNKNOWN_KEY).cast("bigint")).otherwise(own)


def members(words: Words, rows: DataFrame, source: Contract, dimension: Contract) -> DataFrame:
    """All members that the rows of the source name, and the row -1 (natural key ``?``), in the dimension's columns."""
    key = dimension.primary_key[0]
    named = rows.select(member_key(words, source).alias(key), *[F.col(s).alias(n) for n, s in words.columns.items()])
    known = named.where(F.col(key) != UNKNOWN_KEY).distinct()
    unknown = rows.sparkSession.range(1).select(
        F.lit(UNKNOWN_KEY).cast("bigint").alias(key), *[F.lit("?").alias(n) for n in words.columns]
    )
    return known.unionByName(unknown).select(*dimension.column_names)


def run_words(run: Run, words: Words) -> StepResult:
    """Keep a dimension of words: written anew, in one small file, where its members are others than those that stand."""
    table, source = run.house.table(words.name), run.house.table(words.source)
    now = {source.name: source.version()}
    if table.version() > 0 and run.consumed.get(table.name) == now:
        return StepResult(table.name, "skipped", version=table.version(), consumed=now)
    wanted = members(words, source.read(now[source.name]), source.contract, table.contract)
    return replace_rows(run, table, wanted, None, now)
