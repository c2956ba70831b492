"""Carry out a rollback that has been written down: ledger, tables, publication, in an order that can be cut off anywhere.

The ledger first, while bronze still tells of files that an interrupted run took in; then each table by RESTORE, which is a
new commit and keeps the old ones; then a publication with a new number and the old content, checked against the hashes of
the old one. Each part finds what is done already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from utilityflow.bronze.ingest import recover
from utilityflow.control import publication as publications
from utilityflow.control import rollback as record
from utilityflow.control.ledger import TABLE as LEDGER
from utilityflow.control.ledger import Entry, Ledger, read_ledger, write_ledger
from utilityflow.control.publication import Recorded
from utilityflow.control.rollback import Rollback
from utilityflow.control.run import Run
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.publication import finish, prepare

_LAYERS = ("bronze", "silver", "gold")


@dataclass(frozen=True)
class Done:
    """What a rollback did. ``restored``: table -> its version now; ``publication``: None when the same was seen before."""

    restored: Mapping[str, int]
    held: list[Entry]
    publication: int | None


def carry_out(run: Run, rollback: Rollback) -> Done:
    """Do what is left of the rollback.

    :raises UtilityFlowError: UF-3006 when a table does not have the content of the publication that it went back to.
    """
    house = run.house
    target = next(one for one in publications.recorded(house) if one.number == rollback.to)
    recover(run)
    version = rollback.versions[LEDGER]
    then = read_ledger(house, version) if version > 0 else Ledger()
    held = run.ledger.roll_back(then, f"held: rolled back from publication {rollback.left} to {rollback.to}")
    write_ledger(house, run.ledger, run.run_id)
    restored = _restore_tables(run, rollback, _consumed(house, target))
    number = _publish(run, target)
    record.end(house, rollback, number)
    return Done(restored, held, number)


def _restore_tables(run: Run, rollback: Rollback, told: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Restore the tables, those before that others are made of: a gold table says which versions of its inputs it reflects."""
    house, restored = run.house, dict[str, int]()
    wanted = {n: v for n, v in rollback.versions.items() if n.partition(".")[0] in _LAYERS}
    notes = {name: house.table(name).note(version) for name, version in wanted.items()}
    reflects = {name: dict(told.get(name) or notes[name].get("consumed") or {}) for name in wanted}
    order = TopologicalSorter({name: [i for i in inputs if i in wanted] for name, inputs in reflects.items()})
    for name in order.static_order():
        table = house.table(name)
        if table.version() != wanted[name] and table.note().get("rollback") != rollback.number:
            note = {**notes[name], "rollback": rollback.number}
            if name.startswith("gold."):
                note["consumed"] = _renumbered(reflects[name], wanted, restored)
            table.restore(wanted[name], note)
            run.say(f"{name}: as it was at version {wanted[name]}", step="rollback")
        restored[name] = table.version()
    return restored


def _renumbered(reflects: Mapping[str, Any], wanted: Mapping[str, int], now: Mapping[str, int]) -> dict[str, Any]:
    """Input versions by their numbers of today; {} where one was not what its table was restored to: the step then compares
    everything anew.
    """  # noqa: D205
    if any(name in wanted and version != wanted[name] for name, version in reflects.items()):
        return {}
    return {name: now.get(name, version) for name, version in reflects.items()}


def _consumed(house: Lakehouse, target: Recorded) -> dict[str, Mapping[str, Any]]:
    """Gold table -> input versions that it reflected, as the steps of the run that made the publication told."""
    steps = house.table("ops.step")
    if steps.version() <= 0:
        return {}
    rows = steps.read().where(f"run_id = '{target.run_id}'").select("step", "consumed").collect()
    return {row["step"]: json.loads(row["consumed"]) for row in rows if row["consumed"] != "{}"}


def _publish(run: Run, target: Recorded) -> int | None:
    there = {c.name for c in run.house.contracts.of_layer("gold") if c.property("publish") and run.house.table(c.name).exists()}
    names = there | set(target.hashes)
    prepared = prepare(run.house, run.home.path, sorted(names), as_of=target.as_of, zone=run.zone, run_id=run.run_id,
                       memory=run.settings.publish_memory, progress=run.say)  # fmt: skip
    now = prepared.publication if prepared else publications.last(run.house)
    states = now.tables if now else {}
    for name, content in sorted(target.hashes.items()):
        if name not in states or states[name].content_hash != content:
            what = f"{name} does not have the content of publication {target.number} after it was restored"
            raise UtilityFlowError("UF-3006", what, hint="'utilityflow rollback --to' an older publication")
    return finish(prepared).publication.number if prepared else None
