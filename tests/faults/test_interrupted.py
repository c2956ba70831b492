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

FEED = """system: customer_management
entity: customers
format: csv
path: {name}/*.csv
columns: {{customer_id: id, customer_name: name}}
event: {{effective_at: to_timestamp(since)}}
"""


def _fails(*_: Any) -> Any:
    raise UtilityFlowError("UF-4001", "stopped by the test")


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
