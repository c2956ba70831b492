"""Green Button (ESPI, NAESB REQ.21): an Atom feed becomes one record per IntervalReading.

Objects are joined by their links, as the standard says: a block's ``self`` or ``up`` link is among the ``related``
links of its MeterReading, or lies below its ``self`` link; likewise a MeterReading and its UsagePoint; a ReadingType is
named by a ``related`` link. The file is read twice, streaming: for the few describing objects, then for the readings.

A reading of at most MAX_INTERVAL seconds fills the ``interval_..._epoch`` columns, a longer one (a bill) the
``period_..._epoch`` columns, so that a mapping reads only what is filled. Times are texts: seconds since 1970 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.records import Record, open_binary
from utilityflow.bronze.scan import Limits
from utilityflow.errors import UtilityFlowError

MAX_INTERVAL = 90_000  # a day of 25 hours; what lasts longer is a billed period

COLUMNS = (
    "retail_customer", "usage_point", "meter_reading", "title", "service_kind",
    "commodity", "uom", "power_of_ten", "flow_direction", "kind", "accumulation", "data_qualifier", "interval_length",
    "currency", "phase", "time_attribute", "block_start", "block_duration",
    "start", "duration", "value", "amount", "cost", "quality", "tou", "consumption_tier",
    "interval_start_epoch", "interval_end_epoch", "period_start_epoch", "period_end_epoch",
    "tz_offset", "dst_offset", "dst_start_rule", "dst_end_rule",
)  # fmt: skip

_READING_TYPE = {
    "commodity": "commodity", "uom": "uom", "powerOfTenMultiplier": "power_of_ten", "flowDirection": "flow_direction",
    "kind": "kind", "accumulationBehaviour": "accumulation", "dataQualifier": "data_qualifier",
    "intervalLength": "interval_length", "currency": "currency", "phase": "phase", "timeAttribute": "time_attribute",
}  # fmt: skip
_LOCAL_TIME = {
    "tzOffset": "tz_offset", "dstOffset": "dst_offset", "dstStartRule": "dst_start_rule", "dstEndRule": "dst_end_rule",
}  # fmt: skip
_DESCRIBING = ("UsagePoint", "MeterReading", "ReadingType", "LocalTimeParameters")
_CUSTOMER_PARTS = ("RetailCustomer", "BillingAccount", "User", "Customer", "Subscription")


@dataclass
class _Object:
    """One describing object: its links as paths, its title and the texts of its simple elements."""

    kind: str
    self_link: str = ""
    up: str = ""
    related: set[str] = field(default_factory=set)
    title: str | None = None
    texts: dict[str, str] = field(default_factory=dict)


@dataclass
class _Model:
    """The describing objects of a file and, per MeterReading, the record columns that its readings share."""

    objects: list[_Object] = field(default_factory=list)
    feed_link: str = ""
    shared: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[_Object]:
        return [o for o in self.objects if o.kind == kind]

    def columns(self, block: _Object) -> dict[str, str | None]:
        """Columns that come from the objects above a block."""
        reading = _parent(block, self.of_kind("MeterReading"))
        key = reading.self_link if reading else block.up or block.self_link
        if key not in self.shared:
            self.shared[key] = self._describe(reading, block)
        return self.shared[key]

    def _describe(self, reading: _Object | None, block: _Object) -> dict[str, str | None]:
        point = _parent(reading or block, self.of_kind("UsagePoint"))
        reading_type = _related(reading, self.of_kind("ReadingType"))
        local = _related(point, self.of_kind("LocalTimeParameters"))
        links = [o.self_link for o in (point, reading, block) if o is not None]
        found: dict[str, str | None] = {
            "retail_customer": next((c for link in [*links, self.feed_link] if (c := _customer(link))), None),
            "usage_point": _after(links, "UsagePoint"),
            "meter_reading": _after([reading.self_link if reading else "", block.self_link], "MeterReading"),
            "title": (reading.title if reading else None) or (point.title if point else None),
            "service_kind": point.texts.get("ServiceCategory/kind") if point else None,
        }
        for source, names in ((reading_type, _READING_TYPE), (local, _LOCAL_TIME)):
            texts = source.texts if source else {}
            found |= {column: texts.get(tag) for tag, column in names.items()}
        return found


def greenbutton_records(feed: Feed, path: Path, name: str, limits: Limits) -> Iterator[Record]:
    """Records of a Green Button file; one without value or start is corrupt and keeps its XML.

    :raises UtilityFlowError: UF-2009 when the file is no XML, holds entities or a DTD, or has no IntervalReading.
    """
    try:
        model = _describe_file(path)
        count = 0
        for block, element in _blocks(path):
            shared = model.columns(block)
            interval = _texts(element)
            for reading in _children(element, "IntervalReading"):
                count += 1
                values = _reading(shared, interval, _texts(reading))
                yield COLUMNS, values, None if values else tostring(reading, encoding="unicode").strip()
    except ParseError as error:
        line = error.position[0]
        raise UtilityFlowError("UF-2009", f"{name}: no well-formed XML, line {line}: {error}") from None
    except DefusedXmlException as error:
        kind = type(error).__name__
        raise UtilityFlowError("UF-2009", f"{name}: XML with a DTD or entities is refused ({kind})") from None
    if count == 0:
        raise UtilityFlowError("UF-2009", f"{name}: no IntervalReading in it, so this is no Green Button usage file")


def _reading(shared: dict[str, str | None], block: dict[str, str], texts: dict[str, str]) -> list[str | None] | None:
    start = _decimal(texts.get("timePeriod/start"))
    value = _decimal(texts.get("value"))
    if start is None or value is None:
        return None
    row: dict[str, str | None] = dict.fromkeys(COLUMNS)
    row |= shared
    duration = _decimal(texts.get("timePeriod/duration") or shared.get("interval_length"))
    row |= {
        "block_start": block.get("interval/start"), "block_duration": block.get("interval/duration"),
        "start": texts.get("timePeriod/start"), "duration": texts.get("timePeriod/duration"),
        "value": texts.get("value"), "amount": _scaled(value, shared.get("power_of_ten")), "cost": texts.get("cost"),
        "quality": texts.get("ReadingQuality/quality"), "tou": texts.get("tou"),
        "consumption_tier": texts.get("consumptionTier"),
    }  # fmt: skip
    if duration is not None:
        length = "interval" if duration <= MAX_INTERVAL else "period"
        row[f"{length}_start_epoch"] = _plain(start)
        row[f"{length}_end_epoch"] = _plain(start + duration)
    return [row[column] for column in COLUMNS]


def _scaled(value: Decimal, power: str | None) -> str | None:
    """The exact value in the unit of ``uom``; None for a multiplier that is no small whole number."""
    try:
        exponent = int(power or 0)
    except ValueError:
        return None
    return _plain(value.scaleb(exponent)) if -30 <= exponent <= 30 else None


def _decimal(text: str | None) -> Decimal | None:
    try:
        number = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 40 else None


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# -- reading the XML ---------------------------------------------------------------------------------------------------


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if _local(child.tag) == name]


def _texts(element: Element) -> dict[str, str]:
    """Texts of the simple elements below, keyed by tag or by parent/tag; the first of a name wins."""
    found: dict[str, str] = {}
    for child in element:
        if len(child) == 0:
            if child.text and child.text.strip():
                found.setdefault(_local(child.tag), child.text.strip())
            continue
        if _local(child.tag) == "IntervalReading":
            continue
        for tag, text in _texts(child).items():
            found.setdefault(f"{_local(child.tag)}/{tag}", text)
    return found


def _entries(path: Path) -> Iterator[tuple[Element, bool]]:
    """Each ``entry`` of the feed and, marked False, links of the feed itself; what was given is dropped afterwards."""
    with open_binary(path) as stream:
        stack: list[Element] = []
        for event, element in iterparse(stream, events=("start", "end")):
            if event == "start":
                stack.append(element)
                continue
            stack.pop()
            name = _local(element.tag)
            if name == "entry":
                yield element, True
            elif name == "link" and len(stack) == 1:
                yield element, False
            if name == "entry" and stack:
                stack[-1].remove(element)


def _describe_file(path: Path) -> _Model:
    model = _Model()
    for element, is_entry in _entries(path):
        if not is_entry:
            if element.get("rel") == "self":
                model.feed_link = _path(element)
            continue
        for content in _children(element, "content"):
            for child in content:
                kind = _local(child.tag)
                if kind in _DESCRIBING:
                    found = _linked(element, kind)
                    found.texts = _texts(child)
                    model.objects.append(found)
    return model


def _blocks(path: Path) -> Iterator[tuple[_Object, Element]]:
    for element, is_entry in _entries(path):
        if not is_entry:
            continue
        for content in _children(element, "content"):
            for child in _children(content, "IntervalBlock"):
                yield _linked(element, "IntervalBlock"), child


def _linked(entry: Element, kind: str) -> _Object:
    found = _Object(kind)
    for link in _children(entry, "link"):
        relation, path = link.get("rel"), _path(link)
        if relation == "self":
            found.self_link = path
        elif relation == "up":
            found.up = path
        elif relation == "related":
            found.related.add(path)
    titles = _children(entry, "title")
    found.title = (titles[0].text or "").strip() or None if titles else None
    return found


def _path(link: Element) -> str:
    """A link without scheme and host, so that absolute and relative forms meet."""
    return urlsplit(link.get("href", "").strip()).path.rstrip("/")


# -- joining objects ---------------------------------------------------------------------------------------------------


def _parent(child: _Object, candidates: list[_Object]) -> _Object | None:
    """The object whose related links name the child or its collection, else the one that lies above it by its link."""
    wanted = {child.self_link, child.up} - {""}
    for candidate in candidates:
        if wanted & candidate.related:
            return candidate
    above = [c for c in candidates if c.self_link and f"{child.self_link}/".startswith(f"{c.self_link}/")]
    return max(above, key=lambda c: len(c.self_link)) if above else None


def _related(source: _Object | None, candidates: list[_Object]) -> _Object | None:
    """The object that ``source`` names; where links are missing altogether, the only one there is."""
    for candidate in candidates:
        if source and candidate.self_link in source.related:
            return candidate
    return candidates[0] if len(candidates) == 1 else None


def _customer(link: str) -> str | None:
    parts = link.split("/")
    return next((p for kind in _CUSTOMER_PARTS if (p := _next(parts, kind))), None)


def _after(links: list[str], kind: str) -> str | None:
    return next((p for link in links if (p := _next(link.split("/"), kind))), None)


def _next(parts: list[str], kind: str) -> str | None:
    place = parts.index(kind) + 1 if kind in parts else len(parts)
    return parts[place] if place < len(parts) and parts[place] else None
