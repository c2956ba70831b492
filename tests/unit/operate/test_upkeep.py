"""A run arranges what it wrote where many small files have come together; no row moves by it, and no step has work afterwards."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline, upkeep
from utilityflow.cli import main
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.content import content_hash, partition_hashes

if TYPE_CHECKING:
    from utilityflow.lakehouse import Table

    from .conftest import Place

READS, USAGE, BEFORE = "silver.meter_reads", "gold.fact_usage", dt.date(2025, 2, 1)


def tables(place: Place, spark: Any) -> dict[str, Table]:
    house = Lakehouse(spark, str(place.settings.home_path / "lakehouse"), load_contracts())
    return {name: house.table(name) for name in (READS, USAGE, "ops.step", "ops.run")}


def hashed(table: Table) -> str:
    return content_hash(partition_hashes(table.read(), table.contract))


def read_of(day: int) -> dict[str, str]:
    return {f"reads/d{day}.csv": f"cust,meter,kwh,day,q\nC0001,M-0001,{day}.5,2025-02-{day:02},actual\n"}


@pytest.mark.slow
@pytest.mark.engine
def test_days_that_are_loaded_one_by_one_do_not_leave_a_file_each(
    copy: Place, empty: Place, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = range(2, 6)
    monkeypatch.setattr(upkeep, "SPARE", 3)
    monkeypatch.setattr(upkeep, "CROWD", 2)
    for day in days:
        copy.land(read_of(day))
        assert pipeline.run(copy.settings, as_of=BEFORE)["error"] is None
    held = tables(copy, spark)
    february = "billing_period=2025-02"
    for name in (READS, USAGE):
        found = {crowd.partition: crowd.files for crowd in upkeep.crowds(held[name], upkeep.SMALL)}
        assert sum(files - 1 for files in found.values()) < 3, found
        assert any(c["operation"] == "OPTIMIZE" for c in held[name].history(20)), name
        assert found.get(february, 1) < len(days)
    assert sum(crowd.files - 1 for crowd in upkeep.crowds(held["ops.run"], upkeep.SMALL)) <= 3

    monkeypatch.setattr(upkeep, "SPARE", 10_000)  # the same days, never arranged
    empty.land({**{f"reads/{p.name}": p.read_text() for p in sorted((copy.folder / "landing" / "reads").iterdir())}})
    empty.land({f"cis/{p.name}": p.read_text() for p in (copy.folder / "landing" / "cis").iterdir()})
    assert pipeline.run(empty.settings, as_of=BEFORE)["error"] is None
    assert hashed(held[USAGE]) == hashed(tables(empty, spark)[USAGE])
    assert pipeline.run(copy.settings, as_of=BEFORE)["status"] == "nothing_to_do"
    assert main(["verify", "--quick", *copy.words]) == 0


def test_what_is_worth_a_commit(copy: Place, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tables(copy, spark)[READS]
    found = upkeep.crowds(table, upkeep.SMALL)
    assert [crowd.files > 1 and crowd.bytes > 1000 for crowd in found] == [True]
    assert upkeep.crowds(table, 1) == [], "no file is that small"
    version = table.version()
    assert (upkeep.tidy(table), table.version()) == (0, version), "few files are left as they are"
    spare = found[0].files - 1
    monkeypatch.setattr(upkeep, "SPARE", spare + 1)
    assert upkeep.tidy(table) == 0
    monkeypatch.setattr(upkeep, "SPARE", spare)
    with monkeypatch.context() as busy:
        busy.setattr(upkeep, "WORK", found[0].bytes - 1)
        busy.setattr(upkeep, "CROWD", found[0].files)
        assert upkeep.tidy(table) == 0, "all is too much for a run, and a part is too little"
    assert (upkeep.tidy(table), table.version()) == (found[0].files, version + 1)
    assert upkeep.crowds(table, upkeep.SMALL) == []
