"""Options of feeds of format jdbc: which table or query of which database is asked, and how. Strict, and without secrets.

The URL names host and database alone; what a driver takes beside them are ``properties``, from a list: some properties of
drivers load classes or write files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from utilityflow.bronze.sources import (
    check_mapping,
    check_positive,
    check_reference,
    is_reference,
    is_said,
    start_of,
    wrong,
)
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.settings import resolve_secret
from utilityflow.strict import Node, build

_NAME = r"[^\W\d][\w$]*"
_TABLE = re.compile(rf"{_NAME}(\.{_NAME}){{0,2}}\Z")
_COLUMN = re.compile(rf"{_NAME}\Z")
_QUERY = re.compile(r"\s*(select|with)\s", re.IGNORECASE)
_TEXTS = re.compile(r"'[^']*'|\"[^\"]*\"")
MOST_NUMBER = 10**18

# what a URL may look like, and the properties that a feed may set
URLS: dict[str, re.Pattern[str]] = {
    "sqlite": re.compile(r"jdbc:sqlite:(?!.*[?;])(?!:)[^\s]+\Z"),
    "postgresql": re.compile(r"jdbc:postgresql://[\w.:,\[\]-]+/[\w-]+\Z"),
    "sqlserver": re.compile(r"jdbc:sqlserver://[\w.\\-]+(:\d+)?\Z"),
}
PROPERTIES: dict[str, tuple[str, ...]] = {
    "sqlite": ("busy_timeout",),
    "postgresql": ("sslmode", "sslrootcert", "ApplicationName", "connectTimeout", "socketTimeout", "loginTimeout",
                   "tcpKeepAlive", "currentSchema", "targetServerType", "gssEncMode"),
    "sqlserver": ("databaseName", "encrypt", "trustServerCertificate", "hostNameInCertificate", "applicationName",
                  "applicationIntent", "loginTimeout", "socketTimeout", "lockTimeout", "multiSubnetFailover", "instanceName",
                  "authentication", "msiClientId", "integratedSecurity", "authenticationScheme"),
}  # fmt: skip


@dataclass(frozen=True)
class Following:
    """Only the rows that changed: those whose ``column`` is at least what was landed last, less the overlap.

    ``kind``: ``time`` (a timestamp, or its text), ``epoch_seconds``, ``epoch_millis``, or ``number``: the sequence number of
    a change table. The overlap (``overlap_seconds``, or ``overlap_numbers``) covers transactions that commit late.
    ``start``: from where the first extract asks, an instant with its offset or a number; none: all.
    """

    column: str
    kind: Literal["time", "epoch_seconds", "epoch_millis", "number"] = "time"
    overlap_seconds: int = 3600
    overlap_numbers: int = 1000
    start: str | None = None


@dataclass(frozen=True)
class DatabaseBounds:
    """What one extract may take. ``seconds``: of the query; ``attempts``: of a connection or query, the first included.

    ``wait_seconds``: the longest wait between two attempts. ``fetch_size``: rows that the driver holds at once.
    """

    records: int = 20_000_000
    seconds: int = 3600
    attempts: int = 4
    wait_seconds: float = 60.0
    fetch_size: int = 10_000


@dataclass(frozen=True)
class Jdbc:
    """A table or query of a database. ``user`` and ``password`` are references (``env:NAME``, ``file:PATH``).

    ``url``: where it is, or a reference to that.
    """

    url: str
    table: str = ""
    query: str = ""
    user: str = ""
    password: str = ""
    increment: Following | None = None
    properties: dict[str, str] = field(default_factory=dict)
    limits: DatabaseBounds = field(default_factory=DatabaseBounds)

    @property
    def kind(self) -> str:
        """Which database it is: a key of URLS. Of a reference only the resolved options know it."""
        return self.url.split(":")[1]

    @property
    def secrets(self) -> tuple[str, ...]:
        """References to what the feed file does not hold."""
        return tuple(r for r in (self.url if is_reference(self.url) else "", self.user, self.password) if r)

    @property
    def configured(self) -> bool:
        """Whether it is said here which database is asked: by the feed file, or by what its URL refers to."""
        return is_said(self.url)

    def resolved(self) -> Jdbc:
        """The same with the URL that a reference stands for.

        :raises UtilityFlowError: UF-1010 when there is none, or one that this version does not take. It is not shown.
        """
        if not is_reference(self.url):
            return self
        found = replace(self, url=resolve_secret(self.url))
        problem = _url_problem(found.url)
        if problem is None and (foreign := [name for name in self.properties if name not in PROPERTIES[found.kind]]):
            problem = f"name a database that takes the property '{foreign[0]}'"
        if problem is not None:
            raise UtilityFlowError("UF-1010", f"what {self.url} stands for must {problem}")
        return found

    @property
    def shown(self) -> str:
        """The database as it may be told."""
        return self.url + (f" {self.table}" if self.table else "")


def jdbc_options(node: Node) -> Jdbc:
    """The options of a feed of format jdbc.

    :raises UtilityFlowError: UF-1001, UF-1002 with file, line and key.
    """
    jdbc = build(Jdbc, check_mapping(node))
    keys: dict[str, Node] = node.value
    if is_reference(jdbc.url):
        check_reference(keys["url"], jdbc.url)
    else:
        _check_url(jdbc.url, keys["url"])
    if bool(jdbc.table) == bool(jdbc.query):
        raise UtilityFlowError("UF-1002", f"{node.where}: format jdbc needs one of 'options.table' and 'options.query'")
    if jdbc.table and not _TABLE.match(jdbc.table):
        raise wrong(keys["table"], "a table, schema.table or database.schema.table, of letters, digits, _ and $")
    if jdbc.query and (not _QUERY.match(jdbc.query) or ";" in _TEXTS.sub("", jdbc.query)):
        raise wrong(keys["query"], "one SELECT, without a semicolon")
    for name in ("user", "password"):
        if name in keys:
            check_reference(keys[name], getattr(jdbc, name))
    for name, child in keys["properties"].value.items() if "properties" in keys else ():
        known = sorted({n for some in PROPERTIES.values() for n in some}) if is_reference(jdbc.url) else PROPERTIES[jdbc.kind]
        if name not in known:
            raise UtilityFlowError("UF-1001", f"{child.where}: a feed may not set '{name}'", hint=nearest(name, known))
        if not str(child.value).isprintable():
            raise wrong(child, "one line of printable characters")
    if jdbc.increment is not None:
        _check_increment(jdbc.increment, keys["increment"])
    check_positive(jdbc.limits, keys.get("limits", node))
    return jdbc


def _check_url(url: str, node: Node) -> None:
    problem = _url_problem(url)  # it does not show the URL, which may hold a password
    if problem is not None:
        hint = "user and password are 'options.user' and 'options.password', the rest 'options.properties'"
        raise UtilityFlowError("UF-1002", f"{node.where}: 'options.url' must {problem}", hint=hint)


def _url_problem(url: str) -> str | None:
    """What a URL must do that it does not."""
    kind = url.removeprefix("jdbc:").split(":")[0]
    if not url.startswith("jdbc:") or kind not in URLS:
        return f"begin with one of {', '.join(f'jdbc:{k}:' for k in URLS)}"
    if not URLS[kind].match(url):
        return f"hold {'the path of a file' if kind == 'sqlite' else 'host, port and database alone'}"
    return None


def _check_increment(increment: Following, node: Node) -> None:
    if not _COLUMN.match(increment.column):
        raise wrong(node.value["column"], "a column, of letters, digits, _ and $")
    numbers = increment.kind == "number"
    if increment.overlap_seconds < 1 or increment.overlap_numbers < 0:
        name = "overlap_seconds" if increment.overlap_seconds < 1 else "overlap_numbers"
        raise wrong(node.value[name], "0 or more" if name == "overlap_numbers" else "1 or more")
    if ("overlap_seconds" if numbers else "overlap_numbers") in node.value:
        raise wrong(node.value["overlap_seconds" if numbers else "overlap_numbers"], f"left out for kind {increment.kind}")
    if increment.start is None:
        return
    if not numbers:
        start_of(increment.start, node.value["start"])
    elif not increment.start.isascii() or not increment.start.isdigit() or int(increment.start) > MOST_NUMBER:
        raise wrong(node.value["start"], "a whole number, 0 or more")
