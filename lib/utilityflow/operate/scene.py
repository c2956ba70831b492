"""What the commands that only look at an environment have in hand: its home, lakehouse, feeds, ledger, publication.

They write nothing under the home: the engine's scratch space is a private temporary folder that goes with the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from utilityflow.contracts import Catalog, Contract, load_contracts
from utilityflow.control.home import Home, open_home
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from utilityflow.bronze.feeds import Feed
    from utilityflow.control.ledger import Entry, Ledger
    from utilityflow.control.publication import Publication
    from utilityflow.control.run import Run


@dataclass
class Scene:
    """An environment as it stands; what costs something is read on first use."""

    settings: Settings
    home: Home
    house: Lakehouse

    @property
    def contracts(self) -> Catalog:
        """All contracts."""
        return self.house.contracts

    @cached_property
    def feeds(self) -> Mapping[str, Feed]:
        """The feeds of these settings."""
        from utilityflow.pipeline import read_feeds

        return read_feeds(self.settings)

    @cached_property
    def ledger(self) -> Ledger:
        """The file ledger."""
        from utilityflow.control.ledger import read_ledger

        return read_ledger(self.house)

    @cached_property
    def publication(self) -> Publication | None:
        """The last publication."""
        from utilityflow.control.publication import last

        return last(self.house)

    @cached_property
    def consumed(self) -> dict[str, dict[str, Any]]:
        """Table -> input versions that it reflects."""
        from utilityflow.pipeline import last_consumed

        return last_consumed(self.house)

    def run(self, house: Lakehouse | None = None) -> Run:
        """A run of which nothing is ever written: what the steps' reading functions ask for."""
        from utilityflow.control.run import Run

        as_of = self.publication.as_of if self.publication else self.home.today()
        return Run(self.settings, self.home, house or self.house, self.ledger, self.feeds, as_of, "", self.consumed)

    def rows(self, table: str, *columns: str) -> list[Any]:
        """All rows of a small table; none when it does not exist yet."""
        there = self.house.table(table)
        return there.read().select(*columns or "*").collect() if there.version() >= 0 else []

    def entry(self, sha256: str, feed: str | None = None) -> Entry | None:
        """The ledger's entry of a content."""
        found = [e for e in self.ledger.entries.values() if e.sha256 == sha256 and feed in (None, e.feed)]
        return found[0] if found else None

    def file(self, sha256: str, feed: str | None = None) -> str:
        """A file as people know it: the name under which it was first seen, and the start of its hash."""
        entry = self.entry(sha256, feed)
        return f"{entry.file_name if entry else 'unknown file'} (sha256 {sha256[:12]})"


class Narrowed(Lakehouse):
    """A lakehouse in which one table shows other rows than it holds: what is to be judged, or judged again."""

    def __init__(self, house: Lakehouse, name: str, rows: DataFrame) -> None:
        super().__init__(house.spark, house.root, house.contracts, environment=house.environment)
        self._name, self._rows = name, rows

    def table(self, name: str) -> Table:
        """The narrowed table under its name; all others as they are."""
        return _Shown(self, self.contracts[name], self._rows) if name == self._name else super().table(name)


class _Shown(Table):
    def __init__(self, house: Lakehouse, contract: Contract, rows: DataFrame) -> None:
        super().__init__(house, contract)
        self._rows = rows

    def read(self, version: int | None = None) -> DataFrame:
        """The rows that it was given."""
        return self._rows


def open_scene(settings: Settings) -> Scene:
    """The environment behind these settings.

    :raises UtilityFlowError: UF-1008 when there is no home or it holds no lakehouse yet.
    """
    home = open_home(settings, create=False)
    if not has_lakehouse(home):
        raise UtilityFlowError(
            "UF-1008", f"{home.path} holds no lakehouse", hint="'utilityflow run' makes one; --home names another"
        )
    return Scene(settings, home, open_house(settings, home))


def has_lakehouse(home: Home) -> bool:
    """Whether a run has made the tables."""
    return (home.lakehouse / "ops" / "run" / "_delta_log").is_dir()


def open_house(settings: Settings, home: Home) -> Lakehouse:
    """The lakehouse with a session whose scratch space lies outside the home, planning for as much as the home holds."""
    from utilityflow.session import fit_to

    spark = open_session(settings)
    fit_to(spark, settings, max(1, home.data_bytes(settings.spark.small_bytes)))
    return Lakehouse(spark, str(home.lakehouse), load_contracts(), environment=settings.environment)


def open_session(settings: Settings) -> SparkSession:
    """This process's session; a new one gets a private temporary folder as its scratch space."""
    from utilityflow.session import get_session

    return get_session("utilityflow", settings=settings)
