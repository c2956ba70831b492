"""Progress lines for people: time, what is done with how many rows, and the time left by the journal of an earlier run."""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHORTEST = 10.0  # seconds left below which nothing is said
_LOOK_BACK = 10


@dataclass(frozen=True)
class Expectation:
    """How an earlier run went: seconds from the end of each step to the end of the run, and the records it read."""

    left: dict[str, float]
    records: int


def expectation(logs: Path) -> Expectation | None:
    """What to expect, from the newest journal of a run that had work; None when there is none."""
    journals = sorted(logs.glob("*.jsonl"), reverse=True)[:_LOOK_BACK] if logs.is_dir() else []
    return next((found for path in journals if (found := _read(path))), None)


def _read(path: Path) -> Expectation | None:
    done: dict[str, dt.datetime] = {}
    last: dt.datetime | None = None
    records = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            told = json.loads(line)
            last = dt.datetime.fromisoformat(told["at"])
        except (ValueError, KeyError, TypeError):
            continue
        if "seconds" in told and "step" in told:
            done[told["step"]] = last
            records += int(told.get("rows", 0)) if str(told["step"]).startswith("bronze.") else 0
        if "code" in told:
            return None  # it failed
    if last is None or not records or not any(step.startswith("gold.") for step in done):
        return None
    return Expectation({step: (last - at).total_seconds() for step, at in done.items()}, records)


class Console(logging.StreamHandler[Any]):
    """``HH:MM:SS message`` on a stream, with the time left once the steps of a run say how much there is to do."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        self.expected: Expectation | None = None
        self._records = 0

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = getattr(record, "fields", {})
        return super().format(record) + self._left(fields)

    def _left(self, fields: dict[str, Any]) -> str:
        step = str(fields.get("step", ""))
        if "seconds" not in fields:
            return ""
        if step.startswith("bronze."):
            self._records += int(fields.get("rows", 0))
            return ""  # how much there is to do is known when all of bronze is read
        if self.expected is None or step not in self.expected.left or not self._records:
            return ""
        left = self.expected.left[step] * self._records / self.expected.records
        return f" ({duration(left)} left)" if left >= SHORTEST else ""


def duration(seconds: float) -> str:
    """A time as people say it."""
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
