"""agg_usage_monthly adds up what may be added, and keeps apart what may not."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold import monthly
from utilityflow.gold.marts import definition
from utilityflow.gold.monthly import NAME, USAGE, usage_monthly
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACT = load_contracts()[NAME]
FACT = "customer_key bigint, customer_id string, meter_id string, register string, direction string, unit string, " \
       "day int, days int, quantity double, peak double, quality string, flag string"  # fmt: skip
DAY = dt.timedelta(days=1)


def facts(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """Facts of electricity; ``day`` yyyymmdd is that of the reading, a period of ``days`` ends there, a day is its own."""
    frame = local_frame(spark, rows, FACT)
    end = "IF(days = 1, date_add(_day, 1), _day)"
    return frame.selectExpr("*", "to_date(CAST(day AS string), 'yyyyMMdd') AS _day").selectExpr(
        "customer_key", "customer_id", "meter_id", "register", "direction", "unit", "7L AS meter_key", "day AS date_key",
        "date_format(_day, 'yyyy-MM') AS billing_period", "'electricity' AS commodity", "quality AS read_quality",
        "CAST(quantity AS decimal(18,6)) AS quantity", "CAST(peak AS decimal(8,2)) AS peak_demand",
        "IF(unit = 'kWh' AND direction = 'delivered', CAST(round(CAST(quantity AS decimal(18,6)), 2) AS decimal(10,2)), NULL) "
        "AS usage_kwh",
        "IF(flag IS NULL, array(), array(flag)) AS quality_flags",
        f"date_sub({end}, days) AS period_start", f"{end} AS period_end",
    )  # fmt: skip


def kwh(customer: str | None, key: int, day: int, quantity: float, peak: float | None = None, quality: str = "actual",
        flag: str | None = None, days: int = 1, meter: str = "M1") -> tuple[Any, ...]:  # fmt: skip
    return (key, customer, meter, "1.8.0", "delivered", "kWh", day, days, quantity, peak, quality, flag)


def test_a_month_is_the_sum_of_its_facts(spark: SparkSession) -> None:
    rows = facts(
        spark,
        kwh("A", 11, 20250130, 1.005, 2.5), kwh("A", 12, 20250131, 2.004, 4.25, "estimated", "incomplete_day"),
        kwh("A", 12, 20250201, 5.0),
    )  # fmt: skip
    made = {r["billing_period"]: r for r in usage_monthly(rows, CONTRACT, None).collect()}
    assert set(made) == {"2025-01", "2025-02"}
    january = made["2025-01"]
    assert (january["quantity"], january["estimated_quantity"]) == (Decimal("3.009000"), Decimal("2.004000"))
    assert january["usage_kwh"] == Decimal("3.01"), "1.01 and 2.00, as the facts have them"
    assert (january["peak_demand"], january["facts"], january["flagged_facts"]) == (Decimal("4.25"), 2, 1)
    assert (january["days_with_reads"], january["estimated_days"], january["overlapping_days"]) == (2, 1, 0)
    assert (january["first_date"], january["last_date"]) == (dt.date(2025, 1, 30), dt.date(2025, 2, 1))
    assert (january["customer_key"], january["meter_key"], january["date_key"]) == (12, 7, 20250101), "the last day's version"
    assert (made["2025-02"]["estimated_quantity"], made["2025-02"]["peak_demand"]) == (Decimal(0), None)
    assert january["usage_month_key"] != made["2025-02"]["usage_month_key"]


def test_only_the_months_that_are_asked_for_are_made(spark: SparkSession) -> None:
    rows = facts(spark, kwh("A", 11, 20250131, 1.0), kwh("A", 11, 20250201, 2.0))
    assert [r["billing_period"] for r in usage_monthly(rows, CONTRACT, ["2025-02"]).collect()] == ["2025-02"]


def test_what_may_not_be_added_stays_apart(spark: SparkSession) -> None:
    """Two customers of one meter, use that nobody is named for, energy that came back, reactive energy."""
    solar = (11, "A", "M1", "2.8.0", "received", "kWh", 20250110, 1, 4.0, None, "actual", None)
    reactive = (11, "A", "M1", "3.8.0", "delivered", "kvarh", 20250110, 1, 3.0, None, "actual", None)
    rows = facts(spark, kwh("A", 11, 20250110, 1.0), kwh(None, -1, 20250111, 0.25), kwh("B", 21, 20250112, 2.0), solar, reactive)
    made = {(r["customer_id"], r["register"]): (r["quantity"], r["usage_kwh"], r["customer_key"])
            for r in usage_monthly(rows, CONTRACT, None).collect()}  # fmt: skip
    assert made == {
        ("A", "1.8.0"): (Decimal(1), Decimal(1), 11), (None, "1.8.0"): (Decimal("0.25"), Decimal("0.25"), -1),
        ("B", "1.8.0"): (Decimal(2), Decimal(2), 21), ("A", "2.8.0"): (Decimal(4), None, 11),
        ("A", "3.8.0"): (Decimal(3), None, 11),
    }  # fmt: skip


def test_a_billed_period_counts_whole_in_the_month_of_its_reading(spark: SparkSession) -> None:
    """It ends on the day of the reading; a daily read of that day, without a version of the customer, does not hide his key."""
    rows = facts(spark, kwh("A", 5, 20250310, 90.0, days=60, quality="substituted"), kwh("A", -1, 20250310, 3.0))
    (made,) = usage_monthly(rows, CONTRACT, None).collect()
    assert (made["billing_period"], made["quantity"], made["customer_key"]) == ("2025-03", Decimal(93), 5)
    assert (made["days_with_reads"], made["estimated_days"], made["estimated_quantity"]) == (61, 60, Decimal(90))
    assert (made["first_date"], made["last_date"]) == (dt.date(2025, 1, 9), dt.date(2025, 3, 11))
    assert made["overlapping_days"] == 0, "the day of the reading is the first that the period does not hold"


def test_days_that_are_told_twice_are_counted(spark: SparkSession) -> None:
    """Daily reads of February and March beside a billed period from 20 February to 20 March, which counts in March as a whole."""
    february = [kwh("A", 1, 20250200 + day, 1.0) for day in range(1, 29)]
    march = [kwh("A", 1, 20250300 + day, 1.0) for day in range(1, 32)]
    billed = kwh("A", 1, 20250320, 28.0, days=28)
    apart = kwh("A", 1, 20250320, 28.0, days=28, meter="M2")
    months = usage_monthly(facts(spark, *february, *march, billed, apart), CONTRACT, None).collect()
    made = {(r["meter_id"], r["billing_period"]): (r["days_with_reads"], r["overlapping_days"]) for r in months}
    # 31 + 28 days, from 20 February to 31 March 9 + 31: 1 to 19 March count twice in March. The nine days of February do too, but
    # in two months: nothing overlaps within February.
    assert made == {("M1", "2025-02"): (28, 0), ("M1", "2025-03"): (59, 19), ("M2", "2025-03"): (28, 0)}


def test_days_without_reads_hide_days_that_are_told_twice(spark: SparkSession) -> None:
    """Two billed periods, 5 to 9 March and 7 to 9 March; a day on the first leaves a gap of three."""
    periods = [kwh("A", 1, 20250310, 5.0, days=5), kwh("A", 1, 20250310, 3.0, days=3)]

    def overlapping(*rows: tuple[Any, ...]) -> int:
        (made,) = usage_monthly(facts(spark, *rows), CONTRACT, None).collect()
        return int(made["overlapping_days"])

    assert overlapping(*periods) == 3
    assert overlapping(*periods, kwh("A", 1, 20250301, 1.0)) == 0, "9 days, from 1 to 9 March"


def test_a_table_of_an_earlier_contract_is_made_anew(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows lack what the contract has gained; of the same contract only months of which facts came are."""
    rows = facts(spark, kwh("A", 11, 20250131, 1.0), kwh("A", 11, 20250201, 2.0))
    tables = {
        NAME: SimpleNamespace(contract=CONTRACT, version=lambda: 3, read=lambda: rows),
        USAGE: SimpleNamespace(version=lambda: 2, read=lambda _: rows,
                               changes=lambda *_: rows.where("billing_period = '2025-02'")),
    }  # fmt: skip
    told: list[str | None] = []

    def replace(*given: Any, within: str | None) -> int:
        told.append(within)
        return given[3].count()

    monkeypatch.setattr(monthly, "replace", replace)
    now = {USAGE: 2, "parameters": definition(CONTRACT.property("parameters")), "contract": CONTRACT.version}

    def written(**was: Any) -> tuple[str, int]:
        noted = {n: v for n, v in (now | was).items() if v is not None}
        house = SimpleNamespace(table=tables.__getitem__)
        run: Any = SimpleNamespace(house=house, consumed={NAME: noted}, say=lambda *_, **__: None)
        done = monthly.run_usage_monthly(run)
        assert done.consumed == now
        return done.status, done.rows_written

    assert written() == ("skipped", 0)
    assert written(**{USAGE: 1}) == ("ok", 1)
    assert written(contract="1.0.0") == written(contract=None) == ("ok", 2)
    assert told == ["billing_period IN ('2025-02')", None, None]


def test_the_key_of_the_last_day_does_not_depend_on_order(spark: SparkSession) -> None:
    """Keys are hashes of any sign; of two facts on one day the same is taken whichever comes first."""
    high, low = 2**62 + 1, -(2**62)
    rows = (kwh("A", high, 20250310, 1.0), kwh("A", low, 20250310, 2.0, days=30), kwh("A", 2**63 - 1, 20250309, 1.0))
    keys = {usage_monthly(facts(spark, *some), CONTRACT, None).collect()[0]["customer_key"] for some in (rows, rows[::-1])}
    assert len(keys) == 1 and keys <= {high, low}
