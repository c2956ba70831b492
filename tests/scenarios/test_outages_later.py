"""What later files and days do to the reliability indices: each run's rows are those that all records give at once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings

FEEDS = Path(__file__).parent / "given_a_network_with_outages" / "feeds"
POINTS = """point,premise,account,transformer,circuit,feeder,substation,district,state,since,what
SP-1,PR-1,A-1,T-1,CK-1,F-1,S-1,North,Active,2020-01-01 00:00:00,
SP-2,PR-2,A-2,T-1,CK-1,F-1,S-1,North,Active,2020-01-01 00:00:00,
SP-3,PR-3,A-3,T-2,CK-1,F-1,S-1,North,Active,2020-01-01 00:00:00,
"""
HEAD = "outage,step,kind,element,off,on,customers,cause,storm,planned,supply,state,told\n"
pytestmark = [pytest.mark.engine, pytest.mark.long]


class World:
    """A home into which outages land, run by run."""

    def __init__(self, root: Path) -> None:
        self.landing, home = root / "landing", root / "home"
        self.settings = Settings(home=str(home), landing=str(self.landing), feeds=str(FEEDS), time_zone="America/New_York")
        self.warehouse = home / "warehouse" / "utilityflow.duckdb"
        self.land("points/1.csv", POINTS)

    def land(self, name: str, text: str) -> None:
        file = self.landing / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def outages(self, number: int, *rows: tuple[str, str, str, str, str, str]) -> None:
        """(outage, kind, element, off, on, told)."""
        lines = [f"{o},1,{kind},{element},{off},{on},,Wind,N,N,N,Confirmed,{told}\n" for o, kind, element, off, on, told in rows]
        self.land(f"outages/{number}.csv", HEAD + "".join(lines))

    def run(self, day: str) -> dict[str, tuple[float, float, float]]:
        """Interruptions, minutes and open ones by month, nothing left out; after a run that ``verify`` agrees with."""
        answer = pipeline.run(self.settings, as_of=dt.date.fromisoformat(day))
        assert answer["error"] is None, answer["error"]
        checks = verify(self.settings, only=["facts.outages", "marts.rebuild"])["checks"]
        assert [c for c in checks if c["status"] != "ok"] == []
        with duckdb.connect(str(self.warehouse), read_only=True) as base:
            rows: list[Any] = base.execute("""SELECT period, sum(customer_interruptions), sum(customer_minutes),
                sum(open_interruptions) FROM gold.kpi_service_reliability WHERE exclusions = 'none' GROUP BY 1""").fetchall()
        return {period: (float(ci), float(cmi), float(still)) for period, ci, cmi, still in rows}


@pytest.mark.slow
def test_an_older_first_outage_brings_all_months_since(spark: Any, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.outages(1, ("O-1", "circuit", "CK-1", "2025-03-10 10:00:00", "2025-03-10 11:00:00", "2025-03-10 12:00:00"))
    assert world.run("2025-04-05") == {"2025-03": (3, 180, 0), "2025-04": (0, 0, 0)}
    world.outages(2, ("O-0", "transformer", "T-1", "2023-06-15 10:00:00", "2023-06-15 10:30:00", "2023-06-15 12:00:00"))
    months = [f"{2023 + n // 12}-{n % 12 + 1:02}" for n in range(5, 28)]
    wanted: dict[str, tuple[float, float, float]] = dict.fromkeys(months, (0, 0, 0))
    assert world.run("2025-04-05") == wanted | {"2023-06": (2, 60, 0), "2025-03": (3, 180, 0)}


@pytest.mark.slow
def test_what_is_not_restored_by_the_day_is_open(spark: Any, tmp_path: Path) -> None:
    """Over the end of March: one that is restored in April, told of in one file, and one that is only expected to be."""
    world = World(tmp_path)
    world.outages(
        1, ("O-1", "circuit", "CK-1", "2025-03-31 22:00:00", "2025-04-01 02:00:00", "2025-04-01 06:00:00"),
        ("O-2", "transformer", "T-1", "2025-03-20 10:00:00", "2025-03-20 12:00:00", "2025-03-20 10:30:00"),
    )  # fmt: skip
    assert world.run("2025-03-31") == {"2025-03": (5, 0, 5)}
    assert world.run("2025-04-01") == {"2025-03": (5, 720, 2), "2025-04": (0, 0, 0)}, "a day later, without a new file"
    world.outages(2, ("O-2", "transformer", "T-1", "2025-03-20 10:00:00", "2025-03-20 12:15:00", "2025-04-01 08:00:00"))
    assert world.run("2025-04-01") == {"2025-03": (5, 990, 0), "2025-04": (0, 0, 0)}


def test_an_outage_within_another_prolongs_it(spark: Any, tmp_path: Path) -> None:
    """A transformer fails while its feeder is out: told of later, in the next month; then the feeder's outage is taken back."""
    world = World(tmp_path)
    feeder = ("O-1", "feeder", "F-1", "2025-03-31 22:00:00", "2025-04-01 02:00:00", "2025-04-01 06:00:00")
    first = ("O-0", "service_point", "SP-3", "2025-02-01 10:00:00", "2025-02-01 10:30:00", "2025-02-01 12:00:00")
    world.outages(1, feeder, first)
    february = {"2025-02": (1, 30, 0)}
    assert world.run("2025-04-01") == february | {"2025-03": (3, 720, 0), "2025-04": (0, 0, 0)}
    world.outages(2, ("O-2", "transformer", "T-1", "2025-04-01 00:00:00", "2025-04-01 04:00:00", "2025-04-01 06:00:00"))
    assert world.run("2025-04-01") == february | {"2025-03": (3, 240 + 2 * 360, 0), "2025-04": (0, 0, 0)}
    taken = "O-1,1,feeder,F-1,2025-03-31 22:00:00,2025-04-01 02:00:00,,Wind,N,N,N,Cancelled,2025-04-02 08:00:00"
    world.land("outages/3.csv", HEAD + taken + "\n")
    assert world.run("2025-04-02") == february | {"2025-03": (0, 0, 0), "2025-04": (2, 480, 0)}
