"""XLSX: which rows are records, what their values are as texts, and what the feed has to declare."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from xlsx_files import feed, parts, put, raw, sheet_xml, written, zipped

from utilityflow.bronze.cells import NoValueError, date_kinds, date_text, number_text, plain_text
from utilityflow.bronze.inspect import Inspection, Limits, inspect_file
from utilityflow.bronze.records import Record
from utilityflow.bronze.sheet import Range, place_of
from utilityflow.bronze.staging import parse_records
from utilityflow.errors import UtilityFlowError


def read(folder: Path, content: bytes, options: str = "{}", more: str = "") -> tuple[list[Record], list[str]]:
    notes: list[str] = []
    path = put(folder, content)
    return list(parse_records(feed(options, more), path, "a.xlsx", Limits(), notes)), notes


def rows(folder: Path, content: bytes, options: str = "{}", more: str = "") -> list[list[str | None]]:
    found = read(folder, content, options, more)[0]
    assert [r[2] for r in found if r[2] is not None] == []
    return [list(r[1] or []) for r in found]


def look(folder: Path, content: bytes, options: str = "{}", **given: Any) -> Inspection:
    return inspect_file(feed(options), put(folder, content), folder, **given)


def refusal(folder: Path, content: bytes, options: str = "{}", more: str = "") -> str:
    with pytest.raises(UtilityFlowError) as caught:
        read(folder, content, options, more)
    return str(caught.value)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("12345", "12345"),
        ("0.1", "0.1"),
        ("4.0999999999999996", "4.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("-0.5", "-0.5"),
        ("1.0", "1"),
        ("12345678901234567890", "12345678901234567890"),
        ("1E+20", "100000000000000000000"),
        ("1.5e-7", "0.00000015"),
        (".5", "0.5"),
    ],
)
def test_numbers_are_exact(stored: str, text: str):
    assert number_text(stored) == text
    assert Decimal(float(stored)) == Decimal(float(text))


@pytest.mark.parametrize("stored", ["", "1,5", "inf", "nan", "1e999", "0x1", "١", "1" * 2000 + ".5", "1_0"])
def test_what_is_no_number(stored: str):
    with pytest.raises(NoValueError):
        number_text(stored)


@pytest.mark.parametrize(
    ("number", "kind", "from_1904", "text"),
    [
        ("42766", "date", False, "2017-01-31"),
        ("42766.5", "date", False, "2017-01-31T12:00:00"),
        ("42766", "datetime", False, "2017-01-31T00:00:00"),
        ("42766.573", "datetime", False, "2017-01-31T13:45:07.2"),
        ("42765.9999999999", "date", False, "2017-01-31"),
        ("0.5", "time", False, "12:00:00"),
        ("0", "time", False, "00:00:00"),
        ("1.1041666666666667", "duration", False, "26:30:00"),
        ("-0.5", "duration", False, "-12:00:00"),
        ("1", "date", False, "1900-01-01"),
        ("59", "date", False, "1900-02-28"),
        ("61", "date", False, "1900-03-01"),
        ("0", "date", True, "1904-01-01"),
        ("41304", "date", True, "2017-01-31"),
        ("2958465", "date", False, "9999-12-31"),
    ],
)
def test_dates_are_iso_text(number: str, kind: Any, from_1904: bool, text: str):
    assert date_text(number, kind, from_1904) == text


@pytest.mark.parametrize("number", ["0", "0.5", "60", "-1", "2958466", "1e300"])
def test_days_that_never_were(number: str):
    with pytest.raises(NoValueError):
        date_text(number, "date", False)


def test_what_formats_show_as_dates():
    codes = {164: "yyyy-mm-dd", 165: '0.0 "days"', 166: "[h]:mm", 167: "dd.mm.yyyy hh:mm", 168: "d" * 300, 14: "0.00"}
    kinds = date_kinds([0, 22, 20, 164, 165, 166, 167, 168, 14, 27, 33, 999], codes)
    assert kinds == ["", "datetime", "time", "date", "", "duration", "datetime", "", "", "date", "time", ""]


def test_escapes_in_texts():
    assert plain_text("a_x000D_b_x005F_x000D_") == "a\rb_x000D_"
    assert plain_text("_xD83D__xDE00_") == "😀"
    for half in ("_xD83D_", "a_x0000_"):
        with pytest.raises(NoValueError):
            plain_text(half)


def test_every_kind_of_value_as_openpyxl_writes_it(tmp_path: Path):
    moment = dt.datetime(2017, 1, 31, 13, 45)
    values = [7, 0.1, 1234567.89, True, False, dt.date(2017, 1, 31), moment, dt.time(6, 30), "  a\nb ", "00123", "ä😀", 1e-7]
    found = rows(tmp_path, written([["id", *"abcdefghijk"], values]))
    assert found == [["7", "0.1", "1234567.89", "true", "false", "2017-01-31", "2017-01-31T13:45:00", "06:30:00", "  a\nb ",
                      "00123", "ä😀", "0.0000001"]]  # fmt: skip


def test_runs_of_a_text_are_joined_and_its_pronunciation_left_out(tmp_path: Path):
    shared = "<si><r><t>Nor</t></r><r><t>th</t></r><rPh><t>nope</t></rPh></si><si/>"
    inline = '<c r="B2" t="inlineStr"><is><r><t>So</t></r><r><t>uth</t></r><rPh><t>nope</t></rPh></is></c>'
    content = raw(f'<row r="2"><c r="A2" t="s"><v>0</v></c>{inline}</row><row r="3"><c r="A3" t="s"><v>1</v></c>'
                  '<c r="B3" t="d"><v>2017-01-31</v></c></row>', shared=shared)  # fmt: skip
    assert rows(tmp_path, content) == [["North", "South"], [None, "2017-01-31"]]


def test_cells_and_rows_without_their_place(tmp_path: Path):
    sheet = sheet_xml("<row><c t='str'><v>id</v></c><c t='str'><v>b</v></c></row><row><c><v>1</v></c><c><v>2</v></c></row>")
    assert rows(tmp_path, zipped(parts(sheet))) == [["1", "2"]]


def test_the_calendar_of_1904(tmp_path: Path):
    styles = '<cellStyleXfs><xf numFmtId="9"/></cellStyleXfs><cellXfs><xf/><xf numFmtId="14"/></cellXfs>'
    row = '<row r="2"><c r="A2" s="1"><v>41304</v></c></row>'
    content = raw(row, settings='<workbookPr date1904="1"/>', styles=styles)
    assert rows(tmp_path, content) == [["2017-01-31", None]]


# -- formulas and errors -----------------------------------------------------------------------------------------------

FORMULA = '<row r="2"><c r="A2"><v>1</v></c><c r="B2"><f>A2*2</f><v>2</v></c></row><row r="3"><c r="A3"><v>3</v></c></row>'


def test_a_formula_is_corrupt_unless_its_stored_value_is_declared_safe(tmp_path: Path):
    found, _ = read(tmp_path, raw(FORMULA))
    assert found[0] == (("id", "b"), None, "sheet 'S', cell B2: a formula: [\"1\", \"=A2*2\"]")
    assert found[1] == (("id", "b"), ["3", None], None)
    assert rows(tmp_path, raw(FORMULA), "{formulas: cached}") == [["1", "2"], ["3", None]]


def test_a_formula_that_was_never_calculated_is_corrupt_in_any_case(tmp_path: Path):
    content = written([["id", "b"], [1, "=A2*2"], [3, 4]])  # openpyxl calculates nothing
    for options in ("{}", "{formulas: cached}"):
        found, _ = read(tmp_path, content, options)
        assert [r[1] for r in found] == [None, ["3", "4"]]
        assert "cell B2: a formula" in str(found[0][2])
    assert "never calculated" in str(found[0][2])


def test_the_other_cells_of_a_formula_over_several_cells_are_no_plain_values(tmp_path: Path):
    content = raw('<row r="2"><c r="A2"><v>1</v></c><c r="B2"><f t="array" ref="B2:B3">A2:A3*2</f><v>2</v></c></row>'
                  '<row r="3"><c r="A3"><v>3</v></c><c r="B3"><v>6</v></c></row>'
                  '<row r="4"><c r="A4"><v>4</v></c><c r="B4"><v>5</v></c></row>')  # fmt: skip
    found, _ = read(tmp_path, content)
    assert [r[1] for r in found] == [None, None, ["4", "5"]]
    assert "cell B3: a formula" in str(found[1][2])
    assert rows(tmp_path, content, "{formulas: cached}") == [["1", "2"], ["3", "6"], ["4", "5"]]


def test_a_formula_in_the_header_refuses_the_file(tmp_path: Path):
    content = zipped(parts(sheet_xml('<row r="1"><c r="A1" t="str"><f>"i"</f><v>id</v></c></row>'
                                     '<row r="2"><c r="A2"><v>1</v></c></row>')))  # fmt: skip
    assert "cell A1 of the header is a formula" in refusal(tmp_path, content)
    assert rows(tmp_path, content, "{formulas: cached}") == [["1"]]


def test_error_cells_are_corrupt_unless_they_mean_null(tmp_path: Path):
    content = raw('<row r="2"><c r="A2"><v>1</v></c><c r="B2" t="e"><v>#N/A</v></c></row>'
                  '<row r="3"><c r="A3"><v>2</v></c><c r="B3" t="e"><v>#REF!</v></c></row>')  # fmt: skip
    found, _ = read(tmp_path, content)
    assert [r[1] for r in found] == [None, None]
    assert found[1][2] == "sheet 'S', cell B3: the error #REF!: [\"2\", \"#REF!\"]"
    found, _ = read(tmp_path, content, more="null_values: ['', '#N/A']")
    assert [r[1] for r in found] == [["1", "#N/A"], None]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ('<c r="B2" t="s"><v>7</v></c>', "a shared text that the file does not hold"),
        ('<c r="B2" t="s"><v>-1</v></c>', "a shared text that the file does not hold"),
        ('<c r="B2" t="s"/>', "a shared text that the file does not hold"),
        ('<c r="B2" s="9"><v>1</v></c>', "a cell style that the file does not define"),
        ('<c r="B2"><v>x</v></c>', "no number"),
        ('<c r="B2" t="b"><v>2</v></c>', "a value of no known type"),
        ('<c r="B2" t="zzz"><v>2</v></c>', "a value of no known type"),
        ('<c r="B2" t="str"><v>_xD800_</v></c>', "a text with half a character"),
        ('<c r="C2"><v>1</v></c>', "outside of the table's 2 columns"),
    ],
)
def test_a_value_that_cannot_be_read_makes_its_record_corrupt(tmp_path: Path, cell: str, problem: str):
    found, _ = read(tmp_path, raw(f'<row r="2"><c r="A2"><v>1</v></c>{cell}</row>', shared="<si><t>x</t></si>"))
    assert found[0][1] is None
    place, _, told = str(found[0][2]).partition(f": {problem}: ")
    assert place in ("sheet 'S', cell B2", "sheet 'S', cell C2")
    assert json.loads(told)[0] == "1"


# -- header, names, sheets ---------------------------------------------------------------------------------------------


def merged(*ranges: str) -> Any:
    return lambda book, sheet: [sheet.merge_cells(r) for r in ranges]


def test_a_header_of_several_rows_with_merged_cells(tmp_path: Path):
    content = written([
        ["A title over everything", None, None, None, None],
        ["Id", "Residential", None, "Total", "Note"],
        [None, "Sales", "Customers", "Sales", None],
        [None, "MWh", "Count", "MWh", None],
        [1, 2, 3, 4, 5],
    ], change=merged("A1:Z1", "A2:A4", "B2:C2"))  # fmt: skip
    found, notes = read(tmp_path, content, "{header_rows: [2, 3, 4]}")
    assert found[0][0] == ("id", "residential_sales_mwh", "residential_customers_count", "total_sales_mwh", "note")
    assert found[0][0].raw[1] == "Residential Sales MWh"  # type: ignore[attr-defined]
    assert notes == ["a.xlsx: sheet 'S': 1 row(s) above or within the header left out"]
    assert read(tmp_path, content, "{header_rows: [4]}")[0][0][2] is not None  # the name of column E stands above
    # the title's own width is no column of the table
    assert len(read(tmp_path, content, "{header_rows: [1, 3]}")[0][0][0]) == 4


def test_names_that_repeat_or_lack(tmp_path: Path):
    found, _ = read(tmp_path, written([["id", "SPP", None, "SPP"], [1, "a", "b", "c"]]))
    assert found[0][:2] == (("id", "spp", "column_3", "spp_2"), ["1", "a", "b", "c"])


def test_names_of_the_feed_file(tmp_path: Path):
    content = written([["x", "y"], [1, 2]])
    assert rows(tmp_path, content, "{names: [id, b]}") == [["x", "y"], ["1", "2"]]
    found, _ = read(tmp_path, content, "{names: [id, b], header_rows: [1]}")
    assert found == [(("id", "b"), ["1", "2"], None)]
    found, _ = read(tmp_path, content, "{names: [id], header_rows: [1]}")
    assert "cell B2: outside of the table's 1 columns" in str(found[0][2])


def test_sheets_by_name_and_by_place(tmp_path: Path):
    def add(book: Any, sheet: Any) -> None:
        for name, value in (("Hidden", 2), ("Third", 3)):
            book.create_sheet(name).append(["id"])
            book[name].append([value])
        book["Hidden"].sheet_state = "hidden"

    content = written([["id"], [1]], "First", add)
    for options, value in (("{sheet: First}", "1"), ("{sheet: 1}", "1"), ("{sheet: 2}", "3"), ("{sheet: Third}", "3")):
        assert rows(tmp_path, content, options) == [[value]]
    assert "2 visible sheets: 'First', 'Third' (set options.sheet in the feed file)" in refusal(tmp_path, content)
    assert "no visible sheet 3, there are 2" in refusal(tmp_path, content, "{sheet: 3}")
    assert "no sheet 'Firsst'; visible are 'First', 'Third' (did you mean 'First'?)" in refusal(
        tmp_path, content, "{sheet: Firsst}"
    )
    found, notes = read(tmp_path, content, "{sheet: Hidden}")
    assert (found[0][1], notes) == (["2"], ["a.xlsx: sheet 'Hidden' is hidden"])


def test_one_visible_sheet_beside_hidden_ones_needs_no_name(tmp_path: Path):
    def hide(book: Any, sheet: Any) -> None:
        book.create_sheet("Lists").sheet_state = "veryHidden"

    assert rows(tmp_path, written([["id"], [1]], change=hide)) == [["1"]]


def test_empty_sheets(tmp_path: Path):
    assert refusal(tmp_path, written([])) == "UF-2001: a.xlsx: sheet 'S' is empty"
    assert "sheet 'S' is empty" in refusal(tmp_path, written([["", None]]), "{names: [id]}")
    assert "a header and no records" in refusal(tmp_path, written([["id"]]))
    assert "no names in the header row(s) 1, 2" in refusal(tmp_path, written([[], [], [1]]), "{header_rows: [1, 2]}")
    found = look(tmp_path, written([["id"]]))
    assert found.reason is not None
    assert found.reason.code == "UF-2001"


def test_a_missing_column_is_refused_as_in_other_formats(tmp_path: Path):
    found = look(tmp_path, written([["idd"], [1]]))
    assert "UF-2002: a.xlsx: no column 'id', which 'meter_id' reads" in str(found.reason)


# -- the end of the table ----------------------------------------------------------------------------------------------

TABLE = [["id", "b"], [1, 2], [3, 4], [5, None]]


def test_without_a_rule_every_filled_row_is_a_record(tmp_path: Path):
    found, notes = read(tmp_path, written([*TABLE, [], ["A note."]]))
    assert [r[1] for r in found][-2:] == [["5", None], ["A note.", None]]
    assert notes == []


def test_a_note_is_a_single_cell_below_the_table(tmp_path: Path):
    content = written([*TABLE[:3], ["A note."], [], [None, "Another one."]], change=merged("A4:B4"))
    found, notes = read(tmp_path, content, "{footnotes: single_cell}")
    assert [r[1] for r in found] == [["1", "2"], ["3", "4"]]
    rule = "'footnotes: single_cell'"
    assert notes == [f"a.xlsx: sheet 'S': 2 note(s) below the table left out, rows 4 to 6, by {rule}"]


def test_a_record_below_a_note_refuses_the_file(tmp_path: Path):
    """The row of one cell was no note, then: nothing is lost in silence."""
    told = refusal(tmp_path, written([*TABLE, [7, 8]]), "{footnotes: single_cell}")
    assert told.startswith("UF-2009: a.xlsx: sheet 'S', row 5: 2 filled cells below the note in row 4")
    assert "footnotes: single_cell" in told
    one = refusal(tmp_path, written([["id"], [1]]), "{footnotes: single_cell}")
    assert "cannot tell notes from the records of a single column" in one


def test_a_blank_row_ends_the_table_where_that_is_the_rule(tmp_path: Path):
    content = written([TABLE[0], [], *TABLE[1:], [None, ""], ["Y", "yes"], ["N", "no"]])
    found, notes = read(tmp_path, content, "{footnotes: blank_row}")
    assert [r[1] for r in found] == [["1", "2"], ["3", "4"], ["5", None]]
    assert "2 note(s) below the table left out, rows 7 to 8" in notes[0]
    assert len(read(tmp_path, content)[0]) == 5


def test_notes_are_told_by_the_inspection(tmp_path: Path):
    content = written([*TABLE[:3], ["A note."]])
    for given in ({}, {"stage": tmp_path / "stage"}):
        found = look(tmp_path, content, "{footnotes: single_cell}", **given)
        assert (found.reason, found.kind, found.records, found.names) == (None, "staged", 2, ("id", "b"))
        assert "1 note(s) below the table" in found.notes[0]
        assert found.raw_names == ("id", "b")


# -- merged cells below the header -------------------------------------------------------------------------------------


def test_merged_cells_among_the_records(tmp_path: Path):
    content = written([["id", "b", "c"], ["x", 1, 2], [None, 3, 4], ["y", 5, None], ["z", 6, 7]],
                      change=merged("A2:A3", "B4:C4", "F2:G9"))  # fmt: skip
    found, _ = read(tmp_path, content)
    assert [r[1] for r in found] == [None, None, None, ["z", "6", "7"]]
    assert found[1][2] == "sheet 'S', cell A3: merged cells A2:A3: [null, \"3\", \"4\"]"
    filled = [["x", "1", "2"], ["x", "3", "4"], ["y", "5", "5"], ["z", "6", "7"]]
    assert rows(tmp_path, content, "{merged: fill}") == filled


def test_a_problem_travels_with_merged_cells(tmp_path: Path):
    content = written([["id", "b"], ["=1+1", 1], [None, 3], [4, 4]], change=merged("A2:A3"))
    found, _ = read(tmp_path, content, "{merged: fill}")
    assert [r[1] for r in found] == [None, None, ["4", "4"]]
    assert "a formula (merged cells A2:A3)" in str(found[1][2])


# -- places ------------------------------------------------------------------------------------------------------------


def test_places_in_a_sheet():
    assert place_of("XFD1048576") == (1_048_576, 16_384)
    assert str(Range.of("$B$2:C3")) == "B2:C3"
    assert Range.of("A1") == (1, 1, 1, 1)
    for wrong in ("", "A0", "XFE1", "A1048577", "a1", "A1:", "B2:A1", "A:B", "AAAA1", "1A"):
        with pytest.raises(ValueError, match="."):
            Range.of(wrong) if wrong != "A1:" else place_of(wrong)


@pytest.mark.parametrize(
    "broken",
    [
        '<row r="3"/><row r="2"/>',
        '<row r="2"/><row r="2"/>',
        '<row r="1048577"/>',
        '<row r="02"/>',
        '<row r="x"/>',
        '<row r="2"><c r="B2"/><c r="A2"/></row>',
        '<row r="2"><c r="A2"/><c r="A2"/></row>',
        '<row r="2"><c r="A3"/></row>',
        '<row r="2"><c r="XFE2"/></row>',
        '<row r="2"><c r="2"/></row>',
    ],
)
def test_cells_out_of_order_refuse_the_file(tmp_path: Path, broken: str):
    told = refusal(tmp_path, raw(broken))
    assert told.startswith("UF-2009: a.xlsx: sheet 'S', after row ")


def test_staged_records(tmp_path: Path):
    found = look(tmp_path, raw(FORMULA), stage=tmp_path / "stage")
    table = pq.read_table(found.parts[0].path)
    assert table.column_names[3:] == ["_row_number", "_corrupt_record", "id", "b"]
    assert table["_row_number"].to_pylist() == [1, 2]
    assert table["id"].to_pylist() == [None, "3"]
    assert table["_corrupt_record"].to_pylist()[1] is None


# -- the real workbooks: counts of issue 3, and openpyxl as the second reader ------------------------------------------

REAL = [
    ("Reliability", "{sheet: Reliability_States, header_rows: [1, 2], footnotes: single_cell}", 1_057, 1_079, 28, 1),
    ("Reliability", "{sheet: Reliability_Territories, header_rows: [1, 2], footnotes: single_cell}", 3, 3, 28, 1),
    ("Utility_Data", "{sheet: States, header_rows: [2]}", 2_278, 2_288, 32, 0),
    ("Sales_Ult_Cust", "{sheet: States, header_rows: [1, 2, 3], footnotes: single_cell}", 3_311, 3_424, 24, 1),
    ("Service_Territory", "{sheet: 1}", 11_952, 11_827, 5, 0),
]  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize(("book", "options", "of_2016", "of_2017", "columns", "notes"), REAL)
def test_eia_861(
    real_data: Path, book: str, options: str, of_2016: int, of_2017: int, columns: int, notes: int
):  # fmt: skip
    for year, count in ((2016, of_2016), (2017, of_2017)):
        path = real_data / "eia861" / f"{book}_{year}.xlsx"
        told: list[str] = []
        declared = feed(options)
        found = list(parse_records(declared, path, path.name, Limits(), told))
        assert (len(found), len(found[0][0])) == (count, columns)
        assert [r[2] for r in found if r[2]] == []
        assert sum("1 note(s) below the table" in n for n in told) == notes
        wanted = openpyxl.load_workbook(path, read_only=True)
        sheet = declared.options.sheet
        second = wanted[sheet] if isinstance(sheet, str) else wanted.worksheets[0]
        first = max(declared.options.header_rows) + 1
        pairs = zip(found, second.iter_rows(min_row=first, max_row=first + count - 1, values_only=True), strict=True)
        for (_, values, _), cells in pairs:
            for mine, theirs in zip(values or [], cells, strict=True):
                same = (mine or None) == (theirs or None) if not isinstance(theirs, int | float) else float(mine or "x") == theirs
                assert same, (mine, theirs)


@pytest.mark.real
def test_eia_861_headers(real_data: Path):
    def names(book: str, options: str) -> tuple[str, ...]:
        path = real_data / "eia861" / f"{book}_2016.xlsx"
        return next(parse_records(feed(options), path, path.name, Limits()))[0]

    reliability = names("Reliability", "{sheet: 1, header_rows: [1, 2], footnotes: single_cell}")
    assert reliability[5] == "ieee_standard_saidi_with_med"
    assert reliability[13] == "ieee_standard_caidi_minus_med"
    assert reliability[17] == "other_standard_saidi_with_med"
    assert sum(n.startswith("ieee_standard_") for n in reliability) == 12
    assert sum(n.startswith("other_standard_") for n in reliability) == 11
    plain = names("Reliability", "{sheet: 1, header_rows: [2], footnotes: single_cell}")
    assert (plain[5], plain[17]) == ("saidi_with_med", "saidi_with_med_2")
    utilities = names("Utility_Data", "{sheet: States, header_rows: [2]}")
    assert [n for n in utilities if n.startswith("spp")] == ["spp", "spp_2"]
    sales = names("Sales_Ult_Cust", "{sheet: States, header_rows: [1, 2, 3], footnotes: single_cell}")
    residential = ("revenues_thousand_dollars", "sales_megawatthours", "customers_count")
    assert sales[9:12] == tuple(f"residential_{n}" for n in residential)
    assert sales[5] == "utility_characteristics_data_type_o_observed_i_imputed"
