"""What the measurements of whole months share: a simulated utility in a home, its runs, memory and disk."""

from __future__ import annotations

import calendar
import datetime as dt
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utilityflow import pipeline, running
from utilityflow.bench._report import conditions
from utilityflow.control.home import open_home
from utilityflow.errors import UtilityFlowError
from utilityflow.graph import PUBLISH
from utilityflow.publish.publication import ANEW
from utilityflow.resources import resource
from utilityflow.session import get_session
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, Summary, simulate
from utilityflow.simulate.simulator import MAX_CUSTOMERS, MAX_MONTHS
from utilityflow.strict import load
from utilityflow.upkeep import SMALL

COUNTED = ("read", "loaded", "quarantined", "superseded", "duplicate")
ZONE, START, SEED = "America/New_York", dt.date(2025, 1, 1), 1


def check_size(customers: int, months: int) -> None:
    """Refuse before the start what the simulator would refuse in the last month.

    :param months: that will be simulated. :raises UtilityFlowError: UF-1004.
    """
    if not 1 <= customers <= MAX_CUSTOMERS:
        raise UtilityFlowError("UF-1004", f"customers must lie between 1 and {MAX_CUSTOMERS:,}, not {customers}")
    if months > MAX_MONTHS:
        raise UtilityFlowError("UF-1004", f"this would take {months} months, and the simulator makes at most {MAX_MONTHS}")


def month_end(month: int) -> dt.date:
    """The last day of a month of the simulation, from 1."""
    year, number = START.year + (START.month - 2 + month) // 12, (START.month - 2 + month) % 12 + 1
    return dt.date(year, number, calendar.monthrange(year, number)[1])


@dataclass
class World:
    """A home of its own, made anew, with a simulated utility; its session is this process's."""

    settings: Settings
    customers: int
    form: str
    tell: Any
    systems: Sequence[str] = CORE

    @classmethod
    def make(cls, settings: Settings, name: str, *, customers: int, form: str, driver_memory: str, publish_memory: str, tell: Any,
             systems: Sequence[str] = CORE) -> World:  # fmt: skip
        """A new home under the given one; a former one of that name is removed.

        :param form: of the reads, csv or parquet. :param systems: those whose files are simulated.
        """
        if form not in ("csv", "parquet"):
            raise UtilityFlowError("UF-1004", f"the reads come as csv or parquet, not as {form}")
        home = settings.home_path / name
        shutil.rmtree(home, ignore_errors=True)
        feeds = home / "feeds"
        feeds.mkdir(parents=True)
        for source in resource("conf", "feeds").iterdir():
            told = load(source.read_text("utf-8"), source.name).plain() if source.name.endswith(".yaml") else {}
            if told.get("system") in systems and told["format"] != "jdbc":  # files are simulated, no database
                (feeds / source.name).write_text(source.read_text("utf-8"), encoding="utf-8")
        (feeds / "ev_interval_reads.yaml").unlink()  # no wall boxes are simulated
        (feeds / ("ami_daily_reads.yaml" if form == "parquet" else "ami_daily_reads_parquet.yaml")).unlink()
        own = replace(settings, home=str(home), landing=None, feeds=str(feeds), time_zone=ZONE, publish_memory=publish_memory,
                      spark=replace(settings.spark, driver_memory=driver_memory))  # fmt: skip
        # beside the home, which may be removed while the session lives
        get_session("utilityflow bench", settings=own, scratch=settings.home_path / f"spark-{os.getpid()}")
        return cls(own, customers, form, tell, systems)

    @property
    def spark(self) -> Any:
        """The session."""
        return get_session(settings=self.settings)

    def land(self, month: int) -> Summary:
        """Simulate one month into the landing root."""
        return simulate(self.spark, landing=self.settings.landing_path, defects=self.settings.home_path / "defects",
                        customers=self.customers, months=month, start=START, seed=SEED, only_month=month,
                        reads_format=self.form, systems=self.systems, time_zone=ZONE, progress=self.tell)  # type: ignore[arg-type]  # fmt: skip

    def run(self, month: int, day: dt.date | None = None) -> dict[str, Any]:
        """Run everything as of a month's end; returns its seconds, the steps with their profiles and the files' accounting.

        ``warehouse``: in which way that was built (``warehouse_way``).

        :param day: the as-of date instead of the month's end. :raises UtilityFlowError: when the run failed.
        """
        began = time.monotonic()
        answer = pipeline.run(self.settings, as_of=day or month_end(month))
        seconds = time.monotonic() - began
        if answer["error"]:
            raise UtilityFlowError(answer["error"]["code"], answer["error"]["message"])
        counts = {f"rows_{n}": sum(f[f"rows_{n}"] for f in answer["files"]) for n in COUNTED}
        house = pipeline.open_lakehouse(self.settings, open_home(self.settings, create=False))
        only = f"run_id = '{answer['run_id']}'"
        told = (house.table(name).read().where(only).collect() for name in ("ops.step", "ops.metric"))
        steps, metrics = ([row.asDict() for row in rows] for rows in told)
        held = {step["step"]: step for step in steps}
        return {"seconds": round(seconds, 2), "steps": [held[s["step"]] for s in answer["steps"]], "files": counts,
                "warehouse": warehouse_way(metrics)}  # fmt: skip

    def sizes(self) -> dict[str, Any]:
        """Bytes on disk of the landing root, the lakehouse by table (files of former versions too), and the warehouse."""
        tables = {}
        for log in sorted((self.settings.home_path / "lakehouse").glob("*/*/_delta_log")):
            files = [f.stat().st_size for f in log.parent.rglob("*.parquet") if "_delta_log" not in f.parts]
            tables[f"{log.parent.parent.name}.{log.parent.name}"] = {"files": len(files), "bytes": sum(files)}
        landed = sum(f.stat().st_size for f in self.settings.landing_path.rglob("*") if f.is_file())
        warehouse = self.settings.home_path / "warehouse" / "utilityflow.duckdb"
        return {"landing": landed, "tables": tables, "warehouse": warehouse.stat().st_size if warehouse.exists() else 0}

    def current_files(self) -> dict[str, dict[str, int]]:
        """Data files of each table's current version: how many, their bytes, how many are small, in how many partitions.

        By the log's snapshot: on disk there also lie the files of former versions, until ``maintain`` removes them.
        """
        found = {}
        for log in sorted((self.settings.home_path / "lakehouse").glob("*/*/_delta_log")):
            named = self.spark.read.format("delta").load(str(log.parent)).inputFiles()
            files = [Path(name.removeprefix("file:")) for name in named]
            sizes = [file.stat().st_size for file in files]
            told = {"files": len(sizes), "bytes": sum(sizes), "small": sum(size < SMALL for size in sizes),
                    "partitions": len({file.parent for file in files})}  # fmt: skip
            found[f"{log.parent.parent.name}.{log.parent.name}"] = told
        return found

    def conditions(self) -> dict[str, Any]:
        """Where, when and with what settings it was measured."""
        spark = self.settings.spark
        return {**conditions(self.spark), "master": spark.master, "driver_memory": spark.driver_memory,
                "publish_memory": self.settings.publish_memory, "shuffle_partitions": spark.shuffle_partitions}  # fmt: skip

    def remove(self) -> None:
        """Take the home away."""
        shutil.rmtree(self.settings.home_path, ignore_errors=True)


def warehouse_way(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """In which way a run built the warehouse, by the rows that ``ops.metric`` has of it; None where it published nothing."""
    figures = {row["name"]: row["value"] for row in metrics if row["step"] == PUBLISH and row["name"] in running.BUILT}
    ways = [running.BUILT[name] for name, value in figures.items() if value]
    return (ways or [ANEW])[0] if figures else None


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Fill ``gib`` with the sum of the peaks of resident memory of this process and its children while the block runs.

    An upper bound of the peak of the sum: the processes need not have theirs at once. Linux only; elsewhere it stays empty.
    """
    found: dict[str, float] = {}
    for process in _family():
        with suppress(OSError):
            (process / "clear_refs").write_text("5")  # the peak begins anew
    try:
        yield found
    finally:
        peaks = [_peak(process) for process in _family()]
        if peaks:
            found["gib"] = round(sum(peaks) / 1024**2, 2)


def _family() -> list[Path]:
    """The /proc folders of this process and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    mine = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return [Path("/proc") / str(pid) for pid in sorted(mine)]


def _peak(process: Path) -> int:
    with suppress(OSError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
