"""The steps of reliability_threshold (major event days, frozen by the year) and kpi_service_reliability (the indices by month).

The arithmetic is in gold.reliability; here it is decided which months are made anew, and what is written.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.run import Run, StepResult
from utilityflow.gold.days import day_key
from utilityflow.gold.marts import as_it_is
from utilityflow.gold.outages import NAME as FACT
from utilityflow.gold.outages import POINTS, dated, known_by, moved_points
from utilityflow.gold.reliability import (
    EXCLUSIONS,
    MEASURES,
    MONTHS_BACK,
    OF_MAJOR_DAYS,
    PLACE,
    daily_saidi,
    indices,
    interrupted,
    lasting_into,
    major_days,
    merged,
    numerators,
    reaching,
    served_by_day,
    served_by_month,
    shared_out,
    threshold,
    worst_served,
)
from utilityflow.gold.replacing import replace
from utilityflow.keys import hash64
from utilityflow.session import local_frame
from utilityflow.settings import ReliabilitySettings

THRESHOLD, KPI = "gold.reliability_threshold", "gold.kpi_service_reliability"
_DAY = dt.timedelta(days=1)


# -- thresholds --------------------------------------------------------------------------------------------------------


def run_reliability_threshold(run: Run) -> StepResult:
    """Add the thresholds of the years that have none yet and of which the years before tell enough; never change one.

    A year's threshold is made by the first run whose as-of date lies in it or later.
    """
    house, table = run.house, run.house.table(THRESHOLD)
    now: dict[str, Any] = {n: house.table(n).version() for n in (FACT, POINTS)} | {
        "year": run.as_of.year, "definition": definition(run.settings.reliability)
    }  # fmt: skip
    if table.version() > 0 and run.consumed.get(THRESHOLD) == now:
        return StepResult(THRESHOLD, "skipped", version=table.version(), consumed=now)
    outages = known_by(house.table(FACT).read(now[FACT]), run.as_of, run.zone)
    held = {r["year"] for r in table.read().select("year").collect()}
    days = [r["started_date"] for r in outages.select("started_date").distinct().collect()]
    wanted = [y for y in _years_to_make(days, run.settings.reliability, run.as_of) if y not in held]
    rows = local_frame(house.spark, [], table.contract.struct())
    if wanted:
        begin = max(min(days), dt.date(wanted[0] - run.settings.reliability.history_years, 1, 1))
        points = house.table(POINTS).read(now[POINTS])
        served = served_by_day(points, begin, dt.date(wanted[-1], 1, 1))
        parts, _ = _whole(outages, points, begin, run.settings.reliability, as_it_is)
        daily = run.staged(daily_saidi(parts, served), "reliability_daily")
        rows = run.staged(_thresholds(daily, wanted, run.settings.reliability, run.as_of), "reliability_thresholds")
    written = rows.count()
    if written or table.version() <= 0:  # an empty commit at first: it says what was looked at
        table.append(rows.select(*table.contract.column_names), note={"consumed": now})
    return StepResult(THRESHOLD, "ok" if written else "skipped", written, version=table.version(), consumed=now)


def _years_to_make(days: list[dt.date], given: ReliabilitySettings, as_of: dt.date) -> list[int]:
    """The years, up to that of the day, before which interruptions began on days enough.

    Who was interrupted is asked of these alone: it is known of each service point, and the years of a young home have few days.

    :param days: on which interruptions began.
    """
    first = min(days, default=as_of).year
    return [
        year for year in range(first + 1, as_of.year + 1)
        if sum(year - given.history_years <= day.year < year for day in days) >= max(given.least_days, 2)
    ]  # fmt: skip


def _thresholds(daily: DataFrame, years: list[int], given: ReliabilitySettings, as_of: dt.date) -> DataFrame:
    """Rows of reliability_threshold of those of ``years`` whose history has ``least_days``.

    :param daily: as ``reliability.daily_saidi`` gives it.
    """
    made = []
    for year in years:
        history = daily.where((F.year("day") >= year - given.history_years) & (F.year("day") < year))
        made.append(threshold(history, given.beta_factor).withColumn("year", F.lit(year)))
    rows = reduce(DataFrame.unionByName, made).where(F.col("days") >= max(given.least_days, 2))
    return rows.withColumns({
        **{n: F.col(n).cast("decimal(18,6)") for n in ("threshold_saidi", "alpha", "beta")},
        "factor": F.lit(given.beta_factor).cast("decimal(6,3)"),
        "frozen_as_of": F.lit(as_of),
    })  # fmt: skip


def definition(given: ReliabilitySettings) -> str:
    """The parameters of the indices as text; targets are the scorecard's."""
    return json.dumps({n: v for n, v in dataclasses.asdict(given).items() if not n.startswith("targets")}, sort_keys=True)


def defined(text: str) -> ReliabilitySettings:
    """The parameters that ``definition`` tells of."""
    known = {f.name for f in dataclasses.fields(ReliabilitySettings)}
    return ReliabilitySettings(**{n: v for n, v in json.loads(text).items() if n in known})


# -- indices -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Months:
    """The months to make: first days of the first and the last; days after ``as_of`` have not been yet."""

    first: dt.date
    last: dt.date
    as_of: dt.date

    @property
    def until(self) -> dt.date:
        """The day after the last one."""
        return min(_months_on(self.last, 1), self.as_of + _DAY)

    @property
    def since(self) -> dt.date:
        """The first day that CEMI and CELID of the first month look at."""
        return _months_on(self.first, 1 - MONTHS_BACK)


def run_kpi_service_reliability(run: Run) -> StepResult:
    """Bring kpi_service_reliability to the standing outages, the network's history, the thresholds and the as-of date.

    Made anew are the months from the first that changed; of these only the rows that come out differently are written.
    """
    house, table, given = run.house, run.house.table(KPI), run.settings.reliability
    versions = {n: house.table(n).version() for n in (FACT, POINTS, THRESHOLD)}
    now: dict[str, Any] = versions | {"as_of": run.as_of.isoformat(), "definition": definition(given)}
    now |= {"contract": table.contract.version}
    was = run.consumed.get(KPI, {}) if table.version() > 0 else {}
    if was == now:
        return StepResult(KPI, "skipped", version=table.version(), consumed=now)
    months = _months(run, was, now)
    if months is None and table.version() > 0:
        return StepResult(KPI, "skipped", version=table.version(), consumed=now)
    if months is None:  # no outage yet
        rows = present = table.read()
    else:
        frames = {n: house.table(n).read(v) for n, v in versions.items()}
        made = indices_of(frames, months, given, run.zone, table.contract, run.staged)
        rows = run.staged(made, "reliability_kpi")
        present = table.read().where(F.col("period").between(f"{months.first:%Y-%m}", f"{months.last:%Y-%m}"))
    written = replace(run, table, present, rows, now)
    return StepResult(KPI, "ok" if written else "skipped", written, version=table.version(), consumed=now)


def _months(run: Run, was: Mapping[str, Any], now: Mapping[str, Any]) -> Months | None:
    """Which months may differ from what stands: None when there is nothing to make, and nothing that stands.

    The first month of all is that of the first outage: before it nothing is known of interruptions, and an index of 0 would
    say that there were none. An outage that changed is felt for MONTHS_BACK months, a service point or a threshold until now.
    Where the first outage is another than it was, the months between the two come, or go, though nothing happened in them.
    """
    house, this_month = run.house, run.as_of.replace(day=1)
    begin, stands = _first_months(house.table(FACT).read(now[FACT]), house.table(KPI).read(), run.as_of)
    everything = _from_first(begin, stands, run.as_of)
    if everything is None:
        return None
    if was.keys() != now.keys() or any(was[n] != now[n] for n in ("definition", "contract")):
        return everything
    lows, highs = _felt(run, was, now)
    if begin != stands:
        lows.append(everything.first)
        highs.append(max(begin, stands) if begin and stands else this_month)
    if not lows:
        return None
    first = max(min(lows).replace(day=1), everything.first)
    return Months(first, max(first, min(max(highs), this_month)), run.as_of) if first <= this_month else None


def _felt(run: Run, was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[dt.date], list[dt.date]]:
    """First days, and months, from and until which each change of an input is felt."""
    house, this_month = run.house, run.as_of.replace(day=1)
    lows: list[dt.date] = []
    highs: list[dt.date] = []
    if was[FACT] < now[FACT]:
        # one that lasts decides for all that begin before its end whether their points had supply then
        until = F.greatest("started_date", F.date_add(F.to_date("restored_at"), 1))
        changed = dated(house.table(FACT).changes(was[FACT], now[FACT])).agg(F.min("started_date"), F.max(until))
        low, high = changed.collect()[0]
        lows, highs = ([low], [_months_on(high.replace(day=1), MONTHS_BACK - 1)]) if low else ([], [])
    if was[POINTS] < now[POINTS]:
        points = house.table(POINTS)
        moved = moved_points(points.read(was[POINTS]), points.read(now[POINTS]))
        lows += [d for d in moved.agg(F.min("effective_date")).collect()[0] if d is not None]
        highs.append(this_month)
    if was[THRESHOLD] < now[THRESHOLD]:
        years = house.table(THRESHOLD).read(now[THRESHOLD]).join(
            house.table(THRESHOLD).read(was[THRESHOLD]).select("year"), "year", "left_anti")  # fmt: skip
        lows += [dt.date(r["year"], 1, 1) for r in years.select("year").collect()]
        highs.append(this_month)
    if was["as_of"] != now["as_of"]:
        lows.append(dt.date.fromisoformat(was["as_of"]))
        highs.append(this_month)
    if lows:
        lows.append(_unbroken(dated(house.table(FACT).read(now[FACT])), min(lows)))
    return lows, highs


def _unbroken(outages: DataFrame, day: dt.date) -> dt.date:
    """The day on which the outages began that last into ``day``, or overlap others that do, and so on; the day for none.

    What changes from a day on can end, or prolong, interruptions that began before it. Which outages share service points
    is not asked: to look at a few months more costs less.

    :param outages: rows of fact_outage with started_date.
    """
    before = F.max("restored_at").over(Window.orderBy("started_at").rowsBetween(Window.unboundedPreceding, -1))
    apart = F.coalesce(F.col("started_at") >= before, F.lit(True))
    earlier = outages.where(F.col("started_date") < F.lit(day))
    earlier = earlier.select("started_date", "started_at", "restored_at", apart.alias("_apart"))
    since = earlier.where(lasting_into(day)).agg(F.min("started_at")).collect()[0][0]
    if since is None:
        return day
    begun = earlier.where(F.col("_apart") & (F.col("started_at") <= F.lit(since)))
    first: dt.date = begun.agg(F.max("started_date")).collect()[0][0]
    return first


def all_months(facts: DataFrame, held: DataFrame, as_of: dt.date) -> Months | None:
    """From the month of the first outage, or of the first row that stands, to that of the as-of date; None: of neither.

    :param facts: rows of fact_outage. :param held: rows of kpi_service_reliability.
    """
    return _from_first(*_first_months(facts, held, as_of), as_of)


def _first_months(facts: DataFrame, held: DataFrame, as_of: dt.date) -> tuple[dt.date | None, dt.date | None]:
    """First days of the month of the first outage, and of the first row that stands; None where there is none."""
    begin = dated(facts).where(F.col("started_date") <= F.lit(as_of)).agg(F.min("started_date")).collect()[0][0]
    period = held.agg(F.min("period")).collect()[0][0]
    return begin.replace(day=1) if begin else None, dt.date.fromisoformat(f"{period}-01") if period else None


def _from_first(begin: dt.date | None, stands: dt.date | None, as_of: dt.date) -> Months | None:
    starts = [d for d in (begin, stands) if d is not None]
    return Months(min(starts), as_of.replace(day=1), as_of) if starts else None


def _months_on(month: dt.date, count: int) -> dt.date:
    number = month.year * 12 + month.month - 1 + count
    return dt.date(number // 12, number % 12 + 1, 1)


def indices_of(frames: Mapping[str, DataFrame], months: Months, given: ReliabilitySettings, zone: str, contract: Contract,
               keep: Callable[[DataFrame, str], DataFrame]) -> DataFrame:  # fmt: skip
    """Rows of kpi_service_reliability of these months, in the contract's columns.

    :param frames: rows of fact_outage, dim_service_point and reliability_threshold, by name. :param zone: the utility's.
    :param keep: what a frame that is needed several times goes through, with a name: ``Run.staged``, or nothing.
    """
    points = frames[POINTS]
    known = known_by(frames[FACT], months.as_of, zone)
    parts, hit = _whole(known, points, months.since, given, keep)
    thresholds = frames[THRESHOLD].select("year", "threshold_saidi")
    daily = daily_saidi(parts, served_by_day(points, months.since, months.until))
    major = keep(major_days(daily, thresholds), "reliability_major_days")
    on_major = F.broadcast(major.select(F.col("day").alias("started_date"), F.lit(True).alias("is_major")))
    parts, hit = (rows.join(on_major, "started_date", "left").fillna(False, ["is_major"]) for rows in (parts, hit))
    first = known.where(F.col("started_date") < F.lit(months.until)).agg(F.min("started_date")).collect()[0][0]
    began = months.until if first is None else max(months.first, first.replace(day=1))
    own = parts.where((F.col("started_date") >= F.lit(began)) & (F.col("started_date") < F.lit(months.until)))
    served = served_by_month(points, began, months.until, zone)
    ends = _month_ends(points.sparkSession, began, months.until)
    worst = worst_served(hit, points, ends, cemi=given.cemi_interruptions, celid_hours=given.celid_hours)
    denominators = served.withColumn("exclusions", F.explode(F.array(*map(F.lit, EXCLUSIONS))))
    rows = _summed([numerators(own), worst, denominators]).join(ends, "month")
    rows = rows.join(_major_by_month(major, thresholds, ends), "month")
    rows = rows.where(F.col("major_event_days").isNotNull() | ~F.col("exclusions").isin(*OF_MAJOR_DAYS))
    return _finished(rows, contract, given)


def _whole(known: DataFrame, points: DataFrame, since: dt.date, given: ReliabilitySettings,
           keep: Callable[[DataFrame, str], DataFrame]) -> tuple[DataFrame, DataFrame]:  # fmt: skip
    """Interruptions that began on ``since`` or later, as ``shared_out`` gives them, and those of each service point.

    Of those before it, some are looked at because they lasted into the day, and are not all there: leave them out.

    :param known: as ``known_by`` gives it, all days of it: what begins later may prolong an interruption.
    """
    near = reaching(known, since)
    hit = keep(merged(interrupted(near, points), near, given.momentary_minutes), "reliability_hit")
    return keep(shared_out(near, hit), "reliability_interruptions"), hit.where("is_first")


def _month_ends(spark: SparkSession, first: dt.date, until: dt.date) -> DataFrame:
    """``month`` (its first day), ``last_day`` and ``days`` of each month that begins before ``until``."""
    rows = []
    month = first
    while month < until:
        following = min(_months_on(month, 1), until)
        rows.append((month, following - _DAY, (following - month).days))
        month = _months_on(month, 1)
    return local_frame(spark, rows, "month date, last_day date, days int")


COUNTS = ("service_point_days", "service_point_hours", "service_points_at_end", "cemi_customers", "celid_customers")


def _summed(parts: list[DataFrame]) -> DataFrame:
    """The figures of one month, PLACE and set of exclusions in one row; what a part does not tell is 0."""
    key = ["month", *PLACE, "exclusions"]
    united = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), parts)
    return united.groupBy(*key).agg(*[F.coalesce(F.sum(n), F.lit(0)).alias(n) for n in (*MEASURES, *COUNTS)])


def _major_by_month(major: DataFrame, thresholds: DataFrame, ends: DataFrame) -> DataFrame:
    """``month`` and ``major_event_days``: null where the month's year has no threshold."""
    counts = major.groupBy(F.trunc("day", "MM").alias("month")).agg(F.count(F.lit(1)).cast("int").alias("_count"))
    known = ends.select("month").join(counts, "month", "left").join(
        F.broadcast(thresholds.select("year")), F.year("month") == F.col("year"), "left")  # fmt: skip
    days = F.when(F.col("year").isNotNull(), F.coalesce("_count", F.lit(0)))
    return known.select("month", days.alias("major_event_days"))


def _finished(rows: DataFrame, contract: Contract, given: ReliabilitySettings) -> DataFrame:
    types = {c.name: c.type for c in contract.columns}
    exact = {n: F.col(n).cast(types[n]) for n in (*MEASURES, *COUNTS)}
    filled = rows.withColumns({
        **exact,
        "period": F.date_format("month", "yyyy-MM"),
        "date_key": day_key("month"),
        "service_points": (F.col("service_point_days").cast("double") / F.col("days")).cast(types["service_points"]),
        "cemi_interruptions": F.lit(given.cemi_interruptions),
        "celid_hours": F.lit(given.celid_hours).cast(types["celid_hours"]),
    })  # fmt: skip
    key = hash64(contract, ["period", *PLACE, "exclusions"], domain=contract.table)
    return indices(filled).withColumn("reliability_key", key).select(*contract.column_names)
