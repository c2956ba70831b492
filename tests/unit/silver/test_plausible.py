"""The rules that tell implausible reads and bills: each is broken by what it is made for and by nothing that is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.quality.rules import contract_rules, judge

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine


def flags(spark: SparkSession, table: str, rules: tuple[str, ...], columns: str, rows: list[str]) -> list[list[str]]:
    """The flags of rows, given as SQL, judged by some rules of a silver contract."""
    wanted = [r for r in contract_rules(load_contracts()[f"silver.{table}"], "UTC", []) if r.id in rules]
    assert [r.id for r in wanted] == list(rules)
    listed = ", ".join(f"({n}, cast(null as string), {row})" for n, row in enumerate(rows))
    frame = spark.sql(f"SELECT * FROM VALUES {listed} AS t(n, _corrupt_record, {columns})")
    return [row["quality_flags"] for row in judge(frame, wanted).orderBy("n").collect()]


def test_energy_and_peak_of_a_day_fit_each_other(spark: SparkSession) -> None:
    cases: list[tuple[str, list[str]]] = [
        ("'day', 'kWh', 24.000, 1.00", []),
        ("'day', 'kWh', 26.250, 1.00", []),  # 25 hours, and 0.05 kW for rounding
        ("'day', 'kWh', 26.251, 1.00", ["more_than_peak"]),
        ("'day', 'kWh', -26.251, 1.00", ["more_than_peak"]),
        ("'day', 'kWh', 296.280, 3.40", ["more_than_peak"]),  # a spike of 24 times
        ("'day', 'kWh', 12345, 0.98", ["more_than_peak"]),  # a lost decimal point
        ("'day', 'kWh', 500, cast(null as decimal(8,2))", []),
        ("'day', 'kvarh', 500, 1.00", []),
        ("'period', 'kWh', 500, 1.00", []),
        ("'day', 'kWh', 0.000, 1.00", ["stuck_register"]),
        ("'period', 'kWh', 0, 0.06", ["stuck_register"]),
        ("'day', 'kWh', 0.000, 0.05", []),
        ("'day', 'kWh', 0.001, 1.00", []),
        ("'day', 'kWh', cast(null as decimal(18,6)), 1.00", []),
    ]
    told = flags(spark, "meter_reads", ("MR-11", "MR-12"), "period_kind, unit, quantity, peak_demand", [c for c, _ in cases])
    assert told == [expected for _, expected in cases]


def test_a_charge_by_the_day_is_for_the_days_of_its_period(spark: SparkSession) -> None:
    cases: list[tuple[str, list[str]]] = [
        ("'day', 30, date'2024-02-10', date'2024-03-11'", []),
        ("'day', -30, date'2024-02-10', date'2024-03-11'", []),  # taken back
        ("'day', 30, date'2024-01-31', date'2024-03-11'", ["days_differ_from_period"]),  # begins ten days early
        ("'day', 30, date'2024-03-11', date'2024-02-10'", ["days_differ_from_period"]),
        ("'kWh', 30, date'2024-01-31', date'2024-03-11'", []),
        ("'day', 30, cast(null as date), date'2024-03-11'", []),
    ]
    told = flags(spark, "bills", ("BL-13",), "unit, quantity, period_start, period_end", [c for c, _ in cases])
    assert told == [expected for _, expected in cases]
