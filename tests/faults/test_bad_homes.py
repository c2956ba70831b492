"""A home that cannot be written, and one that is full: one clear error, the right exit status, nothing half written.

Root may write everywhere whatever the permissions say, so read-only and small homes are mounts of their own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.cli import main
from utilityflow.contracts import load_contracts
from utilityflow.control.home import open_home
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEED = """feed: crm
system: customer_management
entity: customers
format: csv
path: "*.csv"
columns: {customer_id: id, customer_name: name}
event: {effective_at: to_timestamp(at)}
"""


def mount(*words: str) -> None:
    """Mount, or skip the test in sight where this process may not."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system of its own")
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Feeds, a landing root with one small file, and an empty folder ``home`` to mount on."""
    for name in ("feeds", "landing", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "feeds" / "crm.yaml").write_text(FEED)
    (tmp_path / "landing" / "small.csv").write_text("id,name,at\nC1,Ann,2025-01-01 00:00:00\n")
    yield tmp_path
    while f" {tmp_path / 'home'} " in Path("/proc/mounts").read_text("utf-8"):  # a bind mount is no mount to os.path.ismount
        subprocess.run(["umount", "--lazy", str(tmp_path / "home")], check=True)


def run(place: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the object on standard output, the text on standard error."""
    words = [w for n in ("home", "landing", "feeds") for w in (f"--{n}", str(place / n))]
    code = main(["run", "--json", "--as-of", "2025-12-31", *more, *words])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, json.loads(told.out), told.err


def test_a_file_in_place_of_the_home(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "home").rmdir()
    (place / "home").write_text("mine")
    code, answer, _ = run(place, capsys)
    assert (code, answer["error"]["code"]) == (2, "UF-1008")
    assert f"the home {place / 'home'} is not a folder" in answer["error"]["message"]
    assert (place / "home").read_text() == "mine"


def test_a_file_in_place_of_a_folder_of_the_home(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_home(load_settings({"home": str(place / "home")}, environ={}), create=True)
    (place / "home" / "lakehouse").write_text("mine")
    code, answer, _ = run(place, capsys)
    assert (code, answer["error"]["code"]) == (2, "UF-1008")
    assert str(place / "home") in answer["error"]["message"]


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_read_only_home(place: Path, capsys: pytest.CaptureFixture[str], used: bool) -> None:
    home = place / "home"
    if used:
        open_home(load_settings({"home": str(home)}, environ={}), create=True)
    before = sorted(p.name for p in home.iterdir())
    mount("--bind", str(home), str(home))
    mount("-o", "remount,ro,bind", str(home))
    code, answer, err = run(place, capsys)
    assert (code, answer["status"], answer["error"]["code"]) == (2, "failed", "UF-1008")
    assert f"the home {home} cannot be written: Read-only file system" in err
    assert sorted(p.name for p in home.iterdir()) == before


@pytest.mark.engine
def test_a_home_that_is_full(place: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    home = place / "home"
    mount("-t", "tmpfs", "-o", "size=120k,mode=700", "tmpfs", str(home))
    code, answer, err = run(place, capsys, "--select", "bronze")  # full before the tables are made
    assert (code, answer["status"], answer["error"]["code"]) == (1, "failed", "UF-4007"), answer["error"]["message"]
    assert "No space left on device" in err

    mount("-o", "remount,size=64m", str(home))
    code, answer, _ = run(place, capsys, "--select", "bronze")
    assert (code, [f["rows_read"] for f in answer["files"]]) == (0, [1])
    table = Lakehouse(spark, str(home / "lakehouse"), load_contracts()).table("bronze.crm")
    version = table.version()
    assert version > 0

    used = sum(f.stat().st_blocks * 512 for f in home.rglob("*") if f.is_file()) // 1024
    mount("-o", f"remount,size={used + 400}k", str(home))
    noise = random.Random(7)
    rows = "".join(f"C{i},{noise.randbytes(20).hex()},2025-01-01 00:00:00\n" for i in range(40_000))
    (place / "landing" / "large.csv").write_text(f"id,name,at\n{rows}")
    code, answer, err = run(place, capsys, "--select", "bronze")  # full while records are written
    assert (code, answer["status"], answer["error"]["code"]) == (1, "failed", "UF-4007"), answer["error"]["message"]
    assert "bronze.crm" in answer["error"]["message"]
    assert table.version() == version, "nothing is half written"

    mount("-o", "remount,size=256m", str(home))
    code, answer, _ = run(place, capsys, "--select", "bronze")
    told = {f["file"]: (f["status"], f["rows_read"]) for f in answer["files"]}
    assert code == 0
    assert told["large.csv"] == ("loaded", 40_000)
    assert table.read().count() == 40_001
