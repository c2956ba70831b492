"""fact_outage: the final state of each restoration step, who hung on its element, and the step that keeps the table.

Pure functions first. Definitions: schemas/silver/outages.yaml (states, steps) and docs/reliability-indices.md.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.changes import final_states
from utilityflow.gold.days import day_key, day_of
from utilityflow.gold.reliability import KINDS, UNKNOWN_PLACE, elements, interrupted
from utilityflow.gold.replacing import replace
from utilityflow.keys import hash64
from utilityflow.lakehouse import Table
from utilityflow.scd2 import Dimension, version_of

NAME, OUTAGES, POINTS = "gold.fact_outage", "silver.outages", "gold.dim_service_point"
NO_POINTS, DIFFER, SEVERAL, OVERLAP = "unknown_element", "customers_differ", "several_circuits", "overlapping"
ESTIMATED = "estimated_restoration"  # the flag of OU-06
STEP = ("outage_id", "step_id")
ELEMENT = ("element_kind", "element_id")


# -- pure functions ----------------------------------------------------------------------------------------------------


def standing_steps(outages: DataFrame) -> DataFrame:
    """The final state of each step, cancelled ones left out, and ``_overlapping``: whether another step, of any outage, says
    that the same element was without supply at the same time.

    Final is the greatest updated_at (null before all), then the newest file, then the later record. Source of the rule:
    schemas/silver/outages.yaml.

    :param outages: rows of silver.outages, all of them: what overlaps may be told by any.
    """  # noqa: D205
    final = final_states(outages, *STEP).where("status <> 'cancelled'")
    in_time = Window.partitionBy(*ELEMENT).orderBy("started_at", *STEP)
    before = in_time.rowsBetween(Window.unboundedPreceding, -1)
    end = F.coalesce("restored_at", F.lit("9999-12-31").cast("timestamp"))
    overlapping = (F.max(end).over(before) > F.col("started_at")) | (F.lead("started_at").over(in_time) < end)
    return final.withColumn("_overlapping", F.coalesce(overlapping, F.lit(False)))


def outage_facts(
    final: DataFrame, points: DataFrame, contract: Contract, dimension: Dimension, momentary_minutes: float
) -> DataFrame:
    """Rows of fact_outage in the contract's columns, one per step.

    :param final: as ``standing_steps`` gives it, of whole outages (a step's service points depend on the other steps).
    :param points: rows of dim_service_point.
    :param momentary_minutes: an interruption of so many minutes or fewer is momentary (5 by IEEE 1366).
    """
    hit = interrupted(final, points).groupBy(*STEP).agg(
        F.count(F.lit(1)).cast("int").alias("_points"),
        *[what for n in ("district", "circuit_id") for what in (F.min(n).alias(f"_{n}"), F.max(n).alias(f"_{n}_2"))],
    )  # fmt: skip
    point = F.when(F.col("element_kind") == "service_point", F.col("element_id"))
    rows = final.withColumn("service_point_id", point).join(hit, list(STEP), "left")
    rows = version_of(rows, points, dimension, day="started_date")
    micros = F.unix_micros("restored_at") - F.unix_micros("started_at")
    stated = F.col("customers_interrupted")
    counted = F.coalesce("_points", F.lit(0))
    customers = F.coalesce(stated, counted)
    # when supply is expected back says neither that it came back nor when
    still = F.col("restored_at").isNull() | F.array_contains("quality_flags", ESTIMATED)
    lasted = F.when(~still, micros.cast("decimal(20,0)"))
    return rows.withColumns({
        "outage_key": hash64(contract, STEP, domain=contract.table),
        "date_key": day_key("started_date"),
        "circuit_id": _place("circuit_id", F.coalesce("circuit_id", F.expr("IF(element_kind = 'circuit', element_id, NULL)"))),
        "district": _place("district", F.col("district")),
        "minutes": (lasted / 60_000_000).cast("decimal(18,6)"),
        "customers_stated": stated,
        "service_points": counted,
        "customers_interrupted": customers,
        # one division at the end: seconds that are no whole part of a minute would be rounded before they are multiplied
        "customer_minutes": (lasted * customers / 60_000_000).cast("decimal(24,6)"),
        "is_momentary": F.coalesce(lasted <= int(momentary_minutes * 60_000_000), F.lit(False)),
        "is_open": still,
        "quality_flags": _flags(stated),
    }).select(*contract.column_names)  # fmt: skip


def _place(name: str, stated: Column) -> Column:
    """The one place of the service points; null where they have several; what the source states where none is known."""
    same = (F.col(f"_{name}") == F.col(f"_{name}_2")) & (F.col(f"_{name}") != UNKNOWN_PLACE)
    one = F.when(same, F.col(f"_{name}"))
    return F.when(F.col("_points").isNotNull(), one).otherwise(stated)


def _flags(stated: Column) -> Column:
    found = {
        NO_POINTS: F.col("_points").isNull(),
        DIFFER: F.col("_points").isNotNull() & (stated != F.col("_points")),
        SEVERAL: F.col("_circuit_id") != F.col("_circuit_id_2"),
        OVERLAP: F.col("_overlapping"),
    }
    more = F.array_compact(F.array(*[F.when(test, F.lit(flag)) for flag, test in found.items()]))
    return F.array_sort(F.concat("quality_flags", more))


def dated(facts: DataFrame) -> DataFrame:
    """With ``started_date``, the fact's local day."""
    return facts.withColumn("started_date", day_of("date_key"))


def known_by(facts: DataFrame, as_of: dt.date, zone: str) -> DataFrame:
    """Facts of what began on the day or before, with ``started_date``: what is restored after the end of the day is open.

    :param as_of: the day. :param zone: the utility's, in which the day ends.
    """
    end = F.to_utc_timestamp(F.lit(as_of + dt.timedelta(days=1)).cast("timestamp"), zone)
    still = F.col("is_open") | F.coalesce(F.col("restored_at") > end, F.lit(False))
    return dated(facts).where(F.col("started_date") <= F.lit(as_of)).withColumns({
        "is_open": still,
        "is_momentary": F.col("is_momentary") & ~still,
        **{n: F.when(~still, F.col(n)) for n in ("minutes", "customer_minutes")},
    })  # fmt: skip


def moved_points(before: DataFrame, after: DataFrame) -> DataFrame:
    """The versions that stand in one of two states of dim_service_point only, apart from whether they are current.

    Of a version that only ends on another day, as when a service point moves, the days between the two ends.
    """
    begin, end = "effective_date", "expiry_date"
    same = ["service_point_key", *KINDS.values(), "district", "status", begin]
    both = before.select(*same, end).unionByName(after.select(*same, end))
    alone = both.groupBy(*same, end).agg(F.count(F.lit(1)).alias("_n")).where("_n = 1")
    ends = alone.groupBy(*same).agg(F.count(F.lit(1)).alias("_n"), F.min(end).alias("_low"), F.max(end).alias(end))
    return ends.withColumn(begin, F.expr(f"IF(_n = 2, _low, {begin})")).select(*same, end)


# -- the step ----------------------------------------------------------------------------------------------------------


def run_fact_outage(run: Run) -> StepResult:
    """Bring fact_outage to the standing states and to the network's present history.

    Made anew are the facts of the outages that changed, of those on the same elements (they may overlap no longer), and
    of those of which a service point changed its place on their day. What comes out equal is not written.
    """
    house, fact = run.house, run.house.table(NAME)
    minutes = run.settings.reliability.momentary_minutes
    now: dict[str, Any] = {n: house.table(n).version() for n in (OUTAGES, POINTS)}
    now |= {"momentary_minutes": minutes, "contract": fact.contract.version}
    was = run.consumed.get(NAME, {}) if fact.version() > 0 else {}  # a table made anew reflects nothing yet
    if was == now:
        return StepResult(NAME, "skipped", version=fact.version(), consumed=now)
    final = run.staged(standing_steps(house.table(OUTAGES).read(now[OUTAGES])), "outages_final")
    points, present = house.table(POINTS).read(now[POINTS]), fact.read()
    if was.keys() == now.keys() and all(was[n] == now[n] for n in ("momentary_minutes", "contract")):
        touched = run.staged(_touched(run, final, present, was, now), "outages_touched")
        final, present = (rows.join(F.broadcast(touched), "outage_id", "left_semi") for rows in (final, present))
    dimension = Dimension.from_contract(house.contracts[POINTS])
    wanted = outage_facts(final, points, fact.contract, dimension, minutes)
    written = replace(run, fact, present, run.staged(wanted, "outages_wanted"), now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=fact.version(), consumed=now)


def _touched(
    run: Run, final: DataFrame, present: DataFrame, was: Mapping[str, Any], now: Mapping[str, Any]
) -> DataFrame:
    """``outage_id`` of the outages whose facts may differ from what stands."""
    outages, found = run.house.table(OUTAGES), []
    if was[OUTAGES] < now[OUTAGES]:
        changed = outages.changes(was[OUTAGES], now[OUTAGES]).select("outage_id").distinct()
        steps = final.select("outage_id", *ELEMENT).unionByName(present.select("outage_id", *ELEMENT))
        same = steps.join(F.broadcast(changed), "outage_id", "left_semi").select(*ELEMENT).distinct()
        found += [changed, steps.join(F.broadcast(same), list(ELEMENT), "left_semi").select("outage_id")]
    if was[POINTS] < now[POINTS]:
        found.append(_on_moved(run.house.table(POINTS), final, was[POINTS], now[POINTS]))
    return reduce(DataFrame.unionByName, found).distinct() if found else final.select("outage_id").limit(0)


def _on_moved(points: Table, final: DataFrame, before: int, after: int) -> DataFrame:
    """Outages on an element, on a day, of a version that came, went or changed; of service points on any day, as the first
    version answers for all days before it.
    """  # noqa: D205
    moved = elements(moved_points(points.read(before), points.read(after))).select(
        *ELEMENT, "effective_date", "expiry_date"
    )
    of_the_day = "element_kind = 'service_point' OR (effective_date <= started_date AND started_date < expiry_date)"
    steps = F.broadcast(final.select("outage_id", *ELEMENT, "started_date"))
    return moved.distinct().join(steps, list(ELEMENT)).where(of_the_day).select("outage_id")
