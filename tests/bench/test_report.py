"""What a measurement found is kept whatever becomes of its picture, and what keeping needs is asked for before the start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from utilityflow import __version__
from utilityflow.bench import _report, growth, month, scd2
from utilityflow.bench._report import code, code_of, conditions, keep, ready
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


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *own, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a checkout; no hook's own checkout is looked at in its place."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    if not shutil.which("git"):
        pytest.skip("there is no git")
    folder = tmp_path / "checkout" / "lib" / "suite"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    git(tmp_path / "checkout", "init", "--quiet")
    git(tmp_path / "checkout", "add", ".")
    git(tmp_path / "checkout", "commit", "--quiet", "--message", "all")
    return folder


def test_a_checkout_tells_its_commit_and_whether_files_differ_from_it(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert code_of(package) == {"version": __version__, "commit": commit, "dirty": False}
    (package / "notes.txt").write_text("of no matter", encoding="utf-8")
    assert code_of(package)["dirty"] is False, "nobody imports what git does not know, but for a file that it does"
    (package / "__init__.py").write_text("x = 1\n", encoding="utf-8")
    assert code_of(package) == {"version": __version__, "commit": commit, "dirty": True}


def test_a_package_that_was_installed_beneath_a_checkout_is_not_of_its_commit(package: Path) -> None:
    installed = package.parent / "site-packages"
    installed.mkdir()
    (installed / "__init__.py").write_text("", encoding="utf-8")
    assert code_of(installed) == {"version": __version__, "commit": None, "dirty": None}


def test_without_git_the_version_alone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_of(tmp_path) == {"version": __version__, "commit": None, "dirty": None}


def test_conditions_are_of_the_code_as_it_was_when_the_measurement_began(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(_report, "_git", lambda *words: asked.append(words) or "abc")
    code.cache_clear()
    try:
        ready("")
        first = list(asked)
        found = conditions(SimpleNamespace(version="4.1"))
    finally:
        code.cache_clear()
    assert first and asked == first, "asked before the start, and not again"
    assert (found["version"], found["commit"], found["dirty"], found["spark"]) == (__version__, "abc", True, "4.1")
    assert "version" in _report.told(found) and "commit abc" in _report.told(found)
