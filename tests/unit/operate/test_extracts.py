"""``extract``, ``plan`` and ``feed check`` for feeds that have a source; no Spark, as no lakehouse is there yet."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from utilityflow.cli import main
from utilityflow.simulate.serve import Desk, Server, requests_of

FEED = """feed: {name}
system: service_requests
entity: service_requests
format: rest
path: {name}/*.jsonl
options:
  base_url: {address}
  records: data
  paging: {{kind: cursor, size: 10}}
  increment: {{field: updated_at, parameter: updated_since}}
  auth: {{kind: bearer, secret: "env:DESK_TOKEN"}}
columns: {{request_id: id, request_type: type, status: state, opened_at: to_timestamp(opened_at)}}
"""


@pytest.fixture
def desk() -> Iterator[Server]:
    with Server(Desk(requests_of(25))) as server:
        yield server


@pytest.fixture
def words(desk: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The usual words of a command: a home, and two feeds of which the first has a source that is not there."""
    monkeypatch.setenv("DESK_TOKEN", "s3cret-word")
    (tmp_path / "feeds").mkdir()
    gone = "http://127.0.0.1:9/service-requests"
    bounds = "options:\n  limits: {attempts: 1}"
    for name, address in (("a_gone", gone), ("desk", desk.address)):
        text = FEED.format(name=name, address=address).replace("options:", bounds)
        (tmp_path / "feeds" / f"{name}.yaml").write_text(text, "utf-8")
    return ["--home", str(tmp_path / "home"), "--feeds", str(tmp_path / "feeds"), "--json"]


def told(*words: str) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words)
    return code, json.loads(out.getvalue())


def test_each_source_is_asked_and_one_that_fails_does_not_stop_the_others(desk: Server, words: list[str], tmp_path: Path) -> None:
    code, result = told("extract", *words)
    assert code == 1
    ended = [(e["feed"], e["status"], e["records"]) for e in result["extracts"]]
    assert ended == [("a_gone", "failed", 0), ("desk", "landed", 25)]
    assert result["error"]["code"] == "UF-2012"
    landed = tmp_path / "home" / "landing" / result["extracts"][1]["file"]
    assert len(landed.read_text("utf-8").splitlines()) == 25
    code, result = told("extract", "desk", *words)
    assert (code, result["extracts"][0]["status"], result["error"]) == (0, "unchanged", None)
    assert "s3cret" not in "".join(p.read_text("utf-8") for p in (tmp_path / "home" / "logs").iterdir())


def test_a_feed_without_a_source_cannot_be_asked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, result = told("extract", "dsk", *words)
    assert (code, result["error"]["code"]) == (2, "UF-1004")
    assert "did you mean 'desk'" in result["error"]["hint"]


def test_plan_says_what_would_be_asked_and_asks_nothing(desk: Server, words: list[str]) -> None:
    code, result = told("plan", *words)
    steps = {s["step"]: s for s in result["steps"]}
    assert code == 0
    assert steps["extract.desk"]["why"] == f"asks {desk.address} for changes since the beginning"
    assert steps["bronze.desk"] == {"step": "bronze.desk", "will_run": True, "why": "if the source has something new"}
    assert steps["silver.service_requests"]["why"] == "if bronze.a_gone, bronze.desk changes"
    assert desk.desk.asked == []


def test_the_steps_that_ask_can_be_selected_and_are_drawn(words: list[str]) -> None:
    _, result = told("plan", "--select", "extract", *words)
    assert [s["step"] for s in result["steps"] if s["will_run"]] == ["extract.a_gone", "extract.desk"]
    _, result = told("plan", "--graph", *words)
    assert "bronze.desk <- landing.desk, extract.desk" in [" ".join(line.split()) for line in result["graph"].splitlines()]


def test_feed_check_says_what_would_be_asked_and_which_secret_is_missing(
    desk: Server, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DESK_TOKEN")
    code, result = told("feed", "check", str(tmp_path / "feeds" / "desk.yaml"), *words)
    assert code == 0
    assert result["source"]["asks"].startswith(f"asks {desk.address}")
    assert result["source"]["missing_secrets"] == ["environment variable DESK_TOKEN is not set"]
    assert desk.desk.asked == []


def test_simulate_serve_is_a_command_of_its_own(tmp_path: Path) -> None:
    from urllib.request import urlopen

    served = tmp_path / "requests.jsonl"
    served.write_text("".join(json.dumps(r) + "\n" for r in requests_of(3)), "utf-8")
    one = subprocess.Popen(
        [sys.executable, "-m", "utilityflow.cli", "simulate", "serve", "--port", "0", "--records", str(served)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        line = one.stderr.readline() if one.stderr else ""
        address = line.partition(" at ")[2].partition(",")[0]
        assert "serving 3 service requests" in line
        with urlopen(f"{address}?limit=2") as answer:
            page = json.load(answer)
        assert (len(page["data"]), page["total"]) == (2, 3)
        with served.open("a", encoding="utf-8") as stream:  # the file is read again when it changes
            stream.write(json.dumps({**requests_of(1)[0], "id": "SR-new"}) + "\n")
        with urlopen(f"{address}?cursor={page['next_cursor']}") as answer:
            assert json.load(answer)["total"] == 4
    finally:
        one.send_signal(signal.SIGINT)
        assert one.wait(60) == 0


@pytest.mark.parametrize(("fault", "hint"), [("429", "for example 429@3"), ("4029@1", "did you mean"), ("slow@0", "for example")])
def test_a_fault_that_there_is_not(fault: str, hint: str) -> None:
    code, result = told("simulate", "serve", "--port", "0", "--fault", fault, "--json")
    assert (code, result["error"]["code"]) == (2, "UF-1004")
    assert hint in result["error"]["hint"]
