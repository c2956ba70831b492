"""Strict schemas of the files that we emit, in the words of the platforms: which keys, of which kind, which of them needed.

Why not the platforms' own: Databricks' schema may not be passed on and wants another regex engine than Python's, and the
models of the Azure packages accept unknown keys, misspelt conditions and missing names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from utilityflow.errors import nearest
from utilityflow.operate.deploy.files import Finding, at
from utilityflow.strict import Node


@dataclass(frozen=True)
class Keys:
    """A mapping with known keys, of which ``need`` must be there; ``rest``: the shape of all others, None: there are none."""

    need: dict[str, Shape] = field(default_factory=dict)
    may: dict[str, Shape] = field(default_factory=dict)
    rest: Shape | None = None


@dataclass(frozen=True)
class Map:
    """A mapping with names of the user's."""

    of: Shape
    least: int = 0


@dataclass(frozen=True)
class Items:
    """A list."""

    of: Shape
    least: int = 0
    most: int = 10_000


@dataclass(frozen=True)
class Text:
    """A text that fits an expression."""

    form: str = r".+"
    words: str = "a text"
    number: bool = False  # a number will do too


@dataclass(frozen=True)
class Int:
    """A whole number within bounds."""

    low: int
    high: int


@dataclass(frozen=True)
class Is:
    """One of these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Free:
    """Anything: the value is judged elsewhere."""


Shape: TypeAlias = "Keys | Map | Items | Text | Int | Is | Free"
BOOL = Is((True, False))


def compare(node: Node, shape: Shape) -> Iterator[Finding]:
    """What of a node does not fit the shape."""
    if isinstance(shape, Keys):
        yield from _keys(node, shape)
    elif isinstance(shape, Map):
        if not isinstance(node.value, dict) or len(node.value) < shape.least:
            yield at(node, "must be a mapping" + (f" with at least {shape.least} key(s)" if shape.least else ""))
            return
        for child in node.value.values():
            yield from compare(child, shape.of)
    elif isinstance(shape, Items):
        if not isinstance(node.value, list) or not shape.least <= len(node.value) <= shape.most:
            bounds = f" of {shape.least} to {shape.most}" if shape.most < 10_000 else f" of at least {shape.least}"
            yield at(node, f"must be a list{bounds if shape.least or shape.most < 10_000 else ''}")
            return
        for child in node.value:
            yield from compare(child, shape.of)
    elif not isinstance(shape, Free):
        yield from _scalar(node, shape)


def _keys(node: Node, shape: Keys) -> Iterator[Finding]:
    if not isinstance(node.value, dict):
        yield at(node, "must be a mapping of keys")
        return
    known = shape.need | shape.may
    for name in shape.need:
        if name not in node.value:
            yield at(node, f"key '{name}' is missing")
    for name, child in node.value.items():
        expected = known.get(name, shape.rest)
        if expected is not None:
            yield from compare(child, expected)
        else:
            yield at(child, f"unknown key '{name}' ({nearest(name, known)})")


def _scalar(node: Node, shape: Text | Int | Is) -> Iterator[Finding]:
    value = node.value
    if isinstance(shape, Text):
        value = str(value) if shape.number and isinstance(value, int) else value
        if not isinstance(value, str) or not re.fullmatch(shape.form, value, re.DOTALL):
            yield at(node, f"must be {shape.words}")
    elif isinstance(shape, Int):
        if not isinstance(value, int) or isinstance(value, bool) or not shape.low <= value <= shape.high:
            yield at(node, f"must be a whole number from {shape.low} to {shape.high}")
    elif isinstance(value, dict | list) or not any(value == v and type(value) is type(v) for v in shape.values):
        shown = ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in shape.values)
        yield at(node, f"must be {'one of ' if len(shape.values) > 1 else ''}{shown}")
