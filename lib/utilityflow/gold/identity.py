"""customer_identity: which customer an account, or a customer's number, means that a feed names, and by which rule.

Rules, columns and what a conflict is: schemas/gold/customer_identity.yaml; why it stands in gold: docs/decisions/019. Frames are
those of silver tables, by name; tables that a home does not have are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.gold.dimensions import members_named
from utilityflow.gold.replacing import replace
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN, local_day

if TYPE_CHECKING:
    from utilityflow.contracts import Contract

NAME = "gold.customer_identity"
CUSTOMERS, ACCOUNTS, AGREEMENTS = "silver.customers", "silver.accounts", "silver.service_agreements"
BILLS, PAYMENTS = "silver.bills", "silver.payments"
# silver table that names accounts and customers -> the day of a record; None: a change event, the day from which it holds
SOURCES: Mapping[str, str | None] = {
    ACCOUNTS: None, AGREEMENTS: None, "silver.service_points": None, BILLS: "bill_date", PAYMENTS: "received_date",
    "silver.service_requests": "opened_date",
}  # fmt: skip
KINDS: Mapping[str, str] = {"account": "account_id", "customer": "customer_id"}
RULES = ("named", "account", "bill")  # the strongest first
_PLACE = ("_file_sha256", "_row_number")


def run_customer_identity(run: Run, inputs: Sequence[str]) -> StepResult:
    """Make the crosswalk anew, and write the rows that differ.

    :param inputs: the customers, and those of SOURCES that the home has.
    """
    house, table = run.house, run.house.table(NAME)
    now = {n: house.table(n).version() for n in inputs}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: looking whom accounts and numbers mean", step=NAME)
    frames = {n: house.table(n).read(now[n]) for n in inputs}
    every = run.staged(mentioned(frames, run.zone), "identity_mentioned")  # the records are read once, asked of often
    rows = identities(frames, every, table.contract)
    written = replace(run, table, table.read(), rows, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)


def identities(frames: Mapping[str, DataFrame], every: DataFrame, contract: Contract) -> DataFrame:
    """Rows of the table.

    :param frames: rows of silver.customers and of SOURCES. :param every: what they name, as ``mentioned`` gives it.
    """
    evidence = {"account": _of_accounts(frames, every), "customer": _of_customers(frames[CUSTOMERS], every)}
    parts = [_judged(_seen(every, k), found).withColumn("identifier_kind", F.lit(k)) for k, found in evidence.items()]
    rows = _united(parts).withColumnRenamed("_feed", "feed")
    key = hash64(contract, ["feed", "identifier_kind", "identifier"], domain="customer_identity")
    return rows.withColumn(contract.primary_key[0], key).select(*contract.column_names)


def mentioned(frames: Mapping[str, DataFrame], zone: str) -> DataFrame:
    """Each account with the customer that records of a source and feed name beside it, either of them null where none is.

    With ``records``, ``first_seen``, ``last_seen`` and ``_last``, day and place of the newest record.

    :param frames: rows of SOURCES, others are left out. :param zone: in which the days of change events are cut.
    """
    told = [_mentions(frames[n], day, zone).withColumn("_source", F.lit(n)) for n, day in SOURCES.items() if n in frames]
    return _united(told).groupBy("_source", "_feed", *KINDS.values()).agg(
        F.count(F.lit(1)).alias("records"), F.min("_day").alias("first_seen"), F.max("_day").alias("last_seen"),
        F.max(F.struct("_day", *_PLACE)).alias("_last"),
    )  # fmt: skip


def _judged(seen: DataFrame, evidence: DataFrame) -> DataFrame:
    """Identifiers with ``candidates``, ``rule`` and ``customer_id``: that of all evidence, if it agrees.

    :param evidence: ``_feed``, ``identifier``, ``customer_id`` and ``_rank``, the place of the rule among RULES.
    """
    by = ["_feed", "identifier"]
    names = F.array_sort(F.collect_set("customer_id")).alias("candidates")
    found = evidence.groupBy(*by).agg(names, F.min("_rank").alias("_rank"))
    nobody = F.array().cast("array<string>")
    rules = ", ".join(f"'{rule}'" for rule in RULES)
    return seen.join(found, by, "left").withColumns({
        "candidates": F.coalesce("candidates", nobody),
        "customer_id": F.expr("IF(size(candidates) = 1, element_at(candidates, 1), NULL)"),
        "rule": F.expr(f"""CASE WHEN candidates IS NULL THEN 'unmatched' WHEN size(candidates) > 1 THEN 'conflict'
            ELSE element_at(array({rules}), _rank + 1) END"""),
    }).drop("_rank")  # fmt: skip


def _mentions(rows: DataFrame, day: str | None, zone: str) -> DataFrame:
    """Records of a source that tell of something: feed, account and customer (null where it names none), day, place.

    :param day: as SOURCES says it. Deletions tell of nobody.
    """
    standing = rows if day else rows.where("operation = 'upsert'")
    when = F.col(day) if day else local_day(F.col("effective_at"), zone)
    return standing.select("_feed", *KINDS.values(), when.alias("_day"), *_PLACE)


def _seen(every: DataFrame, kind: str) -> DataFrame:
    """Each identifier of a kind by feed: in how many records, on which first and last day, and the newest record's place."""
    told = members_named(every, KINDS[kind], "identifier", "_feed", "records", "first_seen", "last_seen", "_last")
    rows = told.groupBy("_feed", "identifier").agg(
        F.sum("records").alias("records"), F.min("first_seen").alias("first_seen"), F.max("last_seen").alias("last_seen"),
        F.max("_last").alias("_last"),
    )  # fmt: skip
    return rows.withColumns({n: F.col(f"_last.{n}") for n in _PLACE}).drop("_last")


def _of_accounts(frames: Mapping[str, DataFrame], every: DataFrame) -> DataFrame:
    """Customers that something says an account of a feed means: feed, identifier, customer_id, ``_rank`` of the rule."""
    met = members_named(every, "account_id", "identifier", "_feed").distinct()
    found = [_pairs(every, "_feed").withColumn("_rank", F.lit(0))]
    for rank, tables in ((1, (ACCOUNTS, AGREEMENTS)), (2, (BILLS,))):
        masters = _pairs(every.where(F.col("_source").isin(*tables)))
        found.append(met.join(masters, "identifier").withColumn("_rank", F.lit(rank)))
    if BILLS in frames and PAYMENTS in frames:
        billed = frames[BILLS].where("customer_id IS NOT NULL").select("bill_id", F.col("customer_id").alias("_payer"))
        paid = frames[PAYMENTS].join(billed.distinct(), "bill_id")
        paid = paid.select("_feed", "account_id", F.col("_payer").alias("customer_id"))
        found.append(_pairs(paid, "_feed").withColumn("_rank", F.lit(2)))
    return _united(found)


def _of_customers(customers: DataFrame, every: DataFrame) -> DataFrame:
    """Customers' own numbers mean those whom customer management knows under them: as ``_of_accounts`` gives it."""
    known = customers.where("operation = 'upsert'").select(F.col("customer_id").alias("identifier")).distinct()
    met = members_named(every, "customer_id", "identifier", "_feed").distinct().join(known, "identifier")
    return met.select("_feed", "identifier", F.col("identifier").alias("customer_id"), F.lit(0).alias("_rank"))


def _pairs(rows: DataFrame, *more: str) -> DataFrame:
    """Accounts and the customers named beside them, without repeats."""
    pairs = members_named(rows.where(F.col("customer_id") != UNKNOWN), "account_id", "identifier", "customer_id", *more)
    return pairs.select(*more, "identifier", "customer_id").distinct()


def _united(frames: Sequence[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, frames)
