"""``extract``: ask the sources of feeds that have one and land what is new, as the first steps of a run do; loads nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from utilityflow.bronze.databases import Jdbc
from utilityflow.control.home import hold, open_home
from utilityflow.control.ledger import Ledger, read_ledger
from utilityflow.control.run import journal, log, new_run_id
from utilityflow.errors import CATALOGUE, EXIT_OK, UtilityFlowError, nearest
from utilityflow.extract.steps import SOURCE_CODES, Scene, extract_feed, told
from utilityflow.operate.scene import has_lakehouse, open_house, open_session
from utilityflow.pipeline import read_feeds
from utilityflow.settings import Settings


def extract(settings: Settings, names: Sequence[str] = ()) -> dict[str, Any]:
    """Ask the named feeds' sources, one after the other; one that fails does not stop the others.

    :returns: ``extracts`` (feed, status landed, unchanged or failed, file, records, pages, told), ``error`` (of the first
        that failed, or None).
    :raises UtilityFlowError: UF-1004 for a feed that has no source, UF-4004 when a run holds the home.
    """
    feeds = {name: feed for name, feed in read_feeds(settings).items() if feed.extract is not None}
    for name in names:
        if name not in feeds:
            raise UtilityFlowError("UF-1004", f"no feed '{name}' has a source that can be asked", hint=nearest(name, feeds))
    if not settings.landing_path.is_dir() and settings.landing is not None:
        raise UtilityFlowError("UF-1008", f"the landing root {settings.landing_path} is not a folder")
    home = open_home(settings, create=True)
    run_id = new_run_id()
    done: list[dict[str, Any]] = []
    error: UtilityFlowError | None = None
    with hold(home, f"extract {run_id}", seconds=settings.lease_seconds), journal(home, run_id):
        # what was rejected is asked for again: the ledger knows
        ledger = read_ledger(open_house(settings, home)) if feeds and has_lakehouse(home) else Ledger()
        spark = open_session(settings) if any(isinstance(feeds[n].extract, Jdbc) for n in names or feeds) else None
        scene = Scene(settings.landing_path, ledger, home.zone, home.tmp / run_id, spark, log.info)
        for name in names or feeds:
            one: dict[str, Any] = {"feed": name, "status": "failed", "file": None, "records": 0, "pages": 0}
            try:
                made = extract_feed(feeds[name], scene)
                one |= {"status": "landed" if made.file else "unchanged", "file": made.file, "records": made.records,
                        "pages": made.pages, "told": told(made)}  # fmt: skip
            except UtilityFlowError as failed:
                if failed.code not in SOURCE_CODES:
                    raise
                error, one["told"] = error or failed, str(failed)
            log.info(f"{name}: {one['told']}", extra={"fields": {"run_id": run_id, **one}})
            done.append(one)
        shutil.rmtree(scene.stage, ignore_errors=True)
    code = None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
    return {"run_id": run_id, "extracts": done, "error": code}


def exit_code(result: dict[str, Any]) -> int:
    """0 when every source could be asked, else that of the first failure."""
    return CATALOGUE[result["error"]["code"]].exit_code if result["error"] else EXIT_OK


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [f"{one['feed']}: {one['status']}: {one['told']}" for one in result["extracts"]]
    return "\n".join(lines or ["no feed has a source that can be asked: formats rest and jdbc (docs/feeds.md)"])
