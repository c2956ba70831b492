"""``bench growth``: what its verdicts say of days, of the late file and of small files, and that each can be missed."""

from __future__ import annotations

from typing import Any

import pytest

from utilityflow.bench import growth
from utilityflow.upkeep import SMALL, SPARE

MIB = 1024**2


def runs(*seconds: float, late: float) -> list[dict[str, Any]]:
    """Runs of 1, 2 and 6 days of 1,000 records, of the late file and of nothing."""
    days = [{"what": f"{n} days", "days": n, "records": 1_000 * n, "seconds": s} for n, s in zip((1, 2, 6), seconds, strict=True)]
    return [*days, {"what": "the day of month 2", "late": True, "records": 900, "seconds": late},
            {"what": "nothing new", "records": 0, "seconds": 2.0}]  # fmt: skip


def months(*seconds: float, late: float) -> str:
    """The summary of three months and such runs."""
    held = {"silver.reads": {"files": 4, "bytes": 80 * MIB, "small": 1, "partitions": 1}}
    series = [{"month": n, "records": 1_000, "seconds": 9.0, "data_files": held} for n in (1, 2, 3)]
    increments = runs(*seconds, late=late)
    line = growth._line(increments)
    return growth.summary({"of": "months", "customers": 200, "series": series, "increments": increments, "days": line,
                           "late": growth._late(increments, line), "ratio": 1.0, "ratio_per_record": 1.0,
                           "conditions": {"cores": 2}})  # fmt: skip


def test_days_are_judged_by_the_line_through_them() -> None:
    found = runs(38.0, 44.0, 68.0, late=40.0)
    assert growth._line(found) == {"fixed": 32.0, "each": 6.0, "off": 0.0, "per_million": 6000.0}
    found[1]["seconds"] = 88.0
    assert growth._line(found)["off"] > growth.OFF_LINE


def test_days_in_proportion_are_told_with_their_fixed_part_apart() -> None:
    text = months(38.0, 44.0, 68.0, late=40.0)
    assert "Days: 32.0 s for a run, and 6.0 s for each day (least squares), which is 6000.0 s per million records; " in text
    assert "is further than 0.0% from that (target 15%): **in proportion** to the days." in text


@pytest.mark.parametrize("seconds", [(30.0, 30.0, 30.0), (31.0, 30.5, 30.0), (38.0, 88.0, 68.0)])
def test_days_that_cost_nothing_or_lie_beside_the_line_are_not_in_proportion(seconds: tuple[float, ...]) -> None:
    assert "**not in proportion** to the days." in months(*seconds, late=40.0)


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (40.0, "8.0 s above the 32.0 s of a run: 1.33 times what a day does (target 2): **met**."),
        (44.0, "12.0 s above the 32.0 s of a run: 2.0 times what a day does (target 2): **met**."),
        (62.0, "30.0 s above the 32.0 s of a run: 5.0 times what a day does (target 2): **missed**."),
    ],
)
def test_the_late_file_is_compared_with_a_day(late: float, says: str) -> None:
    assert f"The late file costs {says}" in months(38.0, 44.0, 68.0, late=late)


def test_a_late_file_is_not_within_a_bound_that_there_is_not() -> None:
    text = months(30.0, 30.0, 30.0, late=20.0)
    assert "The late file costs -10.0 s above the 30.0 s of a run: a day's share is not known (target 2): **missed**." in text


def daily(small: tuple[int, ...], *, table: str = "silver.reads", partitions: int = 2) -> dict[str, Any]:
    """Months of a day each; the small files of a table after each, beside some that have few bytes of many files."""
    series = [
        {"month": n + 1, "records": 10, "seconds": 3.0, "median": 3.0, "runs": [{}],
         "data_files": {table: {"files": 4, "bytes": 80 * MIB, "small": count, "partitions": partitions},
                        **{f"gold.other_{i}": {"files": 9, "bytes": i, "small": 9, "partitions": 1} for i in range(5)}}}
        for n, count in enumerate(small)
    ]  # fmt: skip
    return {"of": "daily", "customers": 200, "series": series, "small": growth._small(series), "conditions": {"cores": 2}}


def test_small_files_may_be_as_many_as_are_there_by_design() -> None:
    """A sawtooth that ends higher than it began is no growth."""
    text = growth.summary(daily((3, SPARE + 2, 5, 40)))
    assert f"silver.reads {SPARE + 2} of {SPARE + 2} (month 2)" in text
    assert "of all 6 tables: **met**." in text
    assert f"less than {SMALL // MIB} MiB" in text
    assert "| 4, 20.0, 40 |" in text
    assert "gold.other_0" not in text  # not among the largest


def test_more_small_files_in_one_month_are_told_whatever_came_after() -> None:
    text = growth.summary(daily((SPARE + 3, 1)))
    assert f"silver.reads {SPARE + 3} of {SPARE + 2} (month 1)" in text
    assert "**missed in silver.reads**." in text


def test_a_small_table_that_grows_is_told_too() -> None:
    result = daily((1, 1))
    result["series"][1]["data_files"]["gold.other_0"]["small"] = SPARE + 2
    result["small"] = growth._small(result["series"])
    text = growth.summary(result)
    assert f"gold.other_0 {SPARE + 2} of {SPARE + 1} (month 2)" in text
    assert "**missed in gold.other_0**." in text


def test_tables_of_the_runs_may_have_what_one_run_adds() -> None:
    """They are arranged when the next run begins."""
    most = SPARE + 1 + growth.RUN_ADDS
    assert growth._small(daily((most,), table="ops.step", partitions=1)["series"])["ops.step"]["most"] == most
    assert "**met**" in growth.summary(daily((most,), table="ops.step", partitions=1))
    assert "**missed in ops.step**" in growth.summary(daily((most + 1,), table="ops.step", partitions=1))
