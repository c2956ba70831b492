"""The register of filings as the workbook that a compliance department keeps, one a month; feed: conf/feeds/reg_filings.yaml.

As in workbooks of regulators: a title, a header of two rows with merged cells, dates and numbers as such, notes below the table,
further sheets, one of them hidden. The bytes follow from the content: times within the zip file are fixed.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from utilityflow.simulate.filings import FORMS, Filing, State
from utilityflow.simulate.planted import Ledger

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

FEED = "reg_filings"
SHEET = "Filings"
KEY = ("filing_number",)
# title over several columns, their own titles; a column without a title of its own is one cell over both rows
HEADER = (
    ("Filing", ("Number", "Regulation", "Regulator", "Docket", "District")),
    ("Reporting period", ("From", "To")),
    ("Due", ()),
    ("Submission", ("Filed", "Status")),
    ("Reported figure", ("Metric", "Value", "Unit", "Snapshot")),
    ("Penalty", ("Amount", "Currency")),
    ("Last change", ()),
)
# as bronze names them
COLUMNS = tuple(re.sub("[^a-z]+", "_", f"{over} {own}".strip().lower()) for over, titles in HEADER for own in titles or ("",))
NOTES = (
    "Dates and times are local. A filing that is due in the year stays listed when it was accepted or withdrawn.",
    "An amended figure replaces the one before it; the snapshot says what it was made of.",
)
FIXED = dt.datetime(2000, 1, 1)  # of the file itself
Value = str | dt.date | dt.datetime | Decimal | None


def values(filing: Filing, state: State, districts: Sequence[str]) -> tuple[Value, ...]:
    """The cells of a filing's row, in the order of COLUMNS. :param districts: their names."""
    form, filed = filing.kind, state.filed is not None
    told = (form.metric, Decimal(state.value).scaleb(-3), form.unit, state.snapshot) if state.value is not None else (None,) * 4
    penalty = (Decimal(state.penalty), "USD") if state.penalty is not None else (None, None)
    return (
        filing.name, form.regulation, form.regulator, filing.docket if filed else None,
        None if filing.district is None else districts[filing.district],
        filing.start, filing.end, state.due, state.filed, state.status.capitalize(), *told, *penalty, state.changed,
    )  # fmt: skip


def shown(value: Value) -> str:
    """What a reader makes of a cell: ISO 8601, a number without zeros at its end, the empty text for none."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
    return value or ""


def workbook(month: dt.date, rows: Iterable[tuple[Filing, State]], districts: Sequence[str], ledger: Ledger) -> bytes:
    """The register as of the end of a month, with the defects that ``ledger`` plants; a defective cell is a text."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    if sheet is None:
        raise AssertionError("a new workbook has a sheet")
    sheet.title = SHEET
    _head(sheet, f"Register of regulatory filings, {month:%Y}, as of the end of {month:%B}")
    for place, (filing, state) in enumerate(rows):
        cells = dict(zip(COLUMNS, values(filing, state, districts), strict=True))
        hit = ledger.planted(place, filing.name, lambda column, cells=cells: shown(cells[column]))  # type: ignore[misc]
        _row(sheet, place + 4, [*(cells | ({hit[0]: hit[1]} if hit else {})).values()])
    for place, note in enumerate(NOTES, start=sheet.max_row + 2):
        sheet.cell(place, 1, note)
    _more(book)
    return _packed(book)


def _head(sheet: Worksheet, title: str) -> None:
    from openpyxl.styles import Alignment, Font

    sheet.cell(1, 1, title).font = Font(bold=True, size=14)
    sheet.merge_cells(start_row=1, start_column=1, end_row=1, end_column=len(COLUMNS))
    column = 1
    for over, titles in HEADER:
        width = max(len(titles), 1)
        top = sheet.cell(2, column, over)
        top.font, top.alignment = Font(bold=True), Alignment(horizontal="center", wrap_text=True)
        for place, own in enumerate(titles, start=column):
            sheet.cell(3, place, own).font = Font(bold=True)
        end = 2 if titles else 3
        if (width, end) != (1, 2):
            sheet.merge_cells(start_row=2, start_column=column, end_row=end, end_column=column + width - 1)
        column += width
    sheet.freeze_panes = "B4"


def _row(sheet: Worksheet, number: int, cells: Sequence[Value]) -> None:
    for column, value in enumerate(cells, start=1):
        if value is None or value == "":
            continue
        cell = sheet.cell(number, column, float(value) if isinstance(value, Decimal) else value)
        if isinstance(value, dt.datetime):
            cell.number_format = "yyyy\\-mm\\-dd hh:mm"
        elif isinstance(value, dt.date):
            cell.number_format = "yyyy\\-mm\\-dd"


def _more(book: Workbook) -> None:
    """A sheet that explains, and a hidden one that a drop-down list would read."""
    legend, lists = book.create_sheet("Legend"), book.create_sheet("Lists")
    for form in FORMS:
        legend.append([form.regulation, form.regulator, f"every {form.months} month(s), {form.due_days} days after the period"])
    for status in ("Due", "Filed", "Accepted", "Rejected", "Amended", "Withdrawn"):
        lists.append([status])
    lists.sheet_state = "hidden"


def _packed(book: Workbook) -> bytes:
    """The workbook's bytes with all times fixed: those of the parts in the zip file, and those that its properties tell."""
    plain, stream = io.BytesIO(), io.BytesIO()
    book.properties.creator, book.properties.created = "Compliance", FIXED
    book.save(plain)
    with zipfile.ZipFile(plain) as made, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in made.namelist():
            content = made.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + f"{FIXED:%Y-%m-%dT%H:%M:%SZ}".encode(), content)
            entry = zipfile.ZipInfo(name, FIXED.timetuple()[:6])
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            archive.writestr(entry, content)
    return stream.getvalue()
