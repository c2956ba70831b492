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

# tables of which the walk over systems has a step, and the killed run no point, as it has nothing to write to them: why
WITHOUT_A_POINT = {
    "silver.meter_reads": "no feed of the walk brings reads",
    "gold.fact_usage": "made of reads",
    "gold.agg_usage_monthly": "made of reads",
    "silver.service_points": "the whole network lands with the run before, later changes too",
    "gold.dim_service_point": "no new points, and none that another table names first",
    "gold.dim_date": "filled once, by the first run",
    "gold.dim_rate_schedule": "no schedules land, and no bill names one",
    "gold.dim_request_type": "the new requests are of a type that is known",
    "gold.reliability_threshold": "a year's threshold is frozen by the run before",
}
NOT_IN_THE_WALK = {"gold.dim_utility", "gold.reliability_benchmark"}  # of the yearly statistics of all utilities


def with_steps(feeds: Path) -> set[str]:
    """The silver and gold tables that a home with these feeds has a step of."""
    return {step.output for step in graph(load_feeds(feeds)) if step.output.startswith(("silver.", "gold."))}


def versions(home: Path) -> dict[str, int]:
    """The newest commit of each silver and gold table, quarantines too."""
    logs = [log for layer in ("silver", "gold") for log in (home / "lakehouse" / layer).glob("*/_delta_log")]
    commits = {f"{log.parent.parent.name}.{log.parent.name}": [f.stem for f in log.glob("*.json")] for log in logs}
    return {name: max((int(stem) for stem in stems if stem.isdigit()), default=-1) for name, stems in commits.items()}


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
    made = with_steps(tmp_path / "feeds")
    assert WITHOUT_A_POINT.keys() <= made
    assert {contract.name for contract in load_contracts().of_layer("gold")} - made == NOT_IN_THE_WALK
    seen: dict[str, set[str]] = {}
    for run in (1, WALKS["systems"]):
        land(tmp_path, run, SYSTEMS)
        now = {name: set(map(str, find_files(feed, tmp_path / "landing"))) for name, feed in feeds.items()}
        new, seen = {name for name in feeds if now[name] - seen.get(name, set())}, now
        assert feeds.keys() - new == ({"crm"} if run == 1 else {"points"}), run


@pytest.mark.slow
def test_the_walk_over_systems_passes_commits_of_all_its_tables(spark: Any, tmp_path: Path) -> None:
    """So that a kill can hit each: those that the run writes, and of those with a step all but WITHOUT_A_POINT."""
    run = WALKS["systems"]
    story = Story(tmp_path, SYSTEMS).tell(run)
    points = story.points[run]
    print(len(points), *points, sep="\n")
    named = {found[0] for point in points if (found := re.search(r"(silver|gold)\.\w+", point))}
    before, after = versions(story.before[run]), versions(story.after[run])
    unseen = sorted(name for name, version in after.items() if version != before.get(name) and name not in named)
    assert unseen == [], f"written without passing a point: {unseen}"
    lacking = with_steps(story.after[run] / "feeds") - named
    unexplained, passed = sorted(lacking - WITHOUT_A_POINT.keys()), sorted(WITHOUT_A_POINT.keys() - lacking)
    assert not unexplained, f"no point, and no reason in WITHOUT_A_POINT: {unexplained}"
    assert not passed, f"in WITHOUT_A_POINT, but the run passes a point of it: {passed}"


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
