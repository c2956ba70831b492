"""Customer management as a database, on request in place of its files: a SQLite file beside the landing root.

It is filled from the very extract that writes the CSV files, so it holds the same events and the same planted defects, and
from the model of the meters, the tenants and the tariffs; accounts and agreements have defects of their own. Tables:

- ``customer_change``: the log of every event, by ``change_no``, as the system logged them month by month (``batch``),
- ``customer``: the present state of each customer, with the time of its last change; one who left is marked ``deleted``,
- ``account`` and ``service_agreement``: what is billed, and for which service point at which rate from when to when,
- ``service_point``: where a premise is supplied; not where that hangs in the network, which the outage system knows,
- ``meter`` and ``meter_installation``: the devices, and where each hung from when to when,
- ``rate_schedule``: prices by the day from which they hold.

A month adds what it changed: other months need not be there, and one that is told again changes nothing.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import agreements, customer_points, customers, meters, rate_schedules
from utilityflow.simulate.customer_events import MOVE_OUT
from utilityflow.simulate.defects import Profile
from utilityflow.simulate.draws import at, int_array
from utilityflow.simulate.extract import Extract
from utilityflow.simulate.landing import Written
from utilityflow.simulate.model import Utility
from utilityflow.simulate.progress import reporting
from utilityflow.simulate.stamps import day_stamp

SYSTEM, FEED = customers.SYSTEM, "cis_database_customers"
FILE = "cis.sqlite"
# what the log and the table know of an event beside its raw columns
_BESIDE = ("month", "part", "id", "version", "logged_at", "deleted")
_LOGGED = ("change_no", "batch", "logged_at", "id", "version", *customers.COLUMNS)
_STATE = tuple(c for c in customers.COLUMNS if c not in ("seq", "op"))
_CURRENT = ("id", "version", *_STATE, "updated_at", "deleted")
_NUMBERS = ("change_no", "id", "version", "deleted")
_PART, _MONTH = 10**7, 10**10  # change numbers kept for a part of a month, and for a month
_BATCH = 50_000
_WAIT_SECONDS = 60.0  # for a reader who holds the file


@dataclass(frozen=True)
class Table:
    """A table: its columns, its key, and the number or time by which a row that is there already gives way to a newer one."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    newer: str = ""

    @property
    def made(self) -> str:
        """Its DDL."""
        shown = [f"{c} {'INTEGER' if c in _NUMBERS else 'TEXT'}" for c in self.columns]
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(shown)}, PRIMARY KEY ({', '.join(self.key)}))"

    @property
    def filled(self) -> str:
        """SQL that puts a row in, or in place of an older one."""
        names, key = ", ".join(self.columns), ", ".join(self.key)
        changed = ", ".join(f"{c} = excluded.{c}" for c in self.columns if c not in self.key)
        newer = f" WHERE excluded.{self.newer} > {self.name}.{self.newer}" if self.newer else ""
        marks = ", ".join("?" * len(self.columns))
        return f"INSERT INTO {self.name} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {changed}{newer}"  # noqa: S608

    def row(self, told: Mapping[str, Any]) -> tuple[Any, ...]:
        """Its row of what is told."""
        return tuple(told.get(c) for c in self.columns)


LOG = Table("customer_change", _LOGGED, ("change_no",))
CURRENT = Table("customer", _CURRENT, ("id",), "version")
ACCOUNTS = Table("account", agreements.ACCOUNT, ("account_no",), "updated_at")
AGREEMENTS = Table("service_agreement", agreements.AGREEMENT, ("agreement_no",), "updated_at")
POINTS = Table("service_point", customer_points.COLUMNS, ("service_point",))
DEVICES = Table("meter", meters.DEVICE, ("meter",))
HANGING = Table("meter_installation", ("meter", *meters.INSTALLATION), ("meter",), "updated_at")
RATES = Table("rate_schedule", rate_schedules.COLUMNS, rate_schedules.KEY)
TABLES = (LOG, CURRENT, ACCOUNTS, AGREEMENTS, POINTS, DEVICES, HANGING, RATES)
# staged beside the events: what of it goes into which tables
_STAGED = (
    (agreements.ACCOUNTS_FEED, agreements.ACCOUNT, (ACCOUNTS,)),
    (agreements.FEED, agreements.AGREEMENT, (AGREEMENTS,)),
    (customer_points.FEED, customer_points.COLUMNS, (POINTS,)),
    (meters.FEED, meters.COLUMNS, (DEVICES, HANGING)),
)


def database_extracts(utility: Utility, months: range, profile: Profile, *, gas: bool, boxes: int) -> list[Extract]:
    """What the database is filled from: the events of customers, accounts, agreements, points and meters; staged as Parquet."""
    events = customers.customers_extract(utility, months, profile.customer_management)
    names = tuple(name.replace(customers.FEED, FEED, 1) for name in events.files)
    starts = int_array(utility.almanac.month_starts)
    logged = f"if(k = 0, entered, greatest(entered, cast({at(starts, 'k')} as bigint)))"
    beside = {
        "month": "k",
        "part": f"o div {customers.CHUNK}L",
        "id": "number",
        "version": "(t * 86400L + second) * 16L + kind",
        "logged_at": day_stamp(logged, "second"),
        "deleted": f"if(kind = {MOVE_OUT}, 1L, 0L)",
    }
    size = 3 * customers.ROW_BYTES  # of an event in the log, of most in the table too, and of what is staged
    events = replace(events, feed=FEED, files=names, form="parquet", beside=beside, row_bytes=size)
    return [
        events,
        agreements.accounts_extract(utility, months, profile.accounts),
        agreements.agreements_extract(utility, months, profile.service_agreements),
        customer_points.points_extract(utility, months),
        meters.meters_extract(utility, months, gas=gas, boxes=boxes),
    ]


def check_database(file: Path, utility: Utility, months: range) -> None:
    """Pass where months can be put into a file: it is not there, begins anew with the first month, or is that of this simulation.

    :raises UtilityFlowError: UF-1004 when the file is no such database, or that of another simulation.
    """
    if months.start == 0 or not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)) as base:
            held = base.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise UtilityFlowError("UF-1004", f"{file} cannot be read as a database: {error}") from None
    if held != _mark(utility):
        what = f"{file} is not the database of a simulation with this seed, start, time zone and number of customers"
        raise UtilityFlowError("UF-1004", what, hint="the first month begins it anew; or name another folder with --sources")


def fill(
    file: Path, utility: Utility, months: range, staged: Mapping[str, Written], progress: Callable[[str], None]
) -> dict[str, Written]:
    """Put staged extracts into the database. The first month begins it anew, as one rename; others are one transaction.

    :param staged: feed -> what was written of it.
    :returns: feed -> rows and planted defects; the file's size counts for the customers.
    :raises UtilityFlowError: UF-1004 when it cannot be written.
    """
    rows, done = max(1, sum(one.rows for one in staged.values())), [0]
    progress(f"{file.name}: filling it with {rows:,} rows")
    draft = file.with_name(f".{file.name}.part") if months.start == 0 else file
    if draft != file:
        draft.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(draft, timeout=_WAIT_SECONDS)) as base:
            base.execute(f"PRAGMA user_version = {_mark(utility)}")
            for table in TABLES:
                base.execute(table.made)
            with base, reporting(file.name, rows, lambda: done[0] / rows, progress):
                for count in _load(base, utility, staged):
                    done[0] += count
    except sqlite3.Error as error:
        raise UtilityFlowError("UF-1004", f"{file} cannot be written as a database: {error}") from None
    if draft != file:
        draft.replace(file)
    sizes = {FEED: file.stat().st_size}
    return {feed: Written((), one.rows, sizes.get(feed, 0), one.defects) for feed, one in staged.items()}


def _mark(utility: Utility) -> int:
    """What the file says of the simulation that it is of, in its ``user_version``."""
    almanac = utility.almanac
    told = f"{utility.seed} {utility.customers} {almanac.start.isoformat()} {almanac.time_zone}"
    return zlib.crc32(told.encode()) & 0x7FFFFFFF | 1


def _load(base: sqlite3.Connection, utility: Utility, staged: Mapping[str, Written]) -> Iterator[int]:
    """Put the rows in, batch by batch: how many each time."""
    for path in staged[FEED].files:
        batch = path.stem.removeprefix(f"{FEED}_")
        for number, rows in _batches(path, (*_BESIDE, *customers.COLUMNS)):
            told = [_told(row, batch, number + place) for place, row in enumerate(rows, 1)]
            for table in (LOG, CURRENT):
                base.executemany(table.filled, map(table.row, told))
            yield len(told)
    for feed, columns, tables in _STAGED:
        for path in staged[feed].files:
            for _, rows in _batches(path, columns):
                told = [dict(zip(columns, row, strict=True)) for row in rows]
                for table in tables:
                    base.executemany(table.filled, map(table.row, told))
                yield len(told)
    base.executemany(RATES.filled, rate_schedules.schedules(utility.almanac.start))


def _told(row: Sequence[Any], batch: str, place: int) -> dict[str, Any]:
    """One event: its columns in all tables, by name. Change numbers rise with months, parts of a month and places in a part."""
    told = dict(zip((*_BESIDE, *customers.COLUMNS), row, strict=True))
    number = (told["month"] + 1) * _MONTH + told["part"] * _PART + place
    return {**told, "batch": batch, "change_no": number, "updated_at": told["logged_at"]}


def _batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """How many rows came before, and rows of a staged file; an empty text is null."""
    from pyarrow import parquet

    before = 0
    with parquet.ParquetFile(path) as source:
        for part in source.iter_batches(_BATCH, columns=list(columns)):
            values = [part.column(part.schema.get_field_index(c)).to_pylist() for c in columns]
            yield before, [tuple(None if v == "" else v for v in row) for row in zip(*values, strict=True)]
            before += part.num_rows
