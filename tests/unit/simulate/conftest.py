"""One small simulated utility of two months, written once for all tests of the simulator."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.simulate import CORE, Summary, progress, simulate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUSTOMERS, SEED, START = 1200, 7, dt.date(2024, 2, 1)  # February and March 2024: a leap day and a day of 23 hours
Row = dict[str, str]


@dataclass(frozen=True)
class Landed:
    landing: Path
    defects: Path
    summary: Summary
    messages: list[str]

    def files(self, feed: str, root: str = "landing") -> list[Path]:
        return sorted((getattr(self, root) / feed).iterdir())

    def rows(self, feed: str, root: str = "landing") -> list[Row]:
        """All records of a feed, or of its ledger, with the file's name under ``_file``."""
        found = []
        for file in self.files(feed, root):
            with file.open(newline="", encoding="utf-8") as stream:
                found += [row | {"_file": file.name} for row in csv.DictReader(stream)]
        return found


def rows(landed: Landed, table: str) -> list[dict[str, Any]]:
    """All rows of a table of the database, in the order of their keys."""
    assert landed.summary.database is not None
    with closing(sqlite3.connect(f"file:{landed.summary.database}?mode=ro", uri=True)) as base:
        base.row_factory = sqlite3.Row
        return [dict(row) for row in base.execute(f"SELECT * FROM {table} ORDER BY 1")]


@dataclass(frozen=True)
class Money:
    """Bills and payments of one landing root, with the texts as they stand in the files."""

    landed: Landed
    bills: list[Row]
    headers: dict[str, str]  # file -> its first record
    trailers: dict[str, list[str]]  # file -> fields
    payments: list[Row]

    @classmethod
    def of(cls, landed: Landed) -> Money:
        bills, headers, trailers, payments = [], {}, {}, []
        for file in landed.files("cis_bills"):
            headers[file.name], *lines, last = file.read_text("utf-8").splitlines()
            trailers[file.name] = last.split(",")
            bills += [row | {"_file": file.name} for row in csv.DictReader(lines)]
        for file in landed.files("pay_payments"):
            for line in file.read_text("utf-8").splitlines():
                # numbers stay the texts that they are
                row = json.loads(line, parse_float=str, parse_int=str)
                payments.append({k: v or "" for k, v in row.items()} | {"_file": file.name})
        return cls(landed, bills, headers, trailers, payments)


@pytest.fixture(scope="package")
def simulated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Landed]:
    """Runs the simulator into a new folder; what is not said is as in ``months``."""

    def run(**changes: Any) -> Landed:
        root, messages = tmp_path_factory.mktemp("simulated"), list[str]()
        given: dict[str, Any] = {"customers": CUSTOMERS, "months": 2, "start": START, "seed": SEED, "systems": CORE}
        places = {"landing": root / "landing", "defects": root / "defects"}
        summary = simulate(spark, **places, **(given | {"progress": messages.append} | changes))
        return Landed(**places, summary=summary, messages=messages)

    return run


@pytest.fixture(scope="package")
def months(simulated: Callable[..., Landed]) -> Landed:
    """Both months of the small utility, as CSV, with progress told as often as a large one tells it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "EVERY_SECONDS", 0.02)
        return simulated()


@pytest.fixture(scope="package")
def events(months: Landed) -> list[Row]:
    return months.rows("cis_customers")


@pytest.fixture(scope="package")
def reads(months: Landed) -> list[Row]:
    return months.rows("ami_daily_reads")


@pytest.fixture(scope="package")
def money(simulated: Callable[..., Landed]) -> Money:
    """Three months of reads, bills and payments of 400 customers, without planted defects."""
    systems = ("usage_monitoring", "billing", "payment_processing")
    return Money.of(simulated(customers=400, months=3, profile={}, systems=systems))
