"""What a run writes anew of a table's small files: what fits into its bound, and of a larger crowd the smallest files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import upkeep
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.session import local_frame
from utilityflow.upkeep import SMALL, SPARE, WORK, Crowd, chosen

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MIB = 1024**2


def crowd(partition: str, *sizes: int) -> Crowd:
    return Crowd(partition, len(sizes), sum(sizes), tuple(sorted(sizes)))


def month(first: int = 0, files: int = 112) -> Crowd:
    """Files of a table without partitions, as the bronze reads of two million customers are each month."""
    return crowd("", *range(4_800_000 + first, 4_800_000 + first + files))


def test_what_fits_is_arranged_whole_the_smallest_files_first() -> None:
    large, few, tiny = crowd("p=1", *[9 * MIB] * 20), crowd("p=2", 1, 2, 3), crowd("p=3", *[MIB] * 70)
    assert chosen([large, few, tiny]) == ([tiny, large], None, SMALL), "three files are not worth it beside others"
    assert chosen([few]) == ([few], None, SMALL)


def test_of_a_crowd_that_is_too_much_the_smallest_files_are_arranged() -> None:
    whole, part, small = chosen([month()])
    assert whole == [] and part is not None
    assert part.sizes == month().sizes[: part.files], "the smallest ones"
    assert part.bytes <= WORK < part.bytes + month().sizes[part.files], "as many as fit"
    assert part.files == 55 and small == month().sizes[55], "the engine takes what is smaller than the first that is left"


def test_what_whole_crowds_leave_of_the_bound_goes_to_the_next_one() -> None:
    first = crowd("p=1", *[3 * MIB] * 70)  # leaves 46 MiB
    second = crowd("p=2", *[5 * MIB + i for i in range(60)])
    whole, part, small = chosen([second, first])
    assert whole == [first] and part is not None
    assert (part.partition, part.files, small) == ("p=2", 9, 5 * MIB + 9)
    third = crowd("p=2", *[13 * MIB + i for i in range(60)])  # of which three would fit
    assert chosen([third, first])[:2] == ([first], None)


def test_files_of_one_size_are_not_told_apart() -> None:
    assert chosen([crowd("", *[5 * MIB] * 100)])[:2] == ([], None), "or all of them would be arranged"
    mixed = crowd("", *range(5 * MIB - 10, 5 * MIB), *[5 * MIB] * 100)
    whole, part, small = chosen([mixed])
    assert (whole, part, small) == ([], crowd("", *range(5 * MIB - 10, 5 * MIB)), 5 * MIB)


def test_a_table_of_one_partition_stays_healthy() -> None:
    """Each run brings 20 files; what is arranged becomes files that are large."""
    sizes: tuple[int, ...] = ()
    most = 0
    for run in range(60):
        now = crowd("", *sizes, *month(20 * run, 20).sizes)
        if now.files - 1 >= SPARE:
            whole, part, small = chosen([now])
            assert whole or part, "it is arranged"
            sizes = () if whole else tuple(size for size in now.sizes if size >= small)
        else:
            sizes = now.sizes
        most = max(most, len(sizes))
    assert 20 < most <= SPARE


def test_whole_crowds_and_the_part_are_two_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = crowd("p=1", *[3 * MIB] * 70), crowd("p=2", *[5 * MIB + i for i in range(60)])
    done: list[tuple[Any, ...]] = []
    monkeypatch.setattr(upkeep, "crowds", lambda *_: [first, second])
    monkeypatch.setattr(upkeep, "arrange", lambda table, partitions, small: done.append((table, partitions, small)))
    table: Any = object()
    assert upkeep.tidy(table) == 70 + 9
    assert done == [(table, ["p=1"], SMALL), (table, ["p=2"], 5 * MIB + 9)]
    done.clear()
    monkeypatch.setattr(upkeep, "crowds", lambda *_: [crowd("", *[5 * MIB] * 100)])
    assert (upkeep.tidy(table), done) == (0, [])


@pytest.mark.engine
def test_the_engine_takes_the_smallest_files_alone(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Lakehouse(spark, str(tmp_path), load_contracts()).table("ops.metric")
    table.ensure()
    for number in range(1, 7):
        rows = [(f"run {number}", "step", f"figure {i}", float(i * number)) for i in range(200 * number)]
        table.append(local_frame(spark, rows, table.contract.struct()))
    (before,) = upkeep.crowds(table, SMALL)
    assert len(set(before.sizes)) == before.files == 6
    held = sorted(map(tuple, table.read().collect()))
    for name, value in {"SPARE": 3, "CROWD": 3, "WORK": sum(before.sizes[:4])}.items():
        monkeypatch.setattr(upkeep, name, value)
    assert upkeep.tidy(table) == 4
    (after,) = upkeep.crowds(table, SMALL)
    assert after.files == 3 and set(before.sizes[4:]) < set(after.sizes), "the two largest are as they were"
    assert sorted(map(tuple, table.read().collect())) == held
    assert upkeep.tidy(table) == 0
