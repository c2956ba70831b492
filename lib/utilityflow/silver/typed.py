"""From raw rows to typed canonical rows: a feed's expressions in the feed's zone, conversion failures, canonical text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow.bronze.expressions import select_in_zone
from utilityflow.bronze.feeds import Feed
from utilityflow.contracts import Contract
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.quality.rules import UNCONVERTED

PROVENANCE = ("_feed", "_file_sha256", "_file_name", "_row_number", "_batch_id", "_corrupt_record")


def check_mapping(feed: Feed, contract: Contract, filled: Sequence[str]) -> None:
    """Fail before anything is read when a feed does not fit its entity.

    :raises UtilityFlowError: UF-1012 naming the feed, the column and the nearest known one.
    """
    event = {"effective_at", "sequence", "operation"}
    for name in feed.columns:
        if name not in filled or (name in event and contract.property("history")):
            known = [c for c in filled if c not in event]
            raise UtilityFlowError(
                "UF-1012", f"{feed.source}: {contract.name} has no column '{name}' to map", hint=nearest(name, known)
            )
    if not contract.property("history") and feed.mode == "snapshot":
        raise UtilityFlowError(
            "UF-1012", f"{feed.source}: entity {feed.entity} has no history, so 'mode: snapshot' does not apply"
        )
    if contract.property("history") and feed.mode == "events" and (feed.event is None or not feed.event.effective_at):
        raise UtilityFlowError(
            "UF-1012", f"{feed.source}: entity {feed.entity} keeps history, so 'event.effective_at' is needed"
        )
    if not contract.property("history") and feed.event is not None:
        raise UtilityFlowError(
            "UF-1012", f"{feed.source}: entity {feed.entity} has no history, so 'event' does not apply"
        )


def typed(
    spark: SparkSession, raw: DataFrame, feed: Feed, contract: Contract, filled: Sequence[str], zone: str,
    carried: Sequence[str] = (),
) -> DataFrame:  # fmt: skip
    """Typed canonical columns of one feed.

    :param raw: bronze rows (strings) with PROVENANCE, ``_batch_id`` being the ledger number of the application.
    :param filled: canonical columns of the entity; those that the feed does not map come out null.
    :param zone: the utility's zone, for stamps without an offset where the feed names no zone of its own.
    :param carried: further columns of ``raw`` that are no raw ones, and are handed on.
    :return: ``filled`` in the contract's types, PROVENANCE, ``carried``, ``_record`` (struct of the raw columns) and
        UNCONVERTED + name for each mapped column: whether its expression gave null although a raw column that it reads
        holds a text.
    """
    mapped = feed.expressions()
    beside = [*PROVENANCE, *carried]
    raw_names = [n for n in raw.columns if n not in beside]
    read_names = sorted({r for e in mapped.values() for r in e.columns_read if r in raw_names})
    kept = raw.select(*beside, F.struct(*[F.col(n) for n in raw_names]).alias("_record"),
                      *[_text_or_null(n, feed.null_values) for n in read_names])  # fmt: skip
    types = {c.name: c.type for c in contract.columns}
    cast = {f"c__{name}": e.cast(types[name]) for name, e in mapped.items()}
    try:
        frame = select_in_zone(spark, kept, cast, feed.time_zone or zone)
    except UtilityFlowError:
        raise
    except Exception as error:  # the engine's own complaint about an expression becomes ours, with the feed named
        raise UtilityFlowError(
            "UF-1011", f"{feed.source}: an expression does not fit: {str(error).splitlines()[0]}"
        ) from None
    failures = [
        (_filled(e.columns_read, read_names) & F.col(f"c__{name}").isNull()).alias(f"{UNCONVERTED}{name}")
        for name, e in mapped.items()
    ]
    columns = [_canonical(name, types[name], name in mapped, feed, contract) for name in filled]
    return frame.select(*beside, "_record", *failures, *columns)


def _text_or_null(name: str, null_values: Sequence[str]) -> Column:
    value = F.col(name)
    return F.when(~value.isin(*null_values), value).alias(name) if null_values else value


def _filled(read: frozenset[str], names: Sequence[str]) -> Column:
    tests = [F.col(n).isNotNull() for n in sorted(read) if n in names]
    return reduce(lambda a, b: a | b, tests, F.lit(False))


def _canonical(name: str, kind: str, is_mapped: bool, feed: Feed, contract: Contract) -> Column:
    if not is_mapped:
        return F.lit(None).cast(kind).alias(name)
    value = F.col(f"c__{name}")
    if kind == "string":
        value = F.trim(value)
        value = F.when(value != "", value)
        if feed.id_prefix and name in (contract.property("idPrefixed") or ()):
            value = F.concat(F.lit(feed.id_prefix), value)
    return value.alias(name)
