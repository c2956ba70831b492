"""The step ``extract.<feed>``: ask a source, land what is new. One that fails stops no other feed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.sources import Rest
from utilityflow.control.ledger import Ledger
from utilityflow.control.run import Run, StepResult
from utilityflow.errors import UtilityFlowError
from utilityflow.extract import jdbc, rest
from utilityflow.extract.jdbc import extract_jdbc
from utilityflow.extract.landed import Extracted, Refused, landed_files, mark_text
from utilityflow.extract.rest import extract_rest
from utilityflow.settings import resolve_secret

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# what is the source's fault, or that of who keeps its secret or its folder: told, while the other feeds load
SOURCE_CODES = ("UF-1007", "UF-1008", "UF-1010", "UF-2008", "UF-2012", "UF-2013", "UF-2014")


def refused_of(ledger: Ledger, feed: Feed) -> Refused:
    """What bronze rejected of a feed and would reject again; a feed file that changed since may take it."""
    definition = feed.definition_hash()
    bad = [e for e in ledger.of_feed(feed.feed) if e.status == "rejected" and e.definition == definition]
    return Refused({name for e in bad for name in e.names}, {e.sha256 for e in bad})


@dataclass(frozen=True)
class Scene:
    """What extracts need.

    ``landing``: the landing root. ``ledger``: what became of landed files. ``zone``: the home's. ``stage``: a scratch folder.
    ``spark``: a session for databases; None: none is asked. ``say``: is told of attempts that fail.
    """

    landing: Path
    ledger: Ledger
    zone: str
    stage: Path
    spark: SparkSession | None
    say: Callable[[str], None]


def extract_feed(feed: Feed, scene: Scene) -> Extracted:
    """Ask the source of one feed; errors as ``extract_rest`` and ``extract_jdbc``."""
    refused = refused_of(scene.ledger, feed)
    if isinstance(feed.extract, Rest):
        return extract_rest(feed, scene.landing, refused, scene.say, zone=scene.zone)
    if scene.spark is None:
        raise TypeError("a database is asked with a session")
    stage = scene.stage / f"extract_{feed.feed}"
    return extract_jdbc(scene.spark, feed, scene.landing, refused, scene.say, stage, zone=scene.zone)


def run_extract(run: Run, feed: Feed) -> StepResult:
    """Land what is new at the source of a feed; ``rows_written`` are the records of the landed file."""
    scene = Scene(run.settings.landing_path, run.ledger, run.zone, run.stage, run.house.spark, run.say)
    done = extract_feed(feed, scene)
    run.say(f"{feed.feed}: {told(done)}", feed=feed.feed, records=done.records)
    return StepResult(f"extract.{feed.feed}", "ok" if done.file else "skipped", done.records)


def told(done: Extracted) -> str:
    """What an extract did, in words."""
    return f"{done.records:,} records from {done.pages:,} page(s), {done.told}" if done.file else done.told


def source_failure(failed: Mapping[str, UtilityFlowError]) -> UtilityFlowError | None:
    """The one error of all sources that failed, by feed: the code is that of the first; None when none did."""
    errors = list(failed.values())
    if len(errors) < 2:
        return errors[0] if errors else None
    return UtilityFlowError(errors[0].code, "; ".join(e.message for e in errors), hint=errors[0].hint)


def plan_of(feed: Feed, landing: Path, ledger: Ledger) -> str:
    """What the next extract would ask for, by what has landed; nothing is asked."""
    source, now = feed.extract, dt.datetime.now(dt.timezone.utc)
    if source is None:
        return ""
    files = landed_files(feed, landing, refused_of(ledger, feed)) if landing.is_dir() else []
    if source.increment is None:
        return f"asks {source.shown} for the whole state"
    since = (rest.asking(source, files, now) if isinstance(source, Rest) else jdbc.asking(source, files, now)).since
    return f"asks {source.shown} for changes since {mark_text(since) if since is not None else 'the beginning'}"


def missing_secrets(feed: Feed) -> list[str]:
    """Which secrets of a feed cannot be resolved here, in words; a run elsewhere may have them."""
    problems = []
    for reference in feed.extract.secrets if feed.extract else ():
        try:
            resolve_secret(reference)
        except UtilityFlowError as error:
            problems.append(error.message)
    return problems
