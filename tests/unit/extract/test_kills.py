"""An extract that is killed, at any rename or in the middle of a page, is gone on with: no gap, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from .conftest import CURSOR, OFFSET, SINCE, TEXT

CHILD = """
import sys
from pathlib import Path
from utilityflow.bronze.feeds import load_feed
from utilityflow.extract.landed import Refused
from utilityflow.extract.rest import extract_rest
print(extract_rest(load_feed(sys.argv[1]), Path(sys.argv[2]), Refused(), print).told, flush=True)
"""


def child(here, tmp_path, options: str, **environment: str) -> subprocess.Popen[str]:
    file = tmp_path / "desk.yaml"
    file.write_text(TEXT.replace("{address}", here.address) + options, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file), str(here.landing)],
        env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("point", ["before landing desk#1", "after landing desk#1"])
def test_killed_at_the_rename(world, tmp_path, point):
    here = world(35)
    one = child(here, tmp_path, CURSOR + SINCE, UF_CRASH_AT=point)
    assert one.wait(300) == -signal.SIGKILL
    assert len(here.landed()) == (35 if point.startswith("after") else 0)
    asked = len(here.desk.asked)
    done = here.extract(now=None)
    assert here.landed() == here.desk.now()
    assert [f for f in here.files() if f.startswith(".")] == []
    if point.startswith("before"):
        assert len(here.desk.asked) == asked  # every page was kept
    else:
        assert done.file is None


@pytest.mark.parametrize("options", [CURSOR, OFFSET])
@pytest.mark.parametrize("cut", [0, 7])
def test_killed_while_it_waits_for_a_page(world, tmp_path, options, cut):
    here = world(35, "slow@3", delay=600)
    one = child(here, tmp_path, options + SINCE)
    end = time.monotonic() + 300
    while len(here.desk.asked) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    one.send_signal(signal.SIGKILL)
    one.wait(60)
    work = here.landing / "desk" / ".desk.work"
    if cut:  # and the last page reached the disk in part
        work.write_bytes(work.read_bytes()[:-cut])
    here.desk.faults = []
    before = len(here.desk.asked)
    here.extract(options + SINCE, now=None)
    assert here.landed() == here.desk.now()
    assert "going on after" in here.said[0]
    first = here.desk.asked[before]
    assert first.get("cursor") or first.get("offset") == ("10" if cut else "20")


def test_pages_that_are_too_old_are_not_gone_on_with(world, tmp_path):
    here = world(35, "503@3-99")
    with pytest.raises(Exception, match="503"):
        here.extract()
    here.desk.faults = []
    before = len(here.desk.asked)
    here.extract(CURSOR + SINCE + "  limits: {resume_seconds: 1}\n", now=None)
    assert "cursor" not in here.desk.asked[before]
    assert len(here.landed()) == 35
