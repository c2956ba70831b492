"""The entry: simulate the source systems of a utility for some months, into a landing root and a ledger of defects."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pyspark.sql import SparkSession

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.simulate import customer_database, outages, service_points
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.bills import bills_extract
from utilityflow.simulate.charging_reads import charging_extract
from utilityflow.simulate.customers import customers_extract
from utilityflow.simulate.defects import Profile, by_feed, load_profile
from utilityflow.simulate.extract import Extract, Form
from utilityflow.simulate.gas_reads import gas_extract
from utilityflow.simulate.landing import (
    STAGING,
    ReadsFormat,
    Written,
    check_disk,
    free_bytes,
    needs,
    tally,
    write_extract,
)
from utilityflow.simulate.model import Utility
from utilityflow.simulate.operations import Fault, Operations, asked, write_list
from utilityflow.simulate.payments import payments_extract
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.reads import FEED, reads_extract
from utilityflow.simulate.regulatory import MONTH_BYTES, write_regulatory
from utilityflow.simulate.requests import DESK, DESK_FEED, desk_extract, requests_extract

SYSTEMS = ("customer_management", "usage_monitoring", "billing", "payment_processing", "service_requests", "regulatory_reporting")
CORE = SYSTEMS[:2]
# customer management once more, as a database; service requests once more, as what a REST interface shows
ON_REQUEST = ("customer_database", DESK)
MAX_CUSTOMERS = 20_000_000
MAX_MONTHS = 120


@dataclass(frozen=True)
class Summary:
    """What a simulation wrote.

    ``files``: landed files. ``rows``: records by feed, headers excluded. ``defects``: planted defects by feed and kind,
    as they stand in the ledger. ``bytes``: size of the landed files and of the sources that are asked. ``seconds``: wall time.
    ``operations``: the operational faults of the months. ``database``: that of customer management, ``desk``: the folder of what
    the service desk shows, if they were asked for.
    """

    files: tuple[Path, ...]
    rows: dict[str, int]
    defects: dict[str, dict[str, int]]
    bytes: int
    seconds: float
    operations: tuple[Fault, ...] = ()
    database: Path | None = None
    desk: Path | None = None


def _silent(_: str) -> None:
    """Progress that nobody asked for."""


def simulate(
    spark: SparkSession,
    *,
    landing: Path,
    defects: Path,
    customers: int,
    months: int,
    start: dt.date,
    seed: int,
    only_month: int | None = None,
    reads_format: ReadsFormat = "csv",
    profile: Mapping[str, Any] | None = None,
    time_zone: str = "America/New_York",
    faults: Sequence[str] = (),
    gas: bool = False,
    interval_meters: int = 0,
    systems: Sequence[str] = SYSTEMS,
    sources: Path | None = None,
    progress: Callable[[str], None] = _silent,
    free: Callable[[Path], int] = free_bytes,
) -> Summary:
    """Write the files that the source systems of a simulated utility land in ``months`` months.

    The content depends on ``customers``, ``start``, ``seed``, ``profile`` and ``time_zone`` alone: one month of several
    (``only_month``, from 1) is the same generated alone. Files of the same names are replaced.

    :param landing: landing root; files go to ``<landing>/<feed>/``.
    :param defects: folder of the ledger, outside the landing root; one CSV for each landed file.
    :param customers: customers at the start, 1 to 20 million. :param start: the first of a month.
    :param profile: a defect profile in place of the shipped one (see docs/simulator.md).
    :param faults: operational faults of the files of reads, by kind, or ``all``; they are listed in
        ``<defects>/operations/<month>.csv``. With ``only_month`` also what comes back of the month before is written.
    :param gas: also write the monthly reads of gas meters, whose registers roll over.
    :param interval_meters: wall boxes whose meters are read by the hour, in files of their own.
    :param systems: whose files are written; what a system writes does not depend on the others. ``customer_database`` (of
        ON_REQUEST) fills ``<sources>/cis.sqlite`` with what customer management knows, ``service_desk`` writes what the desk's
        interface shows (``serve``) to ``<sources>/desk_rest_requests``.
    :param sources: folder of source systems that are no files, outside the landing root; by default ``sources`` beside it.
    :param free: free bytes of a folder's file system.
    :raises UtilityFlowError: UF-1004 for wrong arguments, UF-1001/1002 for a wrong profile, UF-1013 when the disk is
        too small.
    """
    began = time.monotonic()
    sources = sources or landing.parent / "sources"
    _check(landing, (defects, sources), customers, months, start, only_month, reads_format, time_zone)
    _check_systems(systems)
    specs = load_profile(profile)
    kinds = asked(faults)
    last = months if only_month is None else only_month
    span = range(months) if only_month is None else range(only_month - 1, only_month)
    utility = Utility(seed, customers, Almanac(seed, start, last, time_zone), load_pools())
    operations = Operations(seed, utility.almanac, kinds, FEED) if kinds and "usage_monitoring" in systems else None
    planned = [(e, e.form or reads_format) for e in _plan(utility, span, specs, systems, operations)]
    if gas:
        planned.append((gas_extract(utility, span, specs.gas_meters), "csv"))
    if interval_meters:
        planned.append((charging_extract(utility, span, interval_meters, specs.wall_boxes), "csv"))
    based = []
    if "customer_database" in systems:
        customer_database.check_database(sources / customer_database.FILE, utility, span)
        based = customer_database.database_extracts(utility, span, specs, gas=gas, boxes=interval_meters)
    desk = [desk_extract(utility, span, specs.service_requests)] if DESK in systems else []
    regulatory = "regulatory_reporting" in systems
    more = len(span) * MONTH_BYTES if regulatory else 0
    check_disk(needs(planned, [*based, *desk], landing, defects, sources, more), free, progress)
    places = {FEED: landing / STAGING / "whole"} if operations else {}
    places |= {DESK_FEED: sources} if desk else {}
    planned += [(e, "jsonl") for e in desk]
    written = _write_all(spark, planned, landing, places, defects, progress)
    if desk:
        written[DESK_FEED] = replace(written[DESK_FEED], files=())  # they have not landed
    found: list[Fault] = []
    if operations:
        files, found = operations.deliver(span, written[FEED].files, landing / FEED, progress)
        shutil.rmtree(landing / STAGING)
        write_list(found, defects)
        written[FEED] = tally(files, reads_format, written[FEED].defects)
    if regulatory:
        written |= write_regulatory(utility, span, specs, landing, defects, progress)
    database = sources / customer_database.FILE if based else None
    if database:
        stage = sources / STAGING
        try:
            staged = _write_all(spark, [(e, "parquet") for e in based], stage, {}, defects, progress)
            written |= customer_database.fill(database, utility, span, staged, progress)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    summary = _summary(written, found, time.monotonic() - began, progress)
    return replace(summary, database=database, desk=sources / DESK_FEED if desk else None)


def _plan(
    utility: Utility, span: range, profile: Profile, systems: Sequence[str], operations: Operations | None
) -> list[Extract]:
    """What each of the systems hands over; an extract without a form of its own lands as the reads shall."""
    planned: list[Extract] = []
    if "customer_management" in systems:
        planned.append(customers_extract(utility, span, profile.customer_management))
    if "usage_monitoring" in systems:
        before = operations.coming_back(span.start - 1) if operations else []
        reads = reads_extract(utility, span, profile.usage_monitoring, before)
        # with operational faults some files lie there twice for a moment
        planned.append(replace(reads, row_bytes=reads.row_bytes * 5 // 4) if operations else reads)
    if "billing" in systems:
        planned.append(bills_extract(utility, span, profile.billing))
    if "payment_processing" in systems:
        planned.append(payments_extract(utility, span, profile.payment_processing))
    if "service_requests" in systems:
        planned.append(requests_extract(utility, span, profile.service_requests))
    if "regulatory_reporting" in systems:
        columns = {m.FEED: m.COLUMNS for m in (service_points, outages)}
        specs = by_feed("regulatory_reporting", profile.regulatory_reporting, columns)
        planned.append(service_points.service_points_extract(utility, span, specs[service_points.FEED]))
        planned.append(outages.outages_extract(utility, span, specs[outages.FEED]))
    return planned


def _write_all(
    spark: SparkSession,
    planned: Sequence[tuple[Extract, Form]],
    landing: Path,
    places: Mapping[str, Path],
    defects: Path,
    progress: Callable[[str], None],
) -> dict[str, Written]:
    """Write the systems side by side: while one is planned, another keeps the cores busy.

    :param places: feed -> the folder that takes the place of the landing root.
    """
    with ThreadPoolExecutor(max_workers=len(planned) or 1, thread_name_prefix="simulate") as pool:
        jobs = {
            e.feed: pool.submit(write_extract, spark, e, form, places.get(e.feed, landing), defects, progress)
            for e, form in planned
        }
        written = {feed: job.result() for feed, job in jobs.items()}
    for folder in (root / STAGING for root in (landing, defects, *places.values())):  # no feed is written there any more
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return written


def _summary(
    written: dict[str, Written], faults: list[Fault], seconds: float, progress: Callable[[str], None]
) -> Summary:
    summary = Summary(
        files=tuple(file for w in written.values() for file in w.files),
        rows={feed: w.rows for feed, w in written.items()},
        defects={feed: w.defects for feed, w in written.items()},
        bytes=sum(w.bytes for w in written.values()),
        seconds=round(seconds, 2),
        operations=tuple(faults),
    )
    rows = ", ".join(f"{feed} {count:,} rows" for feed, count in summary.rows.items())
    progress(f"simulated {len(summary.files)} files in {summary.seconds:.0f} s: {rows}")
    return summary


def _check(
    landing: Path,
    outside: Sequence[Path],
    customers: int,
    months: int,
    start: dt.date,
    only_month: int | None,
    reads_format: str,
    time_zone: str,
) -> None:
    """Refuse arguments that make no sense, before anything is written.

    :param outside: folders that must not lie in the landing root.
    """
    wrong = None
    if not 1 <= customers <= MAX_CUSTOMERS:
        wrong = f"customers must lie between 1 and {MAX_CUSTOMERS:,}, not {customers}"
    elif not 1 <= months <= MAX_MONTHS:
        wrong = f"months must lie between 1 and {MAX_MONTHS}, not {months}"
    elif start.day != 1 or not 1950 <= start.year <= 2200:
        wrong = f"start must be the first day of a month between 1950 and 2200, not {start.isoformat()}"
    elif only_month is not None and not 1 <= only_month <= months:
        wrong = f"only_month must lie between 1 and {months}, not {only_month}"
    elif reads_format not in ("csv", "parquet"):
        wrong = f"reads_format must be csv or parquet, not {reads_format}"
    elif inside := [place for place in outside if place.resolve().is_relative_to(landing.resolve())]:
        wrong = f"the ledger of defects and the source systems must lie outside the landing root, not in {inside[0]}"
    else:
        try:
            ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            wrong = f"unknown time zone {time_zone}"
    if wrong:
        raise UtilityFlowError("UF-1004", wrong)


def _check_systems(systems: Sequence[str]) -> None:
    for name in systems:
        if name not in (*SYSTEMS, *ON_REQUEST):
            hint = nearest(name, (*SYSTEMS, *ON_REQUEST))
            raise UtilityFlowError("UF-1004", f"there is no system '{name}' to simulate", hint=hint)
    if not systems:
        raise UtilityFlowError("UF-1004", "no system to simulate was named", hint=", ".join(SYSTEMS))
