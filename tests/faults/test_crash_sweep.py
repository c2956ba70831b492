"""A rotating sample of the crash sweep (`make crash` runs it whole), and that the sweep would see what is wrong."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from crash_sweep import Kill, Sweep, differences, outcome, places, table
from walk import SYSTEMS, WALKS, Story, land, lay_feeds

from utilityflow.bronze.feeds import load_feeds
from utilityflow.bronze.inspect import find_files
from utilityflow.contracts import load_contracts
from utilityflow.pipeline import graph
from utilityflow.silver.judging import check_feeds

# what the walk over systems must be killed at: tables of every system
OF_SYSTEMS = {
    "silver.bills", "silver.payments", "silver.service_requests", "silver.outages", "silver.compliance_filings",
    "silver.accounts", "silver.service_agreements", "silver.meters",
    "gold.dim_customer", "gold.dim_account", "gold.dim_service_agreement", "gold.dim_meter", "gold.fact_billing",
    "gold.fact_payment", "gold.fact_service_request", "gold.fact_outage", "gold.fact_compliance", "gold.customer_identity",
}  # fmt: skip


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


def test_the_walk_over_systems_has_feeds_and_files_of_all_its_tables(tmp_path: Path) -> None:
    """Each feed gets something new in the run that is killed, but that of service points, whose changes come later."""
    lay_feeds(tmp_path)
    feeds = load_feeds(tmp_path / "feeds")
    check_feeds(feeds, load_contracts())
    assert {step.output for step in graph(feeds)} >= OF_SYSTEMS
    seen: dict[str, set[str]] = {}
    for run in (1, WALKS["systems"]):
        land(tmp_path, run, SYSTEMS)
        now = {name: set(map(str, find_files(feed, tmp_path / "landing"))) for name, feed in feeds.items()}
        new, seen = {name for name in feeds if now[name] - seen.get(name, set())}, now
        assert feeds.keys() - new == ({"crm"} if run == 1 else {"points"}), run


@pytest.mark.slow
def test_the_walk_over_systems_passes_commits_of_all_its_tables(spark: Any, tmp_path: Path) -> None:
    points = Story(tmp_path, SYSTEMS).tell(WALKS["systems"]).points[WALKS["systems"]]
    print(len(points), *points, sep="\n")
    named = {found[0] for point in points if (found := re.search(r"(silver|gold)\.\w+", point))}
    assert named >= OF_SYSTEMS


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
