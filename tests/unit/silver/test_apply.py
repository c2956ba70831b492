"""What the silver step notes of itself in its commits."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from utilityflow.silver import apply


@pytest.mark.parametrize(("held", "numbers", "noted"), [({"batch": 9}, [4, 6], 9), ({"batch": 3}, [4, 6], 6), ({}, [4], 4)])
def test_the_noted_ledger_number_is_below_none_of_a_row(
    monkeypatch: pytest.MonkeyPatch, held: dict[str, Any], numbers: list[int], noted: int
) -> None:
    """What came since a version is told apart by it: a row above it would be taken for one that came later."""
    monkeypatch.setattr(apply, "file_by_file", lambda *_: contextlib.nullcontext())
    written: list[tuple[int, dict[str, Any]]] = []

    def append(rows: Any, *, batch: int, note: dict[str, Any], rows_expected: int) -> Any:
        written.append((batch, note))
        return SimpleNamespace(require=lambda batch: None)

    table: Any = SimpleNamespace(house=SimpleNamespace(spark=None), note=lambda: held, append=append)
    entries: Any = [SimpleNamespace(number=n) for n in numbers]
    feed: Any = SimpleNamespace(feed="ami")
    apply._commit(table, None, feed, entries, 10)  # type: ignore[arg-type]
    assert written == [(max(numbers), {"batch": noted, "feed": "ami", "numbers": numbers})]
