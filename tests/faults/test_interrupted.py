"""A run that dies between its commits is taken up by the next one, whatever has landed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import load_settings
from utilityflow.silver import apply

FEED = """system: customer_management
entity: customers
format: csv
path: {name}/*.csv
columns: {{customer_id: id, customer_name: name}}
event: {{effective_at: to_timestamp(since)}}
"""


def _fails(*_: Any) -> Any:
    raise UtilityFlowError("UF-4007", "stopped by the test")


@pytest.mark.engine
def test_files_of_an_interrupted_run_keep_their_numbers_and_are_told(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def land(name: str, key: str) -> None:
        path = tmp_path / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"id,name,since\n{key},N,2025-01-01 00:00:00\n", encoding="utf-8")

    (tmp_path / "feeds").mkdir()
    for name in ("a_feed", "b_feed"):
        (tmp_path / "feeds" / f"{name}.yaml").write_text(f"feed: {name}\n{FEED.format(name=name)}", encoding="utf-8")
    places = {n: str(tmp_path / n) for n in ("home", "landing", "feeds")}
    settings = load_settings(places, environ={})
    land("b_feed/1.csv", "B1")
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_dim_date", _fails)  # bronze and silver are committed, the ledger is not
        assert pipeline.run(settings)["error"]["message"] == "stopped by the test"
    land("a_feed/1.csv", "A1")  # a feed that is read before the other
    answer = pipeline.run(settings)
    assert answer["error"] is None
    told = {f["file"]: (f["status"], f["rows_read"], f["rows_loaded"]) for f in answer["files"]}
    assert told == {"a_feed/1.csv": ("loaded", 1, 1), "b_feed/1.csv": ("loaded", 1, 1)}  # the dead run told nobody of its file

    house = Lakehouse(spark, str(settings.home_path / "lakehouse"), load_contracts())
    ledger = {r["feed"]: r["batch_id"] for r in house.table("ops.file_ledger").read().collect()}
    assert len(set(ledger.values())) == len(ledger) == 2
    rows = house.table("silver.customers").read().select("customer_id", "_feed", "_batch_id").collect()
    assert sorted(tuple(r) for r in rows) == [("A1", "a_feed", ledger["a_feed"]), ("B1", "b_feed", ledger["b_feed"])]


@pytest.mark.engine
@pytest.mark.parametrize("where", ["nowhere", "before the correction is written", "after silver"])
def test_a_repeat_of_a_record_that_a_correction_keeps_is_loaded_and_counted_once(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The file that repeated the record stands before the correction in ledger order, also when the run died in between."""

    def land(name: str, *keys: str) -> None:
        path = tmp_path / "landing" / "crm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id,name,since\n" + "".join(f"{k},N,2025-01-01 00:00:00\n" for k in keys), encoding="utf-8")

    def stopped(*_: Any, **__: Any) -> Any:
        raise UtilityFlowError("UF-4007", "stopped by the test")

    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "crm.yaml").write_text(f"feed: crm\n{FEED.format(name='crm')}", encoding="utf-8")
    settings = load_settings({n: str(tmp_path / n) for n in ("home", "landing", "feeds")}, environ={})
    land("a.csv", "A", "B")
    assert pipeline.run(settings)["error"] is None
    land("b.csv", "A", "C")
    assert pipeline.run(settings)["error"] is None
    land("a.csv", "A", "D")
    place = {"before the correction is written": (apply, "_append"), "after silver": (pipeline, "run_dim_date")}.get(where)
    if place:
        with monkeypatch.context() as patched:
            patched.setattr(*place, stopped)
            assert pipeline.run(settings)["error"]["message"] == "stopped by the test"
    assert pipeline.run(settings)["error"] is None

    house = Lakehouse(spark, str(settings.home_path / "lakehouse"), load_contracts())
    ledger = house.table("ops.file_ledger").read().where("status = 'loaded'").collect()
    counts = {r["file_name"]: (r["rows_read"], r["rows_loaded"], r["rows_duplicate"]) for r in ledger}
    assert counts == {"crm/b.csv": (2, 2, 0), "crm/a.csv": (2, 1, 1)}
    names = {r["batch_id"]: r["file_name"] for r in ledger}
    rows = house.table("silver.customers").read().collect()
    assert sorted((r["customer_id"], names[r["_batch_id"]]) for r in rows) == [
        ("A", "crm/b.csv"), ("C", "crm/b.csv"), ("D", "crm/a.csv")]  # fmt: skip
