"""A rotating sample of the crash sweep (`make crash` runs it whole), and that the sweep would see what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from crash_sweep import differences


def test_a_run_that_is_killed_ends_in_the_same_tables_when_it_is_started_again(tmp_path: Path, repository: Path) -> None:
    """Another two points each day: the seed is printed, and `crash_sweep.py FOLDER --points 2 --seed N` tries them again."""
    words = [sys.executable, str(repository / "tests" / "faults" / "crash_sweep.py"), str(tmp_path), "--points", "2", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=550)  # noqa: S603
    print(done.stdout, done.stderr)
    result = json.loads(done.stdout)
    assert (result["kills"], result["wrong"]) == (2, [])
    assert done.returncode == 0


def test_the_sweep_sees_other_content_and_rows_that_are_lost() -> None:
    good = {"gold.fact_usage": "a", "accounting": ["x"], "unaccounted": [], "publication": 2}
    assert differences(good, good) == []
    assert differences(good | {"gold.fact_usage": "b"}, good) == ["gold.fact_usage: b instead of a"]
    lost = ("crm", "1.csv", "loaded", 3, 2, 0, 0, 0)
    assert differences(good | {"unaccounted": [lost]}, good)[-1].startswith("rows that are not accounted for")
