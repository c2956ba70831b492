"""Workbooks that are made, or broken, to exhaust or mislead: each is refused, or read in bounded memory.

Every guard stands beside what passes it, so that none refuses everything.
"""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from xlsx_files import HEADER, MAIN, feed, parts, put, raw, sheet_xml, written, zipped

from utilityflow.bronze import sheet as sheet_module
from utilityflow.bronze import workbook
from utilityflow.bronze.inspect import Inspection, Limits, inspect_file

ROW = '<row r="2"><c r="A2"><v>1</v></c></row>'
PASSES = raw(ROW)


def look(folder: Path, content: bytes, options: str = "{}", name: str = "a.xlsx", **limits: int) -> Inspection:
    return inspect_file(feed(options), put(folder, content, name), folder, Limits(**limits))


def assert_refused(found: Inspection, code: str, *words: str) -> None:
    assert found.reason is not None
    assert found.reason.code == code, found.reason
    assert found.file_name in str(found.reason)
    for word in words:
        assert word in str(found.reason), found.reason


def test_what_passes(tmp_path: Path):
    assert look(tmp_path, PASSES).reason is None


# -- the zip file ------------------------------------------------------------------------------------------------------


def test_no_zip_file(tmp_path: Path):
    assert_refused(look(tmp_path, b"id,b\n1,2\n"), "UF-2009", "no zip file")
    assert_refused(look(tmp_path, b"<xml/>" + PASSES), "UF-2009", "no zip file")
    assert_refused(look(tmp_path, b""), "UF-2001", "empty")


def test_old_and_locked_workbooks(tmp_path: Path):
    ole = bytes.fromhex("d0cf11e0a1b11ae1")
    assert_refused(look(tmp_path, ole + bytes(2000) + "Workbook".encode("utf-16-le")), "UF-2009", "an old .xls workbook")
    locked = ole + bytes(2000) + "EncryptedPackage".encode("utf-16-le")
    assert_refused(look(tmp_path, locked), "UF-2009", "a workbook with a password")


def test_a_truncated_zip_file(tmp_path: Path):
    for cut in (len(PASSES) // 3, len(PASSES) - 5, len(PASSES) - 30, 30):
        assert_refused(look(tmp_path, PASSES[:cut]), "UF-2003", "cut off or damaged")


def test_a_flipped_bit(tmp_path: Path):
    content = zipped(parts(sheet_xml(HEADER + ROW)), zipfile.ZIP_STORED)
    place = content.index(b"<v>1</v>") + 3
    assert_refused(look(tmp_path, content[:place] + b"7" + content[place + 1 :]), "UF-2003", "sheet 'S'", "CRC")


def test_a_zip_file_that_is_no_workbook(tmp_path: Path):
    assert_refused(look(tmp_path, zipped({"a.txt": "x"})), "UF-2009", "a zip file, but no workbook")
    assert_refused(look(tmp_path, zipped({"_rels/.rels": "<a/>"})), "UF-2009", "no workbook")
    document = zipped({**parts(""), "xl/workbook.xml": "<document/>"})
    assert_refused(look(tmp_path, document), "UF-2009", "an Office file, but no workbook")
    strict = "http://purl.oclc.org/ooxml/spreadsheetml/main"
    made = parts("")
    made["xl/workbook.xml"] = str(made["xl/workbook.xml"]).replace(MAIN, strict)
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", "Strict Open XML")
    made = parts("")
    made["_rels/.rels"] = str(made["_rels/.rels"]).replace("workbook.xml", "workbook.bin")
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", ".xlsb")
    made = parts("")
    del made["xl/worksheets/sheet1.xml"]
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", "'xl/worksheets/sheet1.xml' is missing")
    made = parts("", sheet_tags="")
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", "0 visible sheets: none")


def test_names_out_of_the_file_cannot_forge_lines_of_a_log(tmp_path: Path):
    made = parts(sheet_xml(""), sheet_tags='<sheet name="a&#10;{&quot;level&quot;: 1}" sheetId="1" r:id="rId1"/>')
    found = look(tmp_path, zipped(made))
    assert_refused(found, "UF-2001", "sheet 'a?{\"level\": 1}' is empty")
    assert "\n" not in str(found.reason)
    made["x\ny"] = "0" * 40_000_000
    assert "\n" not in str(look(tmp_path, zipped(made)).reason)


def test_gzip_around_a_workbook(tmp_path: Path):
    import gzip

    assert_refused(look(tmp_path, gzip.compress(PASSES), name="a.xlsx.gz"), "UF-2009", "without gzip")


def test_a_part_with_a_password_or_of_another_method(tmp_path: Path):
    content = bytearray(PASSES)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + place] |= 1
            start += 1
    assert_refused(look(tmp_path, bytes(content)), "UF-2009", "has a password")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert_refused(look(tmp_path, zipped(parts(sheet_xml(HEADER + ROW)), method)), "UF-2009", "no workbook uses")


def test_a_part_that_stands_twice(tmp_path: Path):
    path = put(tmp_path, PASSES)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", sheet_xml(HEADER + ROW))
    assert_refused(inspect_file(feed(), path, tmp_path), "UF-2009", "stands twice")


def test_a_directory_of_very_many_parts(tmp_path: Path):
    content = zipped({**parts(sheet_xml(HEADER + ROW)), **{f"x/{'y' * 60}{n}": "" for n in range(12_000)}})
    assert_refused(look(tmp_path, content), "UF-2003", "its directory is larger than")
    few = zipped({**parts(sheet_xml(HEADER + ROW)), **{f"x/{n}": "" for n in range(100)}})
    assert look(tmp_path, few).reason is None


@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("place", [8, 10, 12, 16])
def test_a_directory_that_lies_about_itself(tmp_path: Path, place: int, value: int):
    content = bytearray(PASSES)
    end = content.rfind(b"PK\x05\x06")
    struct.pack_into("<H" if place < 12 else "<I", content, end + place, value & (0xFFFF if place < 12 else 0xFFFFFFFF))
    reason = look(tmp_path, bytes(content)).reason
    assert reason is None or reason.code in ("UF-2003", "UF-2009")


def test_any_damage_is_a_reason_and_never_an_error(tmp_path: Path):
    content = written([["id", "b"], [1, "x"], [2, "y"]])
    rng = random.Random(7)
    codes = set()
    for _ in range(400):
        broken = bytearray(content)
        for _ in range(rng.choice([1, 2, 20])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        found = look(tmp_path, bytes(broken[: rng.randrange(len(broken))] if rng.random() < 0.2 else broken))
        codes.add(found.reason.code if found.reason else None)
    assert codes <= {None, "UF-2001", "UF-2002", "UF-2003", "UF-2009"}
    assert {None, "UF-2003"} <= codes


def test_any_damage_of_its_xml_is_a_reason_too(tmp_path: Path):
    shared, styles = "<si><t>x</t></si>", '<cellXfs><xf/><xf numFmtId="14"/></cellXfs>'
    row = '<row r="2"><c r="A2" t="s"><v>0</v></c><c r="B2" s="1"><f>1</f><v>42766</v></c></row>'
    sound = parts(sheet_xml(HEADER + row, '<mergeCells><mergeCell ref="A5:B6"/></mergeCells>'), shared=shared, styles=styles)
    rng = random.Random(11)
    codes = set()
    for _ in range(400):
        made = dict(sound)
        name = rng.choice(list(made))
        text = bytearray(str(made[name]).encode())
        for _ in range(rng.choice([1, 1, 3])):
            text[rng.randrange(len(text))] = rng.choice(b'<>/"0129aAxyz=: \xff\x00')
        made[name] = bytes(text)
        found = look(tmp_path, zipped(made), "{footnotes: single_cell}")
        codes.add(found.reason.code if found.reason else None)
    assert codes <= {None, "UF-2001", "UF-2002", "UF-2009"}
    assert {None, "UF-2009"} <= codes


# -- bombs -------------------------------------------------------------------------------------------------------------


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    bomb = raw(ROW + " " * 40_000_000)
    assert len(bomb) < 100_000
    tracemalloc.start()
    found = look(tmp_path, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_refused(found, "UF-2003", "more than 300 times its size")
    assert peak < 10_000_000
    assert_refused(look(tmp_path, raw(ROW), max_workbook_bytes=500), "UF-2003", "more than 500")
    assert look(tmp_path, raw(ROW), max_workbook_bytes=5_000).reason is None


def test_a_part_that_unpacks_to_more_than_the_directory_says(tmp_path: Path):
    """Zipfile gives no more than it was told of: the bound holds while reading."""
    content = bytearray(raw(ROW + " " * 1_000_000))
    size = struct.pack("<I", len(sheet_xml(HEADER + ROW + " " * 1_000_000)))
    assert content.count(size) == 2  # in the part's own head and in the directory
    lying = bytes(content.replace(size, struct.pack("<I", 300)))
    found = look(tmp_path, lying, max_workbook_bytes=10_000)
    assert_refused(found, "UF-2003", "CRC")


def test_a_bomb_of_shared_texts(tmp_path: Path):
    many = "".join(f"<si><t>{n}</t></si>" for n in range(10_000))
    shared = raw('<row r="2"><c r="A2" t="s"><v>5</v></c></row>', shared=many)
    assert_refused(look(tmp_path, shared, max_shared_bytes=10_000), "UF-2003", "xl/sharedStrings.xml", "more than 10000")
    assert look(tmp_path, shared).reason is None


def test_one_long_text_that_many_cells_share(tmp_path: Path):
    text = f"<si><t>{'x' * 10_000}</t></si>"
    wide = "".join(f'<c r="{c}2" t="s"><v>0</v></c>' for c in "AB")
    assert_refused(look(tmp_path, raw(f'<row r="2">{wide}</row>', shared=text), max_record_bytes=15_000), "UF-2009",
                   "sheet 'S', row 2: the row is longer than 15000 bytes")  # fmt: skip
    assert look(tmp_path, raw(f'<row r="2">{wide}</row>', shared=text), max_record_bytes=25_000).reason is None
    tall = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(2, 102))
    assert_refused(look(tmp_path, raw(tall, shared=text), max_workbook_bytes=500_000), "UF-2003",
                   "sheet 'S', row 51: its texts are more than 500000 bytes")  # fmt: skip
    assert look(tmp_path, raw(tall, shared=text), max_workbook_bytes=1_500_000).reason is None


def test_other_parts_are_bounded_too(tmp_path: Path):
    padded = parts(sheet_xml(HEADER + ROW), settings="<!--" + "".join(map(str, range(300_000))) + "-->")
    assert_refused(look(tmp_path, zipped(padded)), "UF-2003", "xl/workbook.xml", "more than 1048576")
    styled = raw(ROW, styles="<cellXfs>" + "<xf/>" * 1000 + "</cellXfs>")
    assert_refused(look(tmp_path, styled, max_part_bytes=1000), "UF-2003", "xl/styles.xml")
    assert look(tmp_path, styled).reason is None


def test_a_huge_declared_size_is_not_believed(tmp_path: Path):
    start = time.monotonic()
    found = look(tmp_path, raw(ROW, dimension="A1:XFD1048576"))
    assert (found.reason, found.records, found.names) == (None, 1, ("id", "b"))
    assert time.monotonic() - start < 5


def test_far_cells_cost_no_more_than_they_are(tmp_path: Path):
    far = ROW + '<row r="1048576"><c r="A1048576"><v>2</v></c><c r="XFD1048576"><v>3</v></c></row>'
    tracemalloc.start()
    found = look(tmp_path, raw(far))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.reason, found.records) == (None, 2)
    assert peak < 20_000_000


def test_a_very_wide_header(tmp_path: Path):
    wide = zipped(parts(sheet_xml('<row r="1"><c r="A1" t="str"><v>id</v></c><c r="XFD1" t="str"><v>z</v></c></row>' + ROW)))
    assert_refused(look(tmp_path, wide), "UF-2009", "more than 4096 columns")
    assert look(tmp_path, wide, max_columns=16_384).reason is None


def test_wide_records_are_staged_in_small_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utilityflow.bronze.staging.CELLS_AT_ONCE", 10)
    import pyarrow.parquet as pq

    rows = "".join(f'<row r="{n}"><c r="A{n}"><v>{n}</v></c></row>' for n in range(2, 25))
    found = inspect_file(feed(), put(tmp_path, raw(rows)), tmp_path, stage=tmp_path / "stage")
    with pq.ParquetFile(found.parts[0].path) as file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [5, 5, 5, 5, 3]
    monkeypatch.setattr("utilityflow.bronze.staging.CHARACTERS_AT_ONCE", 3)
    found = inspect_file(feed(), put(tmp_path, raw(rows)), tmp_path, stage=tmp_path / "other")
    with pq.ParquetFile(found.parts[0].path) as file:
        assert file.metadata.row_group(0).num_rows == 3
        assert file.metadata.num_rows == 23


def test_merged_ranges_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def merges(*ranges: str) -> str:
        return "<mergeCells>" + "".join(f'<mergeCell ref="{r}"/>' for r in ranges) + "</mergeCells>"

    assert_refused(look(tmp_path, raw(ROW, tail=merges("A1:XFE2"))), "UF-2009", "a merged range cannot be read")
    assert look(tmp_path, raw(ROW, tail=merges("A9:XFD1048576"))).reason is None
    overlap = merges(*["A1:XFD1048576"] * 5)
    assert_refused(look(tmp_path, raw(ROW, tail=overlap), max_columns=100), "UF-2009", "merged ranges overlap")
    assert_refused(look(tmp_path, raw(ROW, tail=merges(*["A2:B9"] * 3))), "UF-2009", "row 2: merged ranges overlap")
    monkeypatch.setattr(sheet_module, "_MOST_MERGES", 2)
    assert_refused(look(tmp_path, raw(ROW, tail=merges("D9:E9", "D10:E10", "D11:E11"))), "UF-2009", "more than 2 merged")
    assert look(tmp_path, raw(ROW, tail=merges("D9:E9", "D10:E10"))).reason is None


def test_formulas_over_several_cells_without_bound(tmp_path: Path):
    cells = '<row r="2"><c r="A2"><v>1</v></c></row>'
    for n in range(3, 70):
        cells += f'<row r="{n}"><c r="A{n}"><f t="array" ref="A{n}:A{{}}">1</f><v>1</v></c></row>'
    assert_refused(look(tmp_path, raw(cells.replace("{}", "9999"))), "UF-2009", "more than 64 formulas over several cells")
    ended = "".join(
        f'<row r="{n}"><c r="A{n}"><f t="array" ref="A{n}:B{n}">1</f><v>1</v></c></row>' for n in range(2, 200)
    )
    assert look(tmp_path, raw(ended)).records == 198


# -- XML ---------------------------------------------------------------------------------------------------------------

ENTITY = '<!DOCTYPE worksheet [<!ENTITY a "1">]>'
EXTERNAL = '<!DOCTYPE worksheet [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
REMOTE = '<!DOCTYPE worksheet SYSTEM "http://127.0.0.1:9/x.dtd">'
LAUGHS = '<!DOCTYPE w [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>'


@pytest.mark.parametrize("head", [ENTITY, EXTERNAL, REMOTE, LAUGHS])
@pytest.mark.parametrize(
    "part",
    [
        "_rels/.rels", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml",
        "xl/styles.xml",
    ],
)  # fmt: skip
def test_a_dtd_is_refused_in_every_part_that_is_read(tmp_path: Path, part: str, head: str):
    made = parts(sheet_xml(HEADER + ROW), shared="<si/>", styles="<cellXfs><xf/></cellXfs>")
    assert look(tmp_path, zipped(made)).reason is None
    made[part] = head + str(made[part])
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", "DTD or entities is refused (DTDForbidden)")


def test_parts_that_are_not_read_may_hold_anything(tmp_path: Path):
    assert look(tmp_path, raw(ROW, more={"docProps/app.xml": ENTITY, "../../etc/x": "y"})).reason is None


def test_a_sheet_that_is_cut_names_the_line(tmp_path: Path):
    made = parts(sheet_xml(HEADER + ROW))
    made["xl/worksheets/sheet1.xml"] = (HEADER + "\n" + ROW)[:-10]
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", "sheet 'S': no well-formed XML, line ")
    made["xl/worksheets/sheet1.xml"] = sheet_xml(HEADER + "\n" + ROW)[:-40]
    assert_refused(look(tmp_path, zipped(made)), "UF-2009", "line 2")


def test_a_tag_without_end(tmp_path: Path):
    endless = sheet_xml(HEADER + ROW, "<x " + " ".join(f'a{n}="{n}"' for n in range(100_000)) + "/>")
    assert_refused(look(tmp_path, zipped(parts(endless)), max_record_bytes=200_000), "UF-2009", "a tag or comment is longer")
    assert look(tmp_path, zipped(parts(endless)), max_record_bytes=10_000_000).reason is None


def test_openpyxl_never_parses_what_came_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is told format codes and columns' letters alone; were it given XML, it would use defusedxml, but allow a DTD."""
    import openpyxl
    import openpyxl.xml.functions as functions

    assert openpyxl.DEFUSEDXML
    assert functions.iterparse.__module__ == "defusedxml.common"

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("openpyxl was given XML")

    for name in ("fromstring", "iterparse"):
        monkeypatch.setattr(functions, name, refuse)
    monkeypatch.setattr(openpyxl, "load_workbook", refuse)
    assert look(tmp_path, raw(ROW, shared="<si/>", styles="<cellXfs><xf numFmtId='14'/></cellXfs>")).reason is None


def test_the_bounds_are_those_of_the_documentation():
    limits = Limits()
    mib = 1024 * 1024
    assert (limits.max_workbook_bytes, limits.max_shared_bytes, limits.max_part_bytes) == (4096 * mib, 128 * mib, 16 * mib)
    assert (limits.max_zip_ratio, limits.max_columns, workbook._SMALL) == (300, 4096, mib)


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path):
    def peak(count: int) -> int:
        rows = "".join(f'<row r="{n}"><c r="A{n}"><v>{n}</v></c></row>' for n in range(2, count))
        path = put(tmp_path, raw(rows))
        del rows
        tracemalloc.start()
        assert inspect_file(feed(), path, tmp_path).records == count - 2
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(40_000) < peak(4_000) + 15_000_000  # number_text and date_text remember 65,536 texts each
