"""A month's landed files day by day, as a utility that loads daily finds them."""

from __future__ import annotations

import csv
import datetime as dt
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from utilityflow.simulate import customers

_DAY = re.compile(r"_(\d{4}-\d{2}-\d{2})\Z")
STAMP = "changed_at"  # of the change events of customers: the local time since which a change holds


def part(landed: Sequence[Path], away: Path) -> list[tuple[dt.date, list[Path]]]:
    """Take a month's files of the core systems out of the landing root.

    Reads land in files of a day each. The changes of customers land in files of a month; here each day gets a file with the
    changes that hold since that day, the first one also those of before (in the first month everybody's history) and those
    whose time cannot be read.

    :param away: an empty folder or none; the files move to ``<away>/<feed>/``.
    :return: the days in their order, with what landed on each.
    """
    days: dict[str, list[Path]] = {}
    monthly = []
    for file in landed:
        if found := _DAY.search(file.stem):
            days.setdefault(found[1], []).append(_moved(file, away))
        else:
            monthly.append(_moved(file, away))
    for file in monthly:
        if file.parent.name != customers.FEED:
            raise ValueError(f"{file.parent.name} lands by month, and nobody said how its records go to days")
        for day, changes in _by_day(file, sorted(days)).items():
            days[day].append(changes)
        file.unlink()
    return [(dt.date.fromisoformat(day), days[day]) for day in sorted(days)]


def land(files: Sequence[Path], landing: Path) -> None:
    """Move files that ``part`` took away into the landing root."""
    for file in files:
        _moved(file, landing)


def _moved(file: Path, root: Path) -> Path:
    folder = root / file.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(file, folder / file.name))


def _by_day(file: Path, days: Sequence[str]) -> dict[str, Path]:
    """A file beside for each day of which there are changes; no record holds a line end."""
    written: dict[str, tuple[Path, TextIO]] = {}
    with ExitStack() as open_files:
        stream = open_files.enter_context(file.open(encoding="utf-8", newline=""))
        head = stream.readline()
        place = head.rstrip("\n").split(",").index(STAMP)
        for line in stream:
            told = next(csv.reader([line]))[place][:10]
            day = told if told in days else days[0]
            if day not in written:
                path = file.with_name(f"{file.stem}_{day}.csv")
                written[day] = (path, open_files.enter_context(path.open("w", encoding="utf-8", newline="")))
                written[day][1].write(head)
            written[day][1].write(line)
    return {day: path for day, (path, _) in written.items()}
