"""Profiles of steps as a table: what was read, written, exchanged and spilled, and each step's share of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEASURES = ("rows_read", "bytes_read", "bytes_written", "shuffle_bytes", "spill_bytes", "task_seconds")
HEADS = ("step", "rows written", "rows read", "read MB", "written MB", "shuffle MB", "spill MB", "task s", "s", "share")


def cells(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """HEADS and a row of text for each step that did something; the share is of the sum of the steps' seconds."""
    done = [s for s in steps if s["status"] != "skipped"]
    total = sum(s["seconds"] for s in done) or 1.0
    return [HEADS, *(
        (s["step"], f"{s['rows_written']:,}", *(_cell(s.get(n), n) for n in MEASURES), f"{s['seconds']:.1f}",
         f"{s['seconds'] / total:.0%}")
        for s in done
    )]  # fmt: skip


def _cell(value: Any, name: str) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:,.1f}" if "bytes" in name else f"{value:,.0f}" if name == "rows_read" else f"{value:,.1f}"


def lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table for a terminal, a line each."""
    rows = cells(steps)
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    return [" ".join([row[0].ljust(wide[0]), *(c.rjust(w) for c, w in zip(row[1:], wide[1:], strict=True))]) for row in rows]


def markdown(steps: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    head, *rows = cells(steps)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---", *["--:"] * (len(HEADS) - 1)), *rows])
