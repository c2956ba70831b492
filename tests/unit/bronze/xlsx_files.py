"""Workbooks for the tests, made part by part, so that they can be wrong in any way."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openpyxl

from utilityflow.bronze.feeds import Feed, parse_feed

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
HEADER = '<row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c><c r="B1" t="inlineStr"><is><t>b</t></is></c></row>'


def feed(options: str = "{}", more: str = "", columns: str = "meter_id: id") -> Feed:
    return parse_feed(
        "feed: f\nsystem: regulatory_reporting\nentity: meter_reads\nformat: xlsx\npath: '**/*'\n"
        f"options: {options}\n{more}\ncolumns: {{{columns}}}\n",
        "f.yaml",
    )


def sheet_xml(rows: str, tail: str = "", dimension: str = "A1:B2") -> str:
    told = f'<dimension ref="{dimension}"/>' if dimension else ""
    return f'<worksheet xmlns="{MAIN}">{told}<sheetData>{rows}</sheetData>{tail}</worksheet>'


def parts(
    sheet: str, *, shared: str | None = None, styles: str | None = None, more: Mapping[str, str] | None = None,
    sheet_tags: str = '<sheet name="S" sheetId="1" r:id="rId1"/>', settings: str = "",
) -> dict[str, str | bytes]:  # fmt: skip
    relation = '<Relationship Id="{}" Type="' + OFFICE + '/{}" Target="{}"/>'
    told = relation.format("rId1", "worksheet", "worksheets/sheet1.xml")
    made: dict[str, str | bytes] = {
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}">{relation.format("r", "officeDocument", "xl/workbook.xml")}'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{settings}<sheets>{sheet_tags}</sheets></workbook>',
        "xl/worksheets/sheet1.xml": sheet,
    }
    if shared is not None:
        told += relation.format("rId2", "sharedStrings", "sharedStrings.xml")
        made["xl/sharedStrings.xml"] = f'<sst xmlns="{MAIN}">{shared}</sst>'
    if styles is not None:
        told += relation.format("rId3", "styles", "styles.xml")
        made["xl/styles.xml"] = f'<styleSheet xmlns="{MAIN}">{styles}</styleSheet>'
    made["xl/_rels/workbook.xml.rels"] = f'<Relationships xmlns="{PACKAGE}">{told}</Relationships>'
    return {**made, **(more or {})}


def zipped(content: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return stream.getvalue()


def raw(rows: str, **more: Any) -> bytes:
    """A workbook of one sheet ``S`` with the header id, b in row 1, and these rows of XML."""
    tail = more.pop("tail", "")
    dimension = more.pop("dimension", "A1:B2")
    return zipped(parts(sheet_xml(HEADER + rows, tail, dimension), **more))


def written(rows: list[list[Any]], name: str = "S", change: Any = None) -> bytes:
    """A workbook that openpyxl wrote; ``change`` gets workbook and sheet before it is saved."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = name
    for row in rows:
        sheet.append(row)
    if change is not None:
        change(book, sheet)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def put(folder: Path, content: bytes, name: str = "a.xlsx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
