"""``status``: what ran, what is published, which files are there, what is in quarantine, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from utilityflow.control.home import open_home
from utilityflow.operate.profiles import MEASURES, lines
from utilityflow.operate.scene import Scene, has_lakehouse, open_house
from utilityflow.settings import Settings
from utilityflow.silver.judging import ENTITIES

if TYPE_CHECKING:
    from utilityflow.lakehouse import Lakehouse

RUNS = 5


def status(settings: Settings) -> dict[str, Any]:
    """The state of an environment.

    :returns: ``home``, ``time_zone``, ``runs`` (newest first), ``publication`` (None or number, as_of, tables with rows
        and versions), ``files`` (feed -> status -> how many), ``rejected`` (file and reason),
        ``quarantine`` (table -> rule -> records), ``steps`` (of the last run that worked, and their profiles),
        ``quality`` (of that run),
        ``conflicts`` (dimension -> events that lost a full tie), ``hint``.
    """
    home = open_home(settings, create=False)
    empty: dict[str, Any] = {
        "home": str(home.path), "time_zone": home.zone, "runs": [], "publication": None, "files": {}, "rejected": [], "held": [],
        "quarantine": {}, "steps": [], "quality": [], "conflicts": {}, "warehouse": None,
        "hint": f"nothing has run here yet: put files under {settings.landing_path} and start 'utilityflow run'",
    }  # fmt: skip
    if not has_lakehouse(home):
        return empty
    scene = Scene(settings, home, open_house(settings, home))
    runs = sorted(scene.rows("ops.run"), key=lambda r: r["started_at"], reverse=True)
    steps = scene.rows("ops.step")
    worked = _last_that_worked(runs, steps)
    quarantine = _quarantine(scene)
    result = empty | {
        "runs": [_run(r) for r in runs[:RUNS]],
        "publication": _publication(scene),
        "files": _files(scene),
        "rejected": _with_reason(scene, "rejected"),
        "held": _with_reason(scene, "held"),
        "quarantine": quarantine,
        "steps": [_step(s) for s in sorted(steps, key=lambda s: s["finished_at"]) if s["run_id"] == worked],
        "quality": quality_of(scene.house, worked),
        "conflicts": _conflicts(scene),
        "warehouse": str(home.warehouse) if home.warehouse.is_file() else None,
    }  # fmt: skip
    return result | {"hint": _hint(result)}


def quality_of(house: Lakehouse, run_id: str | None) -> list[dict[str, Any]]:
    """The rules that records of one run broke: table, rule, dimension, severity, evaluated, failed."""
    table = house.table("ops.quality_result")
    if run_id is None or table.version() < 0:
        return []
    rows = table.read().where(f"run_id = '{run_id}' AND failed > 0").collect()
    names = ("table_name", "rule", "dimension", "severity", "evaluated", "failed")
    have = [n for n in names if n in table.contract.column_names]
    return sorted(({n: r[n] for n in have} for r in rows), key=lambda r: (-r["failed"], r["rule"]))


def _last_that_worked(runs: Sequence[Any], steps: Sequence[Any]) -> str | None:
    busy = {s["run_id"] for s in steps if s["status"] != "skipped"}
    found: str | None = next((r["run_id"] for r in runs if r["run_id"] in busy), None)
    return found


def _run(row: Any) -> dict[str, Any]:
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    return {
        "run_id": row["run_id"], "command": row["command"], "status": row["status"], "as_of": row["as_of"].isoformat(),
        "started_at": row["started_at"].isoformat(), "seconds": round(seconds, 1), "publication": row["publication"],
        "error": row["error"],
    }  # fmt: skip


def _step(row: Any) -> dict[str, Any]:
    held = row.asDict()  # a home of before has no profiles yet
    return {n: held.get(n) for n in ("step", "status", "rows_written", "seconds", "version", *MEASURES)}


def _publication(scene: Scene) -> dict[str, Any] | None:
    found = scene.publication
    if found is None:
        return None
    tables = [
        {"table": n, "rows": t.rows, "version": t.version, "now": scene.house.table(n).version()}
        for n, t in found.tables.items()
    ]
    return {"number": found.number, "as_of": found.as_of.isoformat(), "run_id": found.run_id, "tables": tables}


def _files(scene: Scene) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {}
    for entry in scene.ledger.entries.values():
        of_feed = result.setdefault(entry.feed, {})
        of_feed[entry.status] = of_feed.get(entry.status, 0) + 1
    return {feed: dict(sorted(counts.items())) for feed, counts in sorted(result.items())}


def _with_reason(scene: Scene, state: str) -> list[dict[str, Any]]:
    found = []
    for e in sorted(scene.ledger.entries.values(), key=lambda e: (e.feed, e.number)):
        names = {e.file_name: e.reason} if e.status == state else {}
        # of a snapshot that stands by other names
        names |= {n: told[0] for n, told in sorted(e.refused.items()) if (n in e.held_names) == (state == "held")}
        found += [{"feed": e.feed, "file": name, "sha256": e.sha256, "reason": reason} for name, reason in names.items()]
    return found


def _quarantine(scene: Scene) -> dict[str, dict[str, int]]:
    from pyspark.sql import functions as F

    result = {}
    for entity in ENTITIES:
        fence = scene.house.table(f"silver.{entity}__quarantine")
        if fence.version() > 0:
            rows = fence.read().select(F.explode("rules").alias("rule")).groupBy("rule").count().collect()
            counts = Counter({r[0]: r[1] for r in rows})
            if counts:
                result[fence.name] = dict(counts.most_common())
    return result


def _conflicts(scene: Scene) -> dict[str, int]:
    """Dimension -> the newest figure of its events that lost a full tie to another of the same time and sequence."""
    when = {r["run_id"]: r["started_at"] for r in scene.rows("ops.run", "run_id", "started_at")}
    rows = [r for r in scene.rows("ops.metric") if r["name"] == "conflicts" and r["run_id"] in when]
    return {r["step"]: int(r["value"]) for r in sorted(rows, key=lambda r: when[r["run_id"]]) if r["value"]}


def _hint(result: dict[str, Any]) -> str:
    last = result["runs"][0] if result["runs"] else None
    if last and last["status"] == "failed":
        return f"the last run failed ({last['error']}): mend the cause and start 'utilityflow run' again"
    if result["publication"] is None:
        return "nothing is published yet: start 'utilityflow run'"
    if result["warehouse"] is None:
        return "the warehouse file is missing: start 'utilityflow run', it is built anew"
    if result["held"]:
        return f"{len(result['held'])} file(s) are held: deliver them mended, or release them with 'utilityflow requeue'"
    if result["rejected"]:
        return f"{len(result['rejected'])} file(s) were rejected: mend them or their feed file, and run again"
    if result["quarantine"]:
        return "records are in quarantine: 'utilityflow feed check FILE.yaml' shows how a feed reads its files"
    return "all is well; 'utilityflow verify' checks the invariants"


def text(result: dict[str, Any], *, profile: bool = False) -> str:
    """The answer for people.

    :param profile: show what each step read, wrote, exchanged and spilled.
    """
    told = [f"home {result['home']} (days are cut in {result['time_zone']})"]
    for run in result["runs"]:
        said = f"{run['status'].replace('_', ' ')}, as of {run['as_of']}, {run['seconds']:.0f} s"
        told.append(f"  {run['command']} {run['run_id']} {said}" + (f": {run['error']}" if run["error"] else ""))  # fmt: skip
    told += _published_text(result)
    for feed, counts in result["files"].items():
        told.append(f"  {feed}: " + ", ".join(f"{n:,} {state}" for state, n in counts.items()))
    for state in ("rejected", "held"):
        told += [f"  {state} {r['file']}: {r['reason']}" for r in result[state][:20]]
    for table, rules in result["quarantine"].items():
        told.append(f"  {table}: " + ", ".join(f"{n:,} {rule}" for rule, n in rules.items()))
    if result["steps"]:
        told.append("steps of the last run that had work:")
        told += [f"  {line}" for line in lines(result["steps"])] if profile else [
            f"  {s['step']:<28} {s['status']:<8} {s['rows_written']:>12,} rows {s['seconds']:>7.1f} s"
            for s in result["steps"]
        ]
    if result["quality"]:
        told.append("rules that its records broke:")
        told += [
            f"  {q['table_name']}: {q['rule']} ({q['severity']}) {q['failed']:,} of {q['evaluated']:,}"
            for q in result["quality"]
        ]
    for name, n in result["conflicts"].items():
        told.append(f"  {name}: {n:,} conflicting event(s) of one time and sequence")
    return "\n".join([*told, result["hint"]])


def _published_text(result: dict[str, Any]) -> list[str]:
    found = result["publication"]
    if found is None:
        return ["nothing is published yet"]
    lines = [
        f"publication {found['number']} as of {found['as_of']}"
        + (f", in {result['warehouse']}" if result["warehouse"] else "")
    ]
    for t in found["tables"]:
        behind = "" if t["now"] == t["version"] else f" (now {t['now']})"
        lines.append(f"  {t['table']:<24} {t['rows']:>12,} rows, version {t['version']}{behind}")
    return lines
