"""The served service desk: the same requests by seed, every record on exactly one page, faults only where they were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
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


def test_a_token_and_a_query_that_cannot_be_understood() -> None:
    with Server(Desk(requests_of(3), token="word")) as server:
        assert ask(server, "word")["total"] == 3
        asked: list[tuple[str, dict[str, str], int]] = [
            ("", {}, 401), ("other", {}, 401), ("word", {"cursor": "%%"}, 400), ("word", {"limit": "x"}, 400),
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
