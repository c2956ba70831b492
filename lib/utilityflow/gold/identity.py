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
    rows = identities({n: house.table(n).read(now[n]) for n in inputs}, table.contract, run.zone)
    written = replace(run, table, table.read(), rows, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)


def identities(frames: Mapping[str, DataFrame], contract: Contract, zone: str) -> DataFrame:
    """Rows of the table.

    :param frames: rows of silver.customers and of SOURCES. :param zone: in which the days of change events are cut.
    """
    told = {n: mentions(frames[n], day, zone) for n, day in SOURCES.items() if n in frames}
    every = _united([t.select("_feed", *KINDS.values(), "_day", *_PLACE) for t in told.values()])
    evidence = {"account": _of_accounts(told, every), "customer": _of_customers(frames[CUSTOMERS], every)}
    parts = [_judged(_seen(every, k), found).withColumn("identifier_kind", F.lit(k)) for k, found in evidence.items()]
    rows = _united(parts).withColumnRenamed("_feed", "feed")
    key = hash64(contract, ["feed", "identifier_kind", "identifier"], domain="customer_identity")
    return rows.withColumn(contract.primary_key[0], key).select(*contract.column_names)


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


def mentions(rows: DataFrame, day: str | None, zone: str) -> DataFrame:
    """Records of a source that tell of something: feed, account, customer and bill (null where it names none), day, place.

    :param day: as SOURCES says it. Deletions tell of nobody.
    """
    bill = F.col("bill_id") if "bill_id" in rows.columns else F.lit(None).cast("string")
    standing = rows if day else rows.where("operation = 'upsert'")
    when = F.col(day) if day else local_day(F.col("effective_at"), zone)
    return standing.select("_feed", *KINDS.values(), bill.alias("bill_id"), when.alias("_day"), *_PLACE)


def _seen(every: DataFrame, kind: str) -> DataFrame:
    """Each identifier of a kind by feed: in how many records, on which first and last day, and the newest record's place."""
    rows = members_named(every, KINDS[kind], "identifier", "_feed", "_day", *_PLACE).groupBy("_feed", "identifier").agg(
        F.count(F.lit(1)).alias("records"), F.min("_day").alias("first_seen"), F.max("_day").alias("last_seen"),
        F.max(F.struct("_day", *_PLACE)).alias("_last"),
    )  # fmt: skip
    return rows.withColumns({n: F.col(f"_last.{n}") for n in _PLACE}).drop("_last")


def _of_accounts(told: Mapping[str, DataFrame], every: DataFrame) -> DataFrame:
    """Customers that something says an account of a feed means: feed, identifier, customer_id, ``_rank`` of the rule."""
    met = _seen(every, "account").select("_feed", "identifier")
    found = [_pairs(every, "_feed").withColumn("_rank", F.lit(0))]
    for rank, tables in ((1, (ACCOUNTS, AGREEMENTS)), (2, (BILLS,))):
        masters = [_pairs(told[n]) for n in tables if n in told]
        found += [met.join(pairs, "identifier").withColumn("_rank", F.lit(rank)) for pairs in masters]
    if BILLS in told and PAYMENTS in told:
        bills = told[BILLS].where("customer_id IS NOT NULL").select("bill_id", F.col("customer_id").alias("_payer")).distinct()
        paid = told[PAYMENTS].join(bills, "bill_id").select("_feed", "account_id", F.col("_payer").alias("customer_id"))
        found.append(_pairs(paid, "_feed").withColumn("_rank", F.lit(2)))
    return _united(found)


def _of_customers(customers: DataFrame, every: DataFrame) -> DataFrame:
    """Customers' own numbers mean those whom customer management knows under them: as ``_of_accounts`` gives it."""
    known = customers.where("operation = 'upsert'").select(F.col("customer_id").alias("identifier")).distinct()
    met = _seen(every, "customer").select("_feed", "identifier").join(known, "identifier")
    return met.select("_feed", "identifier", F.col("identifier").alias("customer_id"), F.lit(0).alias("_rank"))


def _pairs(rows: DataFrame, *more: str) -> DataFrame:
    """Accounts and the customers named beside them, without repeats."""
    pairs = members_named(rows.where(F.col("customer_id") != UNKNOWN), "account_id", "identifier", "customer_id", *more)
    return pairs.select(*more, "identifier", "customer_id").distinct()


def _united(frames: Sequence[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, frames)
