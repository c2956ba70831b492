"""``plan``: what a run would do with what has landed: files, steps and why, tables. It touches nothing and asks no source.

Without a lakehouse it does not even start the engine: then every file is new and every step runs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from utilityflow import pipeline
from utilityflow.bronze.ingest import Found, recover, scan
from utilityflow.contracts import load_contracts
from utilityflow.control.home import Home, open_home
from utilityflow.control.ledger import Ledger
from utilityflow.control.run import Run
from utilityflow.errors import UtilityFlowError
from utilityflow.extract.steps import plan_of
from utilityflow.gold import (
    application,
    calendar,
    customer360,
    efficiency,
    identity,
    marts,
    monthly,
    outages,
    satisfaction,
    scorecard,
    service_reliability,
)
from utilityflow.gold.dimensions import MEMBER_KEYS
from utilityflow.gold.events import EVENT_FACTS
from utilityflow.graph import PUBLISH, Step, drawn
from utilityflow.operate.scene import Scene, has_lakehouse, open_house
from utilityflow.settings import Settings
from utilityflow.silver.snapshots import dated_by_name

if TYPE_CHECKING:
    from utilityflow.bronze.feeds import Feed
    from utilityflow.lakehouse import Lakehouse

_Files: TypeAlias = Sequence[Mapping[str, Any]]
_IF, _MOVES, _NEW = "if", "the as-of date moves", "new inputs"
# tables that reflect each input of their step; most others need some only to be there
_OF_ALL_INPUTS = frozenset({customer360.NAME, efficiency.NAME, identity.NAME, scorecard.NAME, *MEMBER_KEYS})
_REFLECTED = {fact.grain.name: fact.reflected for fact in EVENT_FACTS}  # table -> those of its inputs that it reflects
BYTES_PER_RECORD = 60  # a guess for files whose records are not counted by looking at them


def plan(settings: Settings, as_of: dt.date | None = None, select: Sequence[str] = ()) -> dict[str, Any]:
    """What ``run`` with the same arguments would do.

    :returns: ``home``, ``as_of``, ``files`` (feed, file, sha256, status new, superseding, known, duplicate, unstable or
        rejected, reason, rows and whether they are estimated, notes on drift), ``steps`` (step, will_run, why),
        ``tables`` (what would be created or widened), ``rows`` (expected in all).
    :raises UtilityFlowError: as ``run`` before it writes anything.
    """
    feeds = pipeline.read_feeds(settings)
    graph = pipeline.graph(feeds, settings.home_path / "lakehouse", select)
    names = pipeline.chosen(settings, graph, select)
    if not settings.landing_path.is_dir() and settings.landing is not None:
        raise UtilityFlowError("UF-1008", f"the landing root {settings.landing_path} is not a folder")
    home = open_home(settings, create=False)
    scene = Scene(settings, home, open_house(settings, home)) if has_lakehouse(home) else None
    day = _as_of(home, scene, as_of)
    run = _run(settings, home, scene, feeds, day)
    if scene is not None:
        recover(run)
    there = settings.landing_path.is_dir()
    found = {n: scan(run, f) if there else [] for n, f in feeds.items() if f"bronze.{n}" in names}
    files = [_file(feeds[n], one, _known_columns(scene, n)) for n, ones in found.items() for one in ones]
    tables = _tables(feeds, scene.house if scene else None, select)
    migrates = any(not line.startswith(("create bronze.", "create silver.")) for line in tables)  # nobody publishes those
    steps = list(_steps(run, scene, graph, names, files, migrates))
    return {
        "home": str(home.path), "time_zone": home.zone, "as_of": day.isoformat(), "landing": str(settings.landing_path),
        "files": files, "steps": steps, "tables": tables,
        "rows": sum(f["rows"] for f in files if f["status"] in ("new", "superseding")),
        "estimated": any(f["estimated"] for f in files),
    }  # fmt: skip


def graph(settings: Settings, form: str, select: Sequence[str] = ()) -> str:
    """The graph of the steps, or of those selected, as ``text`` or ``mermaid``; needs neither a home nor the engine.

    Of the shipped feeds also those that sleep, as no file of theirs has landed yet.
    """
    steps = pipeline.graph(pipeline.read_feeds(settings, whole=True), settings.home_path / "lakehouse", select)
    return drawn(steps, pipeline.published_of(steps), form, pipeline.select(steps, select))


def _as_of(home: Home, scene: Scene | None, wanted: dt.date | None) -> dt.date:
    before = scene.publication if scene else None
    if before is None:
        return wanted or home.today()
    if wanted is not None and wanted < before.as_of:
        message = f"the last publication is as of {before.as_of}, the plan was asked for {wanted}"
        raise UtilityFlowError("UF-1005", message)
    return wanted or max(home.today(), before.as_of)


def _run(settings: Settings, home: Home, scene: Scene | None, feeds: Mapping[str, Feed], day: dt.date) -> Run:
    """A run of which nothing is written. Without a lakehouse its tables are never asked for."""
    from utilityflow.lakehouse import Lakehouse

    house = scene.house if scene else Lakehouse(None, str(home.lakehouse), load_contracts())  # type: ignore[arg-type]
    return Run(
        settings, home, house, scene.ledger if scene else Ledger(), feeds, day, "", scene.consumed if scene else {}
    )


# -- files -----------------------------------------------------------------------------------------------------------


def _file(feed: Feed, one: Found, known: Sequence[str]) -> dict[str, Any]:
    seen = one.inspection
    status = _status(one)
    sha = one.entry.sha256 if one.entry else (seen.sha256 if seen else "")
    told: dict[str, Any] = {
        "feed": feed.feed, "file": one.name, "sha256": sha, "status": status, "reason": one.reason, "rows": 0,
        "estimated": False, "notes": [],
    }  # fmt: skip
    if status in ("new", "superseding") and seen is not None:
        counted = seen.records
        told["rows"] = counted if counted is not None else max(1, seen.size // BYTES_PER_RECORD)
        told["estimated"] = counted is None
    if seen is not None:
        told["notes"] = [*seen.notes, *(seen.drift(known) if known else ())]
    return told


def _known_columns(scene: Scene | None, feed: str) -> list[str]:
    """Raw columns that files of the feed have had so far."""
    if scene is None or scene.house.table(f"bronze.{feed}").version() <= 0:
        return []
    table = scene.house.table(f"bronze.{feed}")
    return [n for n in table.read().columns if n not in table.contract.column_names]


def _status(one: Found) -> str:
    if one.decision == "loaded":
        return "new"
    if one.decision == "skipped":
        if one.inspection is None:
            return "known"
        return "duplicate" if one.inspection.stable else "unstable"
    return one.decision


# -- tables ----------------------------------------------------------------------------------------------------------


def _tables(feeds: Mapping[str, Feed], house: Lakehouse | None, asked: Sequence[str] = ()) -> list[str]:
    """What ``ensure_tables`` would do, in its words."""
    names = pipeline.tables_of(feeds, Path(house.root) if house else None, asked)
    if house is None:
        return [f"create {name}" for name in names]
    return [line for name in names for line in _table(house, name)]


def drift(scene: Scene) -> list[str]:
    """What the next run would create or widen, by contracts that have changed; reads every table's schema."""
    return _tables(scene.feeds, scene.house)


def _table(house: Lakehouse, name: str) -> Iterator[str]:
    table = house.table(name)
    if not table.exists():
        yield f"create {name}"
        return
    yield from (words for words, _ in table.migration() if words)


# -- steps -----------------------------------------------------------------------------------------------------------


def _steps(run: Run, scene: Scene | None, steps: Sequence[Step], names: Sequence[str], files: _Files,
           migrates: bool) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Each step with whether it would run and why; a step whose input changes runs."""
    changed: dict[str, str] = {}
    for step in steps:
        if step.name not in names:
            yield {"step": step.name, "will_run": False, "why": "not selected"}
            continue
        why = _why(run, scene, step, files, changed)
        if why:
            changed[step.output] = why
        yield {"step": step.name, "will_run": bool(why), "why": why or "its inputs have not changed"}
    if PUBLISH in names:
        why = _why_publish(run, scene, changed, migrates)
        yield {"step": PUBLISH, "will_run": bool(why), "why": why or "nothing that is published changes"}
    else:
        yield {"step": PUBLISH, "will_run": False, "why": "not selected"}


def _why(run: Run, scene: Scene | None, step: Step, files: _Files, changed: Mapping[str, str]) -> str | None:
    layer, _, name = step.output.partition(".")
    if layer == "landing":
        return plan_of(run.feeds[name], run.settings.landing_path, run.ledger)
    told = [i for i in step.inputs if i in changed]
    sure = any(not changed[i].startswith((_IF, _MOVES, _NEW)) for i in told)
    if layer == "bronze":
        new = [f for f in files if f["feed"] == name and f["status"] in ("new", "superseding")]
        return f"{len(new)} file(s) to read" if new else (f"{_IF} the source has something new" if told else None)
    if layer == "silver":
        return _why_silver(run, step, files, told, sure)
    if told:
        return f"changes of {', '.join(told)}" if sure else f"{_IF} {', '.join(told)} changes"
    table = run.house.table(step.output)
    if scene is None or table.version() <= 0:
        return "the table has no rows yet"
    was = scene.consumed.get(step.output, {})
    # the first version of this contract was not noted
    held = {"contract": None, **was} if was and step.output == monthly.NAME else was
    if others := [words for key, (words, now) in _given(run, step.output).items() if key in held and held[key] != now]:
        return others[0]
    if not was:  # rolled back to where it had not been made
        return "nothing says what it is made of"
    reflected = step.inputs if step.output in _OF_ALL_INPUTS else _REFLECTED.get(step.output, ())
    lacking = [n for n in reflected if n not in was]
    if lacking:
        return f"{_NEW}: {', '.join(lacking)}"
    behind = [n for n, v in was.items() if "." in n and v != run.house.table(n).version()]  # others are no tables
    if behind:
        return f"newer versions of {', '.join(behind)}"
    if "as_of" in was and was["as_of"] != run.as_of.isoformat():
        return f"{_MOVES} from {was['as_of']} to {run.as_of}"
    return None


def _given(run: Run, table: str) -> Mapping[str, tuple[str, Any]]:
    """What a table reflects beside versions and the day: key in its note -> what is said of another value, the value now."""
    contracts, given = run.house.contracts, run.settings.reliability
    limits, parameters = "other settings of reliability", "other parameters in a contract"
    contract = {"contract": ("another version of its contract", contracts[table].version)}
    if table in (satisfaction.NAME, efficiency.NAME, monthly.NAME):
        mine = {"parameters": (parameters, marts.definition(contracts[table].property("parameters")))}
        return mine | contract  # of the one that notes no version it is not compared
    if table in (application.NAME, *_REFLECTED):
        return contract
    known: dict[str, dict[str, tuple[str, Any]]] = {
        "gold.dim_date": {"calendar": ("another calendar in the settings", calendar.definition(run.settings.calendar))},
        customer360.NAME: {"parameters": (f"{parameters}, or in the settings", customer360.definition_of(contracts, given))},
        outages.NAME: {"momentary_minutes": (limits, given.momentary_minutes), **contract},
        service_reliability.THRESHOLD: {"definition": (limits, service_reliability.definition(given))},
        service_reliability.KPI: {"definition": (limits, service_reliability.definition(given)), **contract},
        scorecard.NAME: {"targets": ("other targets in the settings", scorecard.held_to(given))},
    }
    return known.get(table, {})


def _why_silver(run: Run, step: Step, files: _Files, told: Sequence[str], sure: bool) -> str | None:
    feeds = [n.partition(".")[2] for n in step.inputs]
    pending, leaving = run.ledger.pending(feeds), run.ledger.leaving(feeds)
    parts = [f"{len(pending)} file(s) to judge"] if pending else []
    parts += [f"{len(leaving)} superseded file(s) to take out"] if leaving else []
    again = [f for f in files if f["feed"] in feeds and f["status"] == "duplicate" and dated_by_name(run.feeds[f["feed"]])]
    if again and not parts:
        return f"{_IF} the name of a known content gives it a further snapshot time"
    changes = f"changes of {', '.join(told)}" if sure else f"{_IF} {', '.join(told)} changes"
    return ", ".join(parts) or (changes if told else None)


def _why_publish(run: Run, scene: Scene | None, changed: Mapping[str, str], migrates: bool) -> str | None:
    from utilityflow.publish.duckdb import warehouse

    gold = [n for n in pipeline.published(run.feeds, Path(run.house.root)) if n in changed]
    if scene is None or scene.publication is None:
        return "nothing is published yet"
    moved = [n for n, t in scene.publication.tables.items() if scene.house.table(n).version() != t.version]
    if gold or moved:
        return f"{_IF} their content changes: {', '.join(dict.fromkeys([*gold, *moved]))}"
    if migrates:
        return "contracts have gained columns"
    return None if warehouse(run.home.path).is_file() else "the warehouse file is missing"


# -- words -----------------------------------------------------------------------------------------------------------


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    about = "about " if result["estimated"] else ""
    lines = [f"plan for {result['home']} as of {result['as_of']}: {about}{result['rows']:,} new records"]
    shown = [f for f in result["files"] if f["status"] != "known"]
    for one in shown:
        rows = f", {'about ' if one['estimated'] else ''}{one['rows']:,} records" if one["rows"] else ""
        lines.append(
            f"  {one['feed']}: {one['file']} {one['status']}{rows}" + (f": {one['reason']}" if one["reason"] else "")
        )
        lines += [f"    note: {note}" for note in one["notes"]]
    known = len(result["files"]) - len(shown)
    if known:
        lines.append(f"  {known:,} file(s) are known")
    if not result["files"]:
        lines.append(f"  no files for the feeds under {result['landing']}")
    lines += [f"  {line}" for line in result["tables"]]
    for step in result["steps"]:
        mark = "run " if step["will_run"] else "skip"
        lines.append(f"  {mark} {step['step']:<28} {step['why']}")
    return "\n".join(lines)
