"""One extract of a REST interface: its pages, each record once, become one landed file, or none when nothing new came."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.records import exact_json
from utilityflow.bronze.sources import Rest, start_of
from utilityflow.errors import UtilityFlowError
from utilityflow.extract.landed import (
    Extracted,
    LandedFile,
    Refused,
    covered,
    file_name,
    landed_files,
    make_folder,
    mark_text,
    newest_full,
)
from utilityflow.extract.pages import Page, Position, Reader, Record, digest_of
from utilityflow.extract.web import Caller, Clock, Refusal, over
from utilityflow.extract.work import WorkFile
from utilityflow.lakehouse import rename

MOST_FRUITLESS = 20  # pages in a row that bring nothing new, though more are announced
MOST_SAME_CURSOR = 3  # times that one cursor is asked for: a page may come once more by mistake
MOST_TURNS = 5  # readings of a collection whose pages shift
FORM = 1  # of the work file
_NEVER = dt.datetime.min.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Ask:
    """What one extract asks for. ``begin``: up to where changes have landed; ``since``: that less the overlap; ``at``: when."""

    begin: dt.datetime | None
    since: dt.datetime | None
    at: dt.datetime

    def told(self, rest: Rest, zone: str | None) -> dict[str, object]:
        """As it stands in the work file; pages of another ask or another source are not gone on with."""
        source = {k: v for k, v in dataclasses.asdict(rest).items() if k not in ("limits", "auth")}
        identity = hashlib.sha256(json.dumps([source, zone], sort_keys=True).encode()).hexdigest()
        return {"form": FORM, "source": identity, "begin": mark_text(self.begin), "at": self.at.isoformat()}


@dataclass
class Progress:
    """What an extract has seen so far, and the rules by which it ends."""

    feed: str
    reader: Reader
    pages: int = 0
    size: int = 0  # bytes of the answers
    fruitless: int = 0
    first_turn: int = 0
    turn_pages: int = 0
    turn_new: int = 0
    seen: set[bytes] = field(default_factory=set)
    cursors: Counter[str] = field(default_factory=Counter)

    def take(self, position: Position, records: list[Record], after: Position | None, size: int) -> list[Record]:
        """Count a page; returns the records that had not come before.

        :raises UtilityFlowError: UF-2013 when the pages do not end, UF-2014 when a bound is reached.
        """
        new = list({r.digest: r for r in records if r.digest not in self.seen}.values())
        self.seen.update(r.digest for r in new)
        self.pages, self.size = self.pages + 1, self.size + size
        self.turn_pages, self.turn_new = self.turn_pages + 1, self.turn_new + len(new)
        limits = self.reader.rest.limits
        if self.pages > limits.pages or (self.pages == limits.pages and after is not None):
            raise over(self.feed, f"needs more than {limits.pages:,} pages", "pages")
        if self.size > limits.bytes:
            raise over(self.feed, f"gets more than {limits.bytes:,} bytes", "bytes")
        if len(self.seen) > limits.records:
            raise over(self.feed, f"gets more than {limits.records:,} records", "records")
        self._check_end(position, after, len(new))
        return new

    def _check_end(self, position: Position, after: Position | None, new: int) -> None:
        self.fruitless = 0 if new else self.fruitless + 1
        if self.reader.rest.paging.kind == "cursor":
            self.cursors[position.value] += 1
            if after is not None and self.cursors[after.value] >= MOST_SAME_CURSOR:
                raise self.reader.strange(f"page {self.pages} leads back to a page before it: the cursor loops")
        if after is None:
            return
        if position.turn == 1 and self.fruitless >= MOST_FRUITLESS:
            raise self.reader.strange(f"{self.fruitless} pages in a row bring nothing new, and more are announced")
        if position.turn > 1 and self.turn_pages > 2 * self.first_turn + MOST_FRUITLESS:
            raise self.reader.strange("read again, the collection does not end")

    def following(self, position: Position, after: Position | None) -> Position | None:
        """The page to ask for next: at the end of a reading that brought something new, the first one again.

        While records come and go, those behind them move to other offsets and pages: a reading can miss some.
        """
        if after is not None:
            return after
        paging = self.reader.rest.paging
        again = paging.kind in ("offset", "page") and paging.confirm and self.turn_pages > 2 and self.turn_new > 0
        self.first_turn = self.first_turn or self.turn_pages
        self.turn_pages = self.turn_new = self.fruitless = 0
        if not again:
            return None
        if position.turn >= MOST_TURNS:
            raise self.reader.strange(f"its pages keep shifting: read {MOST_TURNS} times, each time they brought new records")
        return self.reader.first(position.turn + 1)


def extract_rest(
    feed: Feed, landing: Path, refused: Refused, say: Callable[[str], None], *, zone: str | None = None,
    clock: Clock | None = None, now: dt.datetime | None = None,
) -> Extracted:  # fmt: skip
    """Ask the source of a feed for what changed, and land it as one file of JSON lines.

    :param landing: the landing root. :param refused: files that bronze did not take, whose content is asked for again.
    :param zone: of times without an offset, where the feed names none. :param now: when this is; the clock by default.
    :raises UtilityFlowError: UF-1010 a secret cannot be resolved, UF-2012 to UF-2014 the source fails; nothing is landed
        then, and pages that were fetched are kept for the next extract where that makes sense.
    """
    if not isinstance(feed.extract, Rest):
        raise TypeError(f"{feed.feed} is no feed of a REST interface")
    rest = feed.extract.resolved()
    zone = feed.time_zone or zone
    folder = make_folder(feed, landing)
    reader, caller = Reader(feed.feed, rest, zone), Caller(feed.feed, rest, say, clock)
    files = landed_files(feed, landing, refused)
    work = WorkFile(folder / f".{feed.feed}.work")
    ask = asking(rest, files, now or dt.datetime.now(dt.timezone.utc))
    try:
        ask, pages = _fetch(reader, caller, work, ask, zone, say)
    except UtilityFlowError as error:
        if error.code == "UF-2013" or (error.code == "UF-2014" and caller.clock.now() < caller.ends):
            work.drop()  # asked again, these pages would lead to the same end
        raise
    finally:
        work.close()
    draft = folder / f".{feed.feed}.part"
    try:
        done = _land(feed, reader, work, ask, files, refused, draft)
    except UtilityFlowError:
        work.drop()
        raise
    finally:
        draft.unlink(missing_ok=True)
    work.drop()
    name = None if done.file is None else (folder / done.file).relative_to(landing).as_posix()
    return Extracted(name, done.records, pages, done.told)


def asking(rest: Rest, files: list[LandedFile], at: dt.datetime) -> Ask:
    """What is to be asked for, by what has landed."""
    increment = rest.increment
    if increment is None:
        return Ask(None, None, at)
    begin = covered(files, start_of(increment.start) if increment.start else None)
    if begin is None:
        return Ask(None, None, at)
    if isinstance(begin, int):
        raise UtilityFlowError("UF-1002", "the landed files go by numbers", hint="move them to another folder")
    try:
        return Ask(begin, begin - dt.timedelta(seconds=increment.overlap_seconds), at)
    except OverflowError:
        return Ask(begin, begin, at)


# -- fetching --------------------------------------------------------------------------------------------------------


def _fetch(reader: Reader, caller: Caller, work: WorkFile, ask: Ask, zone: str | None,
           say: Callable[[str], None]) -> tuple[Ask, int]:  # fmt: skip
    """All pages of the ask into the work file; returns the ask that they answer, the older one of an extract gone on with."""
    kept = _kept(reader, work, ask, zone)
    if kept is not None:
        older, progress, position = kept
        before = progress.pages
        say(f"{reader.feed}: going on after {before:,} page(s) of an extract that was cut off")
        try:
            _ask_on(reader, caller, work, older, progress, position)
            return older, progress.pages
        except UtilityFlowError as error:
            if progress.pages > before or not _stale(error):
                raise
            say(f"{reader.feed}: the source no longer knows where that extract was; starting again")
    work.begin(ask.told(reader.rest, zone))
    progress = Progress(reader.feed, reader)
    _ask_on(reader, caller, work, ask, progress, reader.first())
    return ask, progress.pages


def _ask_on(reader: Reader, caller: Caller, work: WorkFile, ask: Ask, progress: Progress,
            position: Position | None) -> None:  # fmt: skip
    """Ask for page after page, from a position to the end; each page is kept as soon as it is judged."""
    while position is not None:
        caller.require_time()
        body = caller.get(reader.parameters(position, ask.since))
        page: Page = reader.page(body, position)
        new = progress.take(position, page.records, page.after, len(body))
        work.add([r.text for r in new], page.after, len(body))
        position = progress.following(position, page.after)


def _kept(reader: Reader, work: WorkFile, ask: Ask, zone: str | None) -> tuple[Ask, Progress, Position | None] | None:
    """What an extract that was cut off left for the same ask: its ask, its progress, where it was; None: nothing of use."""
    before, told = work.asked(), ask.told(reader.rest, zone)
    try:
        if before is None or {**before, "at": ""} != {**told, "at": ""}:
            return None
        older = dataclasses.replace(ask, at=dt.datetime.fromisoformat(str(before["at"])))
        age = (ask.at - older.at).total_seconds()
        if not 0 <= age <= reader.rest.limits.resume_seconds:
            return None
        progress, position = Progress(reader.feed, reader), None
        here: Position | None = reader.first()
        for page in work.go_on():
            if here is None:
                return None
            records = [reader.record(exact_json(text)) for text in page.records]
            progress.take(here, records, page.after, page.size)
            here = position = progress.following(here, page.after)
    except (UtilityFlowError, ValueError, TypeError):
        return None
    return (older, progress, position) if progress.pages else None


def _stale(error: UtilityFlowError) -> bool:
    """Whether the source refuses a position, as it does with a cursor that has grown old."""
    if isinstance(error, Refusal):
        return error.status in (400, 404, 409, 410, 412, 416, 422)
    return error.code == "UF-2013"


# -- landing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    """The last state of each record. ``places``: in the work file, with digests; ``latest``: time of the latest change of all."""

    places: dict[int, bytes]
    latest: dt.datetime | None


def _land(feed: Feed, reader: Reader, work: WorkFile, ask: Ask, files: list[LandedFile], refused: Refused,
          draft: Path) -> Extracted:  # fmt: skip
    """The fetched records that have not landed yet, as one file, by one rename."""
    full = reader.rest.increment is None
    chosen = _choose(reader, work)
    known = _known(files, ask, full=full)
    if full:
        changed = set(chosen.places.values()) != known
        wanted = chosen.places.keys() if changed else set()
    else:
        wanted = {place for place, digest in chosen.places.items() if digest not in known}
    if not wanted:
        none = full and not chosen.places
        return Extracted(None, 0, 0, "the source holds no records" if none else "nothing has changed")
    end = _end(reader, ask, chosen.latest)
    digest = hashlib.sha256()
    with draft.open("wb") as stream:
        for place, text in enumerate(work.records()):
            if place in wanted:
                line = text.encode() + b"\n"
                stream.write(line)
                digest.update(line)
    if digest.hexdigest() in refused.hashes:
        return Extracted(None, 0, 0, "the source still answers what was rejected")
    target = draft.with_name(file_name(feed, ask.begin, end, digest.hexdigest(), full=full))
    rename(draft, target, f"landing {feed.feed}")
    return Extracted(target.name, len(wanted), 0, f"landed {target.name}")


def _choose(reader: Reader, work: WorkFile) -> _Chosen:
    """Of each record its last state: by time of update, then by place. Without a record_id each content is a record."""
    last: dict[bytes, tuple[dt.datetime, int, bytes]] = {}
    latest: dt.datetime | None = None
    for place, text in enumerate(work.records()):
        record = reader.record(exact_json(text))
        time = record.time or _NEVER
        if record.name not in last or last[record.name][0] <= time:
            last[record.name] = (time, place, record.digest)
        if record.time is not None and (latest is None or record.time > latest):
            latest = record.time
    return _Chosen({place: digest for _, place, digest in last.values()}, latest)


def _end(reader: Reader, ask: Ask, latest: dt.datetime | None) -> dt.datetime:
    """Up to where the file covers: the latest change in it, but never beyond the time of asking, whatever a record says.

    :raises UtilityFlowError: UF-2013 when no record tells its time, so that the next extract could not know where to begin.
    """
    increment = reader.rest.increment
    if increment is None:
        return ask.at
    if latest is None and ask.begin is None:
        raise reader.strange(f"no record has a time that can be read in '{increment.field}'")
    return max(mark for mark in (ask.begin, min(latest, ask.at) if latest else None) if mark is not None)


def _known(files: list[LandedFile], ask: Ask, *, full: bool) -> set[bytes]:
    """Digests of the records that have landed and may come again: those of files that reach into what is asked for."""
    if full:
        last = newest_full(files)
        reach = [last] if last else []
    else:
        since = "" if ask.since is None else mark_text(ask.since)
        reach = [f for f in files if not f.full and mark_text(f.end) >= since]
    return {digest for file in reach for digest in _digests(file.path)}


def _digests(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            try:
                yield digest_of(exact_json(line.strip()))
            except (ValueError, RecursionError):  # a line that somebody else wrote; what it said comes again
                continue
