"""``bench scd2``: that every contender really runs, and that what it prints and draws says what was measured."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from pyspark.sql import SparkSession

from utilityflow.bench import _plot, scd2
from utilityflow.bench._report import keep
from utilityflow.bench._scd2_data import Scene, Sizes
from utilityflow.bench._scd2_peers import PEERS
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import Settings

CONDITIONS = {"cores": 2, "load": 0.1}


def ours(**other: Any) -> dict[str, Any]:
    return {
        "seconds": 10.0, "merge_seconds": 4.0, "rows_copied": 0, "bytes_added_ratio": 2.0, "inserted": 11, "updated": 12,
        "deleted": 0, "nothing_new_seconds": 1.0, "nothing_new_commits": 0, "told_again_seconds": 5.0,
        "told_again_commits": 0, **other,
    }  # fmt: skip


def answer(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "sizes": {"rows": 1100, "customers": 1000, "changed": 10}, "first_load_seconds": 3.0, "results": found,
        "ratios": scd2._ratios(found), "targets": scd2._targets(found), "conditions": CONDITIONS,
    }  # fmt: skip


def test_ratios_and_targets_compare_with_ours() -> None:
    found = {"ours": ours(), "mack": {"seconds": 14.0, "merge_seconds": 13.0}, "copy": {"seconds": 6.0}}
    assert scd2._ratios(found) == {"mack": {"whole": 1.4, "merge": 3.25}, "copy": {"whole": 0.6}}
    holds = {one["what"]: one["holds"] for one in scd2._targets(found)}
    assert holds["whole faster than mack"] is False
    assert holds["MERGE faster than mack's"] is True
    assert holds["whole against a plain copy"] is True
    assert "whole faster than dbt" not in holds  # not measured
    worse = {"ours": ours(rows_copied=1, nothing_new_commits=1)}
    assert {one["what"] for one in scd2._targets(worse) if not one["holds"]} == {
        "rows copied", "nothing new: commits", "all told again: seconds",
    }  # fmt: skip


def test_the_summary_says_what_was_missed_and_under_which_conditions() -> None:
    text = scd2.summary(answer({"ours": ours(), "mack": {"seconds": 14.0, "merge_seconds": 13.0}}))
    (missed,) = [line for line in text.splitlines() if "whole faster than mack" in line]
    assert missed.split()[-4:] == ["1.4", ">=", "1.5", "MISSED"]
    assert "conditions: cores 2, load 0.1" in text


def test_growth_shows_seconds_and_microseconds_for_each() -> None:
    series = [{"sizes": {"rows": n, "changed": 10}, "results": {"ours": ours(seconds=s)}} for n, s in ((1000, 2.0), (4000, 4.0))]
    across, panels = scd2._growth({"growth": "rows", "series": series})
    assert across == "rows of the table"
    assert list(panels.values()) == [[(1000.0, 2.0), (4000.0, 4.0)], [(1000.0, 2000.0), (4000.0, 1000.0)]]


def test_pictures_are_pictures() -> None:
    bars = _plot.bar_picture({"whole": [("ours", 1.0), ("mack", 2.0)], "MERGE": [("ours", 1.0)]}, "title")
    lines = _plot.line_picture({"seconds": [(10.0, 1.0), (100.0, 2.0)]}, "title", "rows")
    for picture in (bars, lines):
        pixels = imread(io.BytesIO(picture), format="png")
        assert pixels.shape[0] > 200
        assert pixels.min() < 0.5  # something was drawn


@pytest.mark.parametrize(("words", "hint"), [({"peers": "mak"}, "mack"), ({"growth": "row"}, "rows")])
def test_an_unknown_word_is_refused_before_anything_runs(words: dict[str, str], hint: str, tmp_path: Path) -> None:
    with pytest.raises(UtilityFlowError, match="UF-1004") as caught:
        scd2.scd2(Settings(home=str(tmp_path)), tell=print, **words)
    assert hint in (caught.value.hint or "")


@pytest.mark.slow
def test_all_contenders_run(spark: SparkSession, tmp_path: Path) -> None:
    sizes = Sizes(customers=2_000, changed=100, late=20, unchanged=100)
    told: list[str] = []
    result = scd2._Race(Scene(spark, tmp_path / "race", sizes), 2, told.append).run([*PEERS, "deltars", "copy"])
    result["conditions"] = CONDITIONS
    found = result["results"]
    assert found.keys() == {"ours", *PEERS, "deltars", "copy"}
    assert (found["ours"]["inserted"], found["ours"]["rows_copied"]) == (120, 0)
    assert (found["ours"]["nothing_new_commits"], found["ours"]["told_again_commits"]) == (0, 0)
    for name in PEERS:  # each closed the changed customers' rows and opened new ones
        rows = spark.read.format("delta").load(str(tmp_path / "race" / name)).count()
        assert rows == 2_200 + 2 * 100, name
    keep(str(tmp_path / "out"), "scd2", result, scd2.summary(result), lambda: scd2._picture(result), ending="txt")
    assert json.loads((tmp_path / "out" / "scd2.json").read_text())["sizes"]["rows"] == 2_201
    assert (tmp_path / "out" / "scd2.png").stat().st_size > 5_000
