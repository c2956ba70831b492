"""``rollback``: go back to an earlier publication, warehouse and lakehouse; ``requeue``: let held files be taken again.

Everything is checked before the first write. What was taken in since is held: its files lie in the landing root, and are
not taken again until their content changes or they are requeued.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from utilityflow import pipeline, running
from utilityflow.control import publication as publications
from utilityflow.control import rollback as record
from utilityflow.control.home import Home, hold, open_home
from utilityflow.control.ledger import TABLE as LEDGER
from utilityflow.control.ledger import Entry, Ledger, read_ledger, write_ledger
from utilityflow.control.publication import Recorded
from utilityflow.control.run import Run, journal, new_run_id
from utilityflow.control.tablelog import Log, logs
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.operate.scene import has_lakehouse, open_scene
from utilityflow.publish.deltalog import obstacles
from utilityflow.publish.rollback import carry_out
from utilityflow.session import local_frame
from utilityflow.settings import Settings


def rollback(settings: Settings, to: int | None = None, *, only_show: bool = False) -> dict[str, Any]:
    """Go back.

    :param to: number of the publication; None: the one before the content that stands now, or the end of a rollback that
        was cut off.
    :param only_show: write nothing, say what would be done.
    :returns: ``left``, ``to``, ``publication`` (the new one's number; None when nothing had to be published), ``tables``
        (table -> version restored, and now), ``held`` (feed, file, sha256).
    :raises UtilityFlowError: UF-4009 when the publication is not known or its versions can no longer be read, naming those
        that can; UF-4004 while a run holds the home.
    """
    if only_show:
        scene = open_scene(settings)
        chosen = _choose(scene.house, scene.home, to)
        now = {name: scene.house.table(name).version() for name in chosen.versions if name != LEDGER}
        return _told(_last(scene.house).number, chosen, None, now, _would_hold(scene.house, chosen))
    home = open_home(settings, create=False)
    if not has_lakehouse(home):
        raise UtilityFlowError("UF-1008", f"{home.path} holds no lakehouse", hint="--home names another")
    run_id = new_run_id()
    with hold(home, f"rollback {run_id}", seconds=settings.lease_seconds) as lease, journal(home, run_id):
        house = pipeline.open_lakehouse(settings, home, run_id, lease)
        feeds = pipeline.read_feeds(settings)
        ended = pipeline.finish_rollback(settings, home, house, feeds) if to is None else None
        if ended is not None:
            last = record.recorded(house)[-1]
            return _told(last.left, _known(house, last.to), ended.publication, ended.restored, ended.held)
        left = _last(house).number
        chosen = _choose(house, home, to)
        state = Run(settings, home, house, read_ledger(house), feeds, chosen.as_of, run_id, {})
        done = carry_out(state, record.begin(house, left, chosen.number, chosen.versions, run_id))
        _note_run(state, done.publication)
        return _told(left, chosen, done.publication, done.restored, done.held)


def _note_run(state: Run, number: int | None) -> None:
    """The rollback among the runs, for ``status``."""
    runs = state.house.table("ops.run")
    row = running.run_row(state, "rollback", "succeeded", number)
    runs.append(local_frame(state.house.spark, [row], runs.contract.struct()))


def _told(left: int, chosen: Recorded, number: int | None, now: Any, held: Sequence[Entry]) -> dict[str, Any]:
    tables = {name: {"restored": v, "now": now[name]} for name, v in sorted(chosen.versions.items()) if name in now}
    return {"left": left, "to": chosen.number, "publication": number, "tables": tables, "held": _listed(held)}


def _listed(held: Sequence[Entry]) -> list[dict[str, str]]:
    """Held contents in ledger order, each under the names that are held."""
    entries = sorted(held, key=lambda e: e.number)
    return [{"feed": e.feed, "file": name, "sha256": e.sha256} for e in entries for name in e.held_as]


def _last(house: Lakehouse) -> publications.Publication:
    last = publications.last(house)
    if last is None:
        raise UtilityFlowError("UF-4005", "nothing has been published yet, so there is nothing to go back to")
    return last


# -- which publication -----------------------------------------------------------------------------------------------


def _known(house: Lakehouse, number: int) -> Recorded:
    known = publications.recorded(house)
    found = next((one for one in known if one.number == number), None)
    if found is None:
        names = ", ".join(str(one.number) for one in reversed(known))
        raise UtilityFlowError("UF-4009", f"there is no publication {number}", hint=f"known: {names}")
    return found


def _choose(house: Lakehouse, home: Home, to: int | None) -> Recorded:
    """The publication to go back to, with the versions of all tables that are there now."""
    record.open_rollback(house)
    number = _before(house) if to is None else to
    if number < 1:
        raise UtilityFlowError("UF-4009", "there is no publication before the first", hint="--to names one")
    chosen = _known(house, number)
    reasons = _obstacles(house, home, chosen)
    if reasons:
        others = [one.number for one in publications.recorded(house) if not _obstacles(house, home, one)]
        way = f"can be gone back to: {', '.join(map(str, sorted(others)))}" if others else "no publication can be gone back to"
        raise UtilityFlowError("UF-4009", f"publication {number}: {reasons[0]}", hint=way)
    return replace(chosen, versions=_all_versions(house, chosen))


def _before(house: Lakehouse) -> int:
    """The publication before the one whose content stands: a rollback's own publication holds that of an older one."""
    made = {one.publication: one.to for one in record.recorded(house) if one.publication is not None}
    number = _last(house).number
    while number in made:
        number = made[number]
    return number - 1


def _all_versions(house: Lakehouse, chosen: Recorded) -> dict[str, int]:
    """Those that were recorded; tables that were made since become empty again, as they were created."""
    since = {n: 0 for n in logs(Path(house.root)) if n.partition(".")[0] in ("bronze", "silver", "gold")}
    return since | dict(chosen.versions)


def _obstacles(house: Lakehouse, home: Home, chosen: Recorded) -> list[str]:
    """Why the lakehouse cannot become what it was."""
    if LEDGER not in chosen.versions:
        return ["the versions of all tables were not written down with it (an older version of the suite made it)"]
    found = []
    for name, version in _all_versions(house, chosen).items():
        log = Log(name, Path(home.lakehouse, *name.split(".")) / "_delta_log")
        if log.newest < 0:
            found.append(f"{name} is gone")
        elif chosen.identities.get(name, log.identity) != log.identity:
            found.append(f"{name} was made anew since")
        else:
            found += [f"{name} at version {version}: {says}" for says in obstacles(log, version)]
    return found or [line for name in chosen.hashes for line in _lacking(house.table(name), chosen.versions[name])]


def _lacking(table: Table, version: int) -> Iterator[str]:
    missing = set(table.contract.hashed_columns) - set(table.read(version).columns)
    if missing:
        yield f"{table.name} had no column {min(missing)} then, which its contract has now"


def _would_hold(house: Lakehouse, chosen: Recorded) -> list[Entry]:
    version = chosen.versions[LEDGER]
    return read_ledger(house).roll_back(read_ledger(house, version) if version > 0 else Ledger(), "")


# -- held files ------------------------------------------------------------------------------------------------------


def requeue(settings: Settings, wanted: Sequence[str], *, everything: bool = False) -> dict[str, Any]:
    """Release held files: the next run takes them as new, where they still lie in the landing root.

    :param wanted: names under the landing root, or SHA-256 (its first 8 digits or more).
    :returns: ``released`` (feed, file, sha256).
    :raises UtilityFlowError: UF-1004 when one of them is not held.
    """
    home = open_scene(settings).home
    run_id = new_run_id()
    with hold(home, f"requeue {run_id}", seconds=settings.lease_seconds) as lease, journal(home, run_id):
        house = pipeline.open_lakehouse(settings, home, run_id, lease)
        pipeline.finish_rollback(settings, home, house, pipeline.read_feeds(settings))
        ledger = read_ledger(house)
        held = ledger.held()
        chosen = held if everything else [e for word in wanted for e in _named(held, word)]
        released = _listed(chosen)
        for entry in chosen:
            ledger.release(entry)
        write_ledger(house, ledger, run_id)
    return {"released": released}


def _named(held: Sequence[Entry], word: str) -> list[Entry]:
    short = 8
    found = [e for e in held if word in e.held_as or (e.status == "held" and word in e.names)
             or (len(word) >= short and e.sha256.startswith(word))]  # fmt: skip
    if not found:
        names = ", ".join(sorted({name for e in held for name in e.held_as})) or "no file is held"
        raise UtilityFlowError("UF-1004", f"'{word}' is not held", hint=f"held: {names}" if held else names)
    return found


# -- words -----------------------------------------------------------------------------------------------------------


def text(result: dict[str, Any]) -> str:
    """A rollback's answer for people."""
    lines = [f"  {name:<34} version {v['restored']:>5}, now {v['now']}" for name, v in result["tables"].items()]
    lines += [f"  held: {f['file']} (sha256 {f['sha256'][:12]})" for f in result["held"]]
    made = f"publication {result['publication']} has" if result["publication"] else "consumers see"
    lines.append(f"gone back from publication {result['left']}: {made} the content of publication {result['to']}")
    if result["held"]:
        lines.append("held files are not taken again until they change, or 'utilityflow requeue FILE' releases them")
    return "\n".join(lines)


def requeue_text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [f"  {one['file']} (sha256 {one['sha256'][:12]})" for one in result["released"]]
    return "\n".join([*lines, f"{len(lines)} file(s) released; 'utilityflow run' takes them"])
