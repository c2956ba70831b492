"""Regulatory reporting's own files: the register of filings (XLSX) and the audit trail (XML), one of each a month.

They are small, however many customers there are, and written in Python: no engine writes a workbook. Outages, which are many,
are an extract of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from utilityflow.simulate import audit_trail, filing_register
from utilityflow.simulate.defects import Profile
from utilityflow.simulate.filings import register
from utilityflow.simulate.landing import Written
from utilityflow.simulate.model import DISTRICTS, TOWNS_PER_DISTRICT, Utility
from utilityflow.simulate.planted import Ledger, put

MONTH_BYTES = audit_trail.BYTES + 80_000  # of both files and their ledgers


def write_regulatory(
    utility: Utility, span: range, profile: Profile, landing: Path, defects: Path, progress: Callable[[str], None]
) -> dict[str, Written]:
    """Write both files of some months (indexes from 0) and their ledgers; files of the same names are replaced.

    :returns: feed -> what it became.
    :raises UtilityFlowError: UF-1001 when the profile names a column that they do not have.
    :raises OSError: a file cannot be written.
    """
    both = filing_register.FEED, audit_trail.FEED
    files: dict[str, list[Path]] = {feed: [] for feed in both}
    planted: dict[str, Counter[str]] = {feed: Counter() for feed in both}
    rows: Counter[str] = Counter()
    for month in span:
        for feed, count, path, ledger in _month(utility, month, profile, landing):
            ledger.write(defects)
            files[feed].append(path)
            planted[feed] += ledger.counts()
            rows[feed] += count
    told = ", ".join(f"{feed} {rows[feed]:,}" for feed in both)
    progress(f"regulatory reporting: {sum(map(len, files.values()))} files written, rows of {told}")
    sizes = {feed: sum(file.stat().st_size for file in files[feed]) for feed in both}
    return {f: Written(tuple(files[f]), rows[f], sizes[f], dict(sorted(planted[f].items()))) for f in both}


def _month(utility: Utility, month: int, profile: Profile, landing: Path) -> list[tuple[str, int, Path, Ledger]]:
    """Both files of a month: feed, number of records, path, ledger."""
    almanac, seed = utility.almanac, utility.seed
    first, after = almanac.month_start(month), almanac.month_start(month + 1)

    def ledger(feed: str, ending: str, specs: str, columns: tuple[str, ...]) -> Ledger:
        return Ledger(seed, feed, f"{feed}_{first:%Y-%m}.{ending}", month, getattr(profile, specs), columns)

    # as all files of the utility call them: network.district_name
    districts = [utility.pools.towns[d * TOWNS_PER_DISTRICT] for d in range(DISTRICTS)]
    filings = register(seed, first)
    of_filings = ledger(filing_register.FEED, "xlsx", "filing_register", filing_register.COLUMNS)
    book = put(landing / of_filings.feed / of_filings.file, [filing_register.workbook(first, filings, districts, of_filings)])
    events = audit_trail.events(seed, first, after, utility.customers, ZoneInfo(almanac.time_zone))
    of_events = ledger(audit_trail.FEED, "xml", "audit_trail", audit_trail.COLUMNS)
    trail = put(landing / of_events.feed / of_events.file, audit_trail.xml(first, events, of_events))
    return [(of_filings.feed, len(filings), book, of_filings), (of_events.feed, len(events), trail, of_events)]
