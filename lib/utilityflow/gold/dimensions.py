"""Dimensions with history, kept by the history engine: customers, accounts, agreements, points, meters, rates, utilities."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow.control.news import news
from utilityflow.control.run import Run, StepResult
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.scd2 import UNKNOWN, Dimension, apply
from utilityflow.session import local_frame
from utilityflow.silver.judging import ENTITIES

MEMBERS = {  # silver table -> its columns that name members of dimensions
    "silver.meter_reads": ("customer_id", "meter_id", "rate_schedule"),
    "silver.bills": ("customer_id", "account_id", "rate_schedule", "service_point_id"),
    "silver.outages": ("service_point_id",),
    "silver.payments": ("customer_id", "account_id"),
    "silver.service_requests": ("customer_id", "account_id"),
}
MEMBER_KEYS = {
    "gold.dim_account": "account_id",
    "gold.dim_customer": "customer_id",
    "gold.dim_meter": "meter_id",
    "gold.dim_service_point": "service_point_id",
    "gold.dim_rate_schedule": "rate_schedule",
    "gold.dim_service_agreement": "agreement_id",  # no other table names them
}
# dimension -> the silver table of its change events; one of which a fact has the key is there without it too
EVENTS = {
    "gold.dim_account": "silver.accounts",
    "gold.dim_customer": "silver.customers",
    "gold.dim_meter": "silver.meters",
    "gold.dim_service_point": "silver.service_points",
    "gold.dim_rate_schedule": "silver.rate_schedules",
    "gold.dim_service_agreement": "silver.service_agreements",
    "gold.dim_utility": "silver.utilities",
}
LATELY = dt.timedelta(days=62)  # a member that is still named is most often named in so many days before the as-of date


def run_dim_customer(run: Run) -> StepResult:
    """Keep dim_customer from the customers' change events and from the customers that standing records name."""
    return _keep(run, "gold.dim_customer")


def run_dim_meter(run: Run) -> StepResult:
    """Keep dim_meter from the meters' change events, where they have a feed, and from the meters that standing reads name."""
    return _keep(run, "gold.dim_meter")


def run_dim_service_point(run: Run) -> StepResult:
    """Keep dim_service_point from the service points' change events and from those that standing outages and bills name."""
    return _keep(run, "gold.dim_service_point")


def run_dim_rate_schedule(run: Run) -> StepResult:
    """Keep dim_rate_schedule from the rate schedules' change events and from those that standing reads and bills name."""
    return _keep(run, "gold.dim_rate_schedule")


def run_dim_account(run: Run) -> StepResult:
    """Keep dim_account from the accounts' change events and from the accounts that standing bills, payments and requests name."""
    return _keep(run, "gold.dim_account")


def run_dim_service_agreement(run: Run) -> StepResult:
    """Keep dim_service_agreement from the service agreements' change events."""
    return _keep(run, "gold.dim_service_agreement")


def run_dim_utility(run: Run) -> StepResult:
    """Keep dim_utility from the utilities' change events; no record names a utility, so it has no inferred members."""
    return _keep(run, "gold.dim_utility")


def events_of(house: Lakehouse, dimension: str) -> str | None:
    """The silver table of a dimension's change events, if there is one."""
    name = EVENTS.get(dimension)
    return name if name is not None and house.table(name).version() >= 0 else None


def naming(house: Lakehouse, dimension: str) -> dict[str, str]:
    """The silver tables that there are whose rows name members of a dimension, with the column that does."""
    column = MEMBER_KEYS.get(dimension, "")  # of utilities none
    return {name: column for name, columns in MEMBERS.items() if column in columns and house.table(name).version() >= 0}


def members_named(rows: DataFrame, column: str, key: str, *more: str) -> DataFrame:
    """``key``, the member that a row names in ``column``, and the columns ``more``; rows that name none are left out.

    ``?`` names none: it is what the unknown member of each dimension is called, and facts that name it have its key.
    """
    return rows.where(F.col(column).isNotNull() & (F.col(column) != UNKNOWN)).select(F.col(column).alias(key), *more)


def _keep(run: Run, name: str) -> StepResult:
    table, house = run.house.table(name), run.house
    source, facts = events_of(house, name), naming(house, name)
    dimension = Dimension.from_contract(table.contract)
    inputs = [house.table(n) for n in ([source] if source else []) + list(facts)]
    now: dict[str, Any] = {t.name: t.version() for t in inputs} | {"as_of": run.as_of.isoformat()}
    was = run.consumed.get(name, {})
    if was == now and table.version() > 0:
        return StepResult(name, "skipped", version=table.version(), consumed=now)
    events = _events(house.table(source), now[source]) if source else _no_events(house.spark, dimension)
    first = table.version() <= 0 or any(t.name not in was for t in inputs)
    keys = needed = None
    if first:
        run.say(f"{name}: building all keys", step=name)
    elif facts:
        keys = _touched(run, table, dimension, source, facts, was, now)
    else:  # nothing names its members, so only their own events change them
        told = house.table(source).changes(was[source], now[source]) if source and was[source] < now[source] else None
        keys = (events.limit(0) if told is None else told).select(*dimension.key).distinct()
    if facts:
        needed = _needed(run, dimension, facts, now, keys, events)
    touched = None if keys is None else keys.select(*dimension.key)
    outcome = apply(table, dimension, events, touched, needed, zone=run.zone, as_of=run.as_of,
                    scratch=str(run.stage / name.replace(".", "_")), note={"consumed": now})  # fmt: skip
    run.metrics.append((name, "conflicts", float(outcome.conflicts)))
    status = "ok" if outcome.commit else "skipped"
    return StepResult(name, status, outcome.rows_written, version=table.version(), consumed=now)


def _events(table: Table, version: int) -> DataFrame:
    return table.read(version)


def _no_events(spark: SparkSession, dimension: Dimension) -> DataFrame:
    own = {n: dimension.types[n] for n in (*dimension.key, *dimension.attributes)}
    columns = {**own, "effective_at": "timestamp", "sequence": "bigint", "operation": "string", "_file_sha256": "string",
               "_row_number": "bigint"}  # fmt: skip
    return local_frame(spark, [], ", ".join(f"{n} {t}" for n, t in columns.items()))


def _touched(run: Run, table: Table, dimension: Dimension, source: str | None, facts: Mapping[str, str],
             was: Mapping[str, Any], now: Mapping[str, Any]) -> DataFrame:  # fmt: skip
    """Keys whose events changed, that new facts name and the dimension lacks, or that may have lost their last fact.

    :return: the key and ``_named``: whether a standing fact names it; null: only the facts of before can tell.
    """
    key = dimension.key[0]
    frames, moved = [], []
    if source and was[source] < now[source]:
        frames.append(run.house.table(source).changes(was[source], now[source]).select(key))
    for fact, column in facts.items():
        if was[fact] < now[fact]:
            moved.append(members_named(news(run.house.table(fact), was[fact], now[fact]).rows, column, key, "_change_type"))
    if moved:
        per_key = run.staged(_counted(_united(moved), table, key, frames), f"moved_{table.contract.table}")
        frames.append(per_key.where("_came > 0").select(key).join(table.read().select(key), key, "left_anti"))
        # of more that came than went at least one stands; a double that was taken out has left its equal
        frames.append(per_key.where("_went > 0 AND _went >= _came").select(key))
    if not frames:
        return local_frame(run.house.spark, [], f"{key} string, _named boolean")
    keys = _united(frames).distinct()
    keys = keys.join(per_key, key, "left") if moved else _unmoved(keys)
    held = table.read().join(keys.select(key), key, "left_semi").groupBy(key).agg(F.max(dimension.inferred).alias("_inferred"))
    # until now the dimension held every key that a fact named, and an inferred member only while one did
    named = F.expr("""CASE WHEN _came > _went THEN true
        WHEN _inferred AND coalesce(_went, 0) = 0 THEN true
        WHEN _inferred IS NULL AND coalesce(_came, 0) = 0 THEN false END AS _named""")
    return run.staged(keys.join(held, key, "left").select(key, named), f"keys_{table.contract.table}")


def _counted(rows: DataFrame, table: Table, key: str, asked: Sequence[DataFrame]) -> DataFrame:
    """By key, how many rows that name it ``_came`` and ``_went``: of the keys that the dimension lacks, that lost a row or
    that are asked for. Most rows of a month name members that are there already; those are not even grouped.

    :param rows: changed rows of facts: key and ``_change_type``.
    """  # noqa: D205
    watched = _united([rows.where("_change_type = 'delete'").select(key), *asked])
    settled = table.read().select(key).join(watched, key, "left_anti")
    counts = [F.expr(f"count_if(_change_type = '{kind}') AS {n}") for kind, n in (("insert", "_came"), ("delete", "_went"))]
    return rows.join(settled, key, "left_anti").groupBy(key).agg(*counts)


def _unmoved(keys: DataFrame) -> DataFrame:
    return keys.withColumns({name: F.lit(0).cast("bigint") for name in ("_came", "_went")})


def _united(frames: Sequence[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, frames)


def _named(run: Run, fact: str, version: int) -> DataFrame:
    """The members that all rows of a silver table name, without repeats; one pass serves all dimensions."""
    table = run.house.table(fact)
    name = f"named_{table.contract.table}_{version}"
    return run.once(name, lambda: run.staged(table.read(version).select(*MEMBERS[fact]).distinct(), name))


def _needed(run: Run, dimension: Dimension, facts: Mapping[str, str], now: Mapping[str, Any], keys: DataFrame | None,
            events: DataFrame) -> DataFrame:  # fmt: skip
    """Keys that standing facts name, among those that may have no version (of all keys: all that facts name).

    Facts are searched in the days before the as-of date first: a rate schedule that a correction touched is named there, and
    of few keys that are not the rest is searched.

    :param keys: as ``_touched`` gives them; facts of before are searched only for those of which it is not known already.
    """
    key = dimension.key[0]

    def members(rows: Callable[[str], DataFrame]) -> DataFrame:
        return _united([members_named(rows(fact), column, key) for fact, column in facts.items()])

    if keys is None:
        return members(lambda fact: _named(run, fact, now[fact])).distinct()
    homeless = run.staged(_homeless(keys, events, key), f"homeless_{dimension.name}")
    sure, unsure = homeless.where("_named").select(key), homeless.where("_named IS NULL").select(key)
    if unsure.isEmpty():
        return sure
    lately = members(lambda fact: _lately(run, fact, now[fact])).join(F.broadcast(unsure), key, "left_semi").distinct()
    lately = run.staged(lately, f"lately_{dimension.name}")
    known, unsure = sure.unionByName(lately), unsure.join(lately, key, "left_anti")
    if unsure.isEmpty():
        return known
    standing = members(lambda fact: run.house.table(fact).read(now[fact]))
    return known.unionByName(standing.join(F.broadcast(unsure), key, "left_semi").distinct())


def _lately(run: Run, fact: str, version: int) -> DataFrame:
    """The rows of a silver table of the days LATELY; none of one whose rows have no day, as files could not be skipped."""
    table = run.house.table(fact)
    day = ENTITIES[table.contract.table].day
    return table.read(version).where(F.lit(False) if day is None else F.col(day) > F.lit(run.as_of - LATELY))


def _homeless(keys: DataFrame, events: DataFrame, key: str) -> DataFrame:
    """The keys that may have no version: without an upsert, or with no upsert on a day of its own.

    A delete may have been the last word of the only day. A local day has 25 hours at most, so an upsert that is further than
    that from every delete makes a version.
    """
    mine = events.select(key, "effective_at", "operation").join(keys.select(key), key, "left_semi")
    ends = mine.where("operation = 'delete'").select(F.col(key).alias("_key"), F.col("effective_at").alias("_end"))
    apart = F.abs(F.unix_seconds("effective_at") - F.unix_seconds("_end")) <= 25 * 3600
    safe = mine.where("operation = 'upsert'").join(ends, (F.col(key) == F.col("_key")) & apart, "left_anti").select(key)
    return keys.join(safe, key, "left_anti")
