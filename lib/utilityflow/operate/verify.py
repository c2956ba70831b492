"""``verify``: the invariants of DESIGN.md section 4 on the live lakehouse, and the publication against what is there.

It holds the home while it looks (a run in between would make everything seem wrong) and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from utilityflow.control.home import hold
from utilityflow.errors import EXIT_INTEGRITY, EXIT_OK, UtilityFlowError, nearest
from utilityflow.operate.checks import accounting, agreements, facts, history, marts, privacy, published
from utilityflow.operate.checks.base import Check, Evidence, Found, gather
from utilityflow.operate.scene import Scene, open_scene
from utilityflow.settings import Settings

log = logging.getLogger("utilityflow")
CHECKS: tuple[Check, ...] = (
    *accounting.CHECKS, *history.CHECKS, *agreements.CHECKS, *facts.CHECKS, *marts.CHECKS, *published.CHECKS,
    *privacy.CHECKS,
)  # fmt: skip
# analysing a feed's expressions switches the session's time zone for a moment: nothing may run beside it
ALONE = "accounting.duplicates"


@dataclass(frozen=True)
class _Result:
    check: Check
    found: Found
    seconds: float


def verify(
    settings: Settings, *, quick: bool = False, rebuild: str | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Check everything, or (``rebuild``) compare one dimension with its rebuild from all events.

    :param quick: leave out the checks that judge or hash all records again.
    :param only: names of checks, or their first words (``history``); all when empty.
    :returns: ``status`` ok or failed, ``publication``, ``as_of``, ``checks`` (check, invariant, what, status ok, failed
        or skipped, count, up to ten offenders in words, seconds), ``hint``, ``error`` (UF-3006 when one failed).
    :raises UtilityFlowError: UF-1004 for a check that there is not, UF-1008 when there is no lakehouse, UF-4004 while a
        run holds the home.
    """
    scene = open_scene(settings)
    with hold(scene.home, "verify"):
        if rebuild is not None:
            name = history.named_dimension(scene, rebuild)
            check = Check(
                f"history.rebuild {name}",
                5,
                f"{name} equals its rebuild",
                lambda e: history.equals_its_rebuild(e, name),
            )
            results = [_judge(check, Evidence(scene))]
        else:
            checks = _chosen(only)
            results = _all(scene, [c for c in checks if not (quick and c.slow)])
            results += [_Result(c, Found(skipped="left out by --quick"), 0.0) for c in checks if quick and c.slow]
        return _answer(scene, results)


def _chosen(words: Sequence[str]) -> list[Check]:
    names = {c.name for c in CHECKS} | {c.name.partition(".")[0] for c in CHECKS}
    for word in words:
        if word not in names:
            raise UtilityFlowError("UF-1004", f"there is no check '{word}'", hint=nearest(word, names))
    return [c for c in CHECKS if not words or {c.name, c.name.partition(".")[0]} & set(words)]


def _all(scene: Scene, checks: Sequence[Check]) -> list[_Result]:
    scene.feeds, scene.ledger, scene.publication, scene.consumed  # noqa: B018 - read before the threads
    evidence = gather(scene)
    alone = [_judge(c, evidence) for c in checks if c.name == ALONE]
    with ThreadPoolExecutor(3) as pool:
        rest = list(pool.map(lambda c: _judge(c, evidence), [c for c in checks if c.name != ALONE]))
    order = {c.name: i for i, c in enumerate(checks)}
    return sorted(alone + rest, key=lambda r: order[r.check.name])


def _judge(check: Check, evidence: Evidence) -> _Result:
    began = time.monotonic()
    try:
        found = check.function(evidence)
    except UtilityFlowError as error:
        found = Found(1, (str(error),))
    except Exception as failure:  # a table that cannot be read is a finding, not the end of the other checks
        first = (str(failure).splitlines() or [""])[0][:200]
        found = Found(1, (f"could not be checked: {type(failure).__name__}: {first}",))
    seconds = time.monotonic() - began
    log.info("%s: %s in %.1f s", check.name, "skipped" if found.skipped else f"{found.count:,} offenders", seconds)
    return _Result(check, found, seconds)


def _answer(scene: Scene, results: Sequence[_Result]) -> dict[str, Any]:
    failed = [r.check.name for r in results if r.found.count]
    publication = scene.publication
    error = None
    if failed:
        message = f"{len(failed)} of {len(results)} checks failed: {', '.join(failed)}"
        error = {"code": "UF-3006", "message": message, "hint": _hint(scene)}
    return {
        "status": "failed" if failed else "ok",
        "publication": publication.number if publication else None,
        "as_of": publication.as_of.isoformat() if publication else None,
        "checks": [
            {
                "check": r.check.name, "invariant": r.check.invariant, "what": r.check.what, "status": _status(r.found),
                "count": r.found.count, "offenders": list(r.found.offenders), "reason": r.found.skipped,
                "seconds": round(r.seconds, 3),
            }
            for r in results
        ],
        "error": error,
    }  # fmt: skip


def _status(found: Found) -> str:
    return "failed" if found.count else "skipped" if found.skipped else "ok"


def _hint(scene: Scene) -> str:
    """What to do next: after a run that did not end, the next run repairs what looks wrong."""
    runs = sorted(scene.rows("ops.run", "run_id", "status", "started_at"), key=lambda r: r["started_at"])
    known = {r["run_id"] for r in runs}
    logged = {p.stem for p in scene.home.logs.glob("*.jsonl")} if scene.home.logs.is_dir() else set()
    if (runs and runs[-1]["status"] == "failed") or logged - known:
        return "the last run did not end well: run again, then verify"
    return "docs/runbook.md, UF-3006, says how to find and mend the cause"


def exit_code(result: dict[str, Any]) -> int:
    """5 when a check failed."""
    return EXIT_INTEGRITY if result["error"] else EXIT_OK


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = []
    for one in result["checks"]:
        tail = f" ({one['reason']})" if one["reason"] else ""
        lines.append(f"{one['status']:<8} {one['invariant']} {one['check']:<24} {one['what']}{tail}")
        lines += [f"           {o}" for o in one["offenders"]]
        if one["count"] > len(one["offenders"]):
            lines.append(f"           and {one['count'] - len(one['offenders']):,} more")
    error = result["error"]
    published_as = (
        f"publication {result['publication']} as of {result['as_of']}"
        if result["publication"]
        else "nothing published yet"
    )
    lines.append(
        f"{error['code']}: {error['message']} ({error['hint']})" if error else f"all checks hold; {published_as}"
    )
    return "\n".join(lines)
