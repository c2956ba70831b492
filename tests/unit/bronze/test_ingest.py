"""What ingestion makes of failures that no file is to blame for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from utilityflow.bronze import ingest


@pytest.mark.parametrize("words", ["failed 4 times: ExecutorLostFailure (executor 1 exited)", "SparkContext was shut down"])
def test_lost_executors_reject_no_file(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    refused: list[Any] = []
    said = [words]

    def read(*_: Any) -> Any:
        raise RuntimeError(said[0])

    monkeypatch.setattr(ingest, "_read", read)
    monkeypatch.setattr(ingest, "_refuse", lambda *told: refused.append(told))
    conf = SimpleNamespace(get=lambda *_: "1", set=lambda *_: None)
    run: Any = SimpleNamespace(house=SimpleNamespace(spark=SimpleNamespace(conf=conf)))
    feed: Any = SimpleNamespace(feed="crm")
    items: Any = [SimpleNamespace(name="1.csv")]
    with pytest.raises(RuntimeError):
        ingest._without_broken(run, feed, items)
    assert refused == []
    said[0] = "a page is damaged"
    assert ingest._without_broken(run, feed, items) == []
    assert len(refused) == 1, "a file that cannot be read is rejected"
