"""``maintain``: fewer files, nothing removed that somebody needs, no row and no step touched."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.cli import main
from utilityflow.contracts import load_contracts
from utilityflow.control.home import hold, open_home
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate import maintain
from utilityflow.publish.content import content_hash, partition_hashes
from utilityflow.upkeep import Crowd

if TYPE_CHECKING:
    from .conftest import Place


def hashes(place: Place, spark: Any) -> dict[str, str]:
    house = Lakehouse(spark, str(place.settings.home_path / "lakehouse"), load_contracts())
    names = [c.name for layer in ("silver", "gold") for c in house.contracts.of_layer(layer)]
    tables = [house.table(name) for name in names if house.table(name).exists()]
    return {t.name: content_hash(partition_hashes(t.read(), t.contract)) for t in tables}


def few_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that say something, and two files are many: each VACUUM takes seconds."""
    monkeypatch.setattr(maintain, "MANY", 2)
    monkeypatch.setattr(maintain, "_names", lambda feeds: ["silver.meter_reads", "gold.dim_customer", "gold.fact_usage"])


@pytest.mark.engine
def test_files_become_fewer_and_nothing_else_changes(copy: Place, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few_tables(monkeypatch)
    before = hashes(copy, spark)
    folder = copy.settings.home_path / "lakehouse" / "silver" / "meter_reads"
    old, young = folder / "part-of-a-dead-run.parquet", folder / "part-of-a-run-of-today.parquet"
    for orphan in (old, young):
        orphan.write_bytes(b"PAR1")
    month_ago = time.time() - 30 * 86_400
    os.utime(old, (month_ago, month_ago))
    done = {one["table"]: one for one in maintain.maintain(copy.settings)["tables"]}
    reads = done["silver.meter_reads"]
    assert (reads["arranged"], reads["files"] < reads["files_before"]) == (True, True)
    assert not old.exists()
    assert young.exists()
    assert hashes(copy, spark) == before
    answer = pipeline.run(copy.settings, as_of=dt.date(2025, 2, 1))
    assert (answer["status"], answer["error"]) == ("nothing_to_do", None)
    assert main(["verify", "--only", "published", "once", *copy.words]) == 0
    again = maintain.maintain(copy.settings)["tables"]
    assert [one["table"] for one in again if one["files"] != one["files_before"]] == []


def test_the_limit_of_a_call_leaves_the_large_tables_for_the_next(copy: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    few_tables(monkeypatch)
    result = maintain.maintain(copy.settings, most_bytes=1)
    crowded = [one for one in result["tables"] if one["why_not"] != "few small files"]
    assert [one["arranged"] for one in crowded].count(True) == 1, "one partition is arranged in each call, however large it is"
    assert {one["why_not"] for one in crowded if not one["arranged"]} == {"beyond the limit of this call"}
    assert "beyond the limit" in maintain.text(result)
    for _ in crowded:
        result = maintain.maintain(copy.settings, most_bytes=1)
    assert {one["why_not"] for one in result["tables"]} == {"few small files"}, "the calls after it do the rest"


def test_partitions_are_arranged_up_to_the_limit_smallest_first() -> None:
    crowds = [Crowd("m=1", 9, 500), Crowd("m=2", 3, 100), Crowd("m=3", 2, 300)]
    names = [([c.partition for c in chosen], why) for chosen, why in (
        maintain._chosen(crowds, 1000, nothing_yet=True), maintain._chosen(crowds, 450, nothing_yet=True),
        maintain._chosen(crowds, 50, nothing_yet=True), maintain._chosen(crowds, 50, nothing_yet=False),
        maintain._chosen(crowds[1:], 1000, nothing_yet=True),
    )]  # fmt: skip
    assert names == [
        (["m=2", "m=3", "m=1"], ""), (["m=2", "m=3"], "the rest is beyond the limit of this call"),
        (["m=2"], "the rest is beyond the limit of this call"), ([], "beyond the limit of this call"), ([], "few small files"),
    ]  # fmt: skip


def test_less_than_deltas_own_bound_is_refused(tmp_path: Path) -> None:
    assert main(["maintain", "--hours", "24", "--home", str(tmp_path)]) == 2


def test_a_home_that_is_held_is_left_alone(copy: Place) -> None:
    with hold(open_home(copy.settings, create=False), "run x"), pytest.raises(UtilityFlowError, match="UF-4004.*run x"):
        maintain.maintain(copy.settings)
