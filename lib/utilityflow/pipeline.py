"""The steps, declared once (name, inputs, output, function), the graph they form, and the run of them.

``plan``, ``run`` and the jobs all use this graph. A step reads its inputs at pinned versions and says which versions its
output reflects, so steps may run in processes of their own.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from utilityflow import graph as graph_of
from utilityflow.bronze.feeds import Feed, load_feeds
from utilityflow.bronze.ingest import run_bronze
from utilityflow.bronze.inspect import find_files
from utilityflow.contracts import load_contracts
from utilityflow.control.home import Home, hold, open_home
from utilityflow.control.ledger import read_ledger
from utilityflow.control.publication import last as last_publication
from utilityflow.control.rollback import open_rollback
from utilityflow.control.run import Run, StepResult, journal, new_run_id, note_beginning
from utilityflow.control.soundness import examine, take_up, telling
from utilityflow.control.tablelog import last_note
from utilityflow.errors import UtilityFlowError
from utilityflow.extract.steps import run_extract
from utilityflow.gold import (
    application,
    customer360,
    efficiency,
    eia861,
    identity,
    monthly,
    receivables,
    satisfaction,
    scorecard,
)
from utilityflow.gold.calendar import check_calendar, run_dim_date
from utilityflow.gold.compliance import AUDITS, FILINGS, run_fact_compliance
from utilityflow.gold.compliance import NAME as COMPLIANCE
from utilityflow.gold.dimensions import (
    EVENTS,
    MEMBER_KEYS,
    MEMBERS,
    run_dim_account,
    run_dim_customer,
    run_dim_meter,
    run_dim_rate_schedule,
    run_dim_service_agreement,
    run_dim_service_point,
    run_dim_utility,
)
from utilityflow.gold.events import EVENT_FACTS, run_event_fact
from utilityflow.gold.members import WORDS, run_words
from utilityflow.gold.outages import run_fact_outage
from utilityflow.gold.scorecard import check_reliability
from utilityflow.gold.service_reliability import run_kpi_service_reliability, run_reliability_threshold
from utilityflow.gold.usage import READS, run_fact_usage
from utilityflow.graph import EXTRACT, PUBLISH, Step
from utilityflow.lakehouse import Guard, Lakehouse
from utilityflow.parallel import in_parallel
from utilityflow.publish.rollback import Done, carry_out
from utilityflow.running import run_steps, size
from utilityflow.session import fit_to, get_session
from utilityflow.settings import Settings
from utilityflow.silver.apply import run_silver
from utilityflow.silver.judging import ENTITIES, check_feeds, tables_of_entity

ALWAYS = ("customers", "meter_reads")  # entities of every home, whatever its feeds fill; others come with their feeds
# of these, the tables of one come with a feed of another
TOGETHER = ({"outages", "service_points"}, {"compliance_filings", "audit_events"})

# table across systems -> the names that bring it, where it was asked for or is there: its own, or that of one that is made of it
ACROSS: Mapping[str, set[str]] = {
    monthly.NAME: {monthly.NAME, customer360.NAME}, customer360.NAME: {customer360.NAME}, identity.NAME: {identity.NAME},
}  # fmt: skip
_THIRD = {"bills", "payments", "service_requests", "outages"}  # one of these beside customers and reads
# table across systems -> the entities of which one brings it
ACROSS_OF: Mapping[str, set[str]] = {
    monthly.NAME: _THIRD, customer360.NAME: _THIRD, identity.NAME: {"accounts", "service_agreements"},
}  # fmt: skip


def graph(feeds: Mapping[str, Feed], lakehouse: Path | None = None, asked: Iterable[str] = ()) -> list[Step]:
    """All steps in an order in which inputs come before outputs; those of an entity that no feed fills are left out.

    :param lakehouse: the root of its tables: entities that it holds stay, as facts that stand must follow their customers; None:
        of a new one.
    :param asked: words of a selection: one that names a table of ACROSS, or is a pattern of it, brings its step
        (docs/decisions/016).
    """
    steps = [
        Step(f"{EXTRACT}.{n}", (), f"landing.{n}", partial(run_extract, feed=f)) for n, f in feeds.items() if f.extract
    ]
    steps += [
        Step(f"bronze.{n}", (f"landing.{n}",), f"bronze.{n}", partial(run_bronze, feed=f)) for n, f in feeds.items()
    ]
    filled = {feed.entity for feed in feeds.values()}
    held = {log.parent.name for log in lakehouse.glob("silver/*/_delta_log")} if lakehouse else set()
    filled |= held & set(ENTITIES)
    wanted = {*ALWAYS, *filled}.union(*(group for group in TOGETHER if group & filled))
    for entity in ENTITIES:
        name, inputs = f"silver.{entity}", tuple(f"bronze.{n}" for n, f in feeds.items() if f.entity == entity)
        if entity in wanted:
            steps.append(Step(name, inputs, name, partial(run_silver, entity=entity)))
    made = {step.output for step in steps}
    for step in _gold(made):
        if made.issuperset(step.inputs):
            steps.append(step)
            made.add(step.output)
    for step in _of_those_there(made):
        steps.append(step)
        made.add(step.output)
    there = {f"gold.{log.parent.name}" for log in lakehouse.glob("gold/*/_delta_log")} if lakehouse else set()
    named = there | {graph_of.pattern_of(word) for word in asked}
    return steps + [step for step in _across(made) if wanted & ACROSS_OF[step.name] or _asked(named, ACROSS[step.name])]


def _asked(words: Iterable[str], names: Iterable[str]) -> bool:
    """Whether one of the words is one of the names, or a pattern (``gold.agg*``) of one."""
    return any(fnmatchcase(name, word) for word in words for name in names)


def _of_those_there(made: Collection[str]) -> Iterator[Step]:
    """The steps of the marts that are made of those of their inputs which there are, once one is there that brings them.

    :param made: the tables that steps make; it grows by each mart.
    """
    marts: list[tuple[str, Callable[[Collection[str]], tuple[str, ...]], Callable[..., StepResult]]] = [
        (efficiency.NAME, efficiency.inputs_of, efficiency.run_efficiency),
        (scorecard.NAME, scorecard.inputs_of, scorecard.run_kpi_regulatory_scorecard),
    ]
    for name, inputs_of, function in marts:
        if inputs := inputs_of(made):
            yield Step(name, inputs, name, partial(function, inputs=inputs))


def _across(made: Collection[str]) -> list[Step]:
    """The steps of the tables that look across systems; the view of customers and the crosswalk read what is made."""
    inputs = customer360.inputs_of(made)
    view = partial(customer360.run_customer_360, inputs=inputs)
    sources = tuple(n for n in identity.SOURCES if n in made)
    every = (identity.CUSTOMERS, *sources)
    whom = Step(identity.NAME, every, identity.NAME, partial(identity.run_customer_identity, inputs=every))
    return [
        Step(monthly.NAME, monthly.INPUTS, monthly.NAME, monthly.run_usage_monthly),
        Step(customer360.NAME, inputs, customer360.NAME, view),
        *([whom] if sources else []),
    ]


def _gold(silver: Collection[str]) -> list[Step]:
    """Every step of gold; a dimension reads those of the tables that name its members which are made."""
    naming = {d: tuple(n for n, columns in MEMBERS.items() if c in columns and n in silver) for d, c in MEMBER_KEYS.items()}
    # a dimension, and a table of which a fact is made that has its key
    holding = {("gold.dim_meter", READS), *((name, fact.grain.source) for fact in EVENT_FACTS for name in fact.keys)}

    def inputs(dimension: str) -> tuple[str, ...]:
        """Its change events, without which it is made too where a fact has its key, and the tables that name its members."""
        events = EVENTS[dimension]
        lacks = events not in silver and any((dimension, source) in holding for source in silver)
        return *(() if lacks else (events,)), *naming[dimension]

    every: list[tuple[str, tuple[str, ...], Callable[[Run], StepResult]]] = [
        ("gold.dim_date", (), run_dim_date),
        ("gold.dim_customer", ("silver.customers", *naming["gold.dim_customer"]), run_dim_customer),
        ("gold.dim_meter", inputs("gold.dim_meter"), run_dim_meter),
        ("gold.dim_rate_schedule", inputs("gold.dim_rate_schedule"), run_dim_rate_schedule),
        ("gold.dim_service_point", inputs("gold.dim_service_point"), run_dim_service_point),
        ("gold.dim_account", inputs("gold.dim_account"), run_dim_account),
        ("gold.dim_service_agreement", ("silver.service_agreements",), run_dim_service_agreement),
        ("gold.dim_utility", (EVENTS["gold.dim_utility"],), run_dim_utility),
        *((words.name, (words.source,), partial(run_words, words=words)) for words in WORDS),
        (
            "gold.fact_usage",
            ("silver.meter_reads", "gold.dim_customer", "gold.dim_meter", "gold.dim_date"),
            run_fact_usage,
        ),
        *((fact.grain.name, fact.inputs, partial(run_event_fact, spec=fact)) for fact in EVENT_FACTS),
        *_reliability(),
        (COMPLIANCE, (FILINGS, AUDITS, "gold.dim_date"), run_fact_compliance),
        (eia861.NAME, (eia861.FILINGS,), eia861.run_benchmark),
        (receivables.NAME, receivables.INPUTS, receivables.run_receivables),
        (application.NAME, application.INPUTS, application.run_application),
        (satisfaction.NAME, (satisfaction.REQUESTS, satisfaction.TYPES), satisfaction.run_satisfaction),
    ]
    return [Step(name, needs, name, function) for name, needs, function in every]


def _reliability() -> list[tuple[str, tuple[str, ...], Callable[[Run], StepResult]]]:
    """The steps from outages and service points to the reliability indices."""
    points, outages, threshold = "gold.dim_service_point", "gold.fact_outage", "gold.reliability_threshold"
    kpi = "gold.kpi_service_reliability"
    return [
        (outages, ("silver.outages", points, "gold.dim_date"), run_fact_outage),
        (threshold, (outages, points), run_reliability_threshold),
        (kpi, (outages, points, threshold, "gold.dim_date"), run_kpi_service_reliability),
    ]


def published(feeds: Mapping[str, Feed], lakehouse: Path | None = None) -> list[str]:
    """Gold tables that the warehouse gets, by their contracts, of a lakehouse with these feeds: see ``tables_of``."""
    contracts = load_contracts()
    gold = [contracts[name] for name in tables_of(feeds, lakehouse) if name.startswith("gold.")]
    return [c.name for c in gold if c.property("publish")]


def published_of(steps: Sequence[Step]) -> list[str]:
    """Of the tables that steps make, those that the warehouse gets."""
    contracts = load_contracts()
    return [s.output for s in steps if s.output.startswith("gold.") and contracts[s.output].property("publish")]


def select(steps: Sequence[Step], wanted: Iterable[str]) -> list[str]:
    """Names of the steps that words mean, in their order; see ``graph.select``."""
    return graph_of.select(steps, wanted, published_of(steps))


def chosen(settings: Settings, steps: Sequence[Step], wanted: Sequence[str]) -> list[str]:
    """``select`` of the steps of a home; words that mean only steps of feeds that sleep mean nothing yet.

    :raises UtilityFlowError: UF-1004 naming the nearest known step.
    """
    found: set[str] = set()
    for word in wanted:
        try:
            found |= set(select(steps, [word]))
        except UtilityFlowError:
            select(graph(read_feeds(settings, whole=True), asked=wanted), [word])
    return [name for name in select(steps, ()) if name in found or not wanted]


# -- opening ---------------------------------------------------------------------------------------------------------


def open_lakehouse(settings: Settings, home: Home, run_id: str = "", guard: Guard | None = None) -> Lakehouse:
    """A session and the lakehouse of a home; the session's scratch space lies under the home."""
    scratch = home.tmp / f"spark-{os.getpid()}"
    spark = get_session(f"utilityflow {run_id}".strip(), settings=settings, scratch=scratch)
    return Lakehouse(spark, str(home.lakehouse), load_contracts(), environment=settings.environment, run_id=run_id,
                     guard=guard)  # fmt: skip


def read_feeds(settings: Settings, *, whole: bool = False) -> dict[str, Feed]:
    """The feeds of these settings, checked against their entities' contracts.

    The shipped folder is a catalogue of six systems: a feed of it whose first file has not landed yet sleeps, and brings neither
    steps nor tables; so does one that asks a source, until it is said which one. A folder of one's own (``--feeds``) is taken
    as it is.

    :param whole: those that sleep too.
    """
    feeds = load_feeds(settings.feeds)
    check_feeds(feeds, load_contracts())
    if whole or settings.feeds is not None:
        return feeds
    known = last_note(settings.home_path / "lakehouse").get("heads", {})
    awake = {name for name, feed in feeds.items() if f"bronze.{name}" in known or _awake(feed, settings)}
    filled = {feeds[name].entity for name in awake}
    first = {entity: next((n for n, f in feeds.items() if f.entity == entity), "") for entity in ALWAYS if entity not in filled}
    return {name: feed for name, feed in feeds.items() if name in awake or name in first.values()}


def _awake(feed: Feed, settings: Settings) -> bool:
    configured = feed.extract is not None and feed.extract.configured
    if configured or (settings.home_path / "lakehouse" / "bronze" / feed.feed).exists():
        return True
    try:
        return settings.landing_path.is_dir() and bool(find_files(feed, settings.landing_path))
    except UtilityFlowError:  # the landing root cannot be read: who needs it says so
        return False


def tables_of(feeds: Mapping[str, Feed], lakehouse: Path | None = None, asked: Iterable[str] = ()) -> list[str]:
    """Every table that a lakehouse with these feeds has; those without a step only where they exist.

    :param lakehouse: the root of its tables; None: of a new one. :param asked: as ``graph`` takes it.
    """
    there = lakehouse.glob("*/*/_delta_log") if lakehouse else ()
    known = {step.output for step in graph(feeds, lakehouse, asked)}
    known |= {f"{log.parent.parent.name}.{log.parent.name}" for log in there}
    pairs = [tables_of_entity(entity) for entity in ENTITIES]
    silver = [name for pair in pairs if known & set(pair) for name in pair]
    others = [c.name for c in load_contracts().values() if c.layer == "ops" or (c.layer == "gold" and c.name in known)]
    return [f"bronze.{n}" for n in feeds] + silver + others


def ensure_tables(house: Lakehouse, names: Iterable[str]) -> list[str]:
    """Create missing tables and add the columns that contracts have gained; returns what was done."""
    house.spark.range(1).count()  # warm up before the threads
    return [line for lines in in_parallel(house.spark, lambda n: house.table(n).ensure(), names) for line in lines]


def last_consumed(house: Lakehouse) -> dict[str, dict[str, Any]]:
    """Step -> input versions that its output reflects, from the step table and from newer commits of interrupted runs."""
    result: dict[str, dict[str, Any]] = {}
    versions: dict[str, int] = {}
    steps = house.table("ops.step")
    if steps.version() > 0:
        rows = steps.read().where("consumed <> '{}'").select("step", "consumed", "version", "finished_at").collect()
        for row in sorted(rows, key=lambda r: r["finished_at"]):
            result[row["step"]], versions[row["step"]] = json.loads(row["consumed"]), row["version"]
    for contract in house.contracts.of_layer("gold"):
        table = house.table(contract.name)
        if table.exists() and table.version() > versions.get(contract.name, 0):
            note = table.note()
            if "consumed" in note:
                result[contract.name] = note["consumed"]
    return result


# -- running ---------------------------------------------------------------------------------------------------------


def run(settings: Settings, *, as_of: dt.date | None = None, wanted: Sequence[str] = (), rehash: bool = False) -> dict[str, Any]:
    """Run the steps; returns the object that ``run --json`` prints (DESIGN.md section 10).

    :param rehash: read every landed file again, also those that are known by name, size and time.
    :raises UtilityFlowError: usage and configuration errors, before anything is written; failures of the run itself are
        in the returned object's ``error`` and status.
    """
    feeds = read_feeds(settings)
    check_calendar(settings.calendar)
    check_reliability(settings.reliability)
    steps = graph(feeds, settings.home_path / "lakehouse", wanted)
    names = chosen(settings, steps, wanted)
    if not settings.landing_path.is_dir() and settings.landing is not None:
        raise UtilityFlowError("UF-1008", f"the landing root {settings.landing_path} is not a folder")
    home = open_home(settings, create=True)
    run_id = new_run_id()
    with hold(home, f"run {run_id}", seconds=settings.lease_seconds) as lease, journal(home, run_id):
        tables = tables_of(feeds, home.lakehouse, wanted)
        found = examine(home, tables)
        house = open_lakehouse(settings, home, run_id, lease)
        fit_to(house.spark, settings, size(settings, home, feeds))
        with telling("the last publication"):
            finish_rollback(settings, home, house, feeds)
            previous = last_publication(house)
        day = as_of or max([home.today()] + ([previous.as_of] if previous else []))
        if previous is not None and day < previous.as_of:
            raise UtilityFlowError(
                "UF-1005", f"the last publication is as of {previous.as_of}, the run was asked for {day}"
            )
        note_beginning(run_id, day, wanted)
        with telling("the tables could not be made"):
            ensure_tables(house, tables)
            state = Run(settings, home, house, read_ledger(house), feeds, day, run_id, last_consumed(house), rehash=rehash)
        take_up(state, found)
        try:
            gold = published(feeds, home.lakehouse) if PUBLISH in names else None
            return run_steps(state, [s for s in steps if s.name in names], gold, found)
        finally:
            shutil.rmtree(state.stage, ignore_errors=True)


def finish_rollback(settings: Settings, home: Home, house: Lakehouse, feeds: Mapping[str, Feed]) -> Done | None:
    """Do what is left of a rollback that was cut off; None when there is none. Sets the house's epoch."""
    left = open_rollback(house)
    if left is None:
        return None
    state = Run(settings, home, house, read_ledger(house), feeds, home.today(), house.run_id, {})
    state.say(f"ending the rollback to publication {left.to} that was cut off")
    return carry_out(state, left)
