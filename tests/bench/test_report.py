"""What a measurement found is kept whatever becomes of its picture, and what keeping needs is asked for before the start."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utilityflow.bench import growth, month, scd2
from utilityflow.bench._report import keep, ready
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import Settings

BENCHES: dict[str, Callable[..., Any]] = {"month": month.month, "growth": growth.growth, "scd2": scd2.scd2}


def _broken() -> bytes:
    raise RuntimeError("no colours")


def test_figures_are_written_before_the_picture_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no colours"):
        keep(str(tmp_path), "found", {"seconds": 1}, "one second", _broken)
    assert json.loads((tmp_path / "found.json").read_text("utf-8")) == {"seconds": 1}
    assert (tmp_path / "found.md").read_text("utf-8") == "one second\n"


def test_nothing_is_kept_and_nothing_drawn_where_no_folder_is_given() -> None:
    ready("")
    keep("", "found", {}, "", _broken)


@pytest.mark.parametrize("name", BENCHES)
def test_what_the_picture_needs_is_looked_for_first(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    with pytest.raises(UtilityFlowError, match="UF-1007"):
        BENCHES[name](Settings(home=str(tmp_path / "home")), out=str(tmp_path / "out"), tell=print)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BENCHES)
def test_a_folder_that_cannot_be_is_refused_before_the_start(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UtilityFlowError, match="UF-1004: --out"):
        BENCHES[name](Settings(home=str(tmp_path / "home")), out=str(tmp_path / "file" / "out"), tell=print)
    assert [place.name for place in tmp_path.iterdir()] == ["file"]
