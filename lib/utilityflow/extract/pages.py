"""What stands on a page of a REST interface, and where the next page is; no network, no files."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from utilityflow.bronze.records import exact_json, is_number, json_nested
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.sources import Increment, Paging, Rest
from utilityflow.errors import UtilityFlowError

MOST_RECORD_BYTES = Limits.max_record_bytes  # a longer line would have the whole file rejected
_HALVES = re.compile("[\ud800-\udfff]")
_FRACTION = re.compile(r"\.(\d+)")
_EPOCH = re.compile(r"-?\d{1,18}(\.\d+)?\Z")


@dataclass(frozen=True)
class Position:
    """Which page is asked for: a cursor, an offset or a page number as text (empty: the first page of cursors).

    ``turn``: how often the collection is read, from 1.
    """

    value: str = ""
    turn: int = 1


@dataclass(frozen=True)
class Record:
    """One record.

    ``text``: the JSON object on one line, every number as it stood. ``digest``: of its content, whatever the order of its
    keys. ``name``: what tells records apart: the feed's record_id, else the content. ``time``: of its update, None where
    it has none that can be read.
    """

    text: str
    digest: bytes
    name: bytes
    time: dt.datetime | None


@dataclass(frozen=True)
class Page:
    """Records of one answer, and the page after it; None: there is none."""

    records: list[Record]
    after: Position | None


class Reader:
    """Reads the answers of one feed's source.

    :param feed: its name, for messages. :param zone: of times without an offset.
    """

    def __init__(self, feed: str, rest: Rest, zone: str | None) -> None:
        self.feed, self.rest = feed, rest
        self.zone = ZoneInfo(zone or "UTC")

    def first(self, turn: int = 1) -> Position:
        """Where a reading of the collection begins."""
        return Position(first_value(self.rest.paging), turn)

    def parameters(self, position: Position, since: dt.datetime | None) -> dict[str, str]:
        """The query that asks for a page of what changed since then."""
        paging, asked = self.rest.paging, {}
        if paging.kind != "none":
            if paging.size_parameter:
                asked[paging.size_parameter] = str(paging.size)
            if position.value:
                asked[paging.parameter or paging.kind] = position.value
        if self.rest.increment is not None and since is not None:
            asked[self.rest.increment.parameter] = told(since, self.rest.increment)
        return asked

    def page(self, body: bytes, position: Position) -> Page:
        """What an answer holds.

        :raises UtilityFlowError: UF-2013 when it is no JSON, or of another shape than the feed says.
        """
        answer = self._value(body)
        records = at(answer, self.rest.records)
        if not isinstance(records, list):
            place = f"no array in '{self.rest.records}'" if self.rest.records else "no array"
            raise self.strange(f"the answer is {_kind(answer)}, with {place}", "options.records says where the records stand")
        return Page([self.record(r, n) for n, r in enumerate(records, 1)], self._after(position, answer, len(records)))

    def record(self, value: Any, number: int = 0) -> Record:
        """A record of the answer's array.

        :raises UtilityFlowError: UF-2013 when it is no object, or too long for a line of a landed file.
        """
        if not isinstance(value, dict):
            raise self.strange(f"record {number} of a page is {_kind(value)}, not an object")
        text = written(value)
        if len(text) * 4 > MOST_RECORD_BYTES and len(text.encode()) > MOST_RECORD_BYTES:
            raise self.strange(f"record {number} of a page has more than {MOST_RECORD_BYTES:,} bytes")
        digest = digest_of(value)
        named = at(value, self.rest.record_id) if self.rest.record_id else None
        name = digest if named is None else hashlib.blake2b(written(named).encode(), digest_size=16).digest()
        increment = self.rest.increment
        time = instant(at(value, increment.field), increment, self.zone) if increment else None
        return Record(text, digest, name, time)

    def strange(self, what: str, hint: str | None = None) -> UtilityFlowError:
        """The error for a source that answers otherwise than the feed says."""
        return UtilityFlowError("UF-2013", f"{self.feed}: {self.rest.shown}: {what}; nothing was landed", hint=hint)

    def _value(self, body: bytes) -> Any:
        try:
            return exact_json(body.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise self.strange("the answer is not in UTF-8") from None
        except RecursionError:
            raise self.strange("the answer is nested too deeply") from None
        except ValueError:
            raise self.strange(f"the answer is no JSON ({len(body):,} bytes)") from None

    def _after(self, position: Position, answer: Any, count: int) -> Position | None:
        paging = self.rest.paging
        if paging.kind == "cursor":
            following = at(answer, paging.next)
            if following is None or following is False or following == "":
                return None
            if not isinstance(following, str):
                raise self.strange(f"'{paging.next}' of the answer is {_kind(following)}, not a cursor")
            return Position(str(following), position.turn)
        if paging.kind == "none" or count == 0:
            return None
        step = count if paging.kind == "offset" else 1
        return Position(str(int(position.value) + step), position.turn)


def first_value(paging: Paging) -> str:
    """The offset or page number of the first page; empty for cursors."""
    usual = {"offset": 0, "page": 1}.get(paging.kind)
    if usual is None:
        return ""
    return str(usual if paging.first is None else paging.first)


def at(value: Any, path: str) -> Any:
    """What stands at a path with dots; None where there is nothing. An empty path is the value itself."""
    for key in path.split(".") if path else ():
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def written(value: Any) -> str:
    """A value as JSON on one line; half a character stays an escape, so that bronze can quarantine its record."""
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", json_nested(value))


def digest_of(value: Any) -> bytes:
    """16 bytes that stand for the content of a record, whatever the order of its keys."""
    return hashlib.blake2b(written(_sorted(value)).encode(), digest_size=16).digest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(v) for v in value] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    if is_number(value):
        return "a number"
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list) else "a text"


# -- times -----------------------------------------------------------------------------------------------------------


def instant(value: Any, increment: Increment, zone: ZoneInfo) -> dt.datetime | None:
    """The instant (UTC, microseconds) that a record's time stands for; None where it cannot be read."""
    text = str(value).strip() if isinstance(value, str) else ""
    try:
        if increment.format == "iso":
            return _iso(text, zone)
        if not _EPOCH.match(text):
            return None
        whole, _, fraction = text.partition(".")
        micros = int(whole) * 10**6 + int(f"{fraction:0<6}"[:6]) * (-1 if text.startswith("-") else 1)
        if increment.format == "epoch_millis":
            micros = int(whole) * 1000
        return dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=micros)
    except (ValueError, OverflowError):
        return None


def _iso(text: str, zone: ZoneInfo) -> dt.datetime:
    text = re.sub(r"[zZ]\Z", "+00:00", text)
    text = _FRACTION.sub(lambda found: f".{found[1]:0<6}"[:7], text)  # Python 3.10 takes three or six digits
    text = re.sub(r"([+-]\d\d)(\d\d)?\Z", lambda f: f"{f[1]}:{f[2] or '00'}", text) if "T" in text.upper() else text
    moment = dt.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(dt.timezone.utc)


def told(since: dt.datetime, increment: Increment) -> str:
    """An instant as the source wants it: whole seconds, rounded down."""
    since = since.astimezone(dt.timezone.utc)
    seconds = (since - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(seconds=1)
    if increment.format == "iso":
        return f"{since.year:04d}{since:-%m-%dT%H:%M:%SZ}"
    return str(seconds if increment.format == "epoch_seconds" else seconds * 1000)
