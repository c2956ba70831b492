"""Planted defects of files that are written in Python and not by the engine: the twin of ``defects.Planter``.

The same profile, the same kinds, the same ledger. A row's draw is by feed, month and number of the row, so it depends neither on
other months nor on the machine.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate.defects import DRAW_BITS, LEDGER_COLUMNS, Planter, Spec
from utilityflow.simulate.draws import number

SYSTEM = "regulatory_reporting"

_NUMBER = re.compile(r"-?[0-9]+([.][0-9]+)?\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")

# kind -> what it makes of the clean text: ``defects.KINDS`` of one column in Python (a test holds them together)
TWINS: Mapping[str, Callable[[str], str]] = {
    "missing": lambda _: "",
    "too_long": lambda v: v + " see remarks" * 20,
    "bad_date": lambda v: f"{v[:4]}-13-{v[8:]}",
    "ancient_date": lambda v: f"1066{v[4:]}",
    "year_early": lambda v: v[:3] + v[3:4].translate(str.maketrans("123456789", "012345678")) + v[4:],
    "bad_number": lambda v: f"#{v}",
    "lost_point": lambda v: v if v == "0.000" else v.replace(".", ""),
    "negative": lambda v: v if v == "0.000" else f"-{v}",
    "wrong_unit": lambda _: "kvarh",
    "other_scale": lambda v: "Wh" if v == "kWh" else v,
    "unknown_code": lambda _: "X?",
    "unknown_id": lambda v: v if v == "" else f"9{v[1:]}",
    "padded": lambda v: f"  {v} ",
    "wrong_case": lambda v: v.lower() if v == v.upper() else v.upper(),
    "mistyped": lambda v: v.translate(str.maketrans("01", "OI")),
    "spike": lambda v: _times(v, 10 + int(v.replace(".", "")[-2:]) % 31) if _NUMBER.match(v) else v,
    "stuck": lambda v: v if v == "" else "0.000" if "." in v else "0",
    "scientific": lambda v: f"{v.replace('.', '')}E-{len(v) - v.index('.') - 1 if '.' in v else 0}",
    "float_noise": lambda v: f"{v}000000000001" if "." in v else v,
    "epoch": lambda v: _seconds(v),
    "no_zone": lambda v: re.sub(r"(Z|[+-][0-9][0-9]:[0-9][0-9])\Z", "", v),
    "day_first": lambda v: f"{v[8:10]}/{v[5:7]}/{v[:4]}{v[10:]}",
    "placeholder": lambda _: ".",
    "zero_id": lambda _: "0",
    "double_blank": lambda v: v.replace(" ", "  "),
    "begins_early": lambda v: str(dt.date.fromisoformat(v) - dt.timedelta(days=10)) if _DATE.match(v) else v,
}


def _times(value: str, factor: int) -> str:
    return str(Decimal(value).quantize(Decimal("0.001")) * factor) if "." in value else str(int(value) * factor)


def _seconds(value: str) -> str:
    try:
        return str(int(dt.datetime.fromisoformat(value[:19]).replace(tzinfo=dt.timezone.utc).timestamp()))
    except ValueError:
        return value


@dataclass
class Ledger:
    """Plants the defects of one landed file and keeps its entries.

    :param file: the landed file's name. :param month: its month index. :param columns: the raw columns.
    :raises UtilityFlowError: UF-1001 when a spec names a column or an ``among`` (only rows here) that there is not.
    """

    seed: int
    feed: str
    file: str
    month: int
    specs: tuple[Spec, ...]
    columns: tuple[str, ...]
    entries: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        Planter(self.seed, self.feed, self.specs, {}, self.columns)  # it refuses what does not fit
        for spec in self.specs:
            if spec.kind not in TWINS:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.feed} knows no defects of kind '{spec.kind}'")

    def planted(self, row: int, key: str, clean: Callable[[str], str]) -> tuple[str, str] | None:
        """Column and planted text of the defect that hits a row of the file; None for most. An empty value stays as it is.

        :param row: number of the row in its file. :param key: what the ledger calls it. :param clean: text of a column.
        """
        drawn = number(self.seed, f"defects of {self.feed}", self.month, row) % 2**DRAW_BITS
        low = 0
        for spec in self.specs:
            high = low + round(spec.rate * 2**DRAW_BITS)
            if low <= drawn < high:
                value = clean(spec.column)
                text = TWINS[spec.kind](value) if value else value
                if text == value:
                    return None
                self.entries.append((SYSTEM, self.feed, self.file, key, "0", spec.column, spec.kind, value, text, spec.among))
                return spec.column, text
            low = high
        return None

    def counts(self) -> Counter[str]:
        """Planted defects by kind."""
        return Counter(entry[LEDGER_COLUMNS.index("kind")] for entry in self.entries)

    def write(self, defects: Path) -> None:
        """Write ``<defects>/<feed>/<file without ending>.csv``.

        :raises OSError: it cannot be written.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(LEDGER_COLUMNS)
        writer.writerows(self.entries)
        put(defects / self.feed / f"{Path(self.file).stem}.csv", [stream.getvalue().encode()])


def put(file: Path, pieces: Iterable[bytes]) -> Path:
    """Write a file beside and rename it into place; a former one is replaced. No feed reads names that begin with a dot.

    :raises OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.part")
    with beside.open("wb") as stream:
        stream.writelines(pieces)
    return beside.replace(file)
