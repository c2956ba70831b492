"""Going back to an earlier publication: faults 20, 45 and 46 of the catalogue (reference/operations.md, section 9)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from crash_sweep import differences, state
from walk import AS_OF, Story, land, settings

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate import rollback as way_back
from utilityflow.operate.status import status
from utilityflow.operate.verify import verify
from utilityflow.publish import rollback as carrying

pytestmark = pytest.mark.engine
STALE = "spark.databricks.delta.write.txnVersion"


def run(home: Path) -> dict[str, Any]:
    answer = pipeline.run(settings(home), as_of=AS_OF)
    assert answer["error"] is None, answer["error"]
    return answer


@pytest.fixture(scope="module")
def states(spark: Any, story: Story) -> dict[int, dict[str, Any]]:
    """The content of the home after runs 2, 3 and 4 of the walk."""
    return {number: state(spark, home) for number, home in story.tell(4).after.items() if number in (2, 3, 4)}


def copy(story: Story, number: int, folder: Path) -> Path:
    return Path(shutil.copytree(story.tell(4).after[number], folder / "home"))


def tables(found: dict[str, Any]) -> dict[str, Any]:
    """Without the publication's number, which rises, and the accounting, which also lists what is held."""
    return {name: value for name, value in found.items() if name not in ("publication", "accounting", "unaccounted")}


def publication_of(home: Path) -> int:
    with duckdb.connect(str(home / "warehouse" / "utilityflow.duckdb"), read_only=True) as db:
        return int(db.execute("SELECT publication FROM gold.publication").fetchall()[0][0])


@pytest.mark.slow
@pytest.mark.fault(45, "a bad load was published, and is gone back from")
def test_fault_45_a_bad_load_is_gone_back_from_and_its_mended_file_is_not_skipped(
    spark: Any, story: Story, states: dict[int, dict[str, Any]], tmp_path: Path, fault: Any
) -> None:
    """Rolled back in one command; the bad files are held, mended ones are taken, and the tables are as if bad ones never came."""
    home = copy(story, 3, tmp_path)
    told = way_back.rollback(settings(home))
    assert (told["left"], told["to"], told["publication"]) == (3, 2, 4)
    assert sorted(f["file"] for f in told["held"]) == ["crm/2.csv", "daily/2.csv"]
    assert tables(state(spark, home)) == tables(states[2])
    assert publication_of(home) == 4

    answer = run(home)  # the bad files still lie there
    assert answer["status"] == "nothing_to_do"
    held = {f["file"]: (f["status"], f["reason"]) for f in answer["files"] if "2.csv" in f["file"]}
    assert set(held.values()) == {("skipped", "held: rolled back from publication 3 to 2")}
    told = status(settings(home))
    assert [h["file"] for h in told["held"]] == ["crm/2.csv", "daily/2.csv"]
    assert [(r["command"], r["publication"]) for r in told["runs"][:2]] == [("run", 4), ("rollback", 4)]

    bad = home / "landing" / "daily" / "2.csv"
    mended = bad.read_text("utf-8").replace("C2,M2,2025-01-09,5,", "C2,M2,2025-01-09,55,")
    other = copy(story, 2, tmp_path / "never")  # a home that never saw the bad file
    for place in (home, other):
        (place / "landing" / "daily").mkdir(exist_ok=True)
        (place / "landing" / "daily" / "2.csv").write_text(mended, encoding="utf-8")
        answer = run(place)
        assert [(f["file"], f["rows_loaded"]) for f in answer["files"] if f["status"] == "loaded"] == [("daily/2.csv", 6)]
    assert tables(state(spark, home)) == tables(state(spark, other))
    broken = [c for c in verify(settings(home))["checks"] if c["status"] != "ok"]
    assert not broken, broken

    assert [f["file"] for f in way_back.requeue(settings(home), ["crm/2.csv"])["released"]] == ["crm/2.csv"]
    shutil.copy(home / "landing" / "crm" / "2.csv", other / "landing" / "crm" / "2.csv")
    for place in (home, other):
        run(place)
    found, wanted = state(spark, home), state(spark, other)
    fault(rows_lost=len(found["unaccounted"]), wrong=sum(found[n] != wanted[n] for n in tables(wanted)), false_alarms=len(broken))
    assert tables(found) == tables(wanted)


@pytest.mark.slow
def test_a_file_that_superseded_another_is_held_and_the_other_stands_again(
    spark: Any, story: Story, states: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    """Back, and forward again by going back to the publication that was left; requeued, it supersedes in turn."""
    home = copy(story, 4, tmp_path)
    way_back.rollback(settings(home), 3)
    assert tables(state(spark, home)) == tables(states[3])
    assert run(home)["status"] == "nothing_to_do"

    again = way_back.rollback(settings(home), 4)  # the publication before is 3's content: say which
    assert (again["to"], again["publication"], again["held"]) == (4, 6, [])
    assert tables(state(spark, home)) == tables(states[4])
    assert differences(state(spark, home) | {"publication": 4}, states[4]) == []

    assert way_back.rollback(settings(home))["to"] == 3  # what stands is the content of 4, so one before it
    way_back.requeue(settings(home), [], everything=True)
    assert ("daily/1.csv", "superseding") in [(f["file"], f["status"]) for f in run(home)["files"]]
    assert tables(state(spark, home)) == tables(states[4])


@pytest.mark.slow
def test_what_a_failed_run_left_unpublished_can_be_taken_back(
    spark: Any, story: Story, states: dict[int, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that died after silver: going back to the last publication drops it, and its files are held."""
    home = copy(story, 3, tmp_path)
    land(home, 4)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_dim_date", _stopped)
        assert pipeline.run(settings(home), as_of=AS_OF)["status"] == "failed"
    told = way_back.rollback(settings(home), 3)
    assert [f["file"] for f in told["held"]] == ["daily/1.csv"]
    assert tables(state(spark, home)) == tables(states[3])
    assert run(home)["status"] == "nothing_to_do"


def _stopped(*_: Any) -> Any:
    raise UtilityFlowError("UF-4007", "stopped by the test")


@pytest.mark.slow
@pytest.mark.fault(20, "VACUUM below the window, then a rollback")
def test_fault_20_versions_whose_files_were_removed_cannot_be_gone_back_to(
    spark: Any, story: Story, tmp_path: Path, fault: Any
) -> None:
    """Another engine vacuumed below the window: refused before any write, with what can be gone back to."""
    home = copy(story, 4, tmp_path)
    before = state(spark, home)
    dimension = home / "lakehouse" / "gold" / "dim_customer"
    key, old = "spark.databricks.delta.retentionDurationCheck.enabled", None
    old = spark.conf.get(key, None)
    spark.conf.set(key, "false")
    try:
        spark.sql(f"VACUUM delta.`{dimension}` RETAIN 0 HOURS").collect()
    finally:
        spark.conf.unset(key) if old is None else spark.conf.set(key, old)
    with pytest.raises(UtilityFlowError) as refused:
        way_back.rollback(settings(home), 2)
    assert refused.value.code == "UF-4009"
    assert "publication 2: gold.dim_customer at version" in refused.value.message
    assert "is missing" in refused.value.message
    assert refused.value.hint == "can be gone back to: 4"
    found = state(spark, home)
    fault(detected=refused.value.code, rows_lost=len(found["unaccounted"]), wrong=sum(found[n] != before[n] for n in before))
    assert found == before
    assert run(home)["status"] == "nothing_to_do"


def test_a_table_that_was_made_anew_cannot_be_gone_back_to(story: Story, tmp_path: Path) -> None:
    """Its versions count from 0 again, so that an old number means something else."""
    home = copy(story, 4, tmp_path)
    shutil.rmtree(home / "lakehouse" / "gold" / "dim_meter")
    run(home)
    with pytest.raises(UtilityFlowError, match="publication 2: gold.dim_meter was made anew since") as refused:
        way_back.rollback(settings(home), 2)
    assert refused.value.hint == "can be gone back to: 5" if publication_of(home) == 5 else "no publication can be gone back to"


def test_unknown_publications_and_files_are_named(story: Story) -> None:
    home = story.tell(4).after[3]
    with pytest.raises(UtilityFlowError, match="there is no publication 9") as unknown:
        way_back.rollback(settings(home), 9)
    assert unknown.value.hint == "known: 1, 2, 3"
    with pytest.raises(UtilityFlowError, match="'daily/1.csv' is not held"):
        way_back.requeue(settings(home), ["daily/1.csv"])


def test_a_dry_run_writes_nothing_and_says_what_would_be_held(
    spark: Any, story: Story, states: dict[int, dict[str, Any]]
) -> None:
    home = story.tell(4).after[3]
    told = way_back.rollback(settings(home), 2, only_show=True)
    assert (told["publication"], sorted(f["file"] for f in told["held"])) == (None, ["crm/2.csv", "daily/2.csv"])
    assert told["tables"]["gold.dim_customer"]["restored"] < told["tables"]["gold.dim_customer"]["now"]
    assert state(spark, home) == states[3]


@pytest.mark.slow
def test_other_content_than_the_old_publications_is_not_published(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the restored tables can fail: one was not restored."""
    home = copy(story, 3, tmp_path)
    restore = carrying.TopologicalSorter.static_order
    monkeypatch.setattr(carrying.TopologicalSorter, "static_order",
                        lambda order: (n for n in restore(order) if n != "gold.dim_meter"))  # fmt: skip
    with pytest.raises(UtilityFlowError) as wrong:
        way_back.rollback(settings(home), 2)
    assert (wrong.value.code, "gold.dim_meter" in wrong.value.message) == ("UF-3006", True)
    assert publication_of(home) == 3


@pytest.mark.slow
@pytest.mark.fault(46, "a transaction setting left in the session")
def test_fault_46_a_transaction_setting_that_was_left_behind_is_an_error(
    spark: Any, story: Story, states: dict[int, dict[str, Any]], tmp_path: Path, fault: Any
) -> None:
    """It would make Delta take a new write for one that it has seen; nothing is published, and the next run is whole."""
    home = copy(story, 3, tmp_path)
    land(home, 4)
    spark.conf.set(STALE, "1")
    spark.conf.set(STALE.replace("Version", "AppId"), "utilityflow:local:silver.meter_reads:0:free")
    try:
        answer = pipeline.run(settings(home), as_of=AS_OF)
    finally:
        spark.conf.unset(STALE)
        spark.conf.unset(STALE.replace("Version", "AppId"))
    assert (answer["status"], answer["error"]["code"]) == ("failed", "UF-3010")
    assert "txnVersion" in answer["error"]["message"]
    assert publication_of(home) == 3
    run(home)
    found = state(spark, home)
    wrong = differences(found, states[4])
    fault(detected=answer["error"]["code"], unaided=not wrong, rows_lost=len(found["unaccounted"]), wrong=len(wrong))
    assert wrong == []


def test_an_append_is_not_taken_for_a_duplicate_by_the_ids_of_before_the_rollback(spark: Any, tmp_path: Path) -> None:
    """RESTORE keeps the transaction ids of what it undoes; the epoch is what makes the same number new."""
    house = Lakehouse(spark, str(tmp_path / "lake"), load_contracts())
    table = house.table("ops.metric")
    table.ensure()
    rows = spark.createDataFrame([("r", "s", "n", 1.0)], table.contract.struct())
    assert table.append(rows, batch=7).happened
    table.restore(0, {})
    assert table.read().count() == 0
    assert not table.append(rows, batch=7).happened  # as Delta has it
    house.epoch = 1
    assert table.append(rows, batch=7).happened
    assert table.read().count() == 1

    spark.conf.set(STALE, "1")  # fault 46, in small
    try:
        with pytest.raises(UtilityFlowError, match="UF-3010|txnVersion of another write"):
            table.delete("value = 1.0")
    finally:
        spark.conf.unset(STALE)
    assert table.read().count() == 1
