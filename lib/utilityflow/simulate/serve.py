"""A small real HTTP server that plays the service desk's REST interface: pages, updated_since, and faults on request.

``GET /service-requests`` answers ``{"data": [...], "next_cursor": "..." | null, "total": n}`` in order of update time and id:

- ``limit`` records a page, from ``cursor`` (keyset: steady while records come and go), ``offset`` or ``page`` (from 1);
- ``updated_since`` (ISO 8601): only what was updated then or later;
- ``states=all``: each state that a request has had, as a desk's log of changes shows them, in place of the present one.

Faults meet the n-th request, counted from 1: ``429@3``, ``503@2-4``, ``slow@*``. Standard library alone.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import datetime as dt
import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from utilityflow.errors import UtilityFlowError, nearest

PATH = "/service-requests"
FAULTS = {
    "429": "too many requests, Retry-After in seconds",
    "429date": "too many requests, Retry-After as a date of HTTP",
    "500": "internal error",
    "503": "unavailable",
    "drop": "the connection ends without an answer",
    "slow": "the answer begins after the delay",
    "endless": "a body that never ends, a byte at a time",
    "flood": "a body that never ends, as fast as it is taken",
    "truncated": "half of the declared body",
    "repeated": "the page before once more",
    "shifted": "the page begins two records earlier",
    "loop": "the next cursor is that of the first page",
    "empty": "no records, and a next cursor all the same",
    "html": "a page for people instead of JSON",
    "shape": "JSON of another shape",
    "elsewhere": "a redirect to another host",
}
_FAULT = re.compile(r"(?P<kind>[a-z0-9]+)@(?:(?P<first>[1-9]\d*)(?:-(?P<last>[1-9]\d*))?|(?P<all>\*))\Z")
_FAR = 10**9
_TYPES = (
    ("outage", ("No power", "Flickering lights", "Partial power")),
    ("billing", ("High bill", "Bill not received", "Wrong tariff")),
    ("meter", ("Meter test", "Display blank", "Access refused")),
    ("move", ("Move in", "Move out")),
    ("streetlight", ("Lamp out", "Lamp on by day")),
)
_STATES = ("open", "in progress", "waiting for customer", "resolved", "closed")
# time of update, id, and how many alike come before: records without an id, and those that are told twice, have pages too
_Key: TypeAlias = "tuple[str, str, int]"


@dataclass(frozen=True)
class Fault:
    """A fault that meets requests ``first`` to ``last``, counted from 1."""

    kind: str
    first: int
    last: int


def parse_fault(text: str) -> Fault:
    """``kind@n``, ``kind@n-m`` or ``kind@*``.

    :raises UtilityFlowError: UF-1004.
    """
    found = _FAULT.match(text)
    if found is None:
        raise UtilityFlowError("UF-1004", f"'{text}' is no fault", hint="for example 429@3, 503@2-4 or slow@*")
    if found["kind"] not in FAULTS:
        raise UtilityFlowError("UF-1004", f"there is no fault '{found['kind']}'", hint=nearest(found["kind"], FAULTS))
    if found["all"]:
        return Fault(found["kind"], 1, _FAR)
    return Fault(found["kind"], int(found["first"]), int(found["last"] or found["first"]))


def requests_of(count: int, seed: int = 1, start: dt.datetime | None = None) -> list[dict[str, Any]]:
    """Service requests by seed, the same each time: opened over a month, most of them closed.

    :param start: of the month, UTC; by default 1 January 2025.
    """
    draw = random.Random(seed)
    begin = start or dt.datetime(2025, 1, 1, tzinfo=dt.timezone.utc)
    return [_request(number, draw, begin) for number in range(1, count + 1)]


def _request(number: int, draw: random.Random, begin: dt.datetime) -> dict[str, Any]:
    kind, details = _TYPES[draw.randrange(len(_TYPES))]
    opened = begin + dt.timedelta(seconds=draw.randrange(28 * 86400))
    state = _STATES[draw.randrange(len(_STATES))]
    updated = opened + dt.timedelta(seconds=draw.randrange(60, 3 * 86400))
    done = state in ("resolved", "closed")
    return {
        "id": f"SR-{number:07d}",
        "customer": {"number": f"C{draw.randrange(1, 100000):07d}", "channel": draw.choice(["phone", "web", "app", "mail"])},
        "type": kind,
        "detail": draw.choice(details),
        "priority": draw.choice(["low", "normal", "normal", "high"]),
        "state": state,
        "opened_at": _stamp(opened),
        "closed_at": _stamp(updated) if done else None,
        "updated_at": _stamp(updated),
        "location": {"city": "Springfield", "latitude": round(39.7 + draw.random() / 5, 6),
                     "longitude": round(-89.6 - draw.random() / 5, 6)},
    }  # fmt: skip


def _stamp(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Desk:
    """What the server knows.

    ``file``: JSON lines, or a folder of such files as ``simulate`` writes them, read again when they change; of each request the
    present state is shown, or all of them. Without a file ``records`` are. ``asked``: the query of each request, in order;
    ``token``: that a request must bear, None: none. ``delay``: seconds of the fault ``slow``.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    file: Path | None = None
    faults: Sequence[Fault] = ()
    token: str | None = None
    delay: float = 5.0
    retry_after: int = 1
    asked: list[Mapping[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    _seen: Mapping[Path, int] = field(default_factory=dict)
    _states: list[dict[str, Any]] = field(default_factory=list)  # of the file
    _ready: dict[bool, list[tuple[_Key, dict[str, Any]]]] = field(default_factory=dict)  # of the file, in order, by ``states``

    def now(self, *, states: bool = False) -> list[dict[str, Any]]:
        """All records, in order of update time and id. :param states: each state of a request, not the present one alone."""
        return [record for _, record in self._ordered(states=states)]

    def _ordered(self, *, states: bool) -> list[tuple[_Key, dict[str, Any]]]:
        with self.lock:
            if self.file is not None:
                files = sorted(self.file.glob("*.jsonl")) if self.file.is_dir() else [self.file]
                seen = {file: file.stat().st_mtime_ns for file in files}
                if seen != self._seen:
                    lines = (line for file in files for line in file.read_text("utf-8").splitlines())
                    self._states = [json.loads(line) for line in lines if line.strip()]
                    self.records, self._ready, self._seen = present(self._states), {}, seen
                if states not in self._ready:
                    self._ready[states] = _keyed(self._states if states else self.records)
                return self._ready[states]
            return _keyed(self.records)

    def note(self, query: Mapping[str, str]) -> str:
        """Count a request; returns the kind of the fault that meets it, or an empty text."""
        with self.lock:
            self.asked.append(query)
            number = len(self.asked)
        return next((f.kind for f in self.faults if f.first <= number <= f.last), "")

    def page(self, query: Mapping[str, str], fault: str = "") -> dict[str, Any]:
        """The answer to a query.

        :raises ValueError: the query cannot be understood.
        """
        if (which := query.get("states", "present")) not in ("present", "all"):
            raise ValueError(f"states={which}")
        records = self._ordered(states=which == "all")
        if since := query.get("updated_since"):
            begin = dt.datetime.fromisoformat(since.replace("Z", "+00:00"))
            if begin.tzinfo is None:
                raise ValueError("an instant without its offset")
            records = [(key, r) for key, r in records if _changed(r, begin)]
        limit = min(int(query.get("limit", "100")), 1000)
        begin_at = self._place(query, records, limit)
        if fault == "repeated":
            begin_at = max(begin_at - limit, 0)
        if fault == "shifted":
            begin_at = max(begin_at - 2, 0)
        shown = [] if fault == "empty" else records[begin_at : begin_at + limit]
        more = bool(shown) and begin_at + limit < len(records)
        after = _cursor(shown[-1][0]) if more else None
        if fault == "loop":
            after = _cursor(records[0][0]) if records else "again"
        if fault == "empty":
            after = f"{query.get('cursor', '')}~"
        return {"data": [record for _, record in shown], "next_cursor": after, "total": len(records)}

    def _place(self, query: Mapping[str, str], records: Sequence[tuple[_Key, Any]], limit: int) -> int:
        if cursor := query.get("cursor", "").rstrip("~"):
            return bisect.bisect_right(records, _key_of(cursor), key=lambda pair: pair[0])
        if "page" in query:
            return (int(query["page"]) - 1) * limit
        return int(query.get("offset", "0"))


def present(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last state of each request, as a desk shows it; records without an id are all shown."""
    found: dict[Any, dict[str, Any]] = {}
    for place, record in enumerate(records):
        name = (record["id"],) if record["id"] else place
        if name not in found or str(found[name]["updated_at"]) <= str(record["updated_at"]):
            found[name] = record
    return list(found.values())


def _keyed(records: Iterable[dict[str, Any]]) -> list[tuple[_Key, dict[str, Any]]]:
    """In order of update time and id, each with a key of its own."""
    found: list[tuple[_Key, dict[str, Any]]] = []
    for record in sorted(records, key=_place_of):
        time, name = _place_of(record)
        alike = found[-1][0][2] + 1 if found and found[-1][0][:2] == (time, name) else 0
        found.append(((time, name, alike), record))
    return found


def _place_of(record: Mapping[str, Any]) -> tuple[str, str]:
    return str(record["updated_at"]), str(record["id"])


def _changed(record: Mapping[str, Any], since: dt.datetime) -> bool:
    """Whether a record was updated since then; one whose time cannot be read is shown whenever it is asked for changes."""
    try:
        return dt.datetime.fromisoformat(str(record["updated_at"]).replace("Z", "+00:00")) >= since
    except (ValueError, TypeError):
        return True


def _cursor(key: _Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _key_of(cursor: str) -> _Key:
    try:
        time, name, alike = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return str(time), str(name), int(alike)
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise ValueError(str(error)) from None


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:  # noqa: N802 - the name is the library's
        """Answer, or play the fault that meets this request."""
        desk, url = self.server.desk, urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        fault = desk.note(query)
        try:
            if url.path != PATH:
                self._send(404, b'{"error": "not found"}')
            elif desk.token is not None and self.headers.get("Authorization") != f"Bearer {desk.token}":
                self._send(401, b'{"error": "unauthorized"}')
            elif not self._failed(fault, desk):
                body = json.dumps(desk.page(query, fault), ensure_ascii=False).encode()
                self._send(200, body, cut=fault == "truncated")
        except ValueError:
            self._send(400, b'{"error": "bad request"}')
        except OSError:
            self.close_connection = True

    def _failed(self, fault: str, desk: Desk) -> bool:
        """Play a fault in whose place no page comes; True when it did."""
        if fault in ("429", "429date"):
            at = time.time() + desk.retry_after
            wait = str(desk.retry_after) if fault == "429" else email.utils.formatdate(at, usegmt=True)
            self._send(429, b"{}", {"Retry-After": wait})
        elif fault in ("500", "503"):
            self._send(int(fault), b"{}")
        elif fault == "drop":
            self.close_connection = True
        elif fault in ("endless", "flood"):
            self._pour(slowly=fault == "endless")
        elif fault == "html":
            self._send(200, b"<html><body>Please sign in</body></html>", {"Content-Type": "text/html"})
        elif fault == "shape":
            self._send(200, b'{"items": {"count": 0}}')
        elif fault == "elsewhere":
            self._send(302, b"", {"Location": f"http://elsewhere.invalid{PATH}"})
        else:
            if fault == "slow":
                desk.stopped.wait(desk.delay)
            return False
        return True

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _pour(self, *, slowly: bool) -> None:
        """A body without an end, until the other side or the server has had enough."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(b'{"data": ["')
        while not self.server.desk.stopped.is_set():
            self.wfile.write(b"x" if slowly else b"x" * 65536)
            if slowly:
                self.server.desk.stopped.wait(0.05)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is kept in ``Desk.asked``."""


class Server(ThreadingHTTPServer):
    """The server; ``with Server(desk) as server`` runs it in a thread and ends it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, desk: Desk, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.desk = desk
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        """The address of the collection."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}{PATH}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of."""

    def wait(self) -> None:
        """Until the server ends."""
        self._thread.join()

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.desk.stopped.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def serve(*, host: str = "127.0.0.1", port: int = 8311, records: Path | None = None, count: int = 1000, seed: int = 1,
          faults: Iterable[str] = (), token: str | None = None) -> Server:  # fmt: skip
    """A server that is ready to run, over JSON lines (a file, or a folder of files) or over ``count`` records made by seed.

    :raises UtilityFlowError: UF-1004 for a fault that there is not, UF-1003 when the file cannot be read, UF-1008 when the
        port cannot be taken.
    """
    desk = Desk([] if records else requests_of(count, seed), records, [parse_fault(f) for f in faults], token)
    try:
        desk.now()
    except (OSError, ValueError, KeyError) as error:
        what = f"{records}: no JSON lines with id and updated_at: {type(error).__name__}"
        raise UtilityFlowError("UF-1003", what) from None
    try:
        return Server(desk, host, port)
    except OSError as error:
        raise UtilityFlowError("UF-1008", f"cannot listen on {host}:{port}: {error.strerror}") from None
