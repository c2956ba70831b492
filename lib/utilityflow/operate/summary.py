"""What a run did, in a few lines for people."""

from __future__ import annotations

from typing import Any

from utilityflow.control.home import open_home
from utilityflow.settings import Settings


def text(settings: Settings, result: dict[str, Any]) -> str:
    """The summary of the object that ``pipeline.run`` returned: files, rows, versions, why rows were quarantined."""
    lines = [f"run {result['run_id']}: {result['status'].replace('_', ' ')}"]
    seen = [f for f in result["files"] if f["status"] != "skipped"]
    for one in seen:
        lines.append("  " + _file(one))
    lines += _reasons(settings, result)
    skipped = len(result["files"]) - len(seen)
    if skipped:
        lines.append(f"  {skipped:,} file(s) were known already")
    for step in result["steps"]:
        if step["status"] != "skipped":
            version = "" if step["version"] is None else f", version {step['version']}"
            lines.append(
                f"  {step['step']}: {step['status']}, {step['rows_written']:,} rows, {step['seconds']:.1f} s{version}"
            )
    number = result["publication"]
    where = settings.home_path / "warehouse" / "utilityflow.duckdb"
    lines.append("nothing is published yet" if number is None else f"publication {number}; the warehouse is {where}")
    return "\n".join(lines)


def _reasons(settings: Settings, result: dict[str, Any]) -> list[str]:
    """Why records were quarantined: rules of this run and how many records broke them."""
    if not any(f["rows_quarantined"] for f in result["files"]):
        return []
    from utilityflow.operate.scene import open_house
    from utilityflow.operate.status import quality_of

    house = open_house(settings, open_home(settings, create=False))
    broken = [q for q in quality_of(house, result["run_id"]) if q["severity"] == "error"]
    return [f"  quarantined by {q['rule']}: {q['failed']:,} of {q['table_name']}" for q in broken]


def _file(one: dict[str, Any]) -> str:
    line = f"{one['feed']}: {one['file']} {one['status']}"
    if one["status"] == "rejected":
        return f"{line}: {one['reason']}"
    parts = [
        f"{one[f'rows_{kind}']:,} {word}" for kind, word in _KINDS.items() if one[f"rows_{kind}"] or kind == "loaded"
    ]
    return f"{line}: {one['rows_read']:,} read, {', '.join(parts)}"


_KINDS = {"loaded": "loaded", "quarantined": "quarantined", "superseded": "superseded", "duplicate": "duplicate"}
