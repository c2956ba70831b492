"""Entities, and how the raw rows of a feed become judged rows of one: typed, conformed, every rule evaluated once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.ingest import number_of
from utilityflow.bronze.records import EXPLAINED, PROBLEM
from utilityflow.contracts import Contract, sql_text
from utilityflow.control.ledger import Entry
from utilityflow.control.run import Run
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.keys import hash64
from utilityflow.lakehouse import Table
from utilityflow.quality.rules import Rule, broken_rules, contract_rules, conversion_rules, judge, reasons
from utilityflow.silver import (
    accounts,
    audit_events,
    bills,
    compliance_filings,
    customers,
    meter_reads,
    meters,
    outages,
    payments,
    rate_schedules,
    reliability_filings,
    service_agreements,
    service_points,
    service_requests,
    snapshots,
    utilities,
)
from utilityflow.silver.typed import check_mapping, typed


@dataclass(frozen=True)
class Entity:
    """How an entity is made: the columns that feeds fill and the function that conforms typed rows.

    ``day``: the DATE column in which equal records agree, by which they are looked for in few files; None: in all.
    """

    name: str
    filled: tuple[str, ...]
    conform: Callable[[DataFrame, Collection[str], str], DataFrame]
    day: str | None = None


ENTITIES = {
    "accounts": Entity("accounts", accounts.FILLED, accounts.conform),
    "audit_events": Entity("audit_events", audit_events.FILLED, audit_events.conform, audit_events.DAY),
    "bills": Entity("bills", bills.FILLED, bills.conform, bills.DAY),
    "compliance_filings": Entity(
        "compliance_filings", compliance_filings.FILLED, compliance_filings.conform, compliance_filings.DAY
    ),
    "customers": Entity("customers", customers.FILLED, customers.conform),
    "meter_reads": Entity("meter_reads", meter_reads.FILLED, meter_reads.conform, meter_reads.DAY),
    "meters": Entity("meters", meters.FILLED, meters.conform),
    "outages": Entity("outages", outages.FILLED, outages.conform, outages.DAY),
    "payments": Entity("payments", payments.FILLED, payments.conform, payments.DAY),
    "rate_schedules": Entity("rate_schedules", rate_schedules.FILLED, rate_schedules.conform),
    "reliability_filings": Entity("reliability_filings", reliability_filings.FILLED, reliability_filings.conform),
    "service_agreements": Entity("service_agreements", service_agreements.FILLED, service_agreements.conform),
    "service_points": Entity("service_points", service_points.FILLED, service_points.conform),
    "service_requests": Entity(
        "service_requests", service_requests.FILLED, service_requests.conform, service_requests.DAY
    ),
    "utilities": Entity("utilities", utilities.FILLED, utilities.conform),
}


def tables_of_entity(entity: str) -> list[str]:
    """Names of an entity's two tables: its rows and its quarantine."""
    return [f"silver.{entity}", f"silver.{entity}__quarantine"]


def check_feeds(run_feeds: Mapping[str, Feed], contracts: Mapping[str, Contract]) -> None:
    """Every feed fits its entity, before anything is read.

    :raises UtilityFlowError: UF-1012 or UF-1011 naming feed and column.
    """
    for feed in run_feeds.values():
        if feed.entity not in ENTITIES:
            raise UtilityFlowError(
                "UF-1012", f"{feed.source}: there is no entity '{feed.entity}'", hint=nearest(feed.entity, ENTITIES)
            )
        contract = contracts[f"silver.{feed.entity}"]
        check_mapping(feed, contract, _filled(ENTITIES[feed.entity], contract))


def _filled(entity: Entity, contract: Contract) -> list[str]:
    """Columns that feeds fill: those of the entity, and those that its contract gained later."""
    return [*entity.filled, *[c.name for c in contract.columns if c.added and c.name not in entity.filled]]


def raw_rows(run: Run, feed: Feed, entries: Sequence[Entry]) -> DataFrame:
    """Bronze rows of some standing files of one feed; ``_batch_id``: the ledger number of each file's application."""
    raw = run.house.table(f"bronze.{feed.feed}").read().where(_content_of(entries))
    # the numbers under which bronze appended them are those, unless the content was applied again since
    return raw if all(e.appended for e in entries) else raw.withColumn("_batch_id", number_of(entries))


def judged(
    run: Run, feed: Feed, entries: Sequence[Entry], raw: DataFrame | None = None
) -> tuple[DataFrame, list[Rule]]:
    """Judged rows of some standing files of one feed, and the rules that judged them.

    Columns: the contract's, the masks of the rules (quality.rules), ``_record`` (struct of raw columns), PROVENANCE;
    ``_batch_id`` is the ledger number of each file's present application. Of a snapshot feed each record comes once for each
    snapshot that it is of (silver.snapshots), with ``_place`` and ``_at``.

    :param raw: those of ``raw_rows`` to judge; None: all.
    """
    entity = ENTITIES[feed.entity]
    contract = run.house.contracts[f"silver.{feed.entity}"]
    raw = raw_rows(run, feed, entries) if raw is None else raw
    carried = snapshots.CARRIED if feed.mode == "snapshot" else ()
    raw = snapshots.spread(raw, snapshots.of(entries)) if carried else raw
    frame = typed(run.house.spark, raw, feed, contract, _filled(entity, contract), run.zone, carried)
    mapped = set(feed.expressions())
    frame = entity.conform(frame, mapped, run.zone)
    if carried:
        frame = snapshots.placed(frame)
        frame = frame.withColumn("effective_at", F.coalesce("effective_at", "_at"))
    rules = _rules(run, contract, entity, mapped)
    said = record_hash(contract, of_snapshot=feed.mode == "snapshot")
    if feed.duplicate_keys != "keep":
        frame, rule = snapshots.taken(frame, contract.property("identity"), said, feed.duplicate_keys)
        rules.append(rule)
    frame = judge(frame, rules)
    hashes = {"_record_hash": said}
    if "_identity" in contract.column_names:
        hashes["_identity"] = identity_hash(contract)
    return frame.withColumns(hashes), rules


def _rules(run: Run, contract: Contract, entity: Entity, mapped: Collection[str]) -> list[Rule]:
    derived = [n for n in ("period_kind",) if n in contract.column_names]
    rules = conversion_rules(sorted(mapped)) + contract_rules(contract, run.zone, [*_filled(entity, contract), *derived])
    if "sequence" in mapped:
        missing = "sequence IS NULL"
        rules.append(Rule("required:sequence", "completeness", "error", "", "sequence is missing", missing))
    return rules


def canonical_columns(contract: Contract) -> list[str]:
    """The columns in which equal records agree: all but flags, hashes and provenance."""
    return [n for n in contract.column_names if not n.startswith("_") and n != "quality_flags"]


def record_hash(contract: Contract, *, of_snapshot: bool = False, as_before: bool = False) -> Column:
    """BIGINT hash of a record's canonical columns; a snapshot's is compared only with its own records.

    :param as_before: without the columns that the contract gained: what the record's was, or would have been, before.
    """
    own = ["_file_sha256"] if of_snapshot else []
    later = [c.name for c in contract.columns if c.added]
    result = hash64(contract, [*[n for n in canonical_columns(contract) if n not in later], *own], domain="record")
    for name in later if not as_before else ():  # null, as in all records of before, it leaves the hash as it was
        said = F.when(F.col(name).isNull(), F.lit(0).cast("bigint")).otherwise(hash64(contract, [name], domain=name))
        result = result.bitwiseXOR(said)
    return result


def identity_hash(contract: Contract) -> Column:
    """BIGINT hash of the columns that say what a record speaks of; of reads it is the usage key of their fact."""
    return hash64(contract, contract.property("identity"), domain=contract.table)


def problem_of(feed: Feed) -> str | None:
    """SQL over judged rows of what the feed's parser says of a corrupt record; None where it says nothing."""
    return f"_record.{PROBLEM}" if feed.format in EXPLAINED else None


def quarantined(run: Run, feed: Feed, fence: Table, bad: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Judged rows that break an error rule, in the quarantine's shape: rules, reasons, raw record, where it came from."""
    contract = run.house.contracts[f"silver.{feed.entity}"]
    rows = bad.select(
        broken_rules(rules).alias("rules"), reasons(rules, problem_of(feed)).alias("reasons"),
        F.coalesce(F.col("_corrupt_record"), F.to_json("_record", {"ignoreNullFields": "false"})).alias("record"),
        F.lit(f"{contract.version}:{feed.definition_hash()[:16]}").alias("rule_set"),
        "_file_name", "_feed", "_file_sha256", "_row_number", "_batch_id",
    )  # fmt: skip
    return rows.select(*fence.contract.column_names)


def of_files(listed: Collection[int]) -> str:
    """SQL condition for the rows of these ledger numbers.

    Of up to ten values the engine makes comparisons with literals in the code that it generates, so each load would have its
    code compiled anew; a longer list is looked up. It is filled up with numbers that no file has, high ones: Delta skips the
    files of which all numbers are below the smallest.
    """
    fill = range(2**63 - 1 - max(11 - len(listed), 0), 2**63 - 1)
    return f"_batch_id IN ({', '.join(str(int(n)) for n in (*sorted(listed), *fill))})"


def _content_of(entries: Sequence[Entry]) -> str:
    """SQL condition for the bronze rows of these files.

    Where this run appended them all, by ledger number: Delta skips files by ranges only, and hashes range over everything, so
    that all of bronze would be read, and 64 characters be looked up for each row. A feed's bronze rows of one number are of one
    content: each commit gives each of its files the number of its entry, the ledger gives a number once, and what a run
    that died had appended is taken over before another number is given (``ingest.recover``) or left with a rollback. Content
    that came before (it was superseded, or taken over) stands under an older number, or one of a dead run.
    """
    if all(e.appended for e in entries):
        return of_files([e.number for e in entries])
    return f"_file_sha256 IN ({', '.join(sql_text(e.sha256) for e in entries)})"
