"""The reliability indices of IEEE 1366 as pure functions: who was interrupted, who was served, major event days, the ratios.

Definitions, and how each was interpreted where sources differ: docs/reliability-indices.md. Source of the formulas: reference of
the domain, sections 1.1 (indices by restoration step, service points as customers) and 1.2 (2.5 beta), vectors V1, V2 and V14.

Nothing here reads a clock or a table: days, zone and thresholds are arguments. Points are rows of dim_service_point, outages rows
of fact_outage (columns by their contracts).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

# kind of element -> the column of dim_service_point that names it; smaller ones first
KINDS: Mapping[str, str] = {
    "service_point": "service_point_id", "transformer": "transformer_id", "circuit": "circuit_id", "feeder": "feeder_id",
    "substation": "substation_id",
}  # fmt: skip
PLACE = ("district", "circuit_id")  # what the indices are told apart by
UNKNOWN_PLACE = "?"
MONTHS_BACK = 12  # CEMI and CELID look at so many months, the month itself included
# what is left out of the numerators -> condition for what stays, over the columns of an interruption
EXCLUSIONS: Mapping[str, str] = {
    "none": "true",
    "major_event_days": "NOT is_major",
    "loss_of_supply": "NOT loss_of_supply",
    "planned": "NOT planned",
    "major_event_days_and_planned": "NOT (is_major OR planned)",
}
# those that leave days out which nobody can name where the year has no threshold
OF_MAJOR_DAYS = tuple(name for name, stays in EXCLUSIONS.items() if "is_major" in stays)
MEASURES = ("customer_interruptions", "customer_minutes", "open_interruptions", "momentary_interruptions")
_COUNTED = "decimal(18,6)"
_STEP = ("outage_id", "step_id")
_MINUTE = 60_000_000  # microseconds


# -- who was interrupted -----------------------------------------------------------------------------------------------


def active(points: DataFrame) -> DataFrame:
    """The versions that count as customers: metered service points with an active account (IEEE 1366)."""
    return points.where("status = 'active'")


def elements(points: DataFrame) -> DataFrame:
    """Each version once for each element that it hangs on, itself included: ``element_kind``, ``element_id``, ``_size``.

    ``_size``: 0 for the smallest kind of element.
    """
    named = [
        F.struct(F.lit(kind).alias("element_kind"), F.col(column).alias("element_id"), F.lit(size).alias("_size"))
        for size, (kind, column) in enumerate(KINDS.items())
    ]
    return points.withColumn("_element", F.explode(F.array(*named))).select("*", "_element.*").drop("_element").where(
        "element_id IS NOT NULL"
    )  # fmt: skip


def interrupted(steps: DataFrame, points: DataFrame) -> DataFrame:
    """The service points that each step restores: active ones that hung on its element on the day of its start.

    Within an outage a point belongs to one step, that of its smallest element, of several to the one that was restored
    last: where a circuit is restored and one of its transformers later, those behind the transformer waited for that.

    :param steps: outage_id, step_id, element_kind, element_id, started_at, restored_at, started_date.
    :param points: rows of dim_service_point.
    :return: outage_id, step_id, service_point_id and PLACE (UNKNOWN_PLACE for null).
    """
    named = steps.select("outage_id", "step_id", "element_kind", "element_id", "started_at", "restored_at", "started_date")
    hung = elements(active(points).select(
        *KINDS.values(), "effective_date", "expiry_date", F.coalesce("district", F.lit(UNKNOWN_PLACE)).alias("district"),
        F.coalesce("circuit_id", F.lit(UNKNOWN_PLACE)).alias("_circuit"),
    ))  # fmt: skip
    on_the_day = "effective_date <= started_date AND started_date < expiry_date"
    hit = hung.join(F.broadcast(named), ["element_kind", "element_id"]).where(on_the_day)
    own = Window.partitionBy("outage_id", "service_point_id").orderBy(
        "_size", F.desc_nulls_first("restored_at"), F.desc("started_at"), "step_id"
    )
    first = hit.withColumn("_place", F.row_number().over(own)).where("_place = 1")
    return first.select("outage_id", "step_id", "service_point_id", "district", F.col("_circuit").alias("circuit_id"))


def lasting_into(day: dt.date) -> Column:
    """Whether an outage ended on the day or later, by ``restored_at``; a day before counts too, as no zone is a day from UTC."""
    return F.col("restored_at") >= F.lit(day - dt.timedelta(days=1)).cast("timestamp")


def reaching(outages: DataFrame, since: dt.date) -> DataFrame:
    """The outages that began on the day or later, and earlier ones that lasted into it: who was out then had no supply to lose.

    Those with which the earlier ones overlapped may be left out, so that of them ``merged`` does not say all.

    :param outages: rows of fact_outage with started_date.
    """
    return outages.where((F.col("started_date") >= F.lit(since)) | lasting_into(since))


def merged(hit: DataFrame, outages: DataFrame, momentary_minutes: float) -> DataFrame:
    """What each step was to each service point, where interruptions that overlap are one, from loss to the last return.

    Who has no supply cannot lose it: of a feeder out from 10 to 14 and a transformer on it from 12 to 16, those behind the
    transformer had one interruption of six hours, which began with the feeder's. It belongs to the step that began first
    (``is_first``), with its day, place and kind; it is open while one of them is. One whose end nobody knows holds until the
    point is interrupted again: who loses supply has had it, and a record that nobody closed must not swallow what follows.

    :param hit: as ``interrupted`` gives it. :param outages: rows of fact_outage with started_date: of these steps, and of
        others on the points at the same time. :param momentary_minutes: what lasts longer is sustained.
    :return: ``hit`` with is_first; started_date, minutes (null while open), is_open and is_momentary of the whole; planned and
        loss_of_supply of the step; and ``_more``: the microseconds by which the whole outlasts the step.
    """
    told = outages.select(*_STEP, "started_at", "restored_at", "started_date", "is_open", "planned", "loss_of_supply")
    rows = hit.join(F.broadcast(told), list(_STEP))
    in_time = Window.partitionBy("service_point_id").orderBy("started_at", F.desc_nulls_last("restored_at"), *_STEP)
    before = F.max("restored_at").over(in_time.rowsBetween(Window.unboundedPreceding, -1))
    rows = rows.withColumn("is_first", F.coalesce(F.col("started_at") >= before, F.lit(True)))
    until_here = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    rows = rows.withColumn("_whole", F.sum(F.col("is_first").cast("int")).over(until_here))
    of_whole = Window.partitionBy("service_point_id", "_whole")
    rows = rows.withColumns({
        "_begin": F.min("started_at").over(of_whole), "started_date": F.min("started_date").over(of_whole),
        "_end": F.max("restored_at").over(of_whole), "is_open": F.max("is_open").over(of_whole),
    })  # fmt: skip
    micros = F.when(~F.col("is_open"), F.unix_micros("_end") - F.unix_micros("_begin"))
    return rows.select(
        *_STEP, "service_point_id", *PLACE, "is_first", "started_date", "is_open", "planned", "loss_of_supply",
        (micros.cast("decimal(20,0)") / _MINUTE).cast("decimal(18,6)").alias("minutes"),
        F.coalesce(micros <= int(momentary_minutes * _MINUTE), F.lit(False)).alias("is_momentary"),
        F.coalesce(F.unix_micros("_end") - F.unix_micros("restored_at"), F.lit(0)).alias("_more"),
    )  # fmt: skip


def shared_out(outages: DataFrame, hit: DataFrame) -> DataFrame:
    """Steps parted by PLACE: ``customers`` and ``customer_minutes`` by the share of the points that it interrupted there.

    Parted too by whether it was open or momentary to them: an interruption that goes on with another step may be neither.
    Those who were out already count to the step that they lost supply with, its minutes last until they had it back. Of a
    step on which no service point is known, all lies in the place that the source stated, or UNKNOWN_PLACE.

    :param outages: rows of fact_outage. :param hit: as ``merged`` gives it, of at least these steps.
    :return: the outages' columns, those of PLACE, is_open and is_momentary replaced, customer_minutes shared out, and
        ``customers`` DECIMAL(18,6).
    """
    own = [*PLACE, "is_open", "is_momentary"]
    places = hit.groupBy(*_STEP, *[F.col(n).alias(f"_{n}") for n in own]).agg(
        F.expr("count_if(is_first) AS _points"), F.expr("sum(CAST(IF(is_first, _more, 0) AS decimal(20,0))) AS _more")
    )
    parts = outages.join(places, list(_STEP), "left")
    # a step that lies in one place keeps its figures to the last digit
    part = "CASE WHEN _points < service_points THEN {0} * _points / service_points ELSE {0} END"
    kind = dict(outages.dtypes)["customer_minutes"]
    more = f"_more * customers_interrupted / greatest(service_points, 1) / {_MINUTE}"
    minutes = f"{part.format('customer_minutes')} + CASE WHEN _more > 0 THEN {more} ELSE 0 END"
    return parts.withColumns({
        **{n: F.coalesce(f"_{n}", n, F.lit(UNKNOWN_PLACE)) for n in PLACE},
        **{n: F.coalesce(f"_{n}", n) for n in ("is_open", "is_momentary")},
        "customers": F.expr(f"CAST({part.format('customers_interrupted')} AS {_COUNTED})"),
        "customer_minutes": F.expr(f"CAST({minutes} AS {kind})"),
    }).drop("_points", "_more", *[f"_{n}" for n in own])  # fmt: skip


# -- who was served ----------------------------------------------------------------------------------------------------


def segments(points: DataFrame, first: dt.date, until: dt.date, by: Sequence[str] = ()) -> DataFrame:
    """How many service points were active, as runs of days with one number.

    :param first: first day. :param until: day after the last.
    :param by: columns by which they are told apart; null becomes UNKNOWN_PLACE.
    :return: ``by``, ``_from`` and ``_until`` (half-open), ``points`` (above 0).
    """
    begin, end = F.lit(first), F.lit(until)
    named = [F.coalesce(n, F.lit(UNKNOWN_PLACE)).alias(n) for n in by]
    within = active(points).where((F.col("effective_date") < end) & (F.col("expiry_date") > begin))
    moves = within.select(*named, F.inline(F.array(
        F.struct(F.greatest("effective_date", begin).alias("_from"), F.lit(1).alias("_step")),
        F.struct(F.least("expiry_date", end).alias("_from"), F.lit(-1).alias("_step")),
    )))  # fmt: skip
    net = moves.groupBy(*by, "_from").agg(F.sum("_step").alias("_step")).where("_step <> 0")
    ordered = Window.partitionBy(*by).orderBy("_from")
    until_here = ordered.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    runs = net.withColumns({"points": F.sum("_step").over(until_here), "_until": F.lead("_from").over(ordered)})
    return runs.where("points > 0").select(*by, "_from", "_until", "points")


def served_by_day(points: DataFrame, first: dt.date, until: dt.date) -> DataFrame:
    """Active service points of the whole system on each day on which there are any: ``day``, ``points``."""
    every_day = F.explode(F.expr("sequence(_from, date_sub(_until, 1))"))
    return segments(points, first, until).select(every_day.alias("day"), "points")


def served_by_month(points: DataFrame, first: dt.date, until: dt.date, zone: str) -> DataFrame:
    """What the indices of a month are divided by, for each PLACE.

    :param zone: the utility's zone: a local day has 23, 24 or 25 hours.
    :return: ``month`` (its first day), PLACE, service_point_days, service_point_hours, service_points_at_end (on the last
        day of the month, or the day before ``until``).
    """
    months = F.explode(F.expr("sequence(trunc(_from, 'MM'), trunc(date_sub(_until, 1), 'MM'), interval 1 month)"))
    parts = segments(points, first, until, PLACE).withColumn("month", months).withColumns({
        "_from": F.expr("greatest(_from, month)"), "_until": F.expr("least(_until, add_months(month, 1))"),
    })  # fmt: skip
    hours = (_midnight("_until", zone) - _midnight("_from", zone)) / 3600
    last = (F.col("_until") == F.least(F.expr("add_months(month, 1)"), F.lit(until))).cast("int")
    return parts.groupBy("month", *PLACE).agg(
        F.sum(F.col("points") * F.datediff("_until", "_from")).cast("bigint").alias("service_point_days"),
        F.sum((F.col("points") * hours).cast("decimal(24,4)")).cast("decimal(24,4)").alias("service_point_hours"),
        F.sum(F.col("points") * last).cast("bigint").alias("service_points_at_end"),
    )


def _midnight(day: str, zone: str) -> Column:
    """Seconds since 1970 (UTC) of the beginning of a local day; the session's zone is UTC."""
    return F.unix_timestamp(F.to_utc_timestamp(F.col(day).cast("timestamp"), zone))


# -- major event days --------------------------------------------------------------------------------------------------


def daily_saidi(outages: DataFrame, served: DataFrame) -> DataFrame:
    """SAIDI in minutes of each day on which a sustained interruption began that has ended, planned ones included.

    An interruption belongs to the day on which it began, however long it lasts.

    :param outages: as ``shared_out`` gives them. :param served: as ``served_by_day`` gives it; days on which nobody was
        served have no SAIDI.
    :return: ``day``, ``saidi`` DOUBLE.
    """
    ended = outages.where("NOT is_momentary AND NOT is_open")
    minutes = ended.groupBy(F.col("started_date").alias("day")).agg(F.sum("customer_minutes").alias("_minutes"))
    return minutes.join(served, "day").select("day", (F.col("_minutes").cast("double") / F.col("points")).alias("saidi"))


def threshold(daily: DataFrame, factor: float) -> DataFrame:
    """The threshold of major event days from a history of daily SAIDI: T = exp(alpha + factor x beta).

    alpha is the mean, beta the standard deviation (of a sample) of the natural logarithms; days of zero SAIDI are left out.
    Fewer than two days give nulls.

    :param daily: ``day``, ``saidi`` in minutes. :param factor: 2.5 by IEEE 1366.
    :return: one row: threshold_saidi, alpha, beta (DOUBLE), first_date, last_date, days.
    """
    logs = daily.where("saidi > 0").withColumn("_ln", F.log("saidi"))
    alpha, beta = F.avg("_ln"), F.stddev_samp("_ln")
    return logs.agg(
        F.exp(alpha + F.lit(factor) * beta).alias("threshold_saidi"), alpha.alias("alpha"), beta.alias("beta"),
        F.min("day").alias("first_date"), F.max("day").alias("last_date"), F.count(F.lit(1)).cast("int").alias("days"),
    )  # fmt: skip


def major_days(daily: DataFrame, thresholds: DataFrame) -> DataFrame:
    """The days whose SAIDI is above the threshold of their year: ``day``.

    :param thresholds: ``year``, ``threshold_saidi``; days of other years are never major.
    """
    of_year = daily.join(F.broadcast(thresholds), F.year("day") == F.col("year"))
    return of_year.where("saidi > threshold_saidi").select("day")


# -- numerators --------------------------------------------------------------------------------------------------------


def numerators(parts: DataFrame) -> DataFrame:
    """MEASURES by month, PLACE and set of EXCLUSIONS.

    :param parts: interruptions as ``shared_out`` gives them, with ``started_date`` and ``is_major``.
    :return: ``month`` (its first day), PLACE, ``exclusions``, MEASURES (DECIMAL).
    """
    kinds = [F.when(F.expr(stays), F.lit(name)) for name, stays in EXCLUSIONS.items()]
    kept = parts.withColumn("exclusions", F.explode(F.array(*kinds))).where("exclusions IS NOT NULL")
    sustained = "NOT is_momentary"
    return kept.groupBy(F.trunc("started_date", "MM").alias("month"), *PLACE, "exclusions").agg(
        F.expr(f"sum(IF({sustained}, customers, 0)) AS customer_interruptions"),
        F.expr(f"sum(IF({sustained} AND NOT is_open, customer_minutes, 0)) AS customer_minutes"),
        F.expr("sum(IF(is_open, customers, 0)) AS open_interruptions"),
        F.expr("sum(IF(is_momentary, customers, 0)) AS momentary_interruptions"),
    )


def worst_served(hit: DataFrame, points: DataFrame, months: DataFrame, *, cemi: int, celid_hours: float) -> DataFrame:
    """Numerators of CEMI-n and CELID-t: service points at a month's end by what happened to them in MONTHS_BACK months.

    :param hit: one row per interruption of a service point: service_point_id, started_date, minutes (null while open),
        is_momentary, is_major, planned, loss_of_supply; what began up to MONTHS_BACK - 1 months before the first month.
    :param points: rows of dim_service_point, asked where each point hangs at the end.
    :param months: ``month`` (its first day) and ``last_day`` (on which its end is looked at).
    :param cemi: n: that many sustained interruptions or more. :param celid_hours: t: one of that many hours or more.
    :return: ``month``, PLACE, ``exclusions``, ``cemi_customers``, ``celid_customers``; where neither is above 0 no row.
    """
    own = hit.where("NOT is_momentary").groupBy("service_point_id", F.trunc("started_date", "MM").alias("_began")).agg(*[
        what for n, stays in enumerate(EXCLUSIONS.values())
        for what in (F.expr(f"count_if({stays}) AS _n{n}"), F.expr(f"max(IF({stays}, minutes, NULL)) AS _m{n}"))
    ])  # fmt: skip
    lookback = F.expr(f"_began <= month AND _began > add_months(month, -{MONTHS_BACK})")
    looked = own.join(F.broadcast(months), lookback).groupBy("service_point_id", "month", "last_day").agg(*[
        what for n in range(len(EXCLUSIONS)) for what in (F.sum(f"_n{n}").alias(f"_n{n}"), F.max(f"_m{n}").alias(f"_m{n}"))
    ])  # fmt: skip
    told = [
        F.struct(F.lit(name).alias("exclusions"), (F.col(f"_n{n}") >= cemi).alias("_many"),
                 F.coalesce(F.col(f"_m{n}") >= celid_hours * 60, F.lit(False)).alias("_long"))
        for n, name in enumerate(EXCLUSIONS)
    ]  # fmt: skip
    bad = looked.select("service_point_id", "month", "last_day", F.inline(F.array(*told))).where("_many OR _long")
    there = active(points).select("service_point_id", "effective_date", "expiry_date",
                                  *[F.coalesce(n, F.lit(UNKNOWN_PLACE)).alias(n) for n in PLACE])  # fmt: skip
    found = bad.join(there, "service_point_id").where("effective_date <= last_day AND last_day < expiry_date")
    return found.groupBy("month", *PLACE, "exclusions").agg(
        F.expr("count_if(_many) AS cemi_customers"), F.expr("count_if(_long) AS celid_customers")
    )


# -- ratios ------------------------------------------------------------------------------------------------------------


def indices(rows: DataFrame) -> DataFrame:
    """The rows with the seven ratios; each is null where its denominator is zero or null (never infinite, never 0 for nobody).

    SAIDI = CMI / N, SAIFI = CI / N, CAIDI = CMI / CI, ASAI = 1 - CMI / 60 / (hours of N), MAIFI = momentary CI / N, CEMI and
    CELID as shares of the service points at the end.

    :param rows: MEASURES, service_points (N), service_point_hours, service_points_at_end, cemi_customers, celid_customers.
    :return: saidi and caidi in minutes, saifi and maifi per customer, asai, cemi and celid as fractions.
    """

    def ratio(above: str, below: str, kind: str = "decimal(18,6)") -> Column:
        # as floating numbers: quotients of decimals lose digits where both are long
        return F.expr(f"CAST(CAST({above} AS double) / nullif(CAST({below} AS double), 0) AS {kind})")

    fine = "decimal(18,10)"
    unavailable = "CAST(customer_minutes AS double) / 60 / nullif(CAST(service_point_hours AS double), 0)"
    return rows.withColumns({
        "saidi": ratio("customer_minutes", "service_points"),
        "saifi": ratio("customer_interruptions", "service_points"),
        "caidi": ratio("customer_minutes", "customer_interruptions"),
        "asai": F.expr(f"CAST(1 - {unavailable} AS {fine})"),
        "maifi": ratio("momentary_interruptions", "service_points"),
        "cemi": ratio("cemi_customers", "service_points_at_end", fine),
        "celid": ratio("celid_customers", "service_points_at_end", fine),
    })  # fmt: skip
