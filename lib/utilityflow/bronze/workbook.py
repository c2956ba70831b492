"""An XLSX workbook as a container: a zip file of XML parts, checked before any part is read.

openpyxl is asked what a number format means and how columns are lettered. The parts are read here and not by it: it
gives either the formula or the stored value of a cell, keeps merged ranges only where it holds a whole sheet in memory,
pads every row to the width that the file declares, and allows a DTD; all four matter with files of strangers.
"""

from __future__ import annotations

import contextlib
import posixpath
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from utilityflow.bronze.records import is_gzip
from utilityflow.bronze.safexml import feed_target
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.zipped import ENCRYPTED, MAGIC, METHODS, GuardedFile
from utilityflow.errors import UtilityFlowError, nearest

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_SMALL = 1024 * 1024  # parts that are read into memory as they are
_RATIO_FROM = 16 * 1024 * 1024  # smaller parts may unpack as far as they like


def shown(text: str) -> str:
    """A name out of a file, fit for a message."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])


def tag_of(local: str) -> str:
    """An element's name as the parser tells it."""
    return f"{MAIN}}}{local}"


@dataclass(frozen=True)
class Sheet:
    """A worksheet: its name as the tab shows it, whether the tab is hidden, and its part of the zip file."""

    name: str
    hidden: bool
    part: str


@dataclass
class Workbook:
    """An open workbook. ``name`` is the file's, for messages."""

    archive: zipfile.ZipFile
    name: str
    limits: Limits
    sheets: list[Sheet] = field(default_factory=list)
    from_1904: bool = False
    parts: dict[str, str] = field(default_factory=dict)  # kind of relation -> part

    def part(self, part: str, bound: int) -> IO[bytes]:
        """A part, opened; zipfile gives no more bytes than the directory says, so the bound holds for what is read.

        :raises UtilityFlowError: UF-2009 when it is not there, UF-2003 when it is larger than ``bound`` bytes.
        """
        try:
            told = self.archive.getinfo(part)
        except KeyError:
            raise UtilityFlowError("UF-2009", f"{self.name}: no sound workbook: its part '{shown(part)}' is missing") from None
        if told.file_size > bound:
            size = f"unpacks to {told.file_size} bytes, more than {bound}"
            raise UtilityFlowError("UF-2003", f"{self.name}: the part '{shown(part)}' {size}")
        try:
            return self.archive.open(told)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise UtilityFlowError("UF-2003", f"{self.name}: the part '{shown(part)}' cannot be unpacked: {error}") from None

    def sheet(self, wanted: str | int | None) -> Sheet:
        """The sheet of that name, at that place (from 1, visible sheets only), or the only visible one.

        :raises UtilityFlowError: UF-2009 when there is none, or several and none is named; the message lists them.
        """
        visible = [s for s in self.sheets if not s.hidden]
        several = ", ".join(f"'{s.name}'" for s in visible[:20]) or "none"
        if isinstance(wanted, int):
            if wanted <= len(visible):
                return visible[wanted - 1]
            problem = f"no visible sheet {wanted}, there are {len(visible)}: {several}"
            raise UtilityFlowError("UF-2009", f"{self.name}: {problem}")
        if wanted is None:
            if len(visible) == 1:
                return visible[0]
            hint = "set options.sheet in the feed file"
            raise UtilityFlowError("UF-2009", f"{self.name}: {len(visible)} visible sheets: {several}", hint=hint)
        for sheet in self.sheets:
            if sheet.name == wanted:
                return sheet
        hint = nearest(wanted, [s.name for s in self.sheets])
        raise UtilityFlowError("UF-2009", f"{self.name}: no sheet '{wanted}'; visible are {several}", hint=hint)


@contextlib.contextmanager
def open_workbook(path: Path, name: str, limits: Limits) -> Iterator[Workbook]:
    """Open a workbook, look at its directory and at what it is made of.

    :raises UtilityFlowError: UF-2003 when the zip file is cut, damaged or unpacks to too much; UF-2009 when it is no
        workbook: another format, an old ``.xls``, a workbook with a password.
    """
    with GuardedFile(path) as stream:
        _check_beginning(path, stream, name)
        try:
            archive = zipfile.ZipFile(stream)  # closed with the stream
            _check_directory(archive, name, limits)
        except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, EOFError) as error:
            raise UtilityFlowError("UF-2003", f"{name}: the zip file is cut off or damaged: {error}") from None
        book = Workbook(archive, name, limits)
        _describe(book)
        yield book


def _check_beginning(path: Path, stream: GuardedFile, name: str) -> None:
    if is_gzip(path):
        raise UtilityFlowError("UF-2009", f"{name}: a workbook is compressed already: deliver it without gzip")
    head = stream.read(_SMALL)
    stream.seek(0)
    if head.startswith(_OLE):
        locked = "EncryptedPackage".encode("utf-16-le") in head
        what = "a workbook with a password" if locked else "an old .xls workbook, or another OLE file"
        hint = "save it as .xlsx without a password"
        raise UtilityFlowError("UF-2009", f"{name}: no XLSX file, but {what}", hint=hint)
    if not head.startswith(MAGIC):
        raise UtilityFlowError("UF-2009", f"{name}: no XLSX file: it is no zip file")


def _check_directory(archive: zipfile.ZipFile, name: str, limits: Limits) -> None:
    """Sizes, ratios and methods, by the directory; what unpacks to another size than it says is damaged (UF-2003)."""
    entries = archive.infolist()
    if len({e.filename for e in entries}) != len(entries):
        raise UtilityFlowError("UF-2009", f"{name}: a part stands twice in the zip file")
    total = sum(e.file_size for e in entries)
    if total > limits.max_workbook_bytes:
        size = f"unpacks to {total} bytes, more than {limits.max_workbook_bytes}"
        raise UtilityFlowError("UF-2003", f"{name}: {size}")
    for entry in entries:
        if entry.flag_bits & ENCRYPTED:
            raise UtilityFlowError("UF-2009", f"{name}: the part '{shown(entry.filename)}' has a password")
        if entry.compress_type not in METHODS:  # others unpack without a bound
            method = f"is packed by method {entry.compress_type}, which no workbook uses"
            raise UtilityFlowError("UF-2009", f"{name}: the part '{shown(entry.filename)}' {method}")
        most = max(entry.compress_size, 1) * limits.max_zip_ratio
        if entry.file_size > _RATIO_FROM and entry.file_size > most:
            ratio = f"unpacks to {entry.file_size} bytes, more than {limits.max_zip_ratio} times its size"
            raise UtilityFlowError("UF-2003", f"{name}: the part '{shown(entry.filename)}' {ratio}")


# -- what a workbook is made of ----------------------------------------------------------------------------------------


@dataclass
class _Elements:
    """Attributes of the elements with certain local names, in their order, and the first element of all."""

    wanted: tuple[str, ...]
    root: str = ""
    found: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        local = tag.rpartition("}")[2]
        if local in self.wanted:
            self.found.append((local, attributes))


def _elements(book: Workbook, part: str, *wanted: str) -> _Elements:
    target = _Elements(wanted)
    with book.part(part, _SMALL) as stream:
        for _ in feed_target(stream, target, f"{book.name}: the part '{shown(part)}'", book.limits):
            pass
    return target


def _relations(book: Workbook, part: str) -> dict[str, tuple[str, str]]:
    """Id -> (kind: the last word of the type, target part), of relations within the file."""
    folder, _, base = part.rpartition("/")
    place = f"{folder}/_rels/{base}.rels".lstrip("/")
    found = {}
    for _, told in _elements(book, place, "Relationship").found:
        if told.get("TargetMode") == "External":
            continue
        target = posixpath.normpath(posixpath.join("/", folder, told.get("Target", "")))
        found[told.get("Id", "")] = (told.get("Type", "").rpartition("/")[2], target.lstrip("/"))
    return found


def _describe(book: Workbook) -> None:
    """Sheets, parts and the calendar, from the workbook's own part."""
    if "_rels/.rels" not in book.archive.NameToInfo:
        raise UtilityFlowError("UF-2009", f"{book.name}: a zip file, but no workbook")
    part = next((p for kind, p in _relations(book, "").values() if kind == "officeDocument"), "")
    if part.endswith(".bin"):
        raise UtilityFlowError("UF-2009", f"{book.name}: a binary workbook (.xlsb): save it as .xlsx")
    if not part:
        raise UtilityFlowError("UF-2009", f"{book.name}: a zip file, but no workbook")
    told = _elements(book, part, "sheet", "workbookPr")
    if told.root == f"{_STRICT}}}workbook":
        raise UtilityFlowError("UF-2009", f"{book.name}: a 'Strict Open XML' workbook: save it as plain .xlsx")
    if told.root != tag_of("workbook"):
        raise UtilityFlowError("UF-2009", f"{book.name}: an Office file, but no workbook")
    relations = _relations(book, part)
    book.parts = dict(relations.values())
    for kind, attributes in told.found:
        if kind == "workbookPr":
            book.from_1904 = attributes.get("date1904") in ("1", "true")
            continue
        what, place = relations.get(attributes.get(_RELATION, ""), ("", ""))
        if what == "worksheet":
            hidden = attributes.get("state", "visible") != "visible"
            book.sheets.append(Sheet(shown(attributes.get("name", "")), hidden, place))


class _Texts:
    """The shared texts: runs of one text joined, the pronunciation beside it left out."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._pieces: list[str] = []
        self._aside = self._within = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == tag_of("si"):
            self._pieces = []
        elif tag == tag_of("rPh"):
            self._aside = True
        self._within = tag == tag_of("t") and not self._aside

    def end(self, tag: str) -> None:
        self._within = False
        if tag == tag_of("rPh"):
            self._aside = False
        elif tag == tag_of("si"):
            self.texts.append("".join(self._pieces))

    def data(self, text: str) -> None:
        if self._within:
            self._pieces.append(text)


def shared_texts(book: Workbook) -> list[str]:
    """The texts that cells refer to by number; at most ``Limits.max_shared_bytes`` of them, for they stay in memory."""
    part = book.parts.get("sharedStrings")
    if part is None:
        return []
    target = _Texts()
    with book.part(part, book.limits.max_shared_bytes) as stream:
        for _ in feed_target(stream, target, f"{book.name}: the part '{shown(part)}'", book.limits):
            pass
    return target.texts


class _Styles:
    """The number format of each cell style, and the format codes that the file defines."""

    def __init__(self) -> None:
        self.formats: list[int] = []
        self.codes: dict[int, str] = {}
        self._cells = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == tag_of("cellXfs"):
            self._cells = True
        elif tag == tag_of("xf") and self._cells:
            self.formats.append(int(attributes.get("numFmtId", "0")))
        elif tag == tag_of("numFmt"):
            self.codes[int(attributes.get("numFmtId", "0"))] = attributes.get("formatCode", "")

    def end(self, tag: str) -> None:
        if tag == tag_of("cellXfs"):
            self._cells = False


def cell_formats(book: Workbook) -> tuple[list[int], dict[int, str]]:
    """Of each cell style (``s`` of a cell) the number format's id, and the codes of formats that the file defines."""
    part = book.parts.get("styles")
    target = _Styles()
    if part is not None:
        with book.part(part, book.limits.max_part_bytes) as stream:
            for _ in feed_target(stream, target, f"{book.name}: the part '{shown(part)}'", book.limits):
                pass
    return target.formats, target.codes
