"""Options of feeds whose files an extract lands: where a REST interface is asked, and how. Strict, and without secrets.

A feed of such a form has two halves: its source, described here, and the landed files under ``path``, which are read like
those of any other feed. docs/feeds.md explains the options to users.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal
from urllib.parse import urlsplit

from utilityflow.errors import UtilityFlowError
from utilityflow.settings import resolve_secret
from utilityflow.strict import Node, build

LANDED_AS = {"rest": "jsonl", "jdbc": "parquet"}  # form of the source -> format of the files that it lands
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECRET = re.compile(r"(?i)secret|passw|pwd|token|api[-_]?key|authori[sz]ation|cookie|signature|credential")
_REFERENCE = re.compile(r"(env|file):\S+\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_OWN_HEADERS = ("host", "accept-encoding", "content-length", "connection", "transfer-encoding")


@dataclass(frozen=True)
class Auth:
    """How a request says who asks. ``secret`` and ``user`` are references (``env:NAME``, ``file:PATH``), never values.

    ``bearer``: the header ``Authorization: Bearer <secret>``. ``basic``: user and secret. ``header``, ``query``: the secret
    as the header or parameter ``name``.
    """

    kind: Literal["bearer", "basic", "header", "query"]
    secret: str
    user: str = ""
    name: str = ""


@dataclass(frozen=True)
class Paging:
    """How the pages of a collection are asked for.

    ``none``: one answer holds all. ``cursor``: each answer names the next page in ``next`` (a path with dots). ``offset``:
    from record ``first`` (0), until a page is empty. ``page``: page numbers from ``first`` (1), until one is empty.
    ``parameter``: of the query, by default the kind's name. ``size``: records per page, sent as ``size_parameter`` (empty:
    not sent). ``confirm``: offsets and page numbers shift while records come and go, so several pages are read again
    until a round brings nothing new.
    """

    kind: Literal["none", "cursor", "offset", "page"] = "none"
    parameter: str = ""
    next: str = "next_cursor"
    first: int | None = None
    size_parameter: str = "limit"
    size: int = 500
    confirm: bool = True


@dataclass(frozen=True)
class Increment:
    """Only what changed: records whose time of update is at least what was landed last, less the overlap.

    ``field``: of the record, a path with dots. ``parameter``: of the query. ``format``: how times are written there and
    back: ``iso`` (2025-03-01T00:00:00Z; without an offset in the feed's zone), ``epoch_seconds``, ``epoch_millis``.
    ``overlap_seconds``: how late a change may become visible. ``start``: from when the first extract asks; none: all.
    """

    field: str
    parameter: str
    format: Literal["iso", "epoch_seconds", "epoch_millis"] = "iso"
    overlap_seconds: int = 3600
    start: str | None = None


@dataclass(frozen=True)
class Bounds:
    """What one extract may take, against sources that never end. ``attempts``: of one request, the first one included.

    ``request_seconds``: of one request, from connecting to the last byte. ``wait_seconds``: the longest wait between two
    attempts; an answer that asks for a longer one ends the extract. ``resume_seconds``: how old the first page of an
    extract that was cut off may be for it to be gone on with.
    """

    pages: int = 20_000
    page_bytes: int = 32 * 1024**2
    bytes: int = 2 * 1024**3
    records: int = 1_000_000
    seconds: float = 3600.0
    request_seconds: float = 60.0
    attempts: int = 6
    wait_seconds: float = 120.0
    resume_seconds: float = 3600.0


@dataclass(frozen=True)
class Rest:
    """A paged REST interface that answers in JSON.

    ``base_url``: where it is, or a reference to that (``env:NAME``, ``file:PATH``). ``records``: where in the answer the array
    of records stands, a path with dots; empty: the answer is the array. ``record_id``: a field that names a record: of one that
    comes several times in an extract the last state is kept; without it equal records count once.
    """

    base_url: str
    parameters: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    auth: Auth | None = None
    records: str = ""
    record_id: str = ""
    paging: Paging = field(default_factory=Paging)
    increment: Increment | None = None
    limits: Bounds = field(default_factory=Bounds)
    allow_http: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """References to what the feed file does not hold."""
        address = (self.base_url,) if is_reference(self.base_url) else ()
        return (*address, *(r for r in (self.auth.secret, self.auth.user) if r)) if self.auth else address

    @property
    def configured(self) -> bool:
        """Whether it is said here which source is asked: by the feed file, or by what its address refers to."""
        return is_said(self.base_url)

    def resolved(self) -> Rest:
        """The same with the address that a reference stands for.

        :raises UtilityFlowError: UF-1010 when there is none, or one that a feed file may not have either. It is not shown.
        """
        if not is_reference(self.base_url):
            return self
        found = replace(self, base_url=resolve_secret(self.base_url))
        problem = _address_problem(found)
        if problem is not None:
            raise UtilityFlowError("UF-1010", f"what {self.base_url} stands for must be {problem[0]}", hint=problem[1])
        return found

    @property
    def shown(self) -> str:
        """The address as it may be told: without the query; of a reference the reference."""
        return self.base_url


def rest_options(node: Node) -> Rest:
    """The options of a feed of format rest.

    :raises UtilityFlowError: UF-1001, UF-1002 with file, line and key.
    """
    rest = build(Rest, check_mapping(node))
    keys: dict[str, Node] = node.value
    if is_reference(rest.base_url):
        check_reference(keys["base_url"], rest.base_url)
    elif (problem := _address_problem(rest)) is not None:
        raise wrong(keys["base_url"], *problem)
    for group in ("parameters", "headers"):
        for name, child in keys[group].value.items() if group in keys else ():
            _check_sent(group, name, child)
    if rest.auth is not None:
        _check_auth(rest.auth, keys["auth"])
    _check_paging(rest.paging, keys.get("paging", node))
    if rest.increment is not None:
        _check_increment(rest.increment, keys["increment"])
    check_positive(rest.limits, keys.get("limits", node))
    _check_parameters(rest, node)
    return rest


def check_landing_path(feed: str, path: str, suffix: str, node: Node) -> None:
    """``path`` names one folder, and in it the files that the extract lands.

    :raises UtilityFlowError: UF-1002.
    """
    folder, _, last = path.rpartition("/")
    if not folder or set("*?[") & set(folder) or not fnmatchcase(f"{feed}_0{suffix}", last):
        expected = f"a folder without patterns and a pattern that takes '{feed}_...{suffix}', such as {feed}/*{suffix}"
        raise wrong(node, expected)


def check_mapping(node: Node) -> Node:
    """The node, if it is a mapping of keys.

    :raises UtilityFlowError: UF-1002.
    """
    if not isinstance(node.value, dict):
        raise wrong(node, "a mapping of keys")
    return node


def wrong(node: Node, expected: str, hint: str | None = None) -> UtilityFlowError:
    """The error for a value that is not what its key takes."""
    return UtilityFlowError("UF-1002", f"{node.where}: '{node.key}' must be {expected}", hint=hint)


def check_positive(limits: Any, node: Node) -> None:
    """Bounds are numbers above 0.

    :raises UtilityFlowError: UF-1002.
    """
    for name, child in node.value.items() if node.key.endswith("limits") else ():
        if not 0 < getattr(limits, name) < float("inf"):
            raise wrong(child, "above 0")


def is_reference(text: str) -> bool:
    """Whether a text refers to a value outside (``env:NAME``, ``file:PATH``)."""
    return text.startswith(("env:", "file:"))


def is_said(text: str) -> bool:
    """Whether a text is there: it stands in the feed file, or what it refers to can be looked up here and is not empty."""
    try:
        return not is_reference(text) or bool(resolve_secret(text))
    except UtilityFlowError:
        return False


def check_reference(node: Node, text: str) -> None:
    """A secret stands in the environment or in a file, never here.

    :raises UtilityFlowError: UF-1002 without the value.
    """
    if not _REFERENCE.match(text):
        raise wrong(node, "a reference, env:NAME or file:PATH, never the value itself")


def names_a_secret(name: str) -> bool:
    """Whether a parameter's name says that its value is secret."""
    return bool(_SECRET.search(name))


def _address_problem(rest: Rest) -> tuple[str, str | None] | None:
    """What an address must be that it is not, and a hint; None: nothing. It does not show the address."""
    try:
        parts = urlsplit(rest.base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "an address such as https://host/path", None
    if parts.scheme not in ("http", "https") or not host or not rest.base_url.isascii() or re.search(r"\s", rest.base_url):
        return "an address such as https://host/path, in ASCII", None
    if parts.username is not None or parts.password is not None:
        return "without user and password", "use 'auth'"
    if parts.query or parts.fragment or "?" in rest.base_url or "#" in rest.base_url:
        return "without a query", "use 'parameters'"
    if parts.scheme == "http" and host not in _LOCAL and not rest.allow_http:
        return "https", "allow_http: true lets data and secrets travel unprotected"
    return None


def _check_sent(group: str, name: str, node: Node) -> None:
    if names_a_secret(name):
        raise wrong(node, "left out: its name is that of a secret", "use 'auth', which takes env:NAME or file:PATH")
    if group == "headers" and (not _HEADER.match(name) or name.lower() in _OWN_HEADERS):
        raise wrong(node, "a header that a feed may set")
    if not str(node.value).isprintable() or (group == "headers" and not str(node.value).isascii()):
        raise wrong(node, "one line of printable characters")


def _check_auth(auth: Auth, node: Node) -> None:
    keys = node.value
    check_reference(keys["secret"], auth.secret)
    if (auth.kind == "basic") != bool(auth.user):
        raise wrong(keys.get("user", node), "given for basic, and for basic alone")
    if auth.user:
        check_reference(keys["user"], auth.user)
    if (auth.kind in ("header", "query")) != bool(auth.name):
        raise wrong(keys.get("name", node), "given for header and query, and for these alone")
    if auth.kind == "header" and (not _HEADER.match(auth.name) or auth.name.lower() in _OWN_HEADERS):
        raise wrong(keys["name"], "the name of a header")


def _check_paging(paging: Paging, node: Node) -> None:
    if paging.size < 1:
        raise wrong(node.value["size"], "1 or more")
    if paging.first is not None and (paging.kind not in ("offset", "page") or paging.first < 0):
        raise wrong(node.value["first"], "0 or more, of offset or page")
    if paging.kind == "cursor" and not paging.next:
        raise wrong(node.value["next"], "where the answer names the next page")


def _check_increment(increment: Increment, node: Node) -> None:
    for name in ("field", "parameter"):
        if not getattr(increment, name):
            raise wrong(node.value[name], "a name")
    if increment.overlap_seconds < 1:  # servers differ in whether the time itself is in or out
        raise wrong(node.value["overlap_seconds"], "1 or more")
    if increment.start is not None:
        start_of(increment.start, node.value["start"])


def start_of(text: str, node: Node | None = None) -> datetime:
    """The instant from which the first extract asks.

    :raises UtilityFlowError: UF-1002.
    """
    try:
        start = datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", text))
    except ValueError:
        start = None
    if start is None or start.tzinfo is None:
        expected = "an instant with its offset, such as 2020-01-01T00:00:00+00:00"
        raise wrong(node, expected) if node else UtilityFlowError("UF-1002", f"'start' must be {expected}")
    return start


def _check_parameters(rest: Rest, node: Node) -> None:
    """No parameter is sent twice."""
    paging, sent = rest.paging, list(rest.parameters)
    if paging.kind != "none":
        sent += [paging.parameter or paging.kind, *([paging.size_parameter] if paging.size_parameter else [])]
    if rest.increment is not None:
        sent.append(rest.increment.parameter)
    if rest.auth is not None and rest.auth.kind == "query":
        sent.append(rest.auth.name)
    twice = sorted({name for name in sent if sent.count(name) > 1})
    if twice:
        raise UtilityFlowError("UF-1002", f"{node.where}: the parameter '{twice[0]}' would be sent twice")
