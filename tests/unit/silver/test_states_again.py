"""Snapshot feeds whose state comes back: a content that is several snapshots, through whole runs on real homes."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.control.ledger import read_ledger, write_ledger
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate import rollback as way_back
from utilityflow.operate.explain import explain
from utilityflow.operate.plan import plan
from utilityflow.operate.status import status
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings, load_settings

pytestmark = pytest.mark.engine
FEED = """feed: state
system: customer_management
entity: customers
format: csv
path: state/*.csv
mode: snapshot
snapshot_time: {time}
columns: {{customer_id: id, customer_name: name{more}}}
"""
BY_NAME = "to_timestamp(regexp_extract(_file_name, '([0-9]{8})', 1), 'yyyyMMdd')"
A = {"K1": "Ann", "K2": "Bob"}
B = {"K1": "Anna", "K3": "Dan"}
LATE = {"K1": "Annie", "K2": "Bob"}
AS_OF = dt.date(2025, 6, 1)
JAN, FEB, MAR, APR, OPEN = "2025-01-01", "2025-02-01", "2025-03-01", "2025-04-01", "9999-12-31"
THEN = {  # of A, B and A again
    ("K1", "Ann", JAN, FEB), ("K1", "Anna", FEB, MAR), ("K1", "Ann", MAR, OPEN),
    ("K2", "Bob", JAN, FEB), ("K2", "Bob", MAR, OPEN), ("K3", "Dan", FEB, MAR),
}  # fmt: skip


class Place:
    """A home with its landing root and one snapshot feed."""

    def __init__(self, spark: Any, folder: Path, *, time: str = BY_NAME, more: str = "") -> None:
        self.spark, self.folder = spark, folder
        (folder / "feeds").mkdir(parents=True)
        (folder / "landing" / "state").mkdir(parents=True)
        (folder / "feeds" / "state.yaml").write_text(FEED.format(time=time, more=more), encoding="utf-8")

    @property
    def settings(self) -> Settings:
        return load_settings({n: str(self.folder / n) for n in ("home", "landing", "feeds")}, environ={})

    def land(self, name: str, state: Mapping[str, str], day: str = "") -> None:
        lines = ["id,name,day", *(f"{key},{value},{day}" for key, value in state.items())]
        (self.folder / "landing" / "state" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, **files: Mapping[str, str]) -> dict[str, Any]:
        """A run after ``d<day>`` of ``files`` have landed."""
        for day, state in files.items():
            self.land(f"all_{day[1:]}.csv", state)
        answer = pipeline.run(self.settings, as_of=AS_OF)
        assert answer["error"] is None, answer["error"]
        return answer

    @property
    def house(self) -> Lakehouse:
        return Lakehouse(self.spark, str(self.folder / "home" / "lakehouse"), load_contracts())

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.house.table(table).read().selectExpr(*columns).collect()]

    def history(self) -> set[tuple[str, ...]]:
        wanted = ["customer_id", "customer_name", "string(effective_date)", "string(expiry_date)"]
        return {row for row in self.rows("gold.dim_customer", *wanted) if row[0] != "?"}

    def sound(self) -> None:
        broken = [c for c in verify(self.settings)["checks"] if c["status"] != "ok"]
        assert not broken, broken


def told(answer: dict[str, Any]) -> dict[str, tuple[str, int, int]]:
    return {f["file"][6:]: (f["status"], f["rows_read"], f["rows_loaded"]) for f in answer["files"]}


SKIPPED = ("skipped", 0, 0)


def test_a_state_that_comes_back_is_valid_again_and_leads_to_its_file(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the run died between silver and the ledger; verify tells when silver lacks the state that came back."""
    place = Place(spark, tmp_path)
    place.run(d20250101=A, d20250201=B)
    place.land("all_20250301.csv", A)
    foreseen = {s["step"]: s["why"] for s in plan(place.settings, as_of=AS_OF)["steps"]}
    assert foreseen["silver.customers"] == "if the name of a known content gives it a further snapshot time"

    def stopped(*_: Any, **__: Any) -> Any:
        raise UtilityFlowError("UF-4007", "stopped by the test")

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_dim_customer", stopped)  # silver is committed, the ledger is not
        assert pipeline.run(place.settings, as_of=AS_OF)["error"]["message"] == "stopped by the test"
    again = place.run()
    assert told(again) == {"all_20250101.csv": SKIPPED, "all_20250201.csv": SKIPPED, "all_20250301.csv": ("loaded", 0, 0)}
    assert "all_20250101.csv, which is the state again at 2025-03-01" in again["files"][2]["reason"]
    assert place.history() == THEN
    assert place.run()["status"] == "nothing_to_do"
    place.sound()

    found = explain(place.settings, "dim_customer", "K1")
    made = {r["values"]["effective_at"][:10]: (r["file"][6:], bool(r["made"])) for r in found["records"]}
    assert made == {f"2025-0{n}-01": (f"all_20250{n}01.csv", True) for n in (1, 2, 3)}
    assert [len(r["made"]) for r in found["records"]] == [1, 1, 1]

    place.house.table("silver.customers").delete("effective_at = '2025-03-01' AND operation = 'upsert' AND customer_id = 'K2'")
    (check,) = verify(place.settings, only=["accounting.snapshots"])["checks"]
    assert (check["status"], check["count"]) == ("failed", 1)
    assert "2 keys, of which silver holds 1 at 2025-03-01" in check["offenders"][0]


@pytest.mark.slow
def test_the_history_does_not_depend_on_the_order_in_which_snapshots_arrive(spark: Any, tmp_path: Path) -> None:
    files = {"d20250101": A, "d20250115": LATE, "d20250201": B, "d20250301": A, "d20250401": B}
    places = {name: Place(spark, tmp_path / name) for name in ("one by one", "at once", "newest first")}
    for day in ("d20250101", "d20250201", "d20250301", "d20250401", "d20250115"):
        places["one by one"].run(**{day: files[day]})
    first = places["at once"].run(**files)
    assert told(first)["all_20250401.csv"] == ("loaded", 0, 0)
    places["newest first"].run(d20250401=B, d20250301=A)
    places["newest first"].run(d20250201=B, d20250115=LATE, d20250101=A)
    columns = ("customer_id", "customer_name", "effective_at", "operation", "_file_sha256", "_row_number")
    events = {name: sorted(map(str, place.rows("silver.customers", *columns))) for name, place in places.items()}
    assert events["one by one"] == events["at once"] == events["newest first"]
    want = {
        ("K1", "Ann", JAN, "2025-01-15"), ("K1", "Annie", "2025-01-15", FEB), ("K1", "Anna", FEB, MAR),
        ("K1", "Ann", MAR, APR), ("K1", "Anna", APR, OPEN), ("K2", "Bob", JAN, FEB), ("K2", "Bob", MAR, APR),
        ("K3", "Dan", FEB, MAR), ("K3", "Dan", APR, OPEN),
    }  # fmt: skip
    for place in places.values():
        assert place.history() == want
        assert place.run()["status"] == "nothing_to_do"
        place.sound()


@pytest.mark.slow
def test_a_name_that_is_refused_brings_no_snapshot_and_takes_none_away(spark: Any, tmp_path: Path) -> None:
    place = Place(spark, tmp_path)
    small, many = {"K1": "Ann"}, {"K1": "Ann", "K2": "Bob", "K3": "Cid", "K4": "Dan"}
    other = {**many, "K1": "Anna"}
    place.run(d20250101=small, d20250201=many, d20250301=other, d20250401=many)
    before = place.history()
    place.land("all_20250301.csv", small)  # known content, shrunken here: what the name held goes on standing
    place.land("all_20250401.csv", {"K2": "Bob"})  # new content, shrunken: so does what stands by another name too
    place.land("copy.csv", many)  # a name without a time
    answer = place.run()
    reasons = {f["file"][6:]: f["reason"] or "" for f in answer["files"] if f["status"] == "rejected"}
    assert {name: reason[:7] for name, reason in reasons.items()} == {
        "all_20250301.csv": "UF-2010", "all_20250401.csv": "UF-2010", "copy.csv": "UF-2009"}  # fmt: skip
    assert "1 records, the snapshot before it 4" in reasons["all_20250301.csv"]
    assert place.history() == before
    listed = {r["file"][6:] for r in status(place.settings)["rejected"]}
    assert listed == set(reasons)
    answer = place.run()
    assert answer["status"] == "nothing_to_do"
    assert {f["file"][6:] for f in answer["files"] if f["status"] == "rejected"} == set(reasons)
    place.sound()
    place.run(d20250301=other)  # delivered again as it was
    assert place.history() == before
    place.sound()


@pytest.mark.slow
def test_a_state_that_came_back_is_rolled_back_held_and_requeued(spark: Any, tmp_path: Path) -> None:
    place = Place(spark, tmp_path)
    place.run(d20250101=A, d20250201=B)
    before = place.history()
    place.run(d20250301=A)
    assert place.history() == THEN
    gone_back = way_back.rollback(place.settings)
    assert [f["file"] for f in gone_back["held"]] == ["state/all_20250301.csv"]
    assert [h["file"] for h in status(place.settings)["held"]] == ["state/all_20250301.csv"]
    os.utime(tmp_path / "landing" / "state" / "all_20250301.csv")  # delivered again, as it was
    for _ in range(2):
        answer = place.run()
        assert answer["status"] == "nothing_to_do"
        held = next(f for f in answer["files"] if f["file"] == "state/all_20250301.csv")
        assert (held["status"], held["reason"]) == ("skipped", "held: rolled back from publication 2 to 1")
        assert place.history() == before
    place.sound()
    released = way_back.requeue(place.settings, ["state/all_20250301.csv"])["released"]
    assert [f["file"] for f in released] == ["state/all_20250301.csv"]
    assert told(place.run())["all_20250301.csv"] == ("loaded", 0, 0)
    assert place.history() == THEN
    place.sound()


@pytest.mark.parametrize("time", ["to_date(day)", "date '2025-01-01'"])
def test_content_has_one_time_where_its_name_does_not_say_it(spark: Any, tmp_path: Path, time: str) -> None:
    """Another name of it is skipped as ever."""
    place = Place(spark, tmp_path, time=time)
    place.land("one.csv", A, JAN)
    place.land("two.csv", A, JAN)
    assert told(place.run()) == {"one.csv": ("loaded", 2, 2), "two.csv": SKIPPED}
    place.land("three.csv", A, JAN)
    answer = place.run()
    assert (answer["status"], told(answer)["three.csv"]) == ("nothing_to_do", SKIPPED)
    assert place.rows("silver.customers", "count(1)") == [(2,)]


@pytest.mark.slow
def test_what_a_mapping_takes_from_the_name_is_that_of_each_snapshot(spark: Any, tmp_path: Path) -> None:
    """A record that its name breaks in one snapshot is quarantined whole, so that it is counted once."""
    more = ", city: \"regexp_extract(_file_name, '([0-9]{8})', 1)\""
    more += ", zip_code: \"if(_file_name like '%0301%' and id = 'K2', '123456789012345', '1')\""
    place = Place(spark, tmp_path, more=more)
    place.run(d20250101=A, d20250201=B, d20250301=A)
    found = place.rows("silver.customers", "customer_id", "city", "string(date(effective_at))", "operation")
    assert sorted(found, key=str) == [
        ("K1", "20250101", JAN, "upsert"), ("K1", "20250201", FEB, "upsert"), ("K1", "20250301", MAR, "upsert"),
        ("K2", None, FEB, "delete"), ("K3", "20250201", FEB, "upsert"), ("K3", None, MAR, "delete"),
    ]  # fmt: skip
    assert place.rows("silver.customers__quarantine", "_file_name", "_row_number") == [("state/all_20250301.csv", 2)]
    counts = place.rows("ops.file_ledger", "rows_read", "rows_loaded", "rows_quarantined", "rows_duplicate")
    assert sorted(counts) == [(2, 1, 1, 0), (2, 2, 0, 0)]
    place.sound()


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["the further name", "nothing"])
def test_a_home_of_before_is_brought_up_by_its_next_run(spark: Any, tmp_path: Path, broken: str) -> None:
    """Names that an older version skipped are found out about; where there are none nothing is done."""
    place = Place(spark, tmp_path)
    place.run(d20250101=A, d20250201=B)
    ledger = read_ledger(place.house)
    if broken != "nothing":  # what that version wrote of a third file
        place.land("all_20250301.csv", A)
        seen = (tmp_path / "landing" / "state" / "all_20250301.csv").stat()
        (entry,) = (e for e in ledger.entries.values() if e.file_name == "state/all_20250101.csv")
        entry.names.add("state/all_20250301.csv")
        entry.stamps["state/all_20250301.csv"] = [seen.st_size, seen.st_mtime_ns]
    for entry in ledger.entries.values():
        entry.times = {}
        ledger.mark(entry)
    write_ledger(place.house, ledger, "before")
    assert place.rows("ops.file_ledger", "snapshots") == [(None,), (None,)]
    answer = place.run()
    assert answer["status"] == ("nothing_to_do" if broken == "nothing" else "succeeded")
    if broken != "nothing":
        assert place.history() == THEN
        place.sound()
