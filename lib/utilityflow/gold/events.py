"""Facts of single events (a payment, a bill line): the final state of each, with its members' versions and its words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import (
    CUSTOMERS,
    Grain,
    differing,
    final_states,
    identified,
    members_at,
    rekeyed,
    small,
    whole,
    with_keys,
    write,
)
from utilityflow.gold.days import day_key, number
from utilityflow.gold.members import PAYMENT_METHOD, REQUEST_TYPE, Words, member_key
from utilityflow.gold.suspects import COLUMN as SUSPECTED
from utilityflow.gold.suspects import days_told, follow
from utilityflow.lakehouse import Table
from utilityflow.scd2 import UNKNOWN_KEY

ACCOUNTS = "gold.dim_account"


@dataclass(frozen=True)
class EventFact:
    """A fact table with one row per event: ``day`` is the DATE column of the source that picks its members' versions.

    ``what``: the event, in words. ``days``: columns of further days, by their name in the source. ``words``: its dimension
    of words, if it has one. ``measures``: columns that the source lacks, as SQL over its columns. ``keys``: the dimensions
    with history of which it has a key beside the customer's. ``suspects``: its rows say which of them may be told twice.
    """

    what: str
    grain: Grain
    day: str
    words: Words | None
    days: Mapping[str, str]
    measures: Mapping[str, str]
    keys: tuple[str, ...] = ()
    suspects: bool = False

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions with history in which it looks members up."""
        return CUSTOMERS, *self.keys

    @property
    def reflected(self) -> tuple[str, ...]:
        """The tables of which its rows are what they are at one version; the others need only be there."""
        return self.grain.source, *self.dimensions

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables that it is made of."""
        return *self.reflected, *([self.words.name] if self.words else []), "gold.dim_date"


PAYMENT = EventFact(
    "transaction",
    Grain("gold.fact_payment", "silver.payments", "payment_key", "date_key"),
    "received_date",
    PAYMENT_METHOD,
    {"posted_date_key": "posted_date", "due_date_key": "due_date"},
    {"days_late": "datediff(received_date, due_date)"},
    (ACCOUNTS,),
    suspects=True,
)
# instants say more than days; where one of the two is known as a day alone, both are taken as days
_HOURS = """CASE WHEN closed_at IS NOT NULL AND opened_at IS NOT NULL
    THEN CAST((unix_micros(closed_at) - unix_micros(opened_at)) / 3600000000BD AS DECIMAL(12,2))
    ELSE CAST(datediff(closed_date, opened_date) * 24 AS DECIMAL(12,2)) END"""
_LATE = "CASE WHEN due_at IS NOT NULL AND closed_at IS NOT NULL THEN closed_at > due_at ELSE closed_date > due_date END"
# what was cancelled is no longer open, but nobody resolved it: no measure of a resolution knows it
_CLOSED = "status = 'closed'"
REQUEST = EventFact(
    "request",
    Grain("gold.fact_service_request", "silver.service_requests", "request_key", "date_key"),
    "opened_date",
    REQUEST_TYPE,
    {"closed_date_key": "closed_date", "due_date_key": "due_date"},
    {
        "is_open": "status NOT IN ('closed', 'cancelled')",
        "resolution_hours": f"IF({_CLOSED} AND {_HOURS} >= 0, {_HOURS}, NULL)",
        "closed_late": f"IF({_CLOSED}, {_LATE}, NULL)",
    },
    (ACCOUNTS,),
)
BILLING = EventFact(
    "bill line",
    Grain("gold.fact_billing", "silver.bills", "billing_key", "date_key"),
    "bill_date",
    None,
    {"due_date_key": "due_date"},
    {"billed_days": "datediff(period_end, period_start)"},
    (ACCOUNTS, "gold.dim_service_point", "gold.dim_rate_schedule"),
)
EVENT_FACTS = (BILLING, PAYMENT, REQUEST)


def event_facts(final: DataFrame, spec: EventFact, source: Contract) -> DataFrame:
    """Fact rows without the keys of dimensions with history, ``usage_date`` (the fact's day) beside them.

    :param final: one record per identity. :param source: their contract.
    """
    return final.withColumns({
        spec.grain.key: F.col("_identity"),
        "usage_date": F.col(spec.day),
        "date_key": _day_key(spec.day),
        **{name: _day_key(column) for name, column in spec.days.items()},
        **({_words_key(spec.words): member_key(spec.words, source)} if spec.words else {}),
        **{name: F.expr(expression) for name, expression in spec.measures.items()},
    })  # fmt: skip


def _words_key(words: Words) -> str:
    return f"{words.name.removeprefix('gold.dim_')}_key"


def _day_key(day: str) -> Column:
    """INT yyyymmdd of a DATE column, -1 for null."""
    return F.coalesce(day_key(day), F.lit(UNKNOWN_KEY)).cast("int")


def run_event_fact(run: Run, spec: EventFact) -> StepResult:
    """Bring a fact table to the standing states of its events and its dimensions' present history, by what changed."""
    house, grain = run.house, spec.grain
    fact = house.table(grain.name)
    now: dict[str, Any] = {n: house.table(n).version() for n in spec.reflected} | {"contract": fact.contract.version}
    was = run.consumed.get(grain.name, {}) if fact.version() > 0 else {}  # a table made anew reflects nothing yet
    if was == now:
        return StepResult(grain.name, "skipped", version=fact.version(), consumed=now)
    # it has gained a key, or its columns another meaning, since: every fact is looked at
    if was.keys() != now.keys() or was["contract"] != now["contract"]:
        was = {}
    run.say(f"{grain.name}: looking for what changed", step=grain.name)
    before = fact.version()
    parts, told = [], None
    if was.get(grain.source) != now[grain.source]:
        told = _told(run, spec, was, now)
        parts.append(_changed(run, spec, fact, told, now).withColumn("_told", F.lit(True)))
    if behind := [n for n in spec.dimensions if n in was and was[n] < now[n]]:
        moved = rekeyed(run, grain, before, was, now, behind)
        if told is not None:  # those are made anew with their right keys already
            moved = moved.join(told.keys.withColumnRenamed("_identity", grain.key), grain.key, "left_anti")
        parts.append(moved.withColumn("_told", F.lit(False)))
    changed = run.staged(reduce(DataFrame.unionByName, parts), f"{fact.contract.table}_changed") if parts else None
    written = write(grain, fact, _marked(run, spec, changed, every=not was), now) if changed is not None else 0
    return StepResult(grain.name, "ok" if written else "skipped", written, version=fact.version(), consumed=now)


@dataclass(frozen=True)
class _Told:
    """The events of which records came or went: ``keys`` (``_identity``), how many they are (None: all events), and the days
    between which their records lie, before or now.
    """  # noqa: D205

    keys: DataFrame
    number: int | None = None
    days: tuple[dt.date, dt.date] | None = None


def _told(run: Run, spec: EventFact, was: Mapping[str, Any], now: Mapping[str, int]) -> _Told:
    source, table = run.house.table(spec.grain.source), spec.grain.name.partition(".")[2]
    rows = identified(source.read(now[source.name]), source.contract)
    if source.name not in was:
        return _Told(rows.select("_identity").distinct())
    changes = identified(source.changes(was[source.name], now[source.name]), source.contract)
    moved = changes.select("_identity", spec.day)
    came = run.staged(moved.groupBy("_identity").agg(*_span(spec.day)), f"{table}_came")
    keys = came.select("_identity")
    others = rows.select("_identity", spec.day).join(keys, "_identity", "left_semi").agg(*_span(spec.day), F.lit(0))
    spans = came.agg(F.min("_low"), F.max("_high"), F.count(F.lit(1))).unionAll(others).collect()
    found, pairs = max(row[2] for row in spans), [row for row in spans if row[0] is not None]
    days = (min(row[0] for row in pairs), max(row[1] for row in pairs)) if pairs else None
    return _Told(small(keys, found), found, days)


def _span(day: str) -> tuple[Column, Column]:
    return F.min(day).alias("_low"), F.max(day).alias("_high")


def _changed(run: Run, spec: EventFact, fact: Table, told: _Told, now: Mapping[str, int]) -> DataFrame:
    """The facts of those events, as far as they differ from what stands: see ``changes.differing``."""
    grain, columns = spec.grain, fact.contract.column_names
    source = run.house.table(grain.source)
    records, present = identified(source.read(now[source.name]), source.contract), fact.read()
    if told.days is not None:
        low, high = told.days
        records = records.where(F.col(spec.day).between(low, high))
        present = present.where(F.col("date_key").between(number(low), number(high)))
    if told.number is not None:
        records = records.join(told.keys, "_identity", "left_semi")
    rows = whole(event_facts(final_states(records, "_identity"), spec, source.contract), fact.contract)
    rows = with_keys(rows, members_at(run, spec.dimensions, now), columns)
    wanted = run.staged(rows, f"{fact.contract.table}_wanted")
    gone = None
    if told.number is None or wanted.count() < told.number:  # else each of the events still has a record
        known = present.select(grain.key) if told.number is None else told.keys.select(F.col("_identity").alias(grain.key))
        gone = known.join(wanted.select(grain.key), grain.key, "left_anti")
    found = differing(grain, present, wanted, gone, [n for n in columns if n != SUSPECTED])
    return found.withColumn(SUSPECTED, F.lit(None).cast("boolean")) if spec.suspects else found


def _marked(run: Run, spec: EventFact, changed: DataFrame, *, every: bool) -> DataFrame:
    """The changes, with the mark of payments that may be told twice. :param every: the marks of all facts are looked at."""
    rows = changed.drop("_told")
    if not spec.suspects:
        return rows
    days = None if every else days_told(changed.where("_told"))
    return follow(run, spec.grain, rows, days) if every or days is not None else rows
