"""Meter reads: one register and period per row, in one unit per kind of energy, with the day that the read belongs to.

Three kinds of period (the feed maps one of them, or chooses per row): ``usage_date`` is the total of one local day;
``interval_start`` and ``interval_end`` are instants within a local day; ``period_start`` and ``period_end`` are the days
of a billed period, whose reading day is period_end. Source of the rules: DESIGN.md section 10, "Facts".
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

FILLED = (
    "customer_id", "meter_id", "commodity", "register", "direction", "unit", "quantity", "peak_demand", "rate_schedule",
    "read_quality", "usage_date", "period_start", "period_end", "interval_start", "interval_end", "previous_index",
    "current_index", "months_in_period",
)  # fmt: skip
DAY = "usage_date"  # equal records agree in it

# what a feed that does not map the column means
DEFAULTS = {"commodity": "electric", "direction": "delivered", "unit": "kWh", "read_quality": "actual"}

# spelled units -> (our unit, factor); reactive energy and volumes keep their own unit
_UNITS = {
    "kwh": ("kWh", "1"),
    "wh": ("kWh", "0.001"),
    "mwh": ("kWh", "1000"),
    "therms": ("therm", "1"),
    "therm": ("therm", "1"),
}


def conform(typed: DataFrame, mapped: Collection[str], zone: str) -> DataFrame:
    """Canonical reads from typed columns.

    :param typed: the columns of FILLED, typed and trimmed; unmapped ones null.
    :param mapped: names that the feed maps; the others take DEFAULTS, and an unmapped register is the direction's name.
    :param zone: the utility's zone, in which an interval's day is cut.
    """
    frame = typed.withColumns({n: _word(n, mapped) for n in ("commodity", "direction", "read_quality")})
    frame = frame.withColumns({
        "register": F.col("register") if "register" in mapped else F.col("direction"),
        "unit": F.col("unit") if "unit" in mapped else F.lit(DEFAULTS["unit"]),
    })  # fmt: skip
    spelled = F.lower("unit")
    unit, factor = F.col("unit"), F.lit("1").cast("decimal(10,6)")
    for name, (ours, times) in _UNITS.items():
        unit = F.when(spelled == name, F.lit(ours)).otherwise(unit)
        if times != "1":
            factor = F.when(spelled == name, F.lit(times).cast("decimal(10,6)")).otherwise(factor)
    frame = frame.withColumns({"unit": unit, "_scaled": F.col("quantity") * factor})
    # a value that does not fit becomes null here and breaks required:quantity
    frame = frame.withColumn("quantity", F.expr("try_cast(_scaled AS decimal(18,6))")).drop("_scaled")
    return _periods(frame, zone)


def _word(name: str, mapped: Collection[str]) -> Column:
    return F.lower(name) if name in mapped else F.lit(DEFAULTS[name])


def _periods(frame: DataFrame, zone: str) -> DataFrame:
    by_day = F.col("usage_date").isNotNull()
    by_interval = F.col("interval_start").isNotNull() & F.col("interval_end").isNotNull()
    local_day = F.to_date(F.from_utc_timestamp("interval_start", zone))
    day = F.when(by_day, F.col("usage_date")).when(by_interval, local_day).otherwise(F.col("period_end"))
    single = by_day | by_interval
    return frame.withColumns({
        "period_kind": F.when(by_day, "day").when(by_interval, "interval").otherwise("period"),
        "usage_date": day,
        "period_start": F.when(single, day).otherwise(F.col("period_start")),
        "period_end": F.when(single, F.date_add(day, 1)).otherwise(F.col("period_end")),
        "interval_start": F.when(by_interval & ~by_day, F.col("interval_start")),
        "interval_end": F.when(by_interval & ~by_day, F.col("interval_end")),
        "billing_period": _month(day),
    })  # fmt: skip


def _month(day: Column) -> Column:
    """``yyyy-MM`` by arithmetic: ``date_format`` costs ten times as much, the cast of a DATE to text five times."""
    year, month = F.year(day), F.month(day)
    return F.concat(F.lpad(year.cast("string"), 4, "0"), F.when(month < 10, "-0").otherwise("-"), month.cast("string"))
