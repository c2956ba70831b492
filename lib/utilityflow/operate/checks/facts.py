"""Invariants 6 and 8: facts find their members and keep their number; gold rows lead back to a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from utilityflow.gold import compliance, outages
from utilityflow.gold.changes import CUSTOMERS, Grain, final_states, identified, whole, with_keys
from utilityflow.gold.events import EVENT_FACTS, EventFact, event_facts
from utilityflow.gold.facts import EARLY
from utilityflow.gold.replacing import differing
from utilityflow.gold.suspects import with_suspects
from utilityflow.gold.usage import GRAIN as USAGE
from utilityflow.gold.usage import LOOKED_UP
from utilityflow.operate.checks.base import Check, Evidence, Found, rows_of, together
from utilityflow.operate.scene import Scene
from utilityflow.scd2 import UNKNOWN_KEY, Dimension, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, Row

    from utilityflow.contracts import Contract


def foreign_keys_exist(evidence: Evidence) -> Found:
    """Every foreign key of every fact is not null and exists."""
    return together(
        _orphans(evidence.scene, contract, column, reference)
        for contract in evidence.scene.contracts.of_layer("gold")
        for column, reference in (contract.property("foreignKeys") or {}).items()
        if evidence.scene.house.table(contract.name).version() > 0
    )


def _orphans(scene: Scene, contract: Contract, column: str, reference: str) -> Found:
    other, _, key = reference.rpartition(".")
    orphans = without_member(scene.house.table(contract.name).read(), column, scene.house.table(other).read(), key)
    name = contract.primary_key[0]
    return rows_of(orphans, lambda r: f"{contract.name} {r[name]}: {column} {r[column]} is not in {other}")


def without_member(facts: DataFrame, column: str, members: DataFrame, key: str) -> DataFrame:
    """Facts whose key is null or that the dimension does not have."""
    return facts.join(F.broadcast(members.select(F.col(key).alias(column))), column, "left_anti")


def _facts(scene: Scene) -> list[Grain]:
    """The fact tables that there are; one whose source has no rows yet has none."""
    every = (USAGE, *(fact.grain for fact in EVENT_FACTS))
    return [g for g in every if scene.house.table(g.name).version() > 0]


def one_fact_per_identity(evidence: Evidence) -> Found:
    """Each identity of the standing records has exactly one fact, and each fact names a record of its identity."""
    house = evidence.scene.house

    def found(grain: Grain) -> Found:
        source = house.table(grain.source)
        bad = unmatched(identified(source.read(), source.contract), house.table(grain.name).read(), grain.key)
        return rows_of(bad, lambda r: f"{grain.name} {r['key']}: {r['_what']}")

    return together(found(grain) for grain in _facts(evidence.scene))


def unmatched(reads: DataFrame, facts: DataFrame, key: str) -> DataFrame:
    """(key, ``_what``) of identities without exactly one fact, or whose fact names a record of another identity.

    :param key: the facts' primary key.
    """
    place = F.xxhash64("_file_sha256", "_row_number").alias("place")
    left = reads.select(F.col("_identity").alias("key"), place, F.lit(1).alias("s"), F.lit(0).alias("f"))
    right = facts.select(F.col(key).alias("key"), place, F.lit(0).alias("s"), F.lit(1).alias("f"))
    # one shuffle by key serves both groupings
    by_place = (
        left.unionByName(right)
        .repartition("key")
        .groupBy("key", "place")
        .agg(F.sum("s").alias("s"), F.sum("f").alias("f"))
    )
    by_key = by_place.groupBy("key").agg(
        F.sum("s").alias("reads"),
        F.sum("f").alias("facts"),
        F.sum(F.when(F.col("s") == 0, F.col("f")).otherwise(0)).alias("strange"),
    )
    what = (
        F.when(F.col("reads") == 0, "the fact has no standing record")
        .when(F.col("facts") == 0, "the records have no fact")
        .when(
            F.col("facts") > 1,
            F.concat(F.lit("there are "), F.col("facts").cast("string"), F.lit(" facts of one identity")),
        )
        .when(F.col("strange") > 0, "the fact names a record that is not one of its own")
    )
    return by_key.select("key", what.alias("_what")).where(F.col("_what").isNotNull())


def lookups_are_right(evidence: Evidence) -> Found:
    """The keys of each fact are those of the versions valid on its day; a flag says when it lies before all of the customer's."""
    house = evidence.scene.house
    names = {USAGE.name: LOOKED_UP} | {spec.grain.name: spec.dimensions for spec in EVENT_FACTS}

    def found(grain: Grain, name: str) -> Found:
        dim = house.table(name)
        dimension = Dimension.from_contract(dim.contract)
        bad = with_other_version(house.table(grain.name).read(), dim.read(), dimension, grain, flagged=name == CUSTOMERS)
        key = dimension.surrogate_key

        def say(row: Row) -> str:
            return f"{grain.name} {row[grain.key]}: {key} {row['_held']}, the version of its day is {row[key]}"

        return rows_of(bad, say)

    return together(found(grain, name) for grain in _facts(evidence.scene) for name in names[grain.name])


def with_other_version(facts: DataFrame, dim: DataFrame, dimension: Dimension, grain: Grain, *, flagged: bool) -> DataFrame:
    """Facts whose key of a dimension (as ``_held``), or whose flag of an early fact, is not what the lookup gives.

    :param flagged: the fact's flags tell of this lookup.
    """
    d = dimension
    dated = facts.select(
        grain.key, *d.key, *([grain.first_day] if grain.first_day else []),
        F.to_date(F.col("date_key").cast("string"), "yyyyMMdd").alias("_day"),
        F.col(d.surrogate_key).alias("_held"), F.array_contains("quality_flags", EARLY).alias("_flagged"),
    )  # fmt: skip
    found = version_of(dated, dim, d, day="_day", first_day=grain.first_day)
    other = ~F.col("_held").eqNullSafe(F.col(d.surrogate_key))
    return found.where(other | (F.col("_flagged") != F.col(EARLY)) if flagged else other)


def outages_equal_their_rebuild(evidence: Evidence) -> Found:
    """fact_outage is what the final states of all standing records and the network's history give."""
    scene = evidence.scene
    fact, points = scene.house.table(outages.NAME), scene.house.table(outages.POINTS)
    if fact.version() <= 0:
        return Found()
    wanted = outages.outage_facts(
        outages.standing_steps(scene.house.table(outages.OUTAGES).read()), points.read(), fact.contract,
        Dimension.from_contract(points.contract), scene.settings.reliability.momentary_minutes,
    )  # fmt: skip
    return _not_rebuilt(fact.read(), wanted, fact.contract)


def filings_equal_their_rebuild(evidence: Evidence) -> Found:
    """fact_compliance is what the states of filings and the audit events give that stood when it was made."""
    house, told = evidence.scene.house, evidence.scene.consumed.get(compliance.NAME)
    fact = house.table(compliance.NAME)
    if fact.version() <= 0 or not told:  # none told: rolled back to where it had not been made
        return Found()
    filings, audits = (house.table(n).read(told[n]) for n in (compliance.FILINGS, compliance.AUDITS))
    return _not_rebuilt(fact.read(), compliance.compliance_facts(filings, audits, fact.contract), fact.contract)


def events_equal_their_rebuild(evidence: Evidence) -> Found:
    """Each fact of an event is what the final of its standing states and its dimensions' history, as it was made, give."""
    scene = evidence.scene
    names = [g.name for g in _facts(scene) if scene.consumed.get(g.name)]  # none told: rolled back to where it had not been made
    return together(_events(scene, spec) for spec in EVENT_FACTS if spec.grain.name in names)


def _events(scene: Scene, spec: EventFact) -> Found:
    house, told = scene.house, scene.consumed[spec.grain.name]
    fact, source = (house.table(n) for n in (spec.grain.name, spec.grain.source))
    final = final_states(identified(source.read(told[source.name]), source.contract), "_identity")
    rows = whole(event_facts(final, spec, source.contract), fact.contract)
    tables = {n: house.table(n) for n in spec.dimensions if n in told}  # of one with a key that it has gained nothing is told yet
    members = {n: (t.read(told[n]), Dimension.from_contract(t.contract)) for n, t in tables.items()}
    wanted = with_keys(rows, members, fact.contract.column_names)
    if spec.suspects and told.get("contract") == fact.contract.version:  # else the column was gained and nothing fills it yet
        wanted = with_suspects(wanted, spec.grain.key)
    return _not_rebuilt(fact.read(), wanted, fact.contract)


def _not_rebuilt(facts: DataFrame, wanted: DataFrame, contract: Contract) -> Found:
    said = {"I": "is missing", "D": "has no standing state", "U": "is not what its final state gives"}
    key = contract.primary_key[0]
    return rows_of(differing(facts, wanted, key), lambda r: f"{contract.name} {r[key]}: {said[r['_action']]}")


def rows_lead_to_bronze(evidence: Evidence) -> Found:
    """The file and the record that a gold row names are in bronze; only reserved and inferred members name none."""
    files: dict[str, tuple[int, bool]] = {}
    for (_, sha), found in evidence.bronze.items():
        files[sha] = max(files.get(sha, (0, True)), (found.rows, found.dense))
    house = evidence.scene.house
    contracts = [c for c in evidence.scene.contracts.of_layer("gold") if "_file_sha256" in c.column_names]
    return together(_leads(evidence, c, files) for c in contracts if house.table(c.name).version() > 0)


def _leads(evidence: Evidence, contract: Contract, files: Mapping[str, tuple[int, bool]]) -> Found:
    key = contract.primary_key[0]
    bad = _leading_nowhere(evidence, evidence.scene.house.table(contract.name).read(), files)
    if contract.property("scd2"):
        inferred = Dimension.from_contract(contract).inferred
        bad = bad.where(~(F.col("_file_sha256").isNull() & (F.col(inferred) | (F.col(key) == UNKNOWN_KEY))))

    def say(row: Row) -> str:
        place = f"record {row['_row_number']} of sha256 {str(row['_file_sha256'])[:12]}"
        return f"{contract.name} {row[key]}: {place} is not in bronze"

    return rows_of(bad, say)


def _leading_nowhere(evidence: Evidence, rows: DataFrame, files: Mapping[str, tuple[int, bool]]) -> DataFrame:
    """Rows whose record is not in bronze. Where a file's records are numbered 1 to n, a number within is there."""
    spark = evidence.scene.house.spark
    known = spark.createDataFrame(
        [(s, n) for s, (n, dense) in files.items() if dense], "_file_sha256 string, _most bigint"
    )
    away = rows.join(F.broadcast(known), "_file_sha256", "left").where(
        F.col("_most").isNull() | F.col("_row_number").isNull() | ~F.col("_row_number").between(1, F.col("_most"))
    )
    loose = {sha for sha, (_, dense) in files.items() if not dense}
    for feed in sorted({feed for feed, sha in evidence.bronze if sha in loose}):
        bronze = evidence.scene.house.table(f"bronze.{feed}").read().where(F.col("_file_sha256").isin(*loose))
        away = away.join(bronze.select("_file_sha256", "_row_number"), ["_file_sha256", "_row_number"], "left_anti")
    return away


CHECKS = (
    Check("facts.members", 6, "every foreign key of a fact is not null and exists", foreign_keys_exist),
    Check(
        "facts.count",
        6,
        "each identity of the standing records has exactly one fact, made of one of its records",
        one_fact_per_identity,
    ),
    Check("facts.version", 6, "each fact has the keys of the versions valid on its day", lookups_are_right),
    Check("facts.outages", 6, "each restoration step has the fact that its final state gives", outages_equal_their_rebuild),
    Check("facts.filings", 6, "each filing has the fact that its states and its audit events give", filings_equal_their_rebuild),
    Check("facts.events", 6, "each bill line, payment and request has the fact that its final state gives",
          events_equal_their_rebuild, slow=True),
    Check("lineage.bronze", 8, "each gold row's file and record are in bronze", rows_lead_to_bronze),
)
