"""The record of rollbacks, ``ops.rollback``: what was to be gone back to, written before the first table moves.

A rollback touches many tables in many commits. Its first row says what all of them are to become, so that whoever comes
after a rollback that was cut off can end it; its second row says that it ended. How many there were is the epoch of all
transaction ids.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utilityflow.session import local_frame

if TYPE_CHECKING:
    from utilityflow.lakehouse import Lakehouse

TABLE = "ops.rollback"


@dataclass(frozen=True)
class Rollback:
    """One rollback.

    ``left``: the publication that stood; ``to``: the one that it goes back to; ``versions``: of all tables then;
    ``publication``: the one that it made, None until it ended (or when nothing had to be published).
    """

    number: int
    left: int
    to: int
    versions: Mapping[str, int]
    run_id: str
    ended: bool = False
    publication: int | None = None


def recorded(house: Lakehouse) -> list[Rollback]:
    """All rollbacks by number."""
    table = house.table(TABLE)
    if table.version() <= 0:
        return []
    found: dict[int, Rollback] = {}
    for row in sorted(table.read().collect(), key=lambda r: (r["rollback"], r["phase"])):  # begun, then ended
        number, ended = int(row["rollback"]), row["phase"] == "ended"
        found[number] = Rollback(number, row["publication_left"], row["publication_to"], json.loads(row["versions"]),
                                 row["run_id"], ended, row["publication"])  # fmt: skip
    return list(found.values())


def open_rollback(house: Lakehouse) -> Rollback | None:
    """The rollback that was begun last, if it has not ended; sets the house's epoch."""
    known = recorded(house)
    house.epoch = len(known)
    return known[-1] if known and not known[-1].ended else None


def begin(house: Lakehouse, left: int, to: int, versions: Mapping[str, int], run_id: str) -> Rollback:
    """Write down what is to be done; from now on it is done, by this process or by the next one."""
    rollback = Rollback(len(recorded(house)) + 1, left, to, dict(versions), run_id)
    _write(house, rollback, "begun")
    house.epoch = rollback.number
    return rollback


def end(house: Lakehouse, rollback: Rollback, publication: int | None) -> None:
    """Write down that it is done."""
    ended = Rollback(rollback.number, rollback.left, rollback.to, rollback.versions, rollback.run_id, True, publication)
    _write(house, ended, "ended")


def _write(house: Lakehouse, rollback: Rollback, phase: str) -> None:
    table = house.table(TABLE)
    table.ensure()
    versions = json.dumps(dict(rollback.versions), sort_keys=True)
    now = dt.datetime.now(dt.timezone.utc)
    row = (rollback.number, phase, rollback.left, rollback.to, rollback.publication, versions, rollback.run_id, now)
    table.append(local_frame(house.spark, [row], table.contract.struct()))
