"""Data files that lie: bits that flip, files that are gone, what a process that dies leaves, upkeep that is interrupted.

Numbers are those of reference/operations.md section 9.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from lying import Break, Broken, Untouched, measured
from walk import AS_OF, FEEDS, killed

from utilityflow.lakehouse import crash_point
from utilityflow.operate import maintain
from utilityflow.publish import pages

pytestmark = pytest.mark.engine
READS, CUSTOMERS, DIMENSION, FACTS = "silver.meter_reads", "silver.customers", "gold.dim_customer", "gold.fact_usage"
SEEDS = range(24)


def whole(home: Broken, untouched: Untouched) -> dict[str, int]:
    """The next run on the mended home, against that of the untouched one."""
    home.land()
    code, answer = home.run()
    assert (code, answer["error"]) == (0, None), answer["error"]
    return measured(home.state(), untouched.later)


def flip(file: Path, seed: int, *, column: str | None = None) -> bytes:
    """One bit of the file flips: anywhere, or in a page of a column; returns what the file was."""
    text, rng = file.read_bytes(), random.Random(seed)
    place = rng.randrange(len(text))
    if column is not None:
        group = pq.read_metadata(file).row_group(0)
        chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        at, size, _ = max(pages._pages(text, start, start + chunk.total_compressed_size), key=lambda page: page[1])
        place = at + rng.randrange(size)
    changed = bytearray(text)
    changed[place] ^= 1 << rng.randrange(8)
    file.write_bytes(changed)
    return text


@pytest.mark.fault(15, "a bit flips in a data file: read by the engine, by pyarrow's and by our own check, many places")
def test_fault_15_no_flipped_bit_gives_a_wrong_answer(broken: Break, spark: Any, tmp_path: Path, fault: Any) -> None:
    home = broken()
    files = [max(home.live(table), key=lambda f: f.stat().st_size) for table in (READS, FACTS)]
    rows = [sorted(map(str, spark.read.parquet(str(f)).collect())) for f in files]
    seen = {"refused": 0, "same": 0, "wrong": 0, "unseen by doctor": 0}
    for seed in SEEDS:
        which = seed % len(files)
        copy = tmp_path / f"{seed}.parquet"
        shutil.copyfile(files[which], copy)
        column = random.Random(seed).choice(["customer_id", "quantity", "_file_sha256"]) if seed % 3 else None
        flip(copy, seed, column=column)
        try:
            answer = sorted(map(str, spark.read.parquet(str(copy)).collect()))
        except Exception:
            seen["refused"] += 1
        else:
            seen["same" if answer == rows[which] else "wrong"] += 1
        seen["unseen by doctor"] += int(column is not None and pages.damage(copy) is None)
    print(seen)
    assert (seen["wrong"], seen["unseen by doctor"]) == (0, 0), seen
    assert seen["refused"] >= len(SEEDS) // 2
    assert [pages.damage(f) for f in files] == [None, None]
    fault(detected=True, wrong=seen["wrong"], false_alarms=sum(pages.damage(f) is not None for f in files))


@pytest.mark.slow
@pytest.mark.fault(15, "a bit flips in a file of silver that the run reads")
def test_fault_15_a_bit_flips_in_silver(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()
    file = max(home.live(CUSTOMERS), key=lambda f: f.stat().st_size)  # the engine may have left a file without rows
    flip(file, 1, column="customer_id")
    home.land()
    error = home.blocked("UF-3003", CUSTOMERS, file.name)
    assert "doctor" in error["hint"]
    assert "move it away and run again" in home.doctor(CUSTOMERS, file.name, "checksum")
    home.move_away(CUSTOMERS)
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3003", unaided=False, false_alarms=len(home.examined()[1]), **told)


@pytest.mark.slow
@pytest.mark.fault(15, "a bit flips in a file of gold that only DuckDB reads, which compares no checksums")
def test_fault_15_a_bit_flips_in_gold_and_the_warehouse_is_made_anew(
    broken: Break, untouched: Untouched, fault: Any
) -> None:
    home = broken()
    files = home.live("gold.dim_meter")
    kept = {file: flip(file, 5, column="meter_id") for file in files}
    warehouse = home.path / "warehouse" / "utilityflow.duckdb"
    aside = warehouse.read_bytes()
    warehouse.unlink()
    code, answer = home.run("publish")
    assert (code, answer["error"]["code"]) == (5, "UF-3003"), answer["error"]
    assert "gold.dim_meter" in answer["error"]["message"]
    assert any(file.name in answer["error"]["message"] for file in files)
    assert not warehouse.exists()
    home.doctor("gold.dim_meter", files[-1].name)
    for file, text in kept.items():  # as from a backup
        file.write_bytes(text)
    code, answer = home.run("publish")
    assert (code, answer["error"]) == (0, None)
    told = measured(home.state(), untouched.after)
    assert told == {"rows_lost": 0, "wrong": 0}
    assert len(warehouse.read_bytes()) > len(aside) // 2
    fault(detected="UF-3003", unaided=False, false_alarms=len(home.examined()[1]), **told)


@pytest.mark.slow
@pytest.mark.fault(16, "a data file that a table needs is gone")
def test_fault_16_a_missing_data_file(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()
    file = home.live(DIMENSION)[-1]
    file.unlink()
    home.land()
    home.blocked("UF-3003", DIMENSION, file.name)
    out = home.doctor(DIMENSION, file.name, f"of version {home.versions(DIMENSION)[-1]}")
    assert "restore" in out
    assert "move it away and run again" in out
    home.move_away(DIMENSION)
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3003", unaided=False, false_alarms=len(home.examined()[1]), **told)


def _data(home: Broken) -> set[Path]:
    return {p for p in (home.path / "lakehouse").rglob("*.parquet") if not p.name.startswith(".")}


def _named(home: Broken) -> set[Path]:
    """Data files that some commit names."""
    found = set()
    for commit in (home.path / "lakehouse").glob("*/*/_delta_log/*.json"):
        text = commit.read_text("utf-8")
        found |= {p for p in commit.parents[1].rglob("*.parquet") if p.name in text}
    return found


def _freeze_between_write_and_commit(home: Broken) -> list[Path]:
    """Run in a process of its own; when a data file is there that no commit names, stop the world and kill it."""
    code = "import sys; from utilityflow.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "run", "--home", str(home.path), "--feeds", str(FEEDS), "--as-of", str(AS_OF)]
    known = _data(home)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None:
            if not _data(home) - known:
                time.sleep(0.002)
                continue
            os.killpg(process.pid, signal.SIGSTOP)
            left = sorted(p for p in _data(home) - known - _named(home) if p.stat().st_size > 0)
            if any(pages.damage(p) is None and pq.read_metadata(p).num_rows for p in left):
                return left
            os.killpg(process.pid, signal.SIGCONT)
            time.sleep(0.002)
        return []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.fault(2, "killed between the data files of a write and its commit")
def test_fault_02_files_without_a_commit(
    broken: Break, untouched: Untouched, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = broken()
    home.land()
    left = _freeze_between_write_and_commit(home)
    assert left, "the run ended before it could be killed between a write and its commit"
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    code, found = home.examined()
    tables = {".".join(p.relative_to(home.path / "lakehouse").parts[:2]) for p in left}
    assert code == 0
    assert {name for name, line in found.items() if "no commit names" in line["says"]} == tables & set(found)
    assert found
    assert {line["state"] for line in found.values()} == {"warn"}
    month_ago = time.time() - 30 * 86_400
    for file in left:
        os.utime(file, (month_ago, month_ago))
    monkeypatch.setattr(maintain, "_names", lambda feeds: sorted(tables))
    maintain.maintain(home.settings)
    assert [file for file in left if file.exists()] == []
    after = measured(home.state(), untouched.later)
    assert after == {"rows_lost": 0, "wrong": 0}
    fault(detected="doctor", unaided=True, false_alarms=len(home.examined()[1]), **told)


@pytest.mark.slow
@pytest.mark.fault(60, "OPTIMIZE, VACUUM and RESTORE are killed and called again")
def test_fault_60_upkeep_that_is_interrupted(
    broken: Break, untouched: Untouched, spark: Any, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = broken()
    monkeypatch.setattr(maintain, "MANY", 2)
    monkeypatch.setattr(maintain, "_names", lambda feeds: [READS])
    for point in (f"before optimize {READS}#1", f"after optimize {READS}#1", f"before vacuum {READS}#1"):
        status = killed(spark, lambda: maintain.maintain(home.settings), UF_CRASH_AT=point)
        assert status == signal.SIGKILL, point
        assert measured(home.state(), untouched.after) == {"rows_lost": 0, "wrong": 0}, point
    (done,) = maintain.maintain(home.settings)["tables"]
    assert (done["table"], done["files"]) == (READS, 1)

    version = home.versions(READS)[-1]

    def restore() -> None:
        with crash_point("restore"):
            spark.sql(f"RESTORE TABLE delta.`{home.folder(READS)}` TO VERSION AS OF {version - 1}").collect()

    for point in ("before restore#1", "after restore#1"):
        assert killed(spark, restore, UF_CRASH_AT=point) == signal.SIGKILL
        assert measured(home.state(), untouched.after) == {"rows_lost": 0, "wrong": 0}, point
    restore()
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(unaided=True, false_alarms=len(home.examined()[1]), **told)
