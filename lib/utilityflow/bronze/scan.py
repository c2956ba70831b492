"""One pass over the bytes of a file: hash, size, decompression, encoding, line structure. No Spark, bounded memory."""

from __future__ import annotations

import codecs
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from utilityflow.errors import UtilityFlowError

CHUNK = 4 * 1024 * 1024
BLOCK = 32 * 1024 * 1024  # the readers let Spark cut files at these places; a multiple of CHUNK
HEAD = 1024 * 1024
_TAIL = 4096  # bytes that hold more than line ends, mostly


@dataclass(frozen=True)
class Limits:
    """Bounds against files that are made, or broken, to exhaust the machine; bytes, if not said otherwise.

    ``max_record_bytes``: of JSON lines and documents characters. ``max_columns``: columns of one XLSX or XML file.
    The others are of XLSX: ``max_workbook_bytes`` bounds its parts unpacked, and the texts of its cells, together;
    ``max_shared_bytes`` its shared texts, which are held in memory;
    ``max_part_bytes`` every other part but the sheet; ``max_zip_ratio`` how far a part may unpack.
    """

    max_decompressed_bytes: int = 64 * 1024**3
    max_record_bytes: int = 16 * 1024 * 1024
    max_columns: int = 4096
    max_workbook_bytes: int = 4 * 1024**3
    max_shared_bytes: int = 128 * 1024 * 1024
    max_part_bytes: int = 16 * 1024 * 1024
    max_zip_ratio: int = 300


@dataclass(frozen=True)
class Block:
    """A part of a file that one task reads: where it starts, its first line (from 0), and its number of lines."""

    start: int
    first_line: int
    lines: int


def chunks(
    stream: BinaryIO, digest: hashlib._Hash, *, gzipped: bool, name: str, limits: Limits, scan: LineScan | None = None
) -> Iterator[bytes]:
    """The content of a file, decompressed, in pieces of at most CHUNK; ``digest`` gets the bytes as they lie there.

    :param scan: is told when a gzip file goes on after its first member: the engine stops or fails there.
    :raises UtilityFlowError: UF-2003 for a gzip file that is cut, damaged, followed by other bytes or too large.
    """
    if not gzipped:
        while piece := stream.read(CHUNK):
            digest.update(piece)
            yield piece
        return
    total, unpacker = 0, None
    while raw := stream.read(CHUNK):
        digest.update(raw)
        while raw:
            if unpacker is None and total and scan is not None:
                scan.odd = "a gzip file of several members, or padded"
            if unpacker is None:  # between members: padding with zero bytes is allowed
                raw = raw.lstrip(b"\0")
                unpacker = zlib.decompressobj(wbits=31) if raw else None
                continue
            piece = _unpack(unpacker, raw, name)
            while piece:
                total += len(piece)
                if total > limits.max_decompressed_bytes:
                    bound = limits.max_decompressed_bytes
                    raise UtilityFlowError("UF-2003", f"{name}: unpacks to more than {bound} bytes")
                yield piece
                piece = b"" if unpacker.eof else _unpack(unpacker, unpacker.unconsumed_tail, name)
            raw, unpacker = (unpacker.unused_data, None) if unpacker.eof else (b"", unpacker)
    if unpacker is not None:
        raise UtilityFlowError("UF-2003", f"{name}: the gzip file is cut off after {total} bytes of content")


def _unpack(unpacker: zlib._Decompress, raw: bytes, name: str) -> bytes:
    try:
        return unpacker.decompress(raw, CHUNK)
    except zlib.error as error:
        raise UtilityFlowError("UF-2003", f"{name}: not a sound gzip file: {error}") from None


@dataclass
class LineScan:
    """Looks at the lines of a text as its chunks pass by.

    A text is safe for line by line reading when it is UTF-8, its lines end with LF or CRLF, no quoted field holds a
    line end, quotes stand only where both parsers read them alike, blank lines come at its end alone and a byte order mark at its
    beginning. ``odd`` says
    why it is not. Problems that reject the file are raised: UF-2004 (encoding, NUL bytes), UF-2009 (an endless line).
    """

    name: str
    limits: Limits
    utf8: bool
    text: bool = True  # lines mean something, so their length is bounded
    quoted: re.Pattern[bytes] | None = None  # well-formed quoted fields; None: quotes mean nothing
    quote: bytes = b""
    forbidden: bytes = b""  # an escape character that only the slow parser understands
    odd: str = ""
    head: bytes = b""
    size: int = 0
    newlines: int = 0
    crlf: bool = False
    blocks: list[int] = field(default_factory=list)  # newlines per BLOCK bytes
    _carry: bytes = b""
    _run: int = 0  # bytes since the last line end
    _tail: int = 1  # line ends after the last line that is not blank
    _last: bytes = b""

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    @property
    def lines(self) -> int:
        """Lines of the text, a last one without line end included."""
        return self.newlines + (self.size > 0 and self._last != b"\n")

    @property
    def blank_lines(self) -> int:
        """Blank lines at the end of the text."""
        return max(self._tail - 1, 0) if self._last == b"\n" else 0

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk.

        :raises UtilityFlowError: UF-2004, UF-2009.
        """
        if len(self.head) < HEAD:
            self.head += chunk[: HEAD - len(self.head)]
        if self.utf8:
            self._check_text(chunk)
        if self.text:
            self._check_length(chunk)
        block = self.size // BLOCK
        self.blocks += [0] * (block + 1 - len(self.blocks))
        count = chunk.count(b"\n")
        self.blocks[block] += count
        if not self.odd:
            self._check_lines(chunk)
        self.newlines += count
        self.size += len(chunk)
        self._last = chunk[-1:]

    def finish(self) -> None:
        """The text has ended.

        :raises UtilityFlowError: UF-2004 when it ends within a character.
        """
        if self.utf8:
            self._decode(b"", final=True)
        if self._carry and not self.odd:
            self._check_body(self._carry)

    def _check_text(self, chunk: bytes) -> None:
        if b"\0" in chunk:
            line = self.newlines + chunk.count(b"\n", 0, chunk.index(b"\0")) + 1
            raise UtilityFlowError("UF-2004", f"{self.name}: line {line} holds a NUL byte, so this is no UTF-8 text")
        if not chunk.isascii() or self._decoder.getstate()[0]:
            self._decode(chunk)

    def _decode(self, chunk: bytes, *, final: bool = False) -> None:
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            at = max(error.start - pending, 0)
            line = self.newlines + chunk.count(b"\n", 0, at) + 1
            byte = f"byte {error.object[error.start]:#04x}" if error.start < len(error.object) else "its end"
            hint = "set options.encoding in the feed file"
            raise UtilityFlowError("UF-2004", f"{self.name}: line {line} is not UTF-8 ({byte})", hint=hint) from None

    def _check_length(self, chunk: bytes) -> None:
        firsts = {end: at for end in (b"\n", b"\r") if (at := chunk.find(end)) >= 0}
        self._run += min(firsts.values(), default=len(chunk))
        if self._run > self.limits.max_record_bytes:
            bound = self.limits.max_record_bytes
            raise UtilityFlowError("UF-2009", f"{self.name}: line {self.newlines + 1} is longer than {bound} bytes")
        if firsts:
            self._run = len(chunk) - 1 - max(chunk.rfind(end) for end in firsts)

    def _check_lines(self, chunk: bytes) -> None:
        cut = chunk.rfind(b"\n") + 1
        if not cut:  # what is carried over holds no line end either
            self._carry += chunk
            return
        body = b"".join((self._carry, memoryview(chunk)[:cut])) if self._carry or cut < len(chunk) else chunk
        self._carry = chunk[cut:]
        self._check_body(body)
        if self.odd:
            self._carry = b""

    def _check_body(self, body: bytes) -> None:
        """Whole lines: from the start of one to the end of one.

        Each look passes over all bytes and keeps other threads from theirs: what need not be looked for is not.
        """
        if not body:
            return
        returns = b"\r" in body  # found at once or not at all; counting is slower
        if returns:
            self.crlf = True
            if body.count(b"\r") != body.count(b"\r\n"):
                self.odd = "a carriage return that is no part of a line end"
                return
        filled = _filled(body)
        if filled and (self._tail > 1 or _blank_before(body, filled, returns=returns)):
            self.odd = "blank lines"
            return
        ends = body.count(b"\n", filled)
        self._tail = ends if filled else self._tail + ends
        if self.quoted is not None and self.quote in body and self.quote in self.quoted.sub(b"", body):
            self.odd = "quotes that span lines or stand within a field"
        begun = self.size > 0 and body.startswith(codecs.BOM_UTF8)
        if not body.isascii() and (begun or b"\n" + codecs.BOM_UTF8 in body):
            self.odd = "a byte order mark within the text"  # the engine skips one where a task begins
        if self.forbidden and self.forbidden in body:
            self.odd = "escape characters"


def _filled(body: bytes) -> int:
    """Length without the line ends at the end; only its last bytes are copied where that is enough."""
    tail = body[-_TAIL:]
    left = len(tail.rstrip(b"\r\n"))
    return len(body) - len(tail) + left if left else len(body.rstrip(b"\r\n"))


def _blank_before(body: bytes, end: int, *, returns: bool) -> bool:
    """Whether a blank line stands before a place, at which a line that is not blank ends; ``returns``: there are some."""
    if body[:1] == b"\n" or body[:2] == b"\r\n":
        return True
    return body.find(b"\n\n", 0, end) >= 0 or (returns and body.find(b"\n\r\n", 0, end) >= 0)


def quoted_fields(delimiter: str, quote: str) -> re.Pattern[bytes]:
    """Pattern of the quoted fields that every CSV parser reads alike; both characters are ASCII."""
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    return re.compile(rb"(?:(?<=[\n" + d + rb"])|\A)" + q + rb"(?:[^" + q + rb"\n]|" + q + q + rb")*" + q
                      + rb"(?=[" + d + rb"\n]|\r\n|\Z)")  # fmt: skip


def line_blocks(scan: LineScan, *, single: bool) -> tuple[Block, ...]:
    """The parts that tasks read. A task that starts within the file begins with the line after the next line end.

    :param single: the file cannot be cut (gzip).
    """
    if single or scan.size <= BLOCK:
        return (Block(0, 0, scan.lines),)
    firsts, before = [], 0
    for number, count in enumerate(scan.blocks):
        firsts.append(min(before + (1 if number else 0), scan.lines))
        before += count
    firsts.append(scan.lines)
    return tuple(Block(n * BLOCK, first, firsts[n + 1] - first) for n, first in enumerate(firsts[:-1]))
