"""Places that fail: a publication that is killed or refused in its middle, a disk that fills, rights that are lost in mid-run.

Numbers are those of reference/operations.md section 9. Root may write everywhere, so the places are mounts of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from lying import Break, Broken, Hook, Untouched, measured
from walk import AS_OF, killed

from utilityflow import lakehouse, pipeline
from utilityflow.publish import duckdb as target

pytestmark = pytest.mark.engine
Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount, or skip the test in sight where this process may not."""
    places: list[str] = []

    def go(*words: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system of its own")
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no mounts here: {done.stderr.strip()}")
        places.append(words[-1])

    yield go
    for place in places:
        while f" {place} " in Path("/proc/mounts").read_text("utf-8"):
            subprocess.run(["umount", "--lazy", place], check=True)


def whole(home: Broken, untouched: Untouched) -> dict[str, int]:
    code, answer = home.run()
    assert (code, answer["error"]) == (0, None), answer["error"]
    return measured(home.state(), untouched.later)


@pytest.mark.slow
@pytest.mark.fault(6, "the publication to DuckDB is killed in its middle, then refused")
def test_fault_06_a_publication_that_does_not_end(
    broken: Break, untouched: Untouched, spark: Any, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = broken()
    home.land()
    before = home.published()

    def die(*_: Any) -> None:
        assert target.beside(home.path).is_file(), "the next file is being built"
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse(*_: Any) -> None:
        raise duckdb.IOException("IO Error: the target went away")

    with monkeypatch.context() as patch:
        patch.setattr(target, "_sign", die)
        assert killed(spark, lambda: pipeline.run(home.settings, as_of=AS_OF)) == signal.SIGKILL
    assert target.beside(home.path).is_file()
    assert home.published() == before
    with monkeypatch.context() as patch:
        patch.setattr(target, "_sign", refuse)
        error = home.blocked("UF-4002", "the target went away")
    assert error["message"].startswith("the warehouse could not be built")
    assert home.published() == before
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-4002", unaided=True, false_alarms=len(home.examined()[1]), **told)


def _used(folder: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file()) // 1024


@pytest.mark.slow
@pytest.mark.fault(11, "the disk is full, while tables are written and while the publication is built")
def test_fault_11_a_full_disk(
    broken: Break, untouched: Untouched, tmp_path: Path, mount: Mount, fault: Any
) -> None:
    first = broken("template")
    place = tmp_path / "small"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(place))
    home = untouched.copy(place / "home", first.spark, first.capsys)
    home.land()
    for room in (60, 1500):  # KiB: fewer than the tables need; fewer than a second warehouse file needs
        mount("-o", f"remount,size={_used(place) + room}k", str(place))
        error = home.blocked("UF-4007")
        assert "No space left on device" in error["message"] or "could not be built" in error["message"], error
    mount("-o", "remount,size=256m", str(place))
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    code, found = home.examined()  # what the refused writes left without a commit is there, so that is no false alarm
    others = [line for line in found.values() if "no commit names" not in line["says"]]
    assert (code, others) == (0, [])
    fault(detected="UF-4007", unaided=True, false_alarms=len(others), **told)


@pytest.mark.slow
@pytest.mark.fault(12, "a table may not be written, from the beginning and from the middle of a run on")
def test_fault_12_the_right_to_write_is_lost(
    broken: Break, untouched: Untouched, mount: Mount, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = broken()
    home.land()
    gold = home.path / "lakehouse" / "gold"
    before = sorted((str(p), p.stat().st_mtime_ns) for p in (home.path / "lakehouse").rglob("*"))
    mount("--bind", str(gold), str(gold))
    mount("-o", "remount,ro,bind", str(gold))
    home.blocked("UF-1008", "lakehouse/gold", "cannot be written")
    assert sorted((str(p), p.stat().st_mtime_ns) for p in (home.path / "lakehouse").rglob("*")) == before
    mount("-o", "remount,rw,bind", str(gold))

    hook = Hook("before append silver.", lambda: mount("-o", "remount,ro,bind", str(gold)))
    with monkeypatch.context() as patch:
        patch.setattr(lakehouse, "_POINTS", hook)
        home.blocked("UF-4007", "gold.", "Read-only file system")
    assert hook.done
    mount("-o", "remount,rw,bind", str(gold))
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-1008, UF-4007", unaided=True, false_alarms=len(home.examined()[1]), **told)
