"""Bars as text and as PNG, without a plotting library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

# 3 x 5 points a sign, row by row
_GLYPHS = {
    "0": "111101101101111", "1": "010110010010111", "2": "111001111100111", "3": "111001111001111", "4": "101101111001001",
    "5": "111100111001111", "6": "111100111101111", "7": "111001001001001", "8": "111101111101111", "9": "111101111001111",
    "a": "010101111101101", "b": "110101110101110", "c": "111100100100111", "d": "110101101101110", "e": "111100110100111",
    "f": "111100110100100", "g": "111100101101111", "h": "101101111101101", "i": "111010010010111", "j": "001001001101111",
    "k": "101101110101101", "l": "100100100100111", "m": "101111111101101", "n": "110101101101101", "o": "111101101101111",
    "p": "111101111100100", "q": "111101111001001", "r": "110101110101101", "s": "111100111001111", "t": "111010010010010",
    "u": "101101101101111", "v": "101101101101010", "w": "101101111111101", "x": "101101010101101", "y": "101101010010010",
    "z": "111001010100111", ".": "000000000000010", ",": "000000000010100", "-": "000000111000000", " ": "000000000000000",
}  # fmt: skip


def bars(data: Sequence[tuple[str, float]], unit: str, width: int = 40) -> str:
    """Lines with label, bar and value."""
    if not data:
        return "  (nothing)"
    most, wide = max(v for _, v in data) or 1.0, max(len(label) for label, _ in data)
    return "\n".join(f"  {label:>{wide}} {'#' * max(1, round(width * v / most)):<{width}} {v:.2f} {unit}" for label, v in data)


def png(data: Sequence[tuple[str, float]], title: str, scale: int = 3) -> bytes:
    """A bar chart, one bar a line, with label and value."""
    wide, left, line = 900, 40 * 4 * scale // 3, 12 * scale
    high = line * (len(data) + 1)
    image = [bytearray(b"\xff" * (wide * 3)) for _ in range(high)]
    _text(image, title, 4, 4, scale)
    most = max((v for _, v in data), default=1.0) or 1.0
    for row, (label, value) in enumerate(data, start=1):
        top = row * line
        _text(image, label, 4, top, scale)
        length = int((wide - left - 180) * value / most)
        for y in range(top - scale, top + 6 * scale):
            image[y][left * 3 : (left + length) * 3] = bytes((38, 110, 170)) * length
        _text(image, f"{value:.1f}", left + length + 8, top, scale)
    raw = b"".join(b"\0" + bytes(one) for one in image)
    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _text(image: list[bytearray], words: str, x: int, y: int, scale: int) -> None:
    for n, sign in enumerate(words.lower()):
        for point, on in enumerate(_GLYPHS.get(sign, _GLYPHS["-"])):
            if on == "1":
                left, top = x + (n * 4 + point % 3) * scale, y + point // 3 * scale
                for row in image[top : top + scale]:
                    row[left * 3 : (left + scale) * 3] = b"\x20" * (3 * scale)
