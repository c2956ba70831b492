"""dim_date: every day with its calendar, the utility's holidays, fiscal periods and seasons."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import version

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.gold.days import day_key
from utilityflow.scd2 import UNKNOWN_KEY
from utilityflow.session import local_frame
from utilityflow.settings import CalendarSettings

FIRST_DAY, LAST_DAY = "1900-01-01", "2100-12-31"
ROWS = 73_415  # the days, and the row -1
_YEARS = range(int(FIRST_DAY[:4]), int(LAST_DAY[:4]) + 1)


def run_dim_date(run: Run) -> StepResult:
    """Fill dim_date; anew when its definition, the settings under ``calendar``, is another one."""
    table, settings = run.house.table("gold.dim_date"), run.settings.calendar
    now = {"calendar": definition(settings)}
    if table.version() > 0 and run.consumed.get(table.name) == now:
        return StepResult(table.name, "skipped", version=table.version(), consumed=now)
    days = calendar(run.house.spark, settings).select(*table.contract.column_names)
    table.overwrite(days.coalesce(1).sortWithinPartitions("date_key"), note={"consumed": now})
    return StepResult(table.name, "ok", ROWS, version=table.version(), consumed=now)


def definition(settings: CalendarSettings) -> str:
    """What decides the rows, as text: the settings, and the version of the package that knows the holidays."""
    return json.dumps([dataclasses.asdict(settings), version("holidays")], sort_keys=True)


def calendar(spark: SparkSession, settings: CalendarSettings) -> DataFrame:
    """Rows of dim_date: every day from FIRST_DAY to LAST_DAY, and the row -1."""
    day = F.col("date")
    holidays = local_frame(spark, named_holidays(settings), "date date, holiday_name string")
    days = spark.sql(f"SELECT explode(sequence(date'{FIRST_DAY}', date'{LAST_DAY}')) AS date")
    start = settings.fiscal_year_start
    fiscal_month = f"(month(date) - {start} + 12) % 12 + 1"
    known = days.join(F.broadcast(holidays), "date", "left").select(
        day_key(day).alias("date_key"), day,
        F.year(day).alias("year"), F.quarter(day).alias("quarter"), F.month(day).alias("month"), F.dayofmonth(day).alias("day"),
        (F.weekday(day) + 1).alias("day_of_week"), F.date_format(day, "EEEE").alias("day_name"),
        F.date_format(day, "MMMM").alias("month_name"), (F.weekday(day) >= 5).alias("is_weekend"),
        F.date_format(day, "yyyy-MM").alias("billing_period"),
        F.col("holiday_name").isNotNull().alias("is_holiday"), "holiday_name",
        # a fiscal year has the number of the calendar year in which it ends
        F.expr(f"IF({start} > 1 AND month(date) >= {start}, year(date) + 1, year(date)) AS fiscal_year"),
        F.expr(f"CAST(({fiscal_month} + 2) DIV 3 AS INT) AS fiscal_quarter"),
        F.expr(f"{fiscal_month} AS fiscal_month"), _season(settings).alias("season"),
    )  # fmt: skip
    unknown = {
        "date_key": F.lit(UNKNOWN_KEY).cast("int"),
        "day_name": F.lit("?"),
        "month_name": F.lit("?"),
        "billing_period": F.lit("?"),
    }
    kinds = dict(known.dtypes)
    row = spark.range(1).select(*[unknown.get(n, F.lit(None)).cast(kinds[n]).alias(n) for n in known.columns])
    return known.unionByName(row)


def _season(settings: CalendarSettings) -> Column:
    pairs = [F.lit(value) for name, months in settings.seasons.items() for month in months for value in (month, name)]
    return F.element_at(F.create_map(*pairs), F.month("date"))


def named_holidays(settings: CalendarSettings) -> list[tuple[object, str]]:
    """(day, name) of the holidays from FIRST_DAY to LAST_DAY, days of two names with both; none when no country is named.

    Source: the package ``holidays``, with the days on which a holiday is kept when it falls on a weekend.
    """
    if settings.country is None:
        return []
    import holidays

    found = holidays.country_holidays(settings.country, subdiv=settings.subdivision, years=_YEARS)
    return sorted((day, name) for day, name in found.items() if day.year in _YEARS)


def check_calendar(settings: CalendarSettings) -> None:
    """Whether the settings are of a country and a subdivision that the package knows, and name each month once.

    :raises UtilityFlowError: UF-1002.
    """
    if not 1 <= settings.fiscal_year_start <= 12:
        what = f"'calendar.fiscal_year_start' must be a month, 1 to 12, not {settings.fiscal_year_start}"
        raise UtilityFlowError("UF-1002", what)
    months = sorted(month for part in settings.seasons.values() for month in part)
    if months != list(range(1, 13)):
        raise UtilityFlowError("UF-1002", f"'calendar.seasons' must name each month from 1 to 12 once, not {months}")
    if settings.country is None:
        return
    import holidays

    known = holidays.list_supported_countries()
    if settings.country not in known:
        hint = nearest(settings.country, known)
        raise UtilityFlowError("UF-1002", f"'calendar.country': no holidays are known of '{settings.country}'", hint=hint)
    if settings.subdivision is not None and settings.subdivision not in known[settings.country]:
        hint = nearest(settings.subdivision, known[settings.country])
        what = f"'calendar.subdivision': '{settings.subdivision}' is no part of {settings.country} with holidays of its own"
        raise UtilityFlowError("UF-1002", what, hint=hint)
