"""``utilityflow bench nothing-new``: what a run costs that finds nothing new, and that it leaves no new version."""

from __future__ import annotations

import time
from typing import Any

from utilityflow import pipeline
from utilityflow.bench._report import conditions
from utilityflow.control.home import open_home
from utilityflow.control.publication import last as last_publication
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import Settings


def nothing_new(settings: Settings, *, rounds: int = 3) -> dict[str, Any]:
    """Run ``rounds`` times on a home in which all has been done; the first round includes the start of the engine.

    :return: seconds of each round, new versions per table (an honest result has none outside ops), conditions.
    :raises UtilityFlowError: UF-4005 when nothing was published there yet.
    """
    home = open_home(settings, create=False)
    began = time.monotonic()
    house = pipeline.open_lakehouse(settings, home)
    start = time.monotonic() - began
    publication = last_publication(house)
    if publication is None:
        raise UtilityFlowError("UF-4005", f"{home.path} has no publication", hint="run 'make demo' first")
    names = [n for n in pipeline.tables_of(pipeline.read_feeds(settings), home.lakehouse) if not n.startswith("ops.")]
    before = {n: house.table(n).version() for n in names}
    seconds, statuses = [], []
    for _ in range(rounds):
        at = time.monotonic()
        statuses.append(pipeline.run(settings, as_of=publication.as_of)["status"])
        seconds.append(round(time.monotonic() - at, 2))
    after = {n: house.table(n).version() for n in names}
    return {"engine_start_seconds": round(start, 2), "seconds": seconds, "statuses": statuses,
            "whole_first_run_seconds": round(start + seconds[0], 2),
            "new_versions": {n: after[n] - before[n] for n in names if after[n] != before[n]},
            "conditions": conditions(house.spark)}  # fmt: skip
