"""Feeds over a real HTTP server on this machine, and extracts of them; no Spark."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.extract.landed import Extracted, Refused
from utilityflow.extract.rest import extract_rest
from utilityflow.extract.web import Clock
from utilityflow.simulate.serve import Desk, Server, parse_fault, requests_of

TEXT = """
feed: desk
system: service_requests
entity: service_requests
format: rest
path: desk/*.jsonl
columns:
  request_id: id
  request_type: type
  status: state
  opened_at: to_timestamp(opened_at)
  updated_at: to_timestamp(updated_at)
options:
  base_url: {address}
  records: data
"""
CURSOR = "  paging: {kind: cursor, size: 10}\n"
OFFSET = "  paging: {kind: offset, size: 10}\n"
SINCE = "  increment: {field: updated_at, parameter: updated_since, overlap_seconds: 3600}\n"
LATER = dt.datetime(2025, 6, 1, tzinfo=dt.timezone.utc)  # all made records were updated before


@dataclass
class World:
    """A source, a landing root, and what was said."""

    landing: Path
    desk: Desk
    address: str
    said: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def feed(self, options: str = CURSOR + SINCE) -> Feed:
        return parse_feed(TEXT.replace("{address}", self.address) + options, "desk.yaml")

    def extract(
        self, options: str = CURSOR + SINCE, *, now: dt.datetime | None = LATER, refused: Refused | None = None
    ) -> Extracted:
        clock = Clock(sleep=self.waits.append, chance=lambda: 0.0)
        return extract_rest(self.feed(options), self.landing, refused or Refused(), self.said.append, clock=clock, now=now)

    def files(self) -> list[str]:
        return sorted(p.name for p in (self.landing / "desk").iterdir())

    def landed(self) -> list[dict[str, Any]]:
        """Records of all landed files, in the order of their names."""
        paths = sorted((self.landing / "desk").glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a world: ``world(count, faults, **what Desk takes)``."""
    with ExitStack() as stack:

        def make(count: int = 35, *faults: str, **more: Any) -> World:
            desk = Desk(requests_of(count), faults=[parse_fault(f) for f in faults], **more)
            server = stack.enter_context(Server(desk))
            landing = tmp_path / "landing"
            landing.mkdir(exist_ok=True)
            return World(landing, desk, server.address)

        yield make


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [r["id"] for r in records]
