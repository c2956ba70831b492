"""Which months of kpi_service_reliability are made anew, and what is published of them."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.gold.days import date
from utilityflow.gold.service_reliability import FACT, KPI, POINTS, THRESHOLD, Months, _months, _unbroken
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
AS_OF = dt.date(2025, 4, 5)
MARCH = dt.date(2025, 3, 1)


def months_of(spark: SparkSession, before: list[int], after: list[int], stands: list[str]) -> Months | None:
    """The months to make where outages of an hour began on these days before and now, and rows of these periods stand."""

    def outages(days: list[int]) -> Any:
        began = [dt.datetime.combine(date(day), dt.time(10), dt.timezone.utc) for day in days]
        rows = [(day, at, at + dt.timedelta(hours=1)) for day, at in zip(days, began, strict=True)]
        return local_frame(spark, rows, "date_key int, started_at timestamp, restored_at timestamp")

    fact = SimpleNamespace(read=lambda version: outages(before if version == 1 else after),
                           changes=lambda *_: outages(sorted({*before} ^ {*after})))  # fmt: skip
    kpi = SimpleNamespace(read=lambda: local_frame(spark, [(p,) for p in stands], "period string"))
    run: Any = SimpleNamespace(house=SimpleNamespace(table={FACT: fact, KPI: kpi}.get), as_of=AS_OF)
    same = {POINTS: 1, THRESHOLD: 1, "as_of": AS_OF.isoformat(), "definition": "{}", "contract": "1"}
    return _months(run, same | {FACT: 1}, same | {FACT: 2})


def test_the_months_between_an_older_first_outage_and_what_stands_are_made(spark: SparkSession) -> None:
    """Nothing happened from 2023-07 to 2025-02, which is known now: these months have rows, of zeros."""
    made = months_of(spark, [20250310], [20230615, 20250310], ["2025-03", "2025-04"])
    assert made is not None and made.first == dt.date(2023, 6, 1) and made.last >= dt.date(2025, 2, 1), "up to what stands"


def test_the_months_before_the_first_outage_go_with_one_that_is_taken_back(spark: SparkSession) -> None:
    made = months_of(spark, [20230615, 20250310], [20250310], ["2023-06", "2024-12", "2025-03", "2025-04"])
    assert made is not None and made.first == dt.date(2023, 6, 1) and made.last >= dt.date(2025, 2, 1)
    alone = months_of(spark, [20230615], [], ["2023-06", "2025-04"])
    assert alone == Months(dt.date(2023, 6, 1), dt.date(2025, 4, 1), AS_OF), "nothing is known then"


def test_an_outage_among_others_is_felt_for_twelve_months(spark: SparkSession) -> None:
    made = months_of(spark, [20230110], [20230110, 20230615], ["2023-01", "2025-04"])
    assert made == Months(dt.date(2023, 6, 1), dt.date(2024, 5, 1), AS_OF)


def test_what_changes_is_felt_from_the_beginning_of_what_lasts_until_then(spark: SparkSession) -> None:
    """On 1 March: A and B overlap and B lasts into it; C ended before, D is open, E came after."""

    def begun(*rows: tuple[str, str | None]) -> dt.date:
        filled = [(dt.date.fromisoformat(off[:10]), *[dt.datetime.fromisoformat(t).replace(tzinfo=dt.timezone.utc) if t else None
                  for t in (off, on)]) for off, on in rows]  # fmt: skip
        return _unbroken(local_frame(spark, filled, "started_date date, started_at timestamp, restored_at timestamp"), MARCH)

    a, b = ("2025-01-30 10:00", "2025-02-10 10:00"), ("2025-02-05 10:00", "2025-03-02 10:00")
    c, d, e = ("2025-01-02 10:00", "2025-01-30 10:00"), ("2025-01-01 10:00", None), ("2025-03-01 10:00", "2025-03-02 10:00")
    assert begun(a, b, c, d, e) == dt.date(2025, 1, 30)
    assert begun(b, c, d, e) == dt.date(2025, 2, 5)
    assert begun(c, d, e) == begun() == MARCH
