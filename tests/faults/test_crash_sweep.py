"""A rotating sample of the crash sweep (`make crash` runs it whole), and that the sweep would see what is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from crash_sweep import Kill, Sweep, differences, outcome, places, table
from walk import Story


@pytest.mark.long
@pytest.mark.fault(4, "killed in mid-run, 1 and 3 too; a sample of `make crash`")
def test_case_46_a_run_that_is_killed_ends_in_the_same_tables_when_it_is_started_again(
    spark: Any, story: Story, tmp_path: Path, fault: Any
) -> None:
    """After the dimension's MERGE of an ordinary or a late run, and at another point, by the day: the seed is printed."""
    seed = int(time.time() // 86_400)
    sweep = Sweep(spark, tmp_path, story, [("ordinary", "late")[seed % 2]])
    kills = [sweep.kill(*place) for place in places(sweep, 1, "after merge gold.dim_customer", seed)]
    print(f"seed {seed}:", *kills, sep="\n")
    wrong = [line for kill in kills for line in kill.wrong]
    fault(unaided=not wrong, wrong=sum(bool(k.wrong) for k in kills), rows_lost=sum("not accounted for" in x for x in wrong))
    assert (len(kills), wrong) == (2, [])


def test_the_sweep_sees_other_content_and_rows_that_are_lost() -> None:
    good = {"gold.fact_usage": "a", "accounting": ["x"], "unaccounted": [], "publication": 2}
    assert differences(good, good) == []
    assert differences(good | {"gold.fact_usage": "b"}, good) == ["gold.fact_usage: b instead of a"]
    lost = ("crm", "1.csv", "loaded", 3, 2, 0, 0, 0)
    assert differences(good | {"unaccounted": [lost]}, good)[-1].startswith("rows that are not accounted for")


def test_the_table_counts_kills_at_points_and_at_times_and_what_they_cost() -> None:
    kills = [Kill("late", "before append ops.run#1", [], 2.0), Kill("late", "after 3.10 s", ["gold.fact_usage: b"], 5.0, "time")]
    row = outcome(7, kills)
    assert list(row.values()) == [7, 1, 1, 1, 1, 3.5, 5.0]
    assert table({"late": row, "all": row}, seed=3).splitlines()[2] == "| late | 7 | 1 | 1 | 1 | 1 | 3.5 | 5.0 |"
    assert list(outcome(7, []).values()) == [7, 0, 0, 0, 0, None, None]
