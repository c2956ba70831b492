"""A small real lakehouse, made once by two runs; each test that breaks something gets a copy of the home."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUSTOMERS = """feed: cis
system: customer_management
entity: customers
format: csv
path: cis/*.csv
columns: {customer_id: id, customer_name: name, city: city, customer_type: class}
event:
  effective_at: to_timestamp(changed_at)
  sequence: cast(seq as bigint)
  operation: case op when 'D' then 'delete' else 'upsert' end
"""
READS = """feed: reads
system: usage_monitoring
entity: meter_reads
format: csv
path: reads/*.csv
columns: {customer_id: cust, meter_id: meter, quantity: kwh, usage_date: to_date(day), read_quality: q}
"""
FIRST = {
    "cis/a.csv": """id,name,city,class,changed_at,seq,op
C0001,Ada Byron,Springfield,residential,2025-01-01 08:00:00,1,I
C0001,Ada Lovelace,Springfield,residential,2025-01-15 08:00:00,2,U
C0002,Bob Stone,Shelbyville,commercial,2025-01-05 08:00:00,1,I
C0003,Carla Dee,Springfield,residential,2025-01-02 08:00:00,1,I
C0003,Carla Dee,Springfield,residential,2025-01-20 08:00:00,2,D
C0009,Zed Broken,Nowhere,residential,not a date,1,I
""",
    "reads/r1.csv": """cust,meter,kwh,day,q
C0001,M-0001,10.5,2025-01-10,actual
C0001,M-0001,11.5,2025-01-16,actual
C0002,M-0002,7.25,2025-01-02,estimated
C0003,M-0003,3.0,2025-01-25,actual
C0001,M-0001,abc,2025-01-11,actual
""",
    "reads/r2.csv": """cust,meter,kwh,day,q
C0002,M-0002,8.0,2025-01-12,actual
""",
}
# r1's first record comes again and one is in doubt with a better one; r2 is superseded by other content
SECOND = {
    "reads/r2.csv": """cust,meter,kwh,day,q
C0002,M-0002,8.25,2025-01-12,actual
""",
    "reads/r3.csv": """cust,meter,kwh,day,q
C0001,M-0001,10.5,2025-01-10,actual
C0002,M-0002,7.5,2025-01-02,actual
C0007,M-0007,4.0,2025-01-10,actual
""",
}


@dataclass(frozen=True)
class Place:
    """An environment under a folder: its home, landing and feeds."""

    folder: Path

    @property
    def settings(self) -> Settings:
        given = {"home": self.folder / "home", "landing": self.folder / "landing", "feeds": self.folder / "feeds"}
        return load_settings({k: str(v) for k, v in given.items()}, environ={})

    @property
    def words(self) -> list[str]:
        """The same as options of a command."""
        return [w for n in ("home", "landing", "feeds") for w in (f"--{n}", str(self.folder / n))]

    def table(self, name: str) -> str:
        """A table as SQL names it."""
        layer, table = name.split(".")
        return f"delta.`{self.folder / 'home' / 'lakehouse' / layer / table}`"

    def land(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / "landing" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def lay_out(folder: Path) -> Place:
    """Feeds and the first files, and no home."""
    place = Place(folder)
    (folder / "feeds").mkdir(parents=True)
    (folder / "feeds" / "cis.yaml").write_text(CUSTOMERS, encoding="utf-8")
    (folder / "feeds" / "reads.yaml").write_text(READS, encoding="utf-8")
    place.land(FIRST)
    return place


@pytest.fixture(scope="session")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, list[dict[str, Any]]]:
    """The environment after two runs, and their answers. Tests read it and do not write."""
    place = lay_out(tmp_path_factory.mktemp("operate"))
    answers = [pipeline.run(place.settings, as_of=dt.date(2025, 1, 31))]
    place.land(SECOND)
    answers.append(pipeline.run(place.settings, as_of=dt.date(2025, 2, 1)))
    assert [a["error"] for a in answers] == [None, None]
    return place, answers


@pytest.fixture
def place(built: tuple[Place, Any]) -> Place:
    """The built environment, to be read only."""
    return built[0]


@pytest.fixture
def copy(built: tuple[Place, Any], tmp_path: Path) -> Place:
    """A copy of the built environment that a test may break."""
    shutil.copytree(built[0].folder, tmp_path / "copy")
    return Place(tmp_path / "copy")


@pytest.fixture
def empty(tmp_path: Path) -> Place:
    """Feeds and landed files, and no home."""
    return lay_out(tmp_path / "empty")


@pytest.fixture
def tree() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """Every path below a folder with size and time of its last change."""

    def listing(folder: Path) -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}

    return listing
