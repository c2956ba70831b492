"""The shipped feed of the service desk over a real HTTP server, month by month: each state lands once, none is lost; no Spark."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from utilityflow.bench.demo import CIS_URL, DESK_URL, asked
from utilityflow.bronze.feeds import Feed, load_feed
from utilityflow.errors import UtilityFlowError
from utilityflow.extract.landed import Extracted, Refused
from utilityflow.extract.rest import extract_rest
from utilityflow.simulate import serve
from utilityflow.simulate.requests import DESK_FEED
from utilityflow.simulate.serve import requests_of

Record = dict[str, Any]


@pytest.fixture
def feed(repository: Path) -> Feed:
    return load_feed(repository / "conf" / "feeds" / f"{DESK_FEED}.yaml")


def states() -> dict[str, list[Record]]:
    """Those of 900 requests by the month in which they came about: opened, at work two days later, closed after a week.

    Some are told twice, some have no id, and many have one time.
    """
    found: dict[str, list[Record]] = {"2025-01": [], "2025-02": []}
    for number, request in enumerate(requests_of(900)):
        day = 3 + number % 28
        for state, on in (("open", day), ("in progress", day + 2), ("closed", day + 7)):
            month, of_month = (1, on) if on < 32 else (2, on - 31)
            stamp = f"2025-{month:02d}-{of_month:02d}T{8 + number % 3:02d}:00:00Z"
            record = {**request, "id": None if number % 97 == 0 else request["id"], "state": state, "updated_at": stamp}
            found[stamp[:7]] += [record] * (2 if number % 50 == 0 else 1)
    return found


def keep(sources: Path, month: str, records: list[Record]) -> None:
    """As the simulator keeps them: a file a day."""
    folder = sources / DESK_FEED
    folder.mkdir(parents=True, exist_ok=True)
    for day in sorted({r["updated_at"][:10] for r in records}):
        lines = [json.dumps(r) + "\n" for r in records if r["updated_at"].startswith(day)]
        (folder / f"{DESK_FEED}_{day}.jsonl").write_text("".join(lines), "utf-8")
    assert list(folder.glob(f"*_{month}-*.jsonl"))


def extract(feed: Feed, landing: Path) -> Extracted:
    return extract_rest(feed, landing, Refused(), print)


def landed(landing: Path) -> Counter[str]:
    files = sorted((landing / DESK_FEED).glob("*.jsonl"))
    return Counter(json.dumps(json.loads(line), sort_keys=True) for f in files for line in f.read_text("utf-8").splitlines())


@pytest.mark.parametrize("size", [100, 1000])
def test_each_state_of_two_months_lands_once(feed: Feed, tmp_path: Path, size: int) -> None:
    assert feed.extract is not None and 100 <= feed.extract.paging.size <= 1000, "what interfaces allow"
    feed = replace(feed, extract=replace(feed.extract, paging=replace(feed.extract.paging, size=size)))
    months, sources, landing = states(), tmp_path / "sources", tmp_path / "landing"
    landing.mkdir()
    whole, pages = Counter[str](), []
    for month, records in months.items():
        keep(sources, month, records)
        whole |= Counter({json.dumps(r, sort_keys=True): 1 for r in records})
        with asked(sources):  # another server each month, at another port
            pages.append(extract(feed, landing).pages)
            assert landed(landing) == whole, f"after {month}"
            assert extract(feed, landing).file is None, "asked again it has nothing new"
    assert len(list((landing / DESK_FEED).glob("*.jsonl"))) == 2
    assert pages[0] == -(-len(months["2025-01"]) // size), "repeats have a place on the pages too"
    assert len(whole) > 2600


def test_a_month_that_failed_between_two_pages_lands_whole_the_next_time(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, landing = tmp_path / "sources", tmp_path / "landing"
    landing.mkdir()
    records = states()["2025-01"]
    keep(sources, "2025-01", records)
    assert feed.extract is not None
    bounds = replace(feed.extract.limits, attempts=1)
    quick = replace(feed.extract, limits=bounds, paging=replace(feed.extract.paging, size=500))
    feed = replace(feed, extract=quick)
    with asked(sources), monkeypatch.context() as patch:
        patch.setattr(serve.Desk, "note", lambda self, query: "503" if "cursor" in query else "")
        with pytest.raises(UtilityFlowError, match="UF-2012"):
            extract(feed, landing)
    assert not list((landing / DESK_FEED).glob("*.jsonl"))
    with asked(sources):
        extract(feed, landing)
    assert landed(landing) == Counter({json.dumps(r, sort_keys=True): 1 for r in records})


def test_the_desk_is_served_on_this_machine_alone_and_ends_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    keep(sources, "2025-01", states()["2025-01"])
    monkeypatch.setenv(CIS_URL, "jdbc:sqlite:/of/ones/own.db")
    monkeypatch.delenv(DESK_URL, raising=False)
    addresses = []
    for fails in (False, True):
        try:
            with asked(sources):
                addresses.append(os.environ[DESK_URL])
                assert re.fullmatch(r"http://127\.0\.0\.1:\d+/service-requests", addresses[-1])
                assert os.environ[CIS_URL] == f"jdbc:sqlite:{sources / 'cis.sqlite'}"
                with urlopen(f"{addresses[-1]}?limit=3", timeout=30) as answer:
                    assert len(json.load(answer)["data"]) == 3
                if fails:
                    raise RuntimeError("a run that fails")
        except RuntimeError:
            assert fails
        assert (os.environ[CIS_URL], os.environ.get(DESK_URL)) == ("jdbc:sqlite:/of/ones/own.db", None)
        with pytest.raises(URLError, match="refused"):
            urlopen(addresses[-1], timeout=30)
    shutil.rmtree(sources / DESK_FEED)
    with pytest.raises(UtilityFlowError, match="UF-1003"), asked(sources):
        raise AssertionError("there is no desk to serve")
    assert DESK_URL not in os.environ
