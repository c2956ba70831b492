"""NEM12 and NEM13: the published vectors (reference V8), each rule of the format broken once, and zips that are refused."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utilityflow.bronze import zipped
from utilityflow.bronze.feeds import Feed, load_feed, parse_feed
from utilityflow.bronze.inspect import Inspection, inspect_file
from utilityflow.bronze.nem12 import nem12_records
from utilityflow.bronze.nem12_blocks import CHILDREN, COLUMNS
from utilityflow.bronze.scan import Limits
from utilityflow.errors import UtilityFlowError

Row = dict[str, Any]
HEADER = "100,NEM12,202503010000,MDP,RET"
STREAM = "200,NMI0000001,E1B1,1,E1,N1,SER1,kWh,720,"
DAY = "300,20250301,1.5,2.5,A,,,20250302010203,20250302040506"
END = "900"
ACCUMULATED = (
    "250,NMI0000001,11,1,11,11,SER1,E,100,20250101093000,A,,,150.5,20250301101500,E64,77,gate,50.5,kWh,20250601,20250302,"
)


def feed(text: str = "") -> Feed:
    start = (
        "feed: f\nsystem: usage_monitoring\nentity: meter_reads\nformat: nem12\npath: '*'\ncolumns: {meter_id: nmi}\n"
    )
    return parse_feed(start + text, "f.yaml")


def read_path(path: Path, limits: Limits | None = None) -> tuple[list[Row], list[tuple[str, str]]]:
    """(good rows, (problem, raw text) of the corrupt records)."""
    good, bad = [], []
    for names, values, corrupt in nem12_records(feed(), path, path.name, limits or Limits()):
        assert names == COLUMNS
        row = dict(zip(names, values or [], strict=True))
        if corrupt is None:
            assert row["problem"] is None
            good.append(row)
        else:
            bad.append((row["problem"], corrupt))
    return good, bad


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def of(*lines: str, end: str = "\n", limits: Limits | None = None) -> tuple[list[Row], list[tuple[str, str]]]:
        path = tmp_path / "a.csv"
        path.write_bytes(end.join([*lines, ""]).encode())
        return read_path(path, limits)

    return of


def refusal(path: Path, limits: Limits | None = None) -> UtilityFlowError:
    with pytest.raises(UtilityFlowError) as caught:
        read_path(path, limits)
    return caught.value


def total(rows: Sequence[Row], **wanted: str) -> Decimal:
    return sum((Decimal(r["value"]) for r in rows if all(r[k] == v for k, v in wanted.items())), Decimal(0))


# -- V8 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_v8_counts_and_sums(real_data: Path):
    folder = real_data / "nem12"

    def rows(name: str) -> list[Row]:
        good, bad = read_path(folder / f"Example_{name}")
        assert bad == []
        return good

    many = rows("NEM12_ManyNMIs.zip")
    assert (len({(r["nmi"], r["suffix"], r["interval_date"]) for r in many}), len(many)) == (198, 57_024)
    assert total(many, uom="kWh") == Decimal("214621.0")
    actual = rows("NEM12_actual_interval.csv")
    assert (len(actual), total(actual, suffix="E1")) == (96, Decimal("53.328"))
    assert [r["value"] for r in actual if r["suffix"] == "Q1"] == ["2.222"] * 48
    solar = rows("NEM12_month_solar.csv")
    assert (len({r["line"] for r in solar}), len(solar), total(solar)) == (62, 17_856, Decimal("859.91"))
    lengths = rows("NEM12_different_interval_length.csv")
    assert (len(lengths), total(lengths, uom="kWh")) == (240, Decimal("374.0"))
    assert Counter(r["interval_length"] for r in lengths) == {"30": 96, "10": 144}
    substituted = rows("NEM12_substituted_interval.csv")
    assert total(substituted, uom="kWh") == Decimal("110.976")


@pytest.mark.real
def test_v8_qualities_of_ranges(real_data: Path):
    rows, bad = read_path(real_data / "nem12" / "Example_NEM12_multiple_quality.csv")
    assert (len(rows), bad, total(rows)) == (48, [], Decimal("896.990"))
    told = [(r["quality"], r["method"], r["reason_code"]) for r in rows]
    assert told == [("F", "14", "76")] * 20 + [("A", None, None)] * 4 + [("S", "14", "1")] * 24
    assert (rows[0]["value"], rows[-1]["value"]) == ("18.023", "14.733")
    assert (rows[0]["interval_start"], rows[0]["interval_end"]) == (
        "2004-04-17T00:00:00+10:00",
        "2004-04-17T00:30:00+10:00",
    )
    assert rows[-1]["interval_end"] == "2004-04-18T00:00:00+10:00"
    assert (rows[0]["update_time"], rows[0]["msats_load_time"]) == ("20040418203500", "20040419003500")


@pytest.mark.real
def test_v8_accumulated_read(real_data: Path):
    (row,), bad = read_path(real_data / "nem12" / "Example_NEM13_consumption_data.csv")
    assert bad == []
    assert Decimal(row["current_read"]) - Decimal(row["previous_read"]) == Decimal(row["value"]) == Decimal("1312.1")
    assert (row["previous_read"], row["period_start"], row["period_end"]) == ("006342.8", "2003-10-05", "2004-01-07")
    assert (row["direction_indicator"], row["suffix"], row["uom"], row["quality"]) == ("E", "11", "kWh", "A")
    assert (row["update_time"], row["interval_start"]) == (
        "20040108100333",
        None,
    )  # a blank stands before it in the file


@pytest.mark.real
def test_v8_each_invalid_file_with_its_own_reason(real_data: Path):
    folder = real_data / "nem12" / "invalid"
    empty, headless = (refusal(folder / f"Example_NEM12_{n}.csv") for n in ("empty", "missing_header"))
    assert str(empty) == (
        "UF-2001: Example_NEM12_empty.csv: line 2: MDFF-03: the file ends without a data record after its header"
    )
    assert "line 2: MDFF-01: the first record is 200" in str(headless) and headless.code == "UF-2001"
    rows, ((problem, raw),) = read_path(folder / "Example_NEM12_incomplete_interval.csv")
    assert (len(rows), problem) == (144, "line 3: MDFF-07: the 300 record holds no values, 48 are due")
    assert raw == "300,20040201,V,,,20040202120025,"
    rows, ((problem, raw),) = read_path(folder / "Example_NEM12_15min_200_30min_300.csv")
    assert (rows, problem) == (
        [], "line 3: MDFF-07: the 300 record holds 48 values, 96 are due: its 200 record says 15 minutes"
    )  # fmt: skip
    assert raw.splitlines()[1:] == ["400,1,47,A,,", "400,48,48,N,,"]  # nothing of the block is lost


@pytest.mark.real
def test_participants_zips_with_hashes_in_their_names(repository: Path, real_data: Path):
    example = load_feed(repository / "conf" / "feeds" / "examples" / "nem12" / "nem12.yaml")
    landing = real_data / "nem12"
    found = [inspect_file(example, p, landing) for p in sorted((landing / "participants").iterdir())]
    assert [(f.reason, f.kind, f.records) for f in found] == [
        (None, "staged", n) for n in (768, 1536, 768, 192, 96)
    ]  # fmt: skip
    rows, bad = read_path(found[3].path)
    assert (bad, total(rows), rows[-1]["quality"], rows[-1]["method"]) == ([], Decimal(1_090_550), "F", "14")
    assert rows[-1]["reason_description"] == "Scenario 5 test. NEM12.mc- PERMANENT on 10/05/2005"


# -- what is read ------------------------------------------------------------------------------------------------------


def test_every_column_of_an_interval(read: Any):
    rows, bad = read(HEADER, STREAM + "20250601", DAY, "500,S,RSO1,20250301120000,123.4", END)
    assert bad == []
    assert rows[1] == {
        **dict.fromkeys(COLUMNS), "version": "NEM12", "created": "202503010000", "from_participant": "MDP",
        "to_participant": "RET", "record": "300", "line": "3", "nmi": "NMI0000001", "nmi_configuration": "E1B1",
        "register_id": "1", "suffix": "E1", "data_stream": "N1", "meter_serial": "SER1", "uom": "kWh",
        "interval_length": "720", "next_scheduled_read": "20250601", "interval_date": "20250301", "interval_number": "2",
        "interval_start": "2025-03-01T12:00:00+10:00", "interval_end": "2025-03-02T00:00:00+10:00", "value": "2.5",
        "quality": "A", "update_time": "20250302010203", "msats_load_time": "20250302040506",
        "b2b": "500,S,RSO1,20250301120000,123.4",
    }  # fmt: skip


def test_every_column_of_an_accumulated_read(read: Any):
    (row,), bad = read("100,nem13,202503010000,MDP,RET", ACCUMULATED, "550,N,,A,RSO1", END)
    assert bad == []
    assert {k: v for k, v in row.items() if v is not None} == {
        "version": "NEM13", "created": "202503010000", "from_participant": "MDP", "to_participant": "RET",
        "record": "250", "line": "2", "nmi": "NMI0000001", "nmi_configuration": "11", "register_id": "1", "suffix": "11",
        "data_stream": "11", "meter_serial": "SER1", "direction_indicator": "E", "uom": "kWh",
        "next_scheduled_read": "20250601", "period_start": "2025-01-01", "period_end": "2025-03-01",
        "previous_read": "100", "previous_read_time": "20250101093000", "previous_quality": "A", "current_read": "150.5",
        "current_read_time": "20250301101500", "read_uom": "kWh", "value": "50.5", "quality": "E",
        "method": "64", "reason_code": "77",
        "reason_description": "gate", "update_time": "20250302", "b2b": "550,N,,A,RSO1",
    }  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blanks_quotes_and_trailing_commas(read: Any, end: str):
    lines = [
        "\ufeff" + HEADER + ",,,",
        "",
        " , ,",
        STREAM + " ,,",
        '300, 20250301 ,1,"2",F14,0,"shed, locked",,,,,',
        "900,",
    ]
    rows, bad = read(*lines, end=end)
    assert bad == []
    assert [(r["value"], r["method"], r["reason_description"], r["line"]) for r in rows] == [
        ("1", "14", "shed, locked", "5"), ("2", "14", "shed, locked", "5")
    ]  # fmt: skip


def test_numbers_stay_as_they_are_written(read: Any):
    texts = [".005", "007.10", "1e-3", "-0", "12345678901234567890.123456789", "+1."]
    rows, bad = read(HEADER, STREAM.replace("720", "240"), f"300,20250301,{','.join(texts)},A", END)
    assert (bad, [r["value"] for r in rows]) == ([], texts)


def test_400_records_of_a_day_that_does_not_vary_say_more_of_their_intervals(read: Any):
    rows, bad = read(HEADER, STREAM, DAY, "400,2,2,A,79,power was off", END)
    assert bad == []
    assert [(r["quality"], r["reason_code"], r["reason_description"]) for r in rows] == [
        ("A", None, None), ("A", "79", "power was off")
    ]  # fmt: skip


def test_no_value_with_quality_n_is_a_row_for_the_mapping_to_judge(read: Any):
    rows, bad = read(HEADER, STREAM, "300,20250301,1,,V", "400,1,1,A", "400,2,2,N", END)
    assert (bad, [(r["value"], r["quality"]) for r in rows]) == ([], [("1", "A"), (None, "N")])


# -- broken blocks: each rule, and the rest loads ----------------------------------------------------------------------

V_DAY = "300,20250303,1,2,V"
BROKEN: list[tuple[list[str], str]] = [
    (["300,20250303,1,A"], "line 4: MDFF-07: the 300 record holds 1 values, 2 are due"),
    (["300,20250303,1,2,3,A"], "line 4: MDFF-07: the 300 record holds 3 values"),
    (["300,20250303,A"], "line 4: MDFF-07: the 300 record holds no values"),
    (["300,20250303,1,2"], "line 4: MDFF-10: the 300 record has no quality method"),
    (["300,20250303,1,2,B"], "line 4: MDFF-10"),
    (["300,20250303,1,2,F1"], "line 4: MDFF-10"),
    (["300,20250303,1,2,A14"], "line 4: MDFF-10"),
    (["300,20250303,1,x,A"], "line 4: MDFF-09: the value of interval 2 is no number"),
    (["300,20250303,1,NaN,A"], "line 4: MDFF-09: the value of interval 2"),
    (["300,20250303,1,٣,A"], "line 4: MDFF-09: the value of interval 2"),
    (["300,20250303,1,,A"], "line 4: MDFF-09: interval 2 has no value"),
    (["300,20250229,1,2,A"], "line 4: MDFF-08: the interval date is no date"),
    (["300,2025030,1,2,A"], "line 4: MDFF-08"),
    (["300,,1,2,A"], "line 4: MDFF-08"),
    (["300,20250303120000,1,2,A"], "line 4: MDFF-08"),
    (["300,99991231,1,2,A"], "line 4: MDFF-08"),
    (["300,20250303,1,2,A,,,,,more"], "line 4: MDFF-04: the 300 record has more fields"),
    (["300,20250303,1,2,A,0,a \"b\",", '400,1,2,A,0,"open'], "line 5: MDFF-04: a quote is opened"),
    ([V_DAY], "line 4: MDFF-11: the quality is V, and no 400 record speaks of interval 1"),
    ([V_DAY, "400,1,1,A"], "line 4: MDFF-11: the quality is V, and no 400 record speaks of interval 2"),
    ([V_DAY, "400,1,2,A", "400,2,2,N"], "line 6: MDFF-11: interval 2 stands in two"),
    ([V_DAY, "400,0,2,A"], "line 5: MDFF-11: the 400 record is of no range of intervals within 1 to 2"),
    ([V_DAY, "400,1,3,A"], "line 5: MDFF-11"),
    ([V_DAY, "400,2,1,A"], "line 5: MDFF-11"),
    ([V_DAY, "400,1,-2,A"], "line 5: MDFF-11"),
    ([V_DAY, "400,1,2,V"], "line 5: MDFF-10: the 400 record has quality V"),
    ([V_DAY, "400,1,2"], "line 5: MDFF-10: the 400 record has no quality"),
    ([V_DAY, "400,1,2,A,,,x"], "line 5: MDFF-04: the 400 record has more fields"),
    (["400,1,2,A"], ""),  # belongs to the day before it: no corrupt record at all, see the test
    (["250" + ACCUMULATED[3:]], "line 4: MDFF-04: a 250 record does not belong into a NEM12 file"),
    (["550,N,,A,RSO1"], "line 4: MDFF-04: a 550 record does not belong"),
]  # fmt: skip


@pytest.mark.parametrize(("block", "problem"), BROKEN, ids=[f"{n}" for n in range(len(BROKEN))])
def test_a_broken_block_is_one_corrupt_record_and_the_rest_loads(read: Any, block: list[str], problem: str):
    rows, bad = read(HEADER, STREAM, DAY, *block, DAY.replace("0301", "0302"), END)
    assert [(r["interval_date"], r["value"]) for r in rows] == [
        ("20250301", "1.5"), ("20250301", "2.5"), ("20250302", "1.5"), ("20250302", "2.5")
    ]  # fmt: skip
    if not problem:
        assert bad == []
        return
    ((told, raw),) = bad
    assert told.startswith(problem)
    assert raw == "\n".join(block)


def test_what_a_broken_200_record_owns_is_corrupt_too(read: Any):
    for broken, problem in [
        ("200,NMI0000001,E1B1,1,E1,N1,SER1,kWh,7,", "the interval length is no number of minutes that divides a day"),
        ("200,NMI0000001,E1B1,1,E1,N1,SER1,kWh,,", "the interval length"),
        ("200,NMI0000001,E1B1,1,E1,N1,SER1,kWh,-720,", "the interval length"),
        ("200,NMI0000001,E1B1,1,E1,N1,SER1,kWh,2880,", "the interval length"),
        ("200,,E1B1,1,E1,N1,SER1,kWh,720,", "NMI or suffix is missing"),
        ("200,NMI0000001,E1B1,1,,N1,SER1,kWh,720,", "NMI or suffix is missing"),
        ("200,NMI0000001,E1B1,1,E1,N1,SER1,kWh,720,20250601,x", "it has more fields than the format"),
        ('200,NMI0000001,E1B1,1,E1,N1,"SER1,kWh,720,', "a quote is opened and never closed"),
    ]:
        rows, bad = read(HEADER, STREAM, DAY, broken, DAY, "400,1,2,A", STREAM, DAY, END)
        assert len(rows) == 4
        assert bad[0][0].startswith(f"line 5: MDFF-06: its 200 record on line 4: {problem}")
        assert bad[1][0].startswith(f"line 4: MDFF-06: the 200 record: {problem}")
        assert [raw for _, raw in bad] == [f"{DAY}\n400,1,2,A", broken]


def test_a_stream_without_days_is_told(read: Any):
    rows, bad = read(HEADER, STREAM, STREAM, DAY, END)
    assert (len(rows), bad) == (2, [("line 2: MDFF-06: the 200 record: no 300 record follows it", STREAM)])


def test_reads_are_never_given_to_another_meter(read: Any):
    """Of a line that cannot be told the next days are nobody's: they are not those of the meter before it."""
    other = "2OO,NMI0000002,E1B1,1,E1,N1,SER2,kWh,720,"
    rows, bad = read(HEADER, STREAM, DAY, other, DAY, STREAM, DAY, END)
    assert [r["line"] for r in rows] == ["3", "3", "7", "7"]
    assert bad == [
        ("line 4: MDFF-04: its first field is no record indicator of the format", other),
        ("line 5: MDFF-05: line 4 may have been its 200 record and is not one that can be read", DAY),
    ]
    rows, bad = read(HEADER, STREAM, DAY, HEADER, DAY, END)
    assert [p[:22] for p, _ in bad] == ["line 4: MDFF-05: a sec", "line 5: MDFF-05: line "]


def test_records_out_of_place(read: Any):
    rows, bad = read(HEADER, DAY, "400,1,1,A", "400,2,2,A", END)
    assert (rows, bad) == (
        [],
        [("line 2: MDFF-05: a 300 record before the first 200 record", f"{DAY}\n400,1,1,A\n400,2,2,A")],
    )
    rows, bad = read(HEADER, STREAM, "400,1,1,A", "500,S,,,", DAY, END)
    assert [p for p, _ in bad] == [
        "line 3: MDFF-05: a 400 record that follows no 300 record", "line 4: MDFF-05: a 500 record that follows no 300 record"
    ]  # fmt: skip
    rows, bad = read(HEADER, STREAM, DAY, END, STREAM, DAY, END)
    assert len(rows) == 2
    assert [p for p, _ in bad] == [
        f"line {n}: MDFF-05: a record after the 900 record, which ends the file" for n in (5, 6, 7)
    ]


def test_a_file_without_its_end_is_told_and_its_days_load(read: Any):
    rows, bad = read(HEADER, STREAM, DAY)
    assert (len(rows), bad) == (2, [("line 3: MDFF-12: the file ends here without a 900 record: it is cut off", DAY)])
    cut = V_DAY.replace(",V", "")
    rows, bad = read(HEADER, STREAM, DAY, cut)
    assert (len(rows), [raw for _, raw in bad]) == (2, [cut, cut])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",20250101093000,", ",20250101253000,", "MDFF-08: the time of the previous reading"),
        (",20250301101500,", ",,", "MDFF-08: the time of the current reading"),
        (",A,,,", ",,,,", "MDFF-10: the 250 record has no quality method"),
        (",E64,", ",E6,", "MDFF-10"),
        (",E64,", ",V,", "MDFF-10"),
        (",150.5,", ",15O.5,", "MDFF-09: current read is no number"),
        (",50.5,", ",,", "MDFF-09: the quantity is missing"),
        ("NMI0000001", "", "MDFF-06: the 250 record has no nmi"),
        (",50.5,kWh,20250601,20250302,", "", "MDFF-07: the 250 record has 18 fields, at least 20 are due"),
        (",20250302,", ",20250302,,x", "MDFF-04: the 250 record has more fields"),
    ],
)
def test_a_broken_accumulated_read(read: Any, old: str, new: str, problem: str):
    header = HEADER.replace("NEM12", "NEM13")
    broken = ACCUMULATED.replace(old, new, 1)
    rows, ((told, raw),) = read(header, broken, ACCUMULATED, END)
    assert (len(rows), raw) == (1, broken)
    assert told.startswith(f"line 2: {problem}")
    assert read(header, "550,N,,A,RSO1", ACCUMULATED, END)[1][0][0].startswith("line 2: MDFF-05: a 550 record")


def test_the_unit_of_reads_is_told_where_both_are(read: Any):
    for broken in (ACCUMULATED.replace(",150.5,", ",,"), ACCUMULATED.replace(",E,100,", ",E,,")):
        (row,), bad = read(HEADER.replace("NEM12", "NEM13"), broken, END)
        assert (bad, row["uom"], row["read_uom"]) == ([], "kWh", None)


def test_no_quantity_with_quality_n(read: Any):
    (row,), bad = read(HEADER.replace("NEM12", "NEM13"), ACCUMULATED.replace("E64", "N").replace(",50.5,", ",,"), END)
    assert (bad, row["quality"], row["value"]) == ([], "N", None)


# -- files that are rejected -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"\n\r\n,,\n", "UF-2001", "MDFF-01: the file holds nothing but blank lines"),
        (f"{HEADER}\n".encode(), "UF-2001", "line 1: MDFF-03"),
        (f"{HEADER}\n{END}\n".encode(), "UF-2001", "line 2: MDFF-03"),
        (f"{STREAM}\n{DAY}\n".encode(), "UF-2001", "line 1: MDFF-01: the first record is 200"),
        (b"id,b\n1,2\n", "UF-2009", "line 1: MDFF-01: no 100 record begins it"),
        (b"100,NEM14,2025\n", "UF-2009", "line 1: MDFF-02: the header names neither NEM12 nor NEM13"),
        (f"{HEADER}\n{STREAM}\n300,\xe9".encode("latin-1"), "UF-2004", "line 3 is not utf-8"),
        (f"{HEADER}\n\0".encode(), "UF-2004", "line 2 holds a NUL byte"),
        (f"{HEADER}\n{'3' * 1001}".encode(), "UF-2009", "line 2 is longer than 1000"),
        (
            "\n".join([HEADER, STREAM, DAY, *["400,1,2,A"] * 120]).encode(),
            "UF-2009",
            "the block of line 3 is longer than 1000",
        ),
    ],
)
def test_a_file_that_is_rejected(tmp_path: Path, content: bytes, code: str, words: str):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    error = refusal(path, Limits(max_record_bytes=1000))
    assert (error.code, str(error).startswith(f"{code}: a.csv: ")) == (code, True)
    assert words in str(error)
    found = inspect_file(feed(), path, tmp_path, Limits(max_record_bytes=1000))
    assert found.reason is not None and str(found.reason) == str(error)


def test_other_encodings(tmp_path: Path):
    text = "\n".join([HEADER, STREAM, DAY.replace(",A,,", ",A,0,Größe"), END])
    for encoding in ("iso-8859-1", "utf-16"):
        (tmp_path / "a.csv").write_bytes(text.encode(encoding))
        found = inspect_file(feed(f"options: {{encoding: {encoding}}}"), tmp_path / "a.csv", tmp_path)
        assert (found.reason, found.records) == (None, 2)
    (tmp_path / "a.csv").write_bytes(text.encode("utf-16-be"))
    found = inspect_file(feed("options: {encoding: utf-16}"), tmp_path / "a.csv", tmp_path)
    assert found.reason is not None and str(found.reason).startswith("UF-2004: a.csv: line 1 is not utf-16")


# -- compressed files --------------------------------------------------------------------------------------------------

CONTENT = "\r\n".join([HEADER, STREAM, DAY, END]).encode()


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def look(path: Path, limits: Limits | None = None) -> Inspection:
    return inspect_file(feed(), path, path.parent, limits)


def assert_refused(found: Inspection, code: str, words: str) -> None:
    assert found.reason is not None and found.reason.code == code, found.reason
    assert str(found.reason).startswith(f"{code}: {found.file_name}: ")
    assert words in str(found.reason)


@pytest.mark.parametrize("name", ["a.zip", "A#1#B.ZIP", "really_a_zip.csv"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_one_file_is_read(tmp_path: Path, name: str, method: int):
    found = look(pack(tmp_path / name, {"folder/": b"", "folder/NEM12#1#A#B": CONTENT}, method))
    assert (found.reason, found.kind, found.records, found.names) == (None, "staged", 2, COLUMNS)


def test_gzip_is_read(tmp_path: Path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CONTENT))
    assert look(tmp_path / "a.csv.gz").records == 2


def test_zips_that_are_refused(tmp_path: Path):
    path = tmp_path / "a.zip"
    assert_refused(look(pack(path, {"a": CONTENT, "b": CONTENT})), "UF-2009", "holds 2 files")
    assert_refused(look(pack(path, {"a/": b""})), "UF-2009", "holds 0 files")
    assert_refused(look(pack(path, {"a": CONTENT}, zipfile.ZIP_BZIP2)), "UF-2009", "packed by method 12")
    for name in ("../a", "/etc/passwd", "x/../../a", "..\\a", "C:\\a", "a\nb"):
        assert_refused(look(pack(path, {name: CONTENT})), "UF-2008", "leads out of the zip")
    path.write_bytes(pack(path, {"@@": CONTENT}).read_bytes().replace(b"@@", b"\0x"))
    assert_refused(look(path), "UF-2008", "leads out of the zip")
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"/etc/passwd")
    assert_refused(look(path), "UF-2008", "is a link")
    path.write_bytes(b"no zip at all")
    assert_refused(look(path), "UF-2003", "not a sound zip file")


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    raw = bytearray(pack(tmp_path / "a.zip", {"a": CONTENT}).read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(magic) + place] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    assert_refused(look(tmp_path / "a.zip"), "UF-2009", "encrypted")


def test_a_damaged_zip_is_refused_and_nothing_of_it_is_staged(tmp_path: Path):
    days = "\n".join([HEADER, STREAM, *[DAY] * 30_000, END]).encode()
    path = pack(tmp_path / "a.zip", {"a": days}, zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    found = inspect_file(feed(), path, tmp_path, stage=tmp_path / "stage")
    assert_refused(found, "UF-2003", "Bad CRC-32")
    assert [p for p in (tmp_path / "stage").rglob("*") if p.is_file()] == []
    path.write_bytes(raw[: len(raw) // 2])
    assert_refused(look(path), "UF-2003", "not a sound zip file")
    raw = bytearray(pack(path, {"a": CONTENT}).read_bytes())
    raw[raw.index(b"PK\x05\x06") + 16] += 1  # the directory lies before the place that is told: so does the member
    path.write_bytes(raw)
    assert_refused(look(path), "UF-2003", "not a sound zip file")


def test_a_zip_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    days = "\n".join([HEADER, STREAM, *[DAY] * 20_000, END]).encode()
    path = pack(tmp_path / "a.zip", {"a": days})
    limits = Limits(max_decompressed_bytes=100_000)
    assert_refused(look(path, limits), "UF-2003", "unpacks to more than 100000 bytes")
    with monkeypatch.context() as patch:  # the directory says so before anything is unpacked
        patch.setattr(zipped, "_Member", None)
        assert_refused(look(path, limits), "UF-2003", "unpacks to more than 100000 bytes")
    assert look(path).records == 40_000  # the same file within its bound is good
    raw = bytearray(
        path.read_bytes()
    )  # the directory lies about the size: what is unpacked is counted, or found too short
    for magic, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", raw, raw.index(magic) + place, 50_000)
    path.write_bytes(raw)
    found = look(path, limits)
    assert found.reason is not None and found.reason.code == "UF-2003"
    zeros = pack(tmp_path / "zeros.zip", {"a": bytes(50_000_000)})
    tracemalloc.start()
    assert_refused(look(zeros), "UF-2009", "line 1 is longer than")
    assert tracemalloc.get_traced_memory()[1] < 150_000_000
    tracemalloc.stop()


def test_what_is_unpacked_is_counted_whatever_the_directory_says(tmp_path: Path):
    class Endless:
        def read(self, size: int) -> bytes:
            return b"x" * size

        def close(self) -> None: ...

    member = zipped._Member([Endless()], "a.zip", 1000)
    with pytest.raises(UtilityFlowError, match="UF-2003: a.zip: unpacks to more than 1000 bytes"):
        io.BufferedReader(member, 64).read(5000)


def test_a_zip_with_a_directory_without_end_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = pack(tmp_path / "a.zip", {f"{n:05}": b"" for n in range(200)})
    monkeypatch.setattr(zipped, "MAX_DIRECTORY", 5_000)
    assert_refused(look(path), "UF-2009", "a zip of many files")
    monkeypatch.setattr(zipped, "MAX_DIRECTORY", 50_000)
    assert_refused(look(path), "UF-2009", "holds 200 files")


# -- any file ----------------------------------------------------------------------------------------------------------

_CELL = st.sampled_from(
    ["", "1", "2.5", "x", "A", "V", "F14", "E1", "NMI1", "kWh", "720", "20250301", '"', "900", "\u2028"]
)
_LINE = st.one_of(
    st.sampled_from([STREAM, DAY, V_DAY, "400,1,1,A", "400,2,2,N", "400,1,2,S14", "500,S,,,", END, HEADER, ACCUMULATED]),
    st.builds(lambda kind, cells: ",".join([kind, *cells]),
              st.sampled_from(["100", "200", "250", "300", "400", "500", "550", "900", "", "zzz"]), st.lists(_CELL, max_size=11)),
)  # fmt: skip


@given(st.lists(_LINE, max_size=12), st.sampled_from([HEADER, HEADER.replace("NEM12", "NEM13")]))
def test_nothing_is_lost_and_nothing_is_made_up(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], header: str
):
    """Every line of a file that is not rejected is a row's, a corrupt record's, or belongs to one; no line belongs to two."""
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_bytes("\n".join([header, *lines]).encode())
    try:
        rows, bad = read_path(path)
    except UtilityFlowError as error:
        assert error.code == "UF-2001"
        return
    good = {int(r["line"]) for r in rows}
    cut_off = [raw for problem, raw in bad if "MDFF-12" in problem]
    kept = Counter(line for problem, raw in bad if "MDFF-12" not in problem for line in raw.split("\n"))
    owner, owner_kind = 0, ""
    for number, line in enumerate(lines, start=2):
        kind = line.split(",")[0]
        if not line.replace(",", "").strip():
            continue
        if kind not in CHILDREN.get(owner_kind, ()):
            owner, owner_kind = number, kind
        assert owner in good or owner_kind in ("200", "900") or kept[line] > 0, line
    assert len(cut_off) == (not any(line.split(",")[0] == "900" for line in lines))
    assert all(1 <= int(r["interval_number"]) <= 1440 for r in rows if r["record"] == "300")
    assert all(r["quality"] in ("A", "S", "F", "E", "N") for r in rows)
    days = Counter(r["line"] for r in rows if r["record"] == "300")
    assert all(
        count == 1440 // int(next(r for r in rows if r["line"] == n)["interval_length"]) for n, count in days.items()
    )
