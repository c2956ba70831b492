"""What the tests of storage that lies share: copies of the home after three runs of the walk, and what must then be as before."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from walk import AS_OF, FEEDS, Story, land

from utilityflow.cli import main
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.content import content_hash, partition_hashes
from utilityflow.settings import Settings, load_settings

TABLES = ["silver.customers", "silver.meter_reads", "gold.dim_customer", "gold.dim_meter", "gold.fact_usage"]


@dataclass(frozen=True)
class State:
    """Content of the tables, their rows, and what a reader of the warehouse sees."""

    hashes: dict[str, str]
    rows: dict[str, int]
    seen: list[Any]


@dataclass
class Broken:
    """A copy of the home, to break; Delta has not seen its paths before, so that nothing is cached of them."""

    path: Path
    spark: Any
    capsys: Any

    @property
    def settings(self) -> Settings:
        return load_settings({"home": str(self.path), "feeds": str(FEEDS)}, environ={})

    def folder(self, table: str) -> Path:
        return self.path / "lakehouse" / table.replace(".", "/")

    def log(self, table: str) -> Path:
        return self.folder(table) / "_delta_log"

    def commit(self, table: str, version: int) -> Path:
        """The file of a commit; Hadoop's checksum beside it goes, or that would be the guard that is shown."""
        file = self.log(table) / f"{version:020d}.json"
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
        return file

    def versions(self, table: str) -> list[int]:
        return sorted(int(p.stem) for p in self.log(table).glob("*.json"))

    def actions(self, table: str) -> list[dict[str, Any]]:
        files = [self.log(table) / f"{v:020d}.json" for v in self.versions(table)]
        return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]

    def live(self, table: str) -> list[Path]:
        """Data files of the newest version, with all their Hadoop checksums gone."""
        found: dict[str, None] = {}
        for action in self.actions(table):
            if "remove" in action:
                found.pop(action["remove"]["path"], None)
            if "add" in action:
                found[action["add"]["path"]] = None
        files = [self.folder(table) / name for name in found]
        for file in files:
            file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
        return files

    def move_away(self, table: str) -> None:
        """What doctor tells to do with a silver or gold table."""
        aside = self.path.parent / f"aside-{self.path.name}"
        aside.mkdir(exist_ok=True)
        self.folder(table).rename(aside / table)

    def land(self, run: int = 4) -> None:
        land(self.path, run)

    def run(self, *select: str) -> tuple[int, dict[str, Any]]:
        """``utilityflow run --json``: exit status and answer; never a trace."""
        words = ["--home", str(self.path), "--feeds", str(FEEDS), "--as-of", str(AS_OF)]
        code = main(["run", "--json", *words, *(["--select", *select] if select else [])])
        told = self.capsys.readouterr()
        assert "Traceback" not in told.err
        assert "java." not in told.err.replace("java.io.tmpdir", "")
        return code, json.loads(told.out)

    def blocked(self, code: str, *named: str) -> dict[str, Any]:
        """A run that ends with this error, all names in its message, and nothing published."""
        before = self.published()
        status, answer = self.run()
        error = answer["error"]
        assert error is not None, "the run did not see it"
        assert (error["code"], answer["status"]) == (code, "failed"), error
        for name in named:
            assert name in error["message"], (name, error)
        assert status == (5 if code.startswith("UF-3") else status)
        assert status != 0
        assert self.published() == before, "nothing may be published"
        return dict(error)

    def examined(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """``utilityflow doctor --json``: exit status, and what is not well by its name."""
        code = main(["doctor", "--json", "--home", str(self.path), "--feeds", str(FEEDS)])
        lines = json.loads(self.capsys.readouterr().out)["lines"]
        return code, {x["check"]: x for x in lines if x["state"] != "ok" and x["check"] not in ("disk", "permissions")}

    def doctor(self, table: str, *named: str) -> str:
        """Doctor ends with 5 and names the table and these words; returns the way out."""
        code, found = self.examined()
        assert code == 5, found
        assert table in found, found
        line = found[table]
        assert line["state"] == "fail"
        for name in named:
            assert name in line["says"], (name, line)
        assert line["way_out"]
        return str(line["way_out"])

    def published(self) -> tuple[str, list[str]]:
        """The warehouse file's bytes and the commits of the publication record."""
        file = self.path / "warehouse" / "utilityflow.duckdb"
        return hashlib.sha256(file.read_bytes()).hexdigest(), sorted(p.name for p in self.log("ops.publication").glob("*.json"))

    def state(self) -> State:
        house = Lakehouse(self.spark, str(self.path / "lakehouse"), load_contracts())
        parts = {}
        for name in TABLES:
            table = house.table(name)
            parts[name] = partition_hashes(table.read(), table.contract)
        with duckdb.connect(str(self.path / "warehouse" / "utilityflow.duckdb"), read_only=True) as db:
            sums = "SELECT count(*), sum(usage_kwh), sum(customer_key) FROM gold.fact_usage"
            names = "SELECT customer_id, customer_name, effective_date FROM gold.dim_customer ORDER BY ALL"
            seen = [*db.execute(sums).fetchall(), *db.execute(names).fetchall()]
        rows = {name: sum(part.rows for part in found.values()) for name, found in parts.items()}
        return State({name: content_hash(found) for name, found in parts.items()}, rows, seen)


def measured(found: State, wanted: State) -> dict[str, int]:
    """Rows that are missing, and tables and sights that differ."""
    lost = sum(max(0, wanted.rows[name] - found.rows[name]) for name in wanted.rows)
    wrong = sum(found.hashes[name] != wanted.hashes[name] for name in wanted.hashes) + int(found.seen != wanted.seen)
    return {"rows_lost": lost, "wrong": wrong}


@dataclass(frozen=True)
class Untouched:
    """The home after three runs, and how it looks then and after four."""

    home: Path
    after: State
    later: State

    def copy(self, place: Path, spark: Any, capsys: Any) -> Broken:
        shutil.copytree(self.home, place)
        return Broken(place, spark, capsys)


def untouched(spark: Any, story: Story) -> Untouched:
    """The home after three runs of the walk."""
    after, later = (Broken(story.after[number], spark, None).state() for number in (3, 4))
    return Untouched(story.after[3], after, later)


Break = Callable[..., Broken]


class Hook:
    """Takes the place of the crash points: does something once, when the first point is passed that a word begins."""

    def __init__(self, word: str, work: Callable[[], None]) -> None:
        self.word, self.work, self.done = word, work, False
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        with self._lock:
            if not self.done and name.startswith(self.word):
                self.done = True
                self.work()
