"""Killed at any point and run again, the warehouse ends with the same content, and no reader sees half of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.long
@pytest.mark.fault(5, "killed while it publishes")
def test_killed_at_every_point(tmp_path: Path, fault: Any) -> None:
    script = Path(__file__).with_name("crash_walk.py")
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (tmp_path / "spark").exists(), "a process takes its scratch space with it"
    points = json.loads(done.stdout.splitlines()[-1])
    names = [name.split(" ", 1)[1] for name in points]
    steps = ("stage warehouse", "build warehouse", "append ops.publication", "swap warehouse")
    assert names == [f"{when} {step}" for step in steps for when in ("before", "after")]
    old, new = [1, 4, "0.00"], [2, 5, "7.00"]
    for name, (status, after, again, end, left, number) in points.items():
        assert status == 9, name
        assert after == (new if name.endswith("after swap warehouse") else old), name
        assert (again, end, left, number) == (0, new, False, 2), name
        fault(unaided=True, rows_lost=new[1] - end[1], wrong=int(end != new) + int(after not in (old, new)))
