"""The rendered files of all platforms, made once; tests change copies. No session is needed anywhere here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from utilityflow import cli
from utilityflow.operate.deploy import deploy
from utilityflow.operate.deploy.conf import read
from utilityflow.operate.deploy.expected import Expected
from utilityflow.settings import load_settings


@pytest.fixture(scope="package")
def parser() -> argparse.ArgumentParser:
    return cli.parser()


@pytest.fixture(scope="package")
def expected(parser: argparse.ArgumentParser) -> Expected:
    return deploy.expect(load_settings(environ={}), parser)


@pytest.fixture(scope="package")
def rendered(expected: Expected) -> dict[str, str]:
    return deploy.rendered(read(), expected)


@pytest.fixture
def files(rendered: dict[str, str]) -> dict[str, str]:
    return dict(rendered)


@pytest.fixture
def changed(files: dict[str, str]) -> Callable[[str, Callable[[Any], Any]], dict[str, str]]:
    """All files, one of them changed."""

    def change(name: str, do: Callable[[Any], Any]) -> dict[str, str]:
        value = json.loads(files[name]) if name.endswith(".json") else yaml.safe_load(files[name])
        do(value)
        text = json.dumps(value, indent=2) if name.endswith(".json") else yaml.safe_dump(value, sort_keys=False)
        return files | {name: text}

    return change


@pytest.fixture
def found(
    changed: Callable[[str, Callable[[Any], Any]], dict[str, str]], expected: Expected
) -> Callable[[str, Callable[[Any], Any], str, str], None]:
    """Change a file and see that it is told: with its platform's folder, its line, the end of the key, and the words."""

    def look(name: str, do: Callable[[Any], Any], place: str, message: str) -> None:
        told = deploy.findings(changed(name, do), expected)
        hits = [f for f in told if message in f.message]
        assert hits, f"not among: {[str(f) for f in told]}"
        assert all(f.file.startswith(name.partition("/")[0] + "/") for f in hits)
        assert any(f.place.endswith(place) for f in hits), [str(f) for f in hits]
        if place:
            assert all(f.place.split()[0].isdigit() for f in hits), "the line is not told"

    return look
