"""The served service desk: the same requests by seed, every record on exactly one page, faults only where they were asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from utilityflow.simulate.serve import Desk, Fault, Server, parse_fault, requests_of


def ask(server: Server, token: str = "", **query: str) -> dict[str, Any]:
    request = Request(f"{server.address}?{urlencode(query)}", headers={"Authorization": f"Bearer {token}"} if token else {})
    with urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def test_requests_are_the_same_by_seed() -> None:
    assert requests_of(50, seed=7) == requests_of(50, seed=7)
    assert requests_of(50, seed=7) != requests_of(50, seed=8)
    assert all(r["opened_at"] < r["updated_at"] for r in requests_of(500))


def by_cursor(server: Server, number: int, page: dict[str, Any]) -> dict[str, str] | None:
    return {"cursor": page["next_cursor"]} if page["next_cursor"] else None


def by_offset(server: Server, number: int, page: dict[str, Any]) -> dict[str, str] | None:
    return {"offset": str(number * 10)} if page["data"] else None


def by_page(server: Server, number: int, page: dict[str, Any]) -> dict[str, str] | None:
    return {"page": str(number + 1)} if page["data"] else None


@pytest.mark.parametrize("following", [by_cursor, by_offset, by_page])
def test_every_record_is_on_one_page(following: Callable[..., dict[str, str] | None]) -> None:
    with Server(Desk(requests_of(35))) as server:
        records: list[dict[str, Any]] = []
        query: dict[str, str] | None = {}
        number = 0
        while query is not None:
            page = ask(server, limit="10", **query)
            records, number = records + page["data"], number + 1
            query = following(server, number, page)
        assert records == server.desk.now()


def test_updated_since_takes_that_instant_in() -> None:
    with Server(Desk(requests_of(35))) as server:
        since = server.desk.now()[20]["updated_at"]
        assert ask(server, updated_since=since)["data"] == server.desk.now()[20:]


def test_what_was_updated_at_a_time_that_cannot_be_read_is_shown_whatever_is_asked() -> None:
    with Server(Desk(requests_of(35))) as server:
        newest = server.desk.now()[-1]
        server.desk.records[7]["updated_at"], server.desk.records[9]["updated_at"] = "2025-02-31T00:00:00Z", "yesterday"
        wanted = {newest["id"], "SR-0000008", "SR-0000010"}
        assert {r["id"] for r in ask(server, updated_since=newest["updated_at"])["data"]} == wanted
        with pytest.raises(HTTPError) as caught:
            ask(server, updated_since="2025-01-01T00:00:00")  # of which zone?
        assert caught.value.code == 400


def told(count: int) -> Iterator[dict[str, Any]]:
    """Two states of each request, the first told twice; every tenth request has no id, and all of one state have one time."""
    for number, request in enumerate(requests_of(count)):
        named = request | {"id": None} if number % 10 == 0 else request
        for state, day in (("open", 1), ("open", 1), ("closed", 2)):
            yield {**named, "state": state, "updated_at": f"2025-02-{day:02d}T08:00:00Z"}


@pytest.mark.parametrize("states", ["", "all"])
def test_a_folder_is_shown_as_it_is_now_or_with_all_that_was(tmp_path: Path, states: str) -> None:
    """Every record is on one page, also where many are alike in time and id, as pages are cut between them."""
    lines = [json.dumps(record) for record in told(60)]
    for name, some in (("1", lines[:70]), ("2", lines[70:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(some) + "\n", "utf-8")
    every = [json.loads(line) for line in lines]
    # what has no id cannot be told apart, so all of it is shown
    present = [r for r in every if r["id"] is None or r["state"] == "closed"]
    with Server(Desk(file=tmp_path)) as server:
        found: list[dict[str, Any]] = []
        page = ask(server, limit="7", **({"states": states} if states else {}))
        while True:
            found += page["data"]
            if not page["next_cursor"]:
                break
            page = ask(server, limit="7", cursor=page["next_cursor"], **({"states": states} if states else {}))
        wanted = every if states else present
        assert page["total"] == len(wanted)
        assert Counter(map(json.dumps, found)) == Counter(map(json.dumps, wanted))
        assert [r["updated_at"] for r in found] == sorted(r["updated_at"] for r in wanted)
        with pytest.raises(HTTPError) as caught:
            ask(server, states="some")
        assert caught.value.code == 400


def test_a_token_and_a_query_that_cannot_be_understood() -> None:
    with Server(Desk(requests_of(3), token="word")) as server:
        assert ask(server, "word")["total"] == 3
        asked: list[tuple[str, dict[str, str], int]] = [
            ("", {}, 401), ("other", {}, 401), ("word", {"cursor": "%%"}, 400), ("word", {"cursor": "WzEsMixbXV0"}, 400),
            ("word", {"limit": "x"}, 400),
        ]  # fmt: skip
        for token, query, status in asked:
            with pytest.raises(HTTPError) as caught:
                ask(server, token, **query)
            assert caught.value.code == status


def test_faults_meet_the_requests_that_they_name() -> None:
    assert parse_fault("503@2-4") == Fault("503", 2, 4)
    with Server(Desk(requests_of(3), faults=[parse_fault("503@2-3")])) as server:
        found = []
        for _ in range(4):
            try:
                found.append(ask(server)["total"])
            except HTTPError as error:
                found.append(error.code)
        assert found == [3, 503, 503, 3]
