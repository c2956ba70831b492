"""dim_date: holidays, fiscal periods and seasons, and a calendar that changes with the settings."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.control.home import open_home
from utilityflow.errors import UtilityFlowError
from utilityflow.gold.calendar import ROWS, calendar, check_calendar
from utilityflow.operate.plan import plan
from utilityflow.settings import CalendarSettings, Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
BAVARIA = CalendarSettings("DE", "BY", 10, {"high": (6, 7, 8), "low": (1, 2, 3, 4, 5, 9, 10, 11, 12)})


def days(spark: SparkSession, settings: CalendarSettings, *keys: int) -> dict[int, dict[str, Any]]:
    rows = calendar(spark, settings).where(f"date_key IN ({', '.join(map(str, keys))})").collect()
    return {row["date_key"]: row.asDict() for row in rows}


def test_a_day_has_its_holiday_fiscal_period_and_season(spark: SparkSession) -> None:
    found = days(spark, CalendarSettings(), 20250704, 20251001, 20220101, 20211231)
    assert (found[20250704]["is_holiday"], found[20250704]["holiday_name"]) == (True, "Independence Day")
    assert (found[20251001]["is_holiday"], found[20251001]["holiday_name"]) == (False, None)
    assert found[20211231]["holiday_name"] == "New Year's Day (observed)", "a Saturday's holiday is kept on the Friday before"
    fiscal = [found[20251001][f"fiscal_{part}"] for part in ("year", "quarter", "month")]
    assert (fiscal, found[20251001]["season"], found[20250704]["season"]) == ([2025, 4, 10], "winter", "summer")


def test_a_fiscal_year_has_the_number_of_the_year_in_which_it_ends(spark: SparkSession) -> None:
    found = days(spark, BAVARIA, 20250930, 20251001, 20260131, 20251103, 20250106)
    told = {key: tuple(row[f"fiscal_{part}"] for part in ("year", "quarter", "month")) for key, row in found.items()}
    assert told == {20250930: (2025, 4, 12), 20251001: (2026, 1, 1), 20260131: (2026, 2, 4), 20251103: (2026, 1, 2),
                    20250106: (2025, 2, 4)}  # fmt: skip
    assert found[20250106]["is_holiday"], "Epiphany is one in Bavaria, not in all of Germany"
    assert not days(spark, replace(BAVARIA, subdivision=None), 20250106)[20250106]["is_holiday"]


def test_every_day_once_in_the_columns_of_the_contract(spark: SparkSession) -> None:
    rows = calendar(spark, CalendarSettings(country=None))
    contract = load_contracts()["gold.dim_date"]
    assert [(name, kind) for name, kind in rows.dtypes] == [(c.name, c.type) for c in contract.columns]
    told = rows.selectExpr("count(*)", "count(DISTINCT date_key)", "count_if(is_holiday)", "count(DISTINCT date)").collect()[0]
    assert tuple(told) == (ROWS, ROWS, 0, ROWS - 1)
    unknown = days(spark, CalendarSettings(), -1)[-1]
    assert {n for n, v in unknown.items() if v is not None} == {"date_key", "day_name", "month_name", "billing_period"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"country": "XX"}, "no holidays are known of 'XX'"),
        ({"subdivision": "QQ"}, "'QQ' is no part of US"),
        ({"fiscal_year_start": 13}, "must be a month"),
        ({"seasons": {"all": tuple(range(1, 12))}}, "each month from 1 to 12 once"),
        ({"seasons": {"all": tuple(range(1, 13)), "twice": (7,)}}, "each month from 1 to 12 once"),
    ],
)
def test_settings_that_fit_no_calendar_are_refused_before_anything_is_written(
    wrong: dict[str, Any], says: str, tmp_path: Path
) -> None:
    settings = CalendarSettings(**wrong)
    with pytest.raises(UtilityFlowError, match=says) as refused:
        check_calendar(settings)
    assert refused.value.code == "UF-1002"
    with pytest.raises(UtilityFlowError, match=says):
        pipeline.run(Settings(home=str(tmp_path / "home"), calendar=settings))
    assert not (tmp_path / "home").exists()


def test_another_calendar_in_the_settings_makes_the_table_anew(spark: SparkSession, tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path / "home"), time_zone="UTC")
    other = replace(settings, calendar=BAVARIA)

    def run(given: Settings) -> tuple[str, int]:
        answer = pipeline.run(given, as_of=dt.date(2025, 1, 1), wanted=["gold.dim_date"])
        step = answer["steps"][0]
        return step["status"], step["version"]

    first = run(settings)
    assert first[0] == "ok"
    assert run(settings) == ("skipped", first[1])
    told = {s["step"]: s["why"] for s in plan(other, select=["gold.dim_date"])["steps"]}
    assert told["gold.dim_date"] == "another calendar in the settings"
    assert run(other) == ("ok", first[1] + 1)
    house = pipeline.open_lakehouse(other, open_home(other, create=False))
    rows = house.table("gold.dim_date").read()
    assert (rows.count(), rows.where("season = 'high'").count() > 0) == (ROWS, True)
    assert run(other) == ("skipped", first[1] + 1)
