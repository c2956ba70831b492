"""Kills runs of the walk with SIGKILL before and after every commit, rename and outside write, starts them again and compares.

`make crash` runs it whole; test_crash_sweep.py a sample. One Spark session serves all kills at points: each attempt is a fork,
which dies as the process would (what its threads had asked of Spark is cancelled). Kills at random times are separate
processes, so that Spark dies with them. The walks are those of walk.py.

Usage: crash_sweep.py FOLDER [--walk WALK] [--points N] [--only PATTERN] [--random N] [--seed S] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyspark
from walk import SYSTEMS, WALKS, Story, as_of, killed, settings, walked

from utilityflow.bench._report import table as tabulated
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.content import content_hash, partition_hashes
from utilityflow.session import SMALL, get_session


@dataclass(frozen=True)
class Kill:
    """What became of a run that was killed."""

    walk: str
    where: str
    wrong: list[str]
    recovery: float
    at: str = "point"  # or time


def state(spark: Any, home: Path) -> dict[str, Any]:
    """What must be as after an uninterrupted run: content of all silver and gold tables, accounting, and what a reader sees."""
    house = Lakehouse(spark, str(home / "lakehouse"), load_contracts())
    found: dict[str, Any] = {}
    for contract in house.contracts.values():
        table = house.table(contract.name)
        if contract.layer in ("silver", "gold") and table.exists():
            found[contract.name] = content_hash(partition_hashes(table.read(), contract))
    counts = ["feed", "file_name", "status", *(f"rows_{n}" for n in ("read", "loaded", "quarantined", "superseded", "duplicate"))]
    ledger = [tuple(row) for row in house.table("ops.file_ledger").read().select(*counts).collect()]
    found["accounting"] = sorted(map(str, ledger))
    found["unaccounted"] = [row for row in ledger if row[3] != sum(row[4:])]
    with duckdb.connect(str(home / "warehouse" / "utilityflow.duckdb"), read_only=True) as warehouse:
        found["publication"] = warehouse.execute("SELECT publication FROM gold.publication").fetchall()[0][0]
        for name in [name for name in found if name.startswith("gold.") and house.contracts[name].property("publish")]:
            rows = warehouse.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {name} t").fetchall()  # noqa: S608
            found[f"published {name}"] = rows
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    names = [*expected, *(name for name in found if name not in expected)]
    both = [(name, found.get(name), expected.get(name)) for name in names]
    wrong = [f"{name}: {one} instead of {other}" for name, one, other in both if one != other]
    return wrong + [f"rows that are not accounted for: {row}" for row in found["unaccounted"]]


# -- kills at points -------------------------------------------------------------------------------------------------


def attempt(spark: Any, home: Path, walk: str, **environment: str) -> int:
    """A run, or what the walk does, in a fork; its wait status (9: killed)."""

    def work() -> None:
        assert walked(home, walk), "it ended with an error"

    return killed(spark, work, **environment)


def recover(spark: Any, home: Path, walk: str, where: str, expected: dict[str, Any], at: str = "point") -> Kill:
    began = time.monotonic()
    status = attempt(spark, home, "run")
    seconds = time.monotonic() - began
    wrong = differences(state(spark, home), expected) if status == 0 else [f"the run after it ended with status {status}"]
    return Kill(walk, where, wrong, seconds, at)


class Sweep:
    """The homes before each walk, and how each of them ends when nobody interferes."""

    def __init__(self, spark: Any, folder: Path, story: Story, walks: list[str]) -> None:
        self.spark, self.folder, self.walks = spark, folder, walks
        systems = Story(folder / "systems", SYSTEMS)
        self.stories = {walk: systems if walk == "systems" else story for walk in walks}
        for walk in walks:
            self.stories[walk].tell(WALKS[walk])
        self.points = {walk: self.stories[walk].points[WALKS[walk]] for walk in walks}  # that a walk passes, in their order
        self._ends = cache(lambda home: state(spark, home))

    def after(self, walk: str, number: int) -> dict[str, Any]:
        """How a run of the walk's story ends when nobody interferes."""
        found: dict[str, Any] = self._ends(self.stories[walk].after[number])
        return found

    def copy(self, walk: str) -> Path:
        home = self.folder / "killed"
        shutil.rmtree(home, ignore_errors=True)
        return shutil.copytree(self.stories[walk].before[WALKS[walk]], home)

    def kill(self, walk: str, point: str) -> Kill:
        """Killed at a point by its name, as steps that run at once pass theirs in any order."""
        home = self.copy(walk)
        status = attempt(self.spark, home, walk, UF_CRASH_AT=point)
        if status != signal.SIGKILL:
            return Kill(walk, point, [f"was not killed, but ended with status {status}"], 0.0)
        begun = walk != "rollback" or "after append ops.rollback#1" in self.points[walk][: self.points[walk].index(point) + 1]
        return recover(self.spark, home, walk, point, self.after(walk, WALKS[walk] if begun else WALKS[walk] - 1))

    def kill_at_random(self, walk: str, after: float) -> Kill | None:
        """SIGKILL of a process with all its children, Spark too, some seconds after it began to write; None: it had ended."""
        home = self.copy(walk)
        code = "import sys; from utilityflow.cli import main; sys.exit(main(sys.argv[1:]))"
        words = [sys.executable, "-c", code, "run", "--home", str(home), "--feeds", str(settings(home).feeds),
                 "--as-of", str(as_of(home))]  # fmt: skip
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        began = time.monotonic()
        while not list((home / "logs").glob("*.jsonl")) or time.monotonic() - began < after:
            if process.poll() is not None:
                return None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return recover(self.spark, home, walk, f"after {after:.2f} s", self.after(walk, WALKS[walk]), at="time")


def places(sweep: Sweep, count: int | None, only: str, seed: int) -> list[tuple[str, str]]:
    """Where to kill: at all points that the pattern ``only`` finds, then at ``count`` others by the seed (None: at all)."""
    everywhere = [(walk, point) for walk in sweep.walks for point in sweep.points[walk]]
    chosen = [place for place in everywhere if only and re.search(only, " ".join(place))]
    rest = sorted(set(everywhere) - set(chosen)) if count is not None else [p for p in everywhere if p not in chosen]
    return chosen + (rest if count is None else random.Random(seed).sample(rest, min(count, len(rest))))  # noqa: S311


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--walk", choices=WALKS, help="only this one (default: all)")
    parser.add_argument("--points", type=int, default=None, help="so many points, chosen by the seed (default: all)")
    parser.add_argument("--only", default="", help="first all points that this pattern finds in '<walk> <point>'")
    parser.add_argument("--random", type=int, default=0, help="kills at random times")
    parser.add_argument("--seed", type=int, default=int(time.time() // 86_400), help="default: the day")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(words)
    logging.getLogger("utilityflow").propagate = False  # the journals are enough
    walks = [args.walk] if args.walk else list(WALKS)
    spark = get_session(master="local[2]", extra=SMALL, scratch=args.folder / "spark")
    sweep = Sweep(spark, args.folder, Story(args.folder / "story"), walks)
    rng, kills = random.Random(args.seed), []  # noqa: S311

    def tell(kill: Kill) -> None:
        kills.append(kill)
        verdict = "; ".join(kill.wrong) or "same tables"
        print(f"{kill.walk:<12} {kill.where:<44} recovered in {kill.recovery:5.1f} s: {verdict}", file=sys.stderr, flush=True)

    for walk, point in places(sweep, args.points, args.only, args.seed):
        tell(sweep.kill(walk, point))
    for _ in range(args.random):
        while (kill := sweep.kill_at_random(rng.choice([w for w in walks if w != "rollback"]), rng.uniform(0, 40))) is None:
            pass  # it had ended before; another time is drawn
        tell(kill)
    result = {walk: outcome(len(sweep.points[walk]), [kill for kill in kills if kill.walk == walk]) for walk in walks}
    result["all"] = outcome(sum(len(sweep.points[walk]) for walk in walks), kills)
    wrong = [vars(kill) for kill in kills if kill.wrong]
    print(json.dumps({"walks": result, "wrong": wrong, "seed": args.seed}) if args.json else table(result, args.seed))
    return 1 if wrong else 0


def outcome(points: int, kills: list[Kill]) -> dict[str, Any]:
    """A row of the table: what one walk passed, suffered and came to."""
    cost = [kill.recovery for kill in kills]
    return {"points": points, "killed at points": sum(kill.at == "point" for kill in kills),
            "at random times": sum(kill.at == "time" for kill in kills),
            "recovered unaided": sum(not kill.wrong for kill in kills), "wrong": sum(bool(kill.wrong) for kill in kills),
            "recovery s, mean": round(sum(cost) / len(cost), 1) if cost else None,
            "recovery s, most": round(max(cost), 1) if cost else None}  # fmt: skip


def table(result: dict[str, dict[str, Any]], seed: int) -> str:
    """The outcome as a table in Markdown. Wrong: another content hash, a row not accounted for, or another figure published."""
    rows = tabulated(["walk", *result["all"]], [[walk, *row.values()] for walk, row in result.items()])
    conditions = f"seed {seed}, Spark {pyspark.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return f"{rows}\n{conditions}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
