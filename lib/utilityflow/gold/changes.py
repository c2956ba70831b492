"""What all facts share: which find another version of a member, which differ from what stands, and how they are written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract, sql_text
from utilityflow.control.run import Run
from utilityflow.gold.days import day_of, number
from utilityflow.gold.facts import EARLY, with_customer
from utilityflow.lakehouse import Table
from utilityflow.scd2 import (
    UNKNOWN_KEY,
    Dimension,
    affected_intervals,
    concerned,
    histories,
    version_of,
    version_of_known,
)
from utilityflow.silver.judging import identity_hash

CUSTOMERS = "gold.dim_customer"
METERS = "gold.dim_meter"  # holds each that a read names, mostly with one version
# dimension by name: its versions, as far as a lookup reads them (of METERS as ``histories`` gives them)
Members = Mapping[str, tuple[DataFrame, Dimension]]
MANY_ROWS = 1_000_000  # so many keys (8 bytes each) are broadcast


@dataclass(frozen=True)
class Grain:
    """How the rows of a fact table are found.

    ``source``: its silver table. ``key``: its primary key, the identity of the source's records. ``place``: the column by
    whose values files are skipped: months as text, or days as yyyymmdd. ``first_day``: its DATE column that a customer may
    be looked up by where the fact's day finds none.
    """

    name: str
    source: str
    key: str
    place: str
    first_day: str | None = None

    def at(self, places: Sequence[Any], alias: str = "") -> str:
        """SQL condition for the rows at these places: one of the months, or any day from the first to the last."""
        column = f"{alias}{self.place}"
        if all(isinstance(p, str) for p in places):
            return f"{column} IN ({', '.join(sql_text(p) for p in sorted(places))})"
        return f"{column} BETWEEN {int(min(places))} AND {int(max(places))}"


def latest_first() -> tuple[Column, ...]:
    """What a source told of one thing, the final first: greatest ``updated_at`` (null last), newest file, later record."""
    return F.desc_nulls_last("updated_at"), F.desc("_batch_id"), F.desc("_row_number")


def final_states(records: DataFrame, *by: str) -> DataFrame:
    """The final record of each thing, the first by ``latest_first``. :param by: columns that name the thing."""
    ranked = records.withColumn("_rank", F.row_number().over(Window.partitionBy(*by).orderBy(*latest_first())))
    return ranked.where("_rank = 1").drop("_rank")


def identified(records: DataFrame, contract: Contract) -> DataFrame:
    """Records of a silver table, or its changes, with ``_identity``, the key of their fact, also where it is not stored.

    :param contract: of the silver table.
    """
    return records if "_identity" in records.columns else records.withColumn("_identity", identity_hash(contract))


def dimension_of(run: Run, name: str) -> Dimension:
    """The dimension with history of a gold table."""
    return Dimension.from_contract(run.house.contracts[name])


def versions_at(run: Run, dimension: str, version: int) -> DataFrame:
    """The versions of all members, as far as a lookup reads them: key, surrogate key, from, to. Read once in a run."""
    d, name = dimension_of(run, dimension), f"{dimension.partition('.')[2]}_{version}"
    shape = [*d.key, d.surrogate_key, d.valid_from, d.valid_to]
    return run.once(name, lambda: run.staged(run.house.table(dimension).read(version).select(*shape), name))


def members_at(run: Run, dimensions: Iterable[str], now: Mapping[str, int]) -> Members:
    """What ``with_keys`` looks up in. :param now: the dimensions' versions."""
    look = {METERS: _histories_at}
    return {name: (look.get(name, versions_at)(run, name, now[name]), dimension_of(run, name)) for name in dimensions}


def _histories_at(run: Run, dimension: str, version: int) -> DataFrame:
    """``histories`` of all members, found once in a run."""
    name = f"{dimension.partition('.')[2]}_histories_{version}"

    def find() -> DataFrame:
        return run.staged(histories(versions_at(run, dimension, version), dimension_of(run, dimension)), name)

    return run.once(name, find)


def with_keys(rows: DataFrame, members: Members, columns: Sequence[str], kinds: Collection[str] = ()) -> DataFrame:
    """Fact rows with the key of each of these dimensions, in the contract's columns; other keys stay as they are.

    It is the key of the version valid on the fact's day, the first one's before that, -1 in a gap and for no or an unknown
    member. Flags tell of the customer's lookup alone.

    :param rows: facts with ``usage_date``, which name members as the dimensions do. :param kinds: as ``with_customer`` has it.
    """
    for name, (versions, dimension) in members.items():
        if name == METERS:
            first_day = "period_start" if "period" in kinds else None
            rows = version_of_known(rows, versions, dimension, day="usage_date", first_day=first_day)
        elif name != CUSTOMERS:
            rows = version_of(rows, versions, dimension, day="usage_date").drop(EARLY)
    if CUSTOMERS not in members:
        return rows.select(*columns)
    return with_customer(rows, *members[CUSTOMERS], columns, kinds)


def whole(rows: DataFrame, contract: Contract) -> DataFrame:
    """The rows with the columns that the contract gained later and nothing fills yet, null."""
    later = [c for c in contract.columns if c.added and c.name not in rows.columns]
    return rows.withColumns({c.name: F.lit(None).cast(c.type) for c in later}) if later else rows


def dated(facts: DataFrame) -> DataFrame:
    """With ``usage_date``, the fact's day."""
    return facts.withColumn("usage_date", day_of("date_key"))


# -- another version of a member -------------------------------------------------------------------------------------


def rekeyed(run: Run, grain: Grain, version: int, was: Mapping[str, Any], now: Mapping[str, int],
            dimensions: Sequence[str] = (CUSTOMERS,)) -> DataFrame:  # fmt: skip
    """Facts that find another version of a member now, as ``differing`` gives them.

    Looked up again are those in the intervals in which a history changed, in the dimensions of which it did. They are searched
    in narrow columns, from the first day of an interval on; whole rows are read at their places only.

    :param version: of the facts, before those of new days were added with their right keys.
    :param dimensions: those that have another version now.
    """
    fact = run.house.table(grain.name)
    columns, facts = fact.contract.column_names, fact.read(version)
    found = {name: _hit(run, grain, facts, name, _moved_for(run, grain, name, was, now)) for name in dimensions}
    hits = {name: hit for name, hit in found.items() if hit is not None}
    every = reduce(DataFrame.unionByName, hits.values()) if hits else None
    every = every.distinct() if every is not None and len(hits) > 1 else every
    counts = {} if every is None else {r[0]: r[1] for r in every.groupBy(grain.place).count().collect()}
    if every is None or not counts:
        return facts.limit(0).select(*columns, F.lit("U").alias("_action"), F.col(grain.place).alias("_place"))
    keys = small(every.select(grain.key), sum(counts.values()))
    again = dated(facts.where(grain.at(list(counts)))).join(keys, grain.key, "left_semi")
    members = members_at(run, hits, now)
    looked_up = [*(dimension.surrogate_key for _, dimension in members.values()), "quality_flags"]
    was_found = {f"_was_{n}": F.col(n) for n in looked_up}
    kinds = ("period",) if grain.first_day else ()
    rows = with_keys(again.withColumns(was_found), members, [*columns, *was_found], kinds)
    moved = rows.where(" OR ".join(f"{n} <> _was_{n}" for n in looked_up))
    return moved.select(*columns, F.lit("U").alias("_action"), F.col(grain.place).alias("_place"))


@dataclass(frozen=True)
class _Moved:
    """Where the history of a dimension changed between two versions: ``intervals`` as ``affected_intervals`` gives them,
    ``held`` the surrogate keys that those members had before (and -1), ``first`` the first day of an interval; None: nothing
    moved.
    """  # noqa: D205

    intervals: DataFrame
    held: DataFrame
    first: dt.date | None


def _moved_for(run: Run, grain: Grain, name: str, was: Mapping[str, Any], now: Mapping[str, int]) -> _Moved:
    """What moved in a dimension since the facts were made."""
    # made for the same records, the dimension held each member that a fact names, an inferred one at least
    made_for = run.house.table(name).note(was[name]).get("consumed", {}).get(grain.source)
    return _moved(run, name, was[name], now[name], complete=made_for == was.get(grain.source))


def _moved(run: Run, name: str, since: int, until: int, *, complete: bool) -> _Moved:
    """What moved, found once in a run for all facts.

    :param complete: the dimension held each member that a fact names; so a member that is new to it is named by none of them.
    """
    d, table = dimension_of(run, name), name.partition(".")[2]

    def find() -> _Moved:
        before, after = versions_at(run, name, since), versions_at(run, name, until)
        # a row that stands in one of the two versions only was made, moved or taken away
        alone = before.unionByName(after).groupBy(*before.columns).agg(F.count("*").alias("n")).where("n = 1")
        names = alone.select(*d.key).distinct()
        names = names.join(before.select(*d.key), list(d.key), "left_semi") if complete else names
        names = run.staged(names, f"{table}_moved_keys")
        own = [f.join(F.broadcast(names), list(d.key), "left_semi") for f in (before, after)]
        intervals = run.staged(affected_intervals(own[0], own[1], d), f"{table}_moved_intervals")
        nobody = F.lit(UNKNOWN_KEY).cast("bigint").alias(d.surrogate_key)
        held = own[0].select(d.surrogate_key).unionByName(run.house.spark.range(1).select(nobody))
        first = intervals.agg(F.min("affected_from")).collect()[0][0]
        return _Moved(intervals, run.staged(held, f"{table}_moved_held"), first)

    return run.once(f"{table}_moved_{since}_{until}_{complete}", find)


def _hit(run: Run, grain: Grain, facts: DataFrame, name: str, moved: _Moved) -> DataFrame | None:
    """Key and place of the facts whose lookup in a dimension may have changed; None: of none."""
    if moved.first is None:
        return None
    d = dimension_of(run, name)
    # a period begins on its day or before it, so a fact in the interval by either has its day after the interval's beginning
    since = F.col("date_key") >= number(moved.first)
    if grain.place == "billing_period":
        since = since & (F.col(grain.place) >= f"{moved.first:%Y-%m}")
    days = [grain.first_day] if grain.first_day else []
    wanted = dict.fromkeys([grain.key, grain.place, "date_key", *days, *d.key, d.surrogate_key])
    theirs = facts.where(since).select(*wanted)
    theirs = theirs.join(F.broadcast(moved.held), d.surrogate_key, "left_semi")  # numbers are compared before texts
    hit = concerned(dated(theirs), F.broadcast(moved.intervals), d, day="usage_date", first_day=grain.first_day)
    return run.staged(hit.select(*dict.fromkeys([grain.key, grain.place])), f"{grain.name.partition('.')[2]}_hit")


# -- what differs, and its writing -----------------------------------------------------------------------------------


def differing(grain: Grain, present: DataFrame, wanted: DataFrame, gone: DataFrame | None, columns: Sequence[str]) -> DataFrame:
    """Complete rows: ``_action`` I of those that the table lacks, U of those that it holds otherwise, D of those that must go.

    ``_place``: where the table holds the row (a day's total that became a billed period of one day ends on the next day,
    which may be of another month).

    :param gone: keys of the facts that must go; None: of none.
    """
    others = [n for n in columns if n != grain.key]
    held = present.join(small(wanted.select(grain.key)), grain.key, "left_semi")
    old = held.select(grain.key, *[F.col(n).alias(f"_old_{n}") for n in others], F.lit(True).alias("_held"))
    differs = F.expr(" OR ".join(f"NOT ({n} <=> _old_{n})" for n in others))
    compared = wanted.join(old, grain.key, "left").where(F.col("_held").isNull() | differs)
    action, place = F.expr("IF(_held, 'U', 'I') AS _action"), F.col(f"_old_{grain.place}").alias("_place")
    changed = compared.select(*columns, action, place)
    if gone is None or gone.isEmpty():  # most often; finding none would read the table once more
        return changed
    dead = present.join(F.broadcast(gone), grain.key, "left_semi")
    return changed.unionByName(dead.select(*columns, F.lit("D").alias("_action"), F.col(grain.place).alias("_place")))


def write(grain: Grain, fact: Table, changed: DataFrame, now: Mapping[str, int]) -> int:
    """Append the facts that the table lacks, replace and delete the others; returns their number.

    Only the last commit says what was consumed: a run that died between them finds the appended facts equal.
    """
    counted = [tuple(row) for row in changed.groupBy("_action", "_place").count().collect()]
    lacking = sum(count for action, _, count in counted if action == "I")
    places = sorted({place for action, place, _ in counted if action != "I"})
    if lacking:
        rows = changed.where("_action = 'I'").select(*fact.contract.column_names)
        fact.append(rows, note={} if places else {"consumed": now}, rows_expected=lacking)
    if places:
        fact.merge(
            changed.where("_action <> 'I'"),
            on=f"target.{grain.key} = source.{grain.key} AND {grain.at(places, 'target.')}",
            clauses="WHEN MATCHED AND source._action = 'D' THEN DELETE WHEN MATCHED THEN UPDATE SET *",
            note={"consumed": now},
        )
    return sum(int(count) for _, _, count in counted)


def small(keys: DataFrame, number: int | None = None) -> DataFrame:
    """Few keys are broadcast, so that the table is not shuffled to find their rows.

    :param number: of the keys; None: they are counted, as far as it matters.
    """
    number = keys.limit(MANY_ROWS + 1).count() if number is None else number
    return F.broadcast(keys) if number <= MANY_ROWS else keys
