"""Operational faults on request: what happens to files between the head-end system and the landing root.

They act on whole files of daily reads that were written beside the landing root, so the content of all others stays as it is.
Which day's file of a month a kind hits is drawn by seed, kind and month alone, for all kinds at once: so it does not depend on
the kinds asked for, and no file is hit twice.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.draws import number
from utilityflow.simulate.progress import reporting

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("header_change", "late_file", "corrected_file", "duplicate_delivery", "half_file", "missing_day")
COMES_BACK = ("late_file", "corrected_file", "half_file")  # with the month after it is there as it should have been
HEADER_DAYS = 3
FOLDER = "operations"  # in the folder of the ledger
RESENT = "_resent"
DATE, SPELLED, NEW_COLUMN = "read_date", {"read_date": "Read Date", "kwh": "KWH"}, "channel"

WHAT = {
    "header_change": f"columns in reverse order, {' and '.join(SPELLED.values())} spelled so, a new column {NEW_COLUMN}",
    "late_file": "does not land with its month",
    "corrected_file": f"{DATE} is a day late in the second half of the records",
    "duplicate_delivery": f"lands also as *{RESENT}",
    "half_file": "ends in the middle",
    "missing_day": "never lands",
}


@dataclass(frozen=True)
class Fault:
    """One fault of one file, as it stands in ``<defects>/operations/<month>.csv``.

    ``month``, ``arrives_month`` (when the file is there as it should be, empty: never): yyyy-MM. ``rows``: records that it
    touches (missing, cut, misdated, sent twice). ``first_sha256``: of a wrong content that lands with ``month``.
    """

    kind: str
    feed: str
    file: str
    month: str
    arrives_month: str
    rows: int
    first_sha256: str
    what: str


def asked(words: Iterable[str]) -> tuple[str, ...]:
    """The kinds that some words name; ``all`` names all.

    :raises UtilityFlowError: UF-1004 naming the nearest known kind.
    """
    wanted, known = [word for word in words if word], (*KINDS, "all")
    for word in wanted:
        if word not in known:
            raise UtilityFlowError("UF-1004", f"there is no operational fault '{word}'", hint=nearest(word, known))
    return tuple(kind for kind in KINDS if kind in wanted or "all" in wanted)


@dataclass(frozen=True)
class Operations:
    """The faults of a feed of daily files in some months (indexes from 0)."""

    seed: int
    almanac: Almanac
    kinds: tuple[str, ...]
    feed: str

    def hit(self, month: int) -> dict[str, list[dt.date]]:
        """Kind asked for -> the days of the month whose files it hits."""
        first = self.almanac.month_start(month)
        days = [first + dt.timedelta(days=i) for i in range((self.almanac.month_start(month + 1) - first).days)]
        found: dict[str, list[dt.date]] = {}
        for kind in KINDS:
            count = HEADER_DAYS if kind == "header_change" else 1  # the first, so that its days are in a row
            at = number(self.seed, f"operations/{kind}", month) % (len(days) - count + 1)
            found[kind], days = days[at : at + count], days[:at] + days[at + count :]
        return {kind: hits for kind, hits in found.items() if kind in self.kinds}

    def coming_back(self, month: int) -> list[dt.date]:
        """The days of the month whose files land (again) with the month after; none before the start."""
        hit = self.hit(month) if month >= 0 else {}
        return sorted(day for kind, days in hit.items() if kind in COMES_BACK for day in days)

    def deliver(
        self, months: range, whole: Sequence[Path], target: Path, progress: Callable[[str], None]
    ) -> tuple[tuple[Path, ...], list[Fault]]:
        """Move whole files into a folder as these months deliver them; files of the same names are replaced.

        Of a file that comes back within ``months`` only what came last is left; what ``whole`` holds of the month before
        them comes back.

        :param whole: one file for each day, in a folder that is given up; :param target: the feed's folder.
        :returns: the landed files in order, and the faults of ``months``.
        :raises OSError: a file cannot be written.
        """
        files = {file.stem: file for file in whole}
        landing: dict[str, Path] = {file.name: file for file in whole}
        faults: list[Fault] = []
        hits = [(month, kind, day) for month in months for kind, days in self.hit(month).items() for day in days]
        # a file of two million reads is read, changed and written again in seconds
        what = f"{self.feed}, operational faults"
        with reporting(what, len(hits), lambda: len(faults) / len(hits), progress, unit="files"):
            for month, kind, day in hits:
                file = files[f"{self.feed}_{day.isoformat()}"]
                first, rows = _happens(kind, file)
                faults.append(self._fault(kind, month, file, first, rows))
                if kind == "duplicate_delivery":
                    landing[f"{file.stem}{RESENT}{file.suffix}"] = _beside(file, kind)
                elif not (kind in COMES_BACK and month + 1 in months):
                    landing.pop(file.name)
                    landing |= {file.name: first} if first else {}
        target.mkdir(parents=True, exist_ok=True)
        # a second name of a content is no file of its own yet
        for name, path in landing.items():
            if RESENT in name:
                shutil.copyfile(landing[name.replace(RESENT, "")], path)
        return tuple(landing[name].replace(target / name) for name in sorted(landing)), faults

    def _fault(self, kind: str, month: int, file: Path, first: Path | None, rows: int) -> Fault:
        here, after = (f"{self.almanac.month_start(m):%Y-%m}" for m in (month, month + 1))
        arrives = "" if kind == "missing_day" else after if kind in COMES_BACK else here
        wrong = hashlib.sha256(first.read_bytes()).hexdigest() if first and kind in COMES_BACK else ""
        return Fault(kind, self.feed, file.name, here, arrives, rows, wrong, WHAT[kind])


def write_list(faults: Iterable[Fault], defects: Path) -> None:
    """Write ``<defects>/operations/<month>.csv``, one for each month that has faults; a former one is replaced."""
    by_month: dict[str, list[Fault]] = {}
    for fault in faults:
        by_month.setdefault(fault.month, []).append(fault)
    for month, some in by_month.items():
        file = defects / FOLDER / f"{month}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(f.name for f in fields(Fault))
            writer.writerows(astuple(fault) for fault in some)


# -- what happens to one file ----------------------------------------------------------------------------------------


def _happens(kind: str, file: Path) -> tuple[Path | None, int]:
    """The content that lands with the month instead of the whole file (None: nothing, or the file itself), and its rows."""
    if kind == "half_file":
        return _cut(file)
    table = _read(file)
    if kind == "corrected_file":
        return _a_day_late(table, file)
    if kind == "header_change":
        return _write(_other_header(table), _beside(file, kind)), table.num_rows
    return None, table.num_rows


def _beside(file: Path, kind: str) -> Path:
    return file.with_name(f"{kind}-{file.name}")


def _cut(file: Path) -> tuple[Path, int]:
    """The first half of the bytes; a CSV ends in the middle of a record, a Parquet file has lost its footer."""
    content = file.read_bytes()
    rows = _read(file).num_rows
    end = len(content) // 2
    if file.suffix == ".csv":
        end = max(end, content.find(b"\n") + 1)  # the header stays whole
        start, stop = content.rfind(b"\n", 0, end) + 1, content.find(b"\n", end)
        end = (start + stop) // 2 if stop >= 0 else end
        rows -= content.count(b"\n", 0, end) - 1
    first = _beside(file, "half_file")
    first.write_bytes(content[:end])
    return first, rows


def _a_day_late(table: pa.Table, file: Path) -> tuple[Path, int]:
    """An export that ran over midnight: what was written after it carries the next day; no date stays no date."""
    import pyarrow as pa

    half = table.num_rows // 2
    days = table.column(DATE).to_pylist()
    late = {text: _next_day(text) for text in set(days)}
    changed = days[:half] + [late[text] for text in days[half:]]
    wrong = table.set_column(table.schema.get_field_index(DATE), DATE, pa.array(changed, pa.string()))
    rows = sum(a != b for a, b in zip(days, changed, strict=True))
    return _write(wrong, _beside(file, "corrected_file")), rows


def _next_day(text: str) -> str:
    try:
        return (dt.date.fromisoformat(text) + dt.timedelta(days=1)).isoformat()
    except ValueError:
        return text


def _other_header(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    names: list[str] = table.column_names[::-1]
    other = table.select(names).rename_columns([SPELLED.get(name, name) for name in names])
    return other.append_column(NEW_COLUMN, pa.array(["RF"] * table.num_rows, pa.string()))


def _read(file: Path) -> pa.Table:
    """A file's records as texts; no field of it is quoted."""
    import pyarrow as pa
    from pyarrow import csv as text
    from pyarrow import parquet

    if file.suffix == ".parquet":
        return parquet.read_table(file)
    with file.open(encoding="utf-8") as stream:
        names = stream.readline().rstrip("\n").split(",")
    types: Mapping[str, Any] = {name: pa.string() for name in names}
    return text.read_csv(
        file,
        parse_options=text.ParseOptions(quote_char=False),
        convert_options=text.ConvertOptions(column_types=types, strings_can_be_null=False),
    )


def _write(table: pa.Table, file: Path) -> Path:
    from pyarrow import csv as text
    from pyarrow import parquet

    if file.suffix == ".parquet":
        parquet.write_table(table, file, compression="zstd")
        return file
    with file.open("wb") as stream:  # Arrow would put the names in quotes
        stream.write(",".join(table.column_names).encode() + b"\n")
        text.write_csv(table, stream, text.WriteOptions(include_header=False, quoting_style="none"))
    return file
