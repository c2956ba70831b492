"""XML: one record per element of a kind; its attributes and the elements below it become columns.

The column of an element is its path below the record (``address/city`` is ``address_city``), that of an attribute the
path with its name. A repeat is numbered where it repeats: ``line/amount``, then ``line_2/amount``, so that what belongs
together stays together whatever is missing. Namespaces are left out of names. Nothing outside of the records is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, tostring

from utilityflow.bronze.feeds import Feed, Options
from utilityflow.bronze.names import Names, clean_names
from utilityflow.bronze.records import Record, open_binary
from utilityflow.bronze.safexml import feed_target
from utilityflow.bronze.scan import Limits
from utilityflow.errors import UtilityFlowError, nearest

MOST_LEVELS = 100
_INSTANCE = "{http://www.w3.org/2001/XMLSchema-instance}"  # nil, and what validators need
_ELEMENT_COST = 64  # bytes that an element is reckoned as beside its texts
_SHOWN = 200  # tags that are remembered for a hint
_LONGEST_TAG = 1000


class _MixedError(Exception):
    """Text stands beside elements: no column can hold it without losing its place."""


def xml_records(feed: Feed, path: Path, name: str, limits: Limits) -> Iterator[Record]:
    """Records of an XML file; one that mixes text and elements is corrupt and keeps its XML.

    :raises UtilityFlowError: UF-2001 when there is no such element; UF-2009 when the file is not well-formed to its end,
        holds a DTD or entities, a record is too large, or two things of a record would become one column.
    """
    target = _Records(feed.options, name, limits)
    columns = _Columns(name, limits, feed.options.attribute_prefix)
    with open_binary(path) as stream:
        for _ in feed_target(stream, target, name, limits):
            done, target.done = target.done, []
            for record in done:
                yield columns.record(record)
    if columns.count == 0:
        wanted = feed.options.record
        hint = nearest(wanted.rpartition("/")[2].rpartition(":")[2], list(target.seen))
        raise UtilityFlowError("UF-2001", f"{name}: no element '{wanted}' in it", hint=hint)


class _Records:
    """Takes the tags of a file and builds each record element; of what stands outside of records nothing is kept."""

    def __init__(self, options: Options, name: str, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.whole = options.record.startswith("/")
        self.steps = [_step(s, options.namespaces) for s in options.record.removeprefix("/").split("/")]
        self.seen: dict[str, None] = {}
        self.done: list[Element] = []
        self._above: list[str] = []  # tags from the root down to here, or to the record
        self._builder: TreeBuilder | None = None
        self._level = self._size = self._number = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(tag) > _LONGEST_TAG:
            raise UtilityFlowError("UF-2009", f"{self.name}: {self._place()} a tag is longer than {_LONGEST_TAG}")
        if self._builder is None:
            self._above.append(tag)
            if len(self.seen) < _SHOWN:
                self.seen[_local(tag)] = None
            if self._is_record():
                self._builder, self._level, self._size = TreeBuilder(), 0, 0
                self._number += 1
        if len(self._above) + self._level > MOST_LEVELS:
            raise UtilityFlowError("UF-2009", f"{self.name}: {self._place()} elements are nested too deeply")
        if self._builder is not None:
            self._level += 1
            self._grow(len(tag) + sum(len(k) + len(v) for k, v in attributes.items()) + _ELEMENT_COST)
            self._builder.start(_full(tag), {_full(k): v for k, v in attributes.items()})

    def end(self, tag: str) -> None:
        if self._builder is None:
            self._above.pop()
            return
        self._builder.end(_full(tag))
        self._level -= 1
        if self._level == 0:
            self.done.append(self._builder.close())
            self._builder = None
            self._above.pop()

    def data(self, text: str) -> None:
        if self._builder is not None:
            self._grow(len(text))
            self._builder.data(text)

    def _is_record(self) -> bool:
        steps, above = self.steps, self._above
        if len(above) < len(steps) or (self.whole and len(above) != len(steps)):
            return False
        ends = zip(steps, above[-len(steps) :], strict=True)
        return all(tag == f"{space}}}{local}" if space else _local(tag) == local for (space, local), tag in ends)

    def _place(self) -> str:
        return f"record {self._number}:" if self._builder is not None else f"after record {self._number}:"

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self.limits.max_record_bytes:
            bound = self.limits.max_record_bytes
            raise UtilityFlowError("UF-2009", f"{self.name}: record {self._number} is larger than {bound} bytes")


def _step(text: str, namespaces: dict[str, str]) -> tuple[str, str]:
    prefix, _, local = text.rpartition(":")
    return namespaces.get(prefix, ""), local


def _full(tag: str) -> str:
    """A name as trees have it, ``{namespace}local``."""
    return "{" + tag if "}" in tag else tag


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


class _Columns:
    """The columns in the order of their first appearance.

    A column stands for one thing alone, an attribute or an element of a path. If two became one name, a number would
    have to tell them apart, and would say something else in the next file; so the file is refused.
    """

    def __init__(self, name: str, limits: Limits, attribute_prefix: str) -> None:
        self.name, self.limits, self.attribute_prefix = name, limits, attribute_prefix
        self.count = 0
        self.names = Names()
        self._places: dict[tuple[str, str], int] = {}  # (kind, raw name) -> place
        self._taken: dict[str, tuple[str, str]] = {}  # cleaned name -> what it stands for

    def record(self, element: Element) -> Record:
        """The record of an element."""
        self.count += 1
        try:
            found = list(self._values(element, ""))
        except _MixedError:
            return self.names, None, tostring(element, encoding="unicode").strip()
        if any(key not in self._places for key, _ in found):
            self._widen([key for key, _ in found])
        values: list[str | None] = [None] * len(self.names)
        for key, value in found:
            values[self._places[key]] = value
        return self.names, values, None

    def _widen(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            cleaned = clean_names([key[1]])[0]
            other = self._taken.setdefault(cleaned, key)
            if other != key:
                both = f"{other[0]} '{other[1]}' and {key[0]} '{key[1]}' would both be column '{cleaned}'"
                hint = "options.attribute_prefix tells attributes from elements"
                raise UtilityFlowError("UF-2009", f"{self.name}: record {self.count}: {both}", hint=hint)
            self._places.setdefault(key, len(self._places))
        if len(self._places) > self.limits.max_columns:
            problem = f"more than {self.limits.max_columns} columns"
            raise UtilityFlowError("UF-2009", f"{self.name}: record {self.count}: {problem}")
        self.names = Names.of([raw for _, raw in self._places])

    def _values(self, element: Element, path: str) -> Iterator[tuple[tuple[str, str], str | None]]:
        """What an element holds: ((kind, raw name), value), attributes first.

        :raises _MixedError: when text stands beside elements.
        """
        for name, value in element.attrib.items():
            if not name.startswith(_INSTANCE):
                raw = f"{path}/{self.attribute_prefix}{_local(name)}".lstrip("/")
                yield (f"attribute {name} of" if name.startswith("{") else "attribute", raw), value
        text = (element.text or "").strip()
        if len(element) == 0:
            if path or text:
                empty = element.get(f"{_INSTANCE}nil") in ("true", "1")
                if text or not element.attrib or empty:
                    yield ("element", path or _local(element.tag)), None if empty and not text else text
            return
        if text or any((child.tail or "").strip() for child in element):
            raise _MixedError
        repeats: Counter[str] = Counter()
        for child in element:
            local = _local(child.tag)
            repeats[local] += 1
            step = local if repeats[local] == 1 else f"{local}_{repeats[local]}"
            yield from self._values(child, f"{path}/{step}".lstrip("/"))
