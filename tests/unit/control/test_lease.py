"""One writer per home: who may take the lease, when it is taken over, and that who lost it writes nothing more.

Numbers are faults of reference/operations.md section 9.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from utilityflow.cli import main
from utilityflow.control.home import hold, open_home
from utilityflow.control.lease import Lease, held, read, take, unlock
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import Settings

HOLDER = """
import sys, time
from pathlib import Path
from utilityflow.control.lease import take
lease = take(Path(sys.argv[1]), "run other", seconds=float(sys.argv[2]))
print("taken", flush=True)
for line in sys.stdin:
    try:
        if line.strip() == "publish":
            with lease.fenced():
                Path(sys.argv[1], "published").touch()
        print("written", flush=True)
    except Exception as error:
        print(error, flush=True)
lease.give_back()
"""


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextlib.contextmanager
def taken(path: Path, **options: object) -> Iterator[Lease]:
    lease = take(path, "run mine", **options)  # type: ignore[arg-type]
    try:
        yield lease
    finally:
        lease.give_back()


@contextlib.contextmanager
def other(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease."""
    words = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert said(process) == "taken"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def audit(path: Path) -> list[dict[str, str]]:
    file = path / "logs" / "lease.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.fault(7, "two runs start together")
def test_fault_07_of_two_at_once_the_second_is_told_who_holds(tmp_path: Path, fault: Any) -> None:
    with other(tmp_path, 60) as process:
        with pytest.raises(UtilityFlowError) as caught:
            take(tmp_path, "run mine")
        assert caught.value.exit_code == 4
        assert f"run other (process {process.pid} on {os.uname().nodename}" in caught.value.message
        assert audit(tmp_path) == []
        fault(detected=caught.value.code)


def test_a_lease_that_was_given_back_is_free_and_the_token_rises(tmp_path: Path) -> None:
    for token in (1, 2, 3):
        with taken(tmp_path) as lease:
            assert lease.token == token
            lease.require()
    assert audit(tmp_path) == []
    assert unlock(tmp_path, force=False) == "nobody holds the home"


def test_a_holder_that_was_killed_is_replaced_at_once(tmp_path: Path) -> None:
    with other(tmp_path, 3600) as process:
        process.kill()
        process.wait()
        with taken(tmp_path) as lease:
            assert lease.token == 2
    (line,) = audit(tmp_path)
    assert (line["event"], line["why"]) == ("taken over", "its process is gone, or gave up")
    assert f"process {process.pid}" in line["from"]


@pytest.mark.fault(9, "the holder is dead, elsewhere")
def test_fault_09_a_holder_of_another_machine_is_replaced_after_its_silence(tmp_path: Path, clock: Clock, fault: Any) -> None:
    with taken(tmp_path, clock=clock):
        there = json.loads((tmp_path / "lease.json").read_text()) | {"machine": "elsewhere", "process": 1}
    (tmp_path / "lease.json").write_text(json.dumps(there))
    clock.now += 120
    with pytest.raises(UtilityFlowError, match="UF-4004.*elsewhere"):
        take(tmp_path, "run mine", clock=clock)
    clock.now += 1
    with taken(tmp_path, clock=clock) as lease:
        assert lease.token == 2
    assert audit(tmp_path)[0]["why"] == "nothing was heard of it for 121 s"
    fault(detected="UF-4004", unaided=True)


@pytest.mark.fault(8, "the holder freezes, is replaced, comes back")
def test_fault_08_a_frozen_holder_is_fenced(tmp_path: Path, fault: Any) -> None:
    with other(tmp_path, 1.0) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(UtilityFlowError, match="UF-4004"):
            take(tmp_path, "run mine")
        time.sleep(1.3)
        with taken(tmp_path) as lease:
            ask(process, "publish")
            process.send_signal(signal.SIGCONT)
            assert f"UF-4008: the lease of {tmp_path} was taken over by run mine" in said(process)
            assert not (tmp_path / "published").exists()
            lease.require()
    assert [line["event"] for line in audit(tmp_path)] == ["taken over"]
    fault(detected="UF-4008", unaided=True)


def test_a_holder_that_beats_is_not_replaced(tmp_path: Path) -> None:
    with other(tmp_path, 0.8) as process:
        time.sleep(2.0)
        with pytest.raises(UtilityFlowError, match="UF-4004"):
            take(tmp_path, "run mine")
        ask(process, "publish")
        assert said(process) == "written"
        assert (tmp_path / "published").exists()


@pytest.mark.fault(41, "the clock goes back a day")
def test_fault_41_a_clock_that_goes_back_replaces_nobody(tmp_path: Path, clock: Clock, fault: Any) -> None:
    with taken(tmp_path, clock=clock):
        clock.now -= 86_400
        holder = read(tmp_path)
        assert holder is not None
        assert held(tmp_path, holder, clock.now)
        fault(false_alarms=int(holder.silent(clock.now)))


def test_nobody_takes_over_while_the_holder_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utilityflow.control.lease.PATIENCE", 0.3)
    with taken(tmp_path) as lease, lease.fenced(), pytest.raises(UtilityFlowError, match=r"UF-4004.*run mine"):
        unlock(tmp_path, force=True)


def test_a_lease_that_a_full_disk_kept_from_being_given_back_is_free_for_its_process(tmp_path: Path) -> None:
    lease = take(tmp_path, "run full")
    (tmp_path / "lease.json.new").mkdir()  # nothing can be written
    lease.give_back()
    (tmp_path / "lease.json.new").rmdir()
    kept = read(tmp_path)
    assert kept is not None
    assert kept.what == "run full"
    with taken(tmp_path) as following:
        assert following.token == 2


def test_unlock_asks_for_force_and_leaves_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = open_home(Settings(home=str(tmp_path)), create=True)
    with hold(home, "run mine") as lease:
        assert main(["unlock", "--home", str(tmp_path)]) == 4
        lease.require()
        assert main(["unlock", "--force", "--home", str(tmp_path)]) == 0
        assert "taken away from run mine" in capsys.readouterr().out
        with pytest.raises(UtilityFlowError, match="UF-4008.*unlock"):
            lease.require()
        with pytest.raises(UtilityFlowError, match="UF-4008"), lease.fenced():
            raise AssertionError("who lost the lease must not publish")
        with hold(home, "run next") as following:
            assert following.token == 3
    (line,) = audit(tmp_path)
    assert (line["event"], line["forced"]) == ("unlocked", True)


def test_unlock_of_a_home_that_is_not_there(tmp_path: Path) -> None:
    assert main(["unlock", "--home", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_a_lease_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("{}")
    with pytest.raises(UtilityFlowError, match=r"UF-1008.*lease\.json"):
        take(tmp_path, "run mine")
