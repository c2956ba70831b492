"""Make the modules beside the tests importable; the home that tests of storage that lies copy and break."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def story(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The walk, as far as ``tell`` was asked for it."""
    from walk import Story

    return Story(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="session")
def untouched(spark: Any, story: Any) -> Any:
    """The home after three real runs, and how it looks then and after the fourth. Tests read it; ``broken`` copies it."""
    from lying import untouched

    return untouched(spark, story.tell(4))


@pytest.fixture
def broken(untouched: Any, spark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Make a copy of the untouched home, at a path of its own."""

    def copy(name: str = "home") -> Any:
        return untouched.copy(tmp_path / name, spark, capsys)

    return copy
