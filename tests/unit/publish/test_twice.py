"""The view of usage that counts twice, over rows of the mart alone."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import duckdb
import pytest

from utilityflow.contracts import duckdb_type, load_contracts
from utilityflow.publish import twice

CONTRACT = load_contracts()[twice.MART]
READ = ("billing_period", "customer_id", "meter_id", "commodity", "register", "direction", "unit", "days_with_reads",
        "first_date", "last_date")  # fmt: skip
Row = tuple[str | None, int, str, str, str]


def a(customer: str | None, days: int, first: str, last: str, register: str = "1.8.0") -> Row:
    """What the mart holds of a customer's month: his days, the first of them and the day after the last."""
    return customer, days, first, last, register


def shown(months: dict[str, list[Row]]) -> list[tuple[Any, ...]]:
    """Month, customers, days, days covered, days covered before, of each row of the view; all are of one meter."""
    with contextlib.closing(duckdb.connect()) as db:
        db.execute("CREATE SCHEMA gold")
        columns = ", ".join(f'"{n}" {duckdb_type(CONTRACT.column(n).physical_type)}' for n in READ)
        db.execute(f"CREATE TABLE {twice.MART} ({columns})")
        for month, rows in months.items():
            for customer, days, first, last, register in rows:
                row = [month, customer, "M1", "electric", register, "delivered", "kWh", days,
                       dt.date.fromisoformat(first), dt.date.fromisoformat(last)]  # fmt: skip
                db.execute(f"INSERT INTO {twice.MART} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        twice.put(db, "gold")
        found = db.execute(f"SELECT * FROM gold.{twice.VIEW} ORDER BY billing_period, register")
        names = [column[0] for column in found.description or ()]
        assert names == ["billing_period", *READ[2:7], "customers", "days_with_reads", "days_covered", "days_covered_before"]
        return [(row[0], *row[6:]) for row in found.fetchall()]


@pytest.mark.parametrize(
    "months",
    [
        {"2025-02": [a("A", 28, "2025-02-01", "2025-03-01")], "2025-03": [a("A", 31, "2025-03-01", "2025-04-01")]},
        # a move on 16 March
        {"2025-03": [a("A", 15, "2025-03-01", "2025-03-16"), a("B", 16, "2025-03-16", "2025-04-01")]},
        # billed periods that follow each other
        {"2025-02": [a("A", 31, "2025-01-20", "2025-02-20")], "2025-03": [a("A", 28, "2025-02-20", "2025-03-20")]},
        # a day of each of two registers
        {"2025-03": [a("A", 1, "2025-03-01", "2025-03-02"), a("A", 1, "2025-03-01", "2025-03-02", "2.8.0")]},
        # days without reads are no matter
        {"2025-01": [a("A", 2, "2025-01-01", "2025-02-01")], "2025-03": [a("A", 1, "2025-03-31", "2025-04-01")]},
    ],
)
def test_what_counts_once_is_not_shown(months: dict[str, list[Row]]) -> None:
    assert shown(months) == []


@pytest.mark.parametrize("other", ["B", None])
def test_a_day_of_two_customers(other: str | None) -> None:
    """The estimate of 16 March names the one who left, the actual the one who came, or nobody."""
    months = {"2025-03": [a("A", 16, "2025-03-01", "2025-03-17"), a(other, 16, "2025-03-16", "2025-04-01")]}
    assert shown(months) == [("2025-03", 2, 32, 31, 0)]


def test_days_within_a_billed_period() -> None:
    """Each day of February and March, and a billed period from 20 February to 20 March, which the mart has in March."""
    months = {"2025-02": [a("A", 28, "2025-02-01", "2025-03-01")], "2025-03": [a("A", 59, "2025-02-20", "2025-04-01")]}
    # of the 40 days from 20 February to 31 March nine are covered in February: 59 - 31, the 28 days of the billed period
    assert shown(months) == [("2025-03", 1, 59, 40, 9)]


def test_billed_periods_that_overlap_across_months() -> None:
    """20 January to 20 February and 10 February to 10 March, of two customers: in each month there is one."""
    months = {"2025-02": [a("A", 31, "2025-01-20", "2025-02-20")], "2025-03": [a("B", 28, "2025-02-10", "2025-03-10")]}
    assert shown(months) == [("2025-03", 1, 28, 28, 10)]


def test_a_billed_period_that_reaches_back_over_a_month_without_reads() -> None:
    """Each day of January, and a billed period from 10 January to 10 March: 22 days twice."""
    months = {"2025-01": [a("A", 31, "2025-01-01", "2025-02-01")], "2025-03": [a("A", 59, "2025-01-10", "2025-03-10")]}
    assert shown(months) == [("2025-03", 1, 59, 59, 22)]
