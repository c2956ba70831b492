"""Feed files: one strict YAML per source feed, with its format, place, options and the mapping to canonical columns.

The keys are those of DESIGN.md section 10; docs/feeds.md explains them to users.
"""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from utilityflow.bronze.databases import Jdbc, jdbc_options
from utilityflow.bronze.expressions import Expression, parse_expression
from utilityflow.bronze.names import clean_names
from utilityflow.bronze.sources import LANDED_AS, Rest, check_landing_path, rest_options
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.resources import resource
from utilityflow.settings import check_zone
from utilityflow.strict import Node, build, load

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["Control", "Event", "Feed", "Options", "clean_names", "load_feed", "load_feeds"]

System = Literal[
    "customer_management",
    "billing",
    "usage_monitoring",
    "service_requests",
    "payment_processing",
    "regulatory_reporting",
]
FORMATS = ("csv", "jsonl", "json", "fixed_width", "parquet", "xlsx", "xml", "greenbutton", "nem12", "rest", "jdbc")
MOST_HEADER_ROWS = 20
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_FIELD = re.compile(r"_c[0-9]+\Z")
_STEP = re.compile(r"(?:([^\W\d][\w.-]*):)?[^\W\d][\w.-]*\Z")  # of a path of XML elements: a name, with a prefix or without


@dataclass(frozen=True)
class Options:
    """Reader options; a format knows only some of them (``_OPTIONS``).

    ``fields``: fixed width, name -> (start from 1, length) in characters. ``short_lines``: fixed width, ``pad`` takes a
    line that ends early as if blanks had been cut off, ``reject`` (default) makes it a corrupt record.

    XLSX. ``sheet``: name, or place from 1 among the visible ones; None: the only visible one. ``header_rows``: from 1,
    joined into one name per column. ``footnotes``: how notes below the table are told apart: ``none``, ``single_cell``
    (the first row with one filled cell ends the table), ``blank_row`` (the first blank row ends it). ``formulas``:
    ``cached`` takes the value that the last program stored, ``reject`` makes the record corrupt. ``merged``, of cells
    below the header: ``fill`` repeats the value over its range, ``reject`` makes the records corrupt.

    XML. ``record``: tag of the record element, or the end of its path (``entry/reading``), or its whole path
    (``/feed/entry``). ``namespaces``: prefix -> address, of prefixes in ``record``; a tag without prefix matches in any.
    ``attribute_prefix``: put before the names of attributes, where they are those of elements too.
    """

    header: bool = True
    delimiter: str = ","
    encoding: str = "utf-8"
    quote: str = '"'
    escape: str = '"'
    names: tuple[str, ...] = ()
    fields: dict[str, tuple[int, ...]] = field(default_factory=dict)
    short_lines: Literal["reject", "pad"] = "reject"
    sheet: int | str | None = None
    header_rows: tuple[int, ...] = (1,)
    footnotes: Literal["none", "single_cell", "blank_row"] = "none"
    formulas: Literal["reject", "cached"] = "reject"
    merged: Literal["reject", "fill"] = "reject"
    record: str = ""
    namespaces: dict[str, str] = field(default_factory=dict)
    attribute_prefix: str = ""


_OPTIONS: dict[str, tuple[str, ...]] = {
    "csv": ("header", "delimiter", "encoding", "quote", "escape", "names"),
    "jsonl": ("encoding",),
    "json": ("encoding",),
    "fixed_width": ("fields", "encoding", "short_lines", "delimiter"),
    "parquet": (),
    "xlsx": ("sheet", "header_rows", "names", "footnotes", "formulas", "merged"),
    "xml": ("record", "namespaces", "attribute_prefix"),
    "greenbutton": (),
    "nem12": ("encoding",),
    "rest": (),
    "jdbc": (),
}
_NO_KEYS = ("source", "extract")  # fields of Feed that are no keys of its file


_FIRST_OPTIONS = ("header", "delimiter", "encoding", "quote", "escape", "names", "fields", "short_lines")


@dataclass(frozen=True)
class Control:
    """Records around the data: the header starts with ``header_prefix``, the trailer with ``trailer_prefix``.

    ``_cN`` is the N-th field of such a record, counted from 0. Of the trailer: ``rows`` names the field with the number of
    records, ``sums`` maps cleaned raw columns to the fields of their sums. Of the header: ``header_rows`` likewise,
    ``header_date`` its day or month, ``header_sequence`` its running number. ``file_name``: a pattern that the file's name holds;
    its groups ``date`` and ``sequence`` agree with the header's.
    """

    trailer_prefix: str | None = None
    rows: str | None = None
    sums: dict[str, str] = field(default_factory=dict)
    header_prefix: str | None = None
    header_rows: str | None = None
    header_date: str | None = None
    header_sequence: str | None = None
    file_name: str | None = None


_FIRST_CONTROL = ("trailer_prefix", "rows", "sums")


@dataclass(frozen=True)
class Event:
    """Expressions of entities with history: when a change holds, its order within one instant, upsert or delete."""

    effective_at: str | None = None
    sequence: str | None = None
    operation: str | None = None


@dataclass(frozen=True)
class Feed:
    """One feed file; the fields are its keys. ``source`` is where it was read from, for messages.

    ``duplicate_keys``: what different records of one key in one snapshot mean (silver/snapshots.py).
    ``extract``: of a format whose files are landed by an extract, its options (sources.py); None for the others.
    """

    feed: str
    system: System
    entity: str
    format: str
    path: str
    columns: dict[str, str]
    id_prefix: str = ""
    options: Options = field(default_factory=Options)
    time_zone: str | None = None
    mode: Literal["events", "snapshot"] = "events"
    snapshot_time: str | None = None
    duplicate_keys: Literal["keep", "first", "reject"] = "keep"
    same_name: Literal["supersede", "append"] = "supersede"
    settle_seconds: int = 0
    null_values: tuple[str, ...] = ("",)
    control: Control | None = None
    event: Event | None = None
    source: str = field(default="", compare=False)
    extract: Rest | Jdbc | None = None

    @property
    def file_format(self) -> str:
        """The format of the landed files."""
        return LANDED_AS.get(self.format, self.format)

    def event_columns(self) -> dict[str, str]:
        """The expressions under ``event`` that are given: name -> text."""
        given = dataclasses.asdict(self.event) if self.event else {}
        return {name: text for name, text in given.items() if text is not None}

    def expressions(self) -> dict[str, Expression]:
        """Canonical and event column -> checked expression (``snapshot_time`` is not among them).

        :raises UtilityFlowError: UF-1011 naming the file and the key.
        """
        found = {n: parse_expression(t, f"{self.source}: 'columns.{n}'") for n, t in self.columns.items()}
        events = self.event_columns().items()
        return found | {n: parse_expression(t, f"{self.source}: 'event.{n}'") for n, t in events}

    def columns_read(self) -> dict[str, str]:
        """Cleaned raw columns that a file must have -> the key that reads them first."""
        read: dict[str, str] = {}
        for name, expression in self.expressions().items():
            for column in sorted(expression.columns_read):
                read.setdefault(column, name)
        if self.snapshot_time is not None:
            for column in parse_expression(self.snapshot_time, f"{self.source}: 'snapshot_time'").columns_read:
                read.setdefault(column, "snapshot_time")
        for column in self.control.sums if self.control else {}:
            read.setdefault(column, "control.sums")
        return read

    def definition_hash(self) -> str:
        """SHA-256 of what the feed file says, its place and comments aside; equal definitions give equal hashes.

        Options that came with later formats count for those alone, and keys that came later where they say something, so that
        homes know the feeds that they know. How a source is asked does not count: it says nothing of how a landed file is read.
        """
        told = {k: v for k, v in dataclasses.asdict(self).items() if k not in _NO_KEYS}
        if self.duplicate_keys == "keep":
            del told["duplicate_keys"]
        counted = {*_FIRST_OPTIONS, *_OPTIONS[self.format]}
        told["options"] = {k: v for k, v in told["options"].items() if k in counted}
        if told["control"]:
            told["control"] = {k: v for k, v in told["control"].items() if k in _FIRST_CONTROL or v is not None}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def load_feed(path: str | Path | Traversable) -> Feed:
    """Read one feed file.

    :raises UtilityFlowError: UF-1001 to UF-1003 for a file that does not fit (with file, line and key), UF-1011 for an
        expression that is not allowed.
    """
    file = Path(path) if isinstance(path, str) else path
    source = str(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UtilityFlowError("UF-1003", f"{source}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UtilityFlowError("UF-1003", f"{source}: cannot be read: {error}") from None
    return parse_feed(text, source)


def parse_feed(text: str, source: str) -> Feed:
    """A feed from the text of its file; see ``load_feed``."""
    node = load(text, source)
    if not isinstance(node.value, dict):
        raise UtilityFlowError("UF-1002", f"{node.where}: a feed file is a mapping of keys")
    keys: dict[str, Node] = dict(node.value)
    known = [f.name for f in dataclasses.fields(Feed) if f.name not in _NO_KEYS]
    kind = keys.get("format")
    for name, child in keys.items():
        if name not in known:
            raise UtilityFlowError("UF-1001", f"{child.where}: unknown key '{name}'", hint=nearest(name, known))
    options_node = keys.pop("options", Node({}, source, node.line, "options"))
    if kind is not None and kind.value not in FORMATS:
        raise _wrong(kind, f"one of {', '.join(FORMATS)}", nearest(str(kind.value), FORMATS))
    feed: Feed = build(Feed, Node(keys, source, node.line), options=Options(), source=source, extract=None)
    if feed.format in LANDED_AS:
        read = rest_options if feed.format == "rest" else jdbc_options
        feed = dataclasses.replace(feed, extract=read(options_node))
    else:
        feed = dataclasses.replace(feed, options=_options(feed.format, options_node))
    _check(feed, keys, node)
    return feed


def load_feeds(folder: str | Path | None = None) -> dict[str, Feed]:
    """All ``*.yaml`` files directly in a folder, by feed name; the shipped conf/feeds/ when none is named.

    :raises UtilityFlowError: as ``load_feed``; UF-1003 when the folder is not there or holds no feed file; UF-1002 when
        two files name the same feed.
    """
    place = resource("conf", "feeds") if folder is None else Path(folder)
    if not place.is_dir():
        raise UtilityFlowError("UF-1003", f"{place}: no such folder of feed files")
    for file in place.iterdir():
        if file.name.endswith((".yml", ".YAML", ".YML")):
            raise UtilityFlowError("UF-1003", f"{file}: would not be read", hint="names of feed files end in .yaml")
    files = sorted((f for f in place.iterdir() if f.name.endswith(".yaml") and f.is_file()), key=lambda f: f.name)
    if not files and folder is not None:
        raise UtilityFlowError("UF-1003", f"{place}: no feed files (*.yaml) there")
    feeds: dict[str, Feed] = {}
    for file in files:
        feed = load_feed(file)
        if feed.feed in feeds:
            other = feeds[feed.feed].source
            raise UtilityFlowError("UF-1002", f"{feed.source}: feed '{feed.feed}' is already defined in {other}")
        feeds[feed.feed] = feed
    return feeds


# -- checks ----------------------------------------------------------------------------------------------------------


def _wrong(node: Node, expected: str, hint: str | None = None) -> UtilityFlowError:
    return UtilityFlowError("UF-1002", f"{node.where}: '{node.key}' must be {expected}", hint=hint)


def _options(kind: str, node: Node) -> Options:
    if not isinstance(node.value, dict):
        raise _wrong(node, "a mapping of keys")
    allowed = _OPTIONS[kind]
    for name, child in node.value.items():
        if name not in allowed:
            hint = nearest(name, allowed) if allowed else f"format {kind} has no options"
            raise UtilityFlowError("UF-1001", f"{child.where}: unknown option '{name}' of format {kind}", hint=hint)
    options: Options = build(Options, node)
    given = node.value
    for name in ("delimiter", "quote", "escape"):
        value = getattr(options, name)
        if name in given and len(value) != 1 and not (name == "quote" and value == "") and value != "\\t":
            raise _wrong(given[name], "one character")
        if value in ("\r", "\n", "\0"):
            raise _wrong(given[name], "a character that ends no line")
    if kind == "csv" and options.delimiter in (options.quote, options.escape):
        raise _wrong(given.get("delimiter", node), "another character than quote and escape")
    try:
        codec = codecs.lookup(options.encoding)
        encoding = codec.name.removesuffix("-sig")
        "".encode(encoding)  # codecs that are no text encodings, such as hex, are refused here
    except LookupError:
        raise _wrong(given["encoding"], "the name of an encoding", "for example utf-8 or iso-8859-1") from None
    if kind == "csv" and options.names and options.header and "header" in given:
        raise _wrong(given["names"], "left out when the file has a header")
    if kind == "csv" and not options.names and not options.header:
        raise UtilityFlowError("UF-1002", f"{node.where}: a file without header needs 'options.names'")
    if kind == "fixed_width":
        _check_layout(options, given.get("fields", node))
    if kind == "xlsx":
        options = _workbook(options, node)
    if kind == "xml":
        _check_record(options, node)
    tab = "\t" if options.delimiter == "\\t" else options.delimiter
    header = options.header and not options.names
    return dataclasses.replace(options, delimiter=tab, header=header, encoding=encoding)


def _workbook(options: Options, node: Node) -> Options:
    """Options of XLSX, checked; with ``names`` alone the sheet has no header."""
    given = node.value
    if options.names and "header_rows" not in given:
        options = dataclasses.replace(options, header_rows=())
    rows = options.header_rows
    if not rows and not options.names:
        raise UtilityFlowError("UF-1002", f"{node.where}: a sheet without header needs 'options.names'")
    if any(row < 1 for row in rows) or list(rows) != sorted(set(rows)) or len(rows) > MOST_HEADER_ROWS:
        raise _wrong(given["header_rows"], f"rising row numbers from 1, at most {MOST_HEADER_ROWS}")
    if options.sheet == "" or (isinstance(options.sheet, int) and options.sheet < 1):
        raise _wrong(given["sheet"], "the name of a sheet, or its place from 1")
    return options


def _check_record(options: Options, node: Node) -> None:
    """Options of XML."""
    place = node.value.get("record", node)
    if not options.record:
        raise UtilityFlowError("UF-1002", f"{place.where}: format xml needs 'options.record', the record element's tag")
    for step in options.record.removeprefix("/").split("/"):
        found = _STEP.match(step)
        if found is None:
            raise _wrong(place, "a tag, or a path of tags with / between them, such as entry/reading")
        if found[1] and found[1] not in options.namespaces:
            raise _wrong(place, f"made of prefixes that 'options.namespaces' declares; '{found[1]}' is none")
    if options.attribute_prefix and not _STEP.match(options.attribute_prefix):
        raise _wrong(node.value["attribute_prefix"], "letters, digits and _")


def _check_layout(options: Options, node: Node) -> None:
    if not options.fields:
        raise UtilityFlowError("UF-1002", f"{node.where}: format fixed_width needs 'options.fields'")
    for name, place in options.fields.items():
        if len(place) != 2 or place[0] < 1 or place[1] < 1:
            raise _wrong(node.value[name], "[start from 1, length]")


def _check(feed: Feed, keys: dict[str, Node], node: Node) -> None:
    """What types alone do not say.

    :raises UtilityFlowError: UF-1002 or UF-1011 with file, line and key.
    """
    if not _NAME.match(feed.feed):
        raise _wrong(keys["feed"], "lower case letters, digits and _, beginning with a letter")
    parts = feed.path.split("/")
    if not feed.path.isprintable() or "\\" in feed.path or feed.path.startswith("/") or {"..", "", "."} & set(parts):
        raise _wrong(keys["path"], "a path below the landing root, with / between its parts and without '..'")
    if any("**" in part and part != "**" for part in parts):
        raise _wrong(keys["path"], "a path in which ** stands alone between its slashes")
    if feed.time_zone is not None:
        check_zone(feed.time_zone, f"{keys['time_zone'].where}: 'time_zone'")
    if feed.settle_seconds < 0:
        raise _wrong(keys["settle_seconds"], "0 or more")
    if not feed.columns:
        raise UtilityFlowError("UF-1002", f"{keys['columns'].where}: 'columns' maps no column")
    if (feed.mode == "snapshot") != (feed.snapshot_time is not None):
        place = keys.get("snapshot_time", keys.get("mode", node)).where
        raise UtilityFlowError("UF-1002", f"{place}: 'snapshot_time' belongs to mode snapshot, which needs it")
    if feed.mode != "snapshot" and "duplicate_keys" in keys:
        raise UtilityFlowError("UF-1002", f"{keys['duplicate_keys'].where}: 'duplicate_keys' belongs to mode snapshot")
    if feed.control is not None:
        _check_control(feed, keys["control"])
    if feed.extract is not None:
        check_landing_path(feed.feed, feed.path, f".{feed.file_format}", keys["path"])
        if feed.mode == "snapshot" and feed.extract.increment is not None:
            raise _wrong(keys["mode"], "events: an extract of what changed is not the whole state")
    _check_expressions(keys)


def _check_control(feed: Feed, node: Node) -> None:
    control = feed.control
    if control is None or feed.format not in ("csv", "fixed_width"):
        raise _wrong(node, "left out: only csv and fixed_width files have a header record or a trailer")
    totals = [value for value in (control.rows, *control.sums.values()) if value is not None]
    told = [value for value in (control.header_rows, control.header_date, control.header_sequence) if value is not None]
    if bool(control.trailer_prefix) != bool(totals) or not (control.trailer_prefix or control.header_prefix):
        raise _wrong(node, "a header_prefix, or a trailer_prefix and at least one of rows and sums")
    if told and not control.header_prefix:
        raise _wrong(node, "without header_rows, header_date and header_sequence where there is no header_prefix")
    if control.header_prefix and control.header_prefix == control.trailer_prefix:
        raise _wrong(node, "of two different prefixes")
    if not all(_FIELD.match(value) for value in (*totals, *told)):
        raise _wrong(node, "made of fields _c0, _c1, ... of the header or trailer")
    if control.file_name is not None:
        _check_file_name(control, node.value["file_name"])


def _check_file_name(control: Control, node: Node) -> None:
    try:
        groups = set(re.compile(control.file_name or "").groupindex)
    except re.error as error:
        raise _wrong(node, f"a regular expression: {error}") from None
    known = {name for name in ("date", "sequence") if getattr(control, f"header_{name}") is not None}
    if not groups or groups - known:
        raise _wrong(node, "a pattern with groups named date or sequence, of which header_date and header_sequence tell")


def _check_expressions(keys: dict[str, Node]) -> None:
    places: list[Node] = [*keys["columns"].value.values()]
    if "event" in keys and isinstance(keys["event"].value, dict):
        places += keys["event"].value.values()
    if "snapshot_time" in keys:
        places.append(keys["snapshot_time"])
    for name in keys["columns"].value:
        if not _NAME.match(name):
            raise _wrong(keys["columns"].value[name], "mapped to a canonical column name")
    for place in places:
        if place.value is None:
            continue
        parse_expression(str(place.value), f"{place.where}: '{place.key}'")


def plain(feed: Feed) -> dict[str, Any]:
    """The feed as plain values, for ``--json``."""
    return dataclasses.asdict(feed)
