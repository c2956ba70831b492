"""What the demo says of going on with its home are commands that a shell and the command line take as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from utilityflow import cli
from utilityflow.bench.demo import CIS_URL, DESK_URL, going_on
from utilityflow.simulate.serve import PATH


@pytest.mark.parametrize("home", [Path("/data/demo"), Path("/data/the demo's home")])
def test_commands_name_the_home_and_its_sources(home: Path) -> None:
    serving, running = (shlex.split(line) for line in going_on(home))
    assert (serving[0], serving[-1], running[2]) == ("utilityflow", "&", "utilityflow")
    served, run = (cli.parser().parse_args(words) for words in (serving[1:-1], running[3:]))
    assert (served.records, run.home) == (f"{home}/sources/desk_rest_requests", str(home))
    told = dict(word.split("=", 1) for word in running[:2])
    assert told == {CIS_URL: f"jdbc:sqlite:{home}/sources/cis.sqlite", DESK_URL: f"http://{served.host}:{served.port}{PATH}"}
