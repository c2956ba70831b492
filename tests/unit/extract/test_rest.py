"""Extracts of a REST interface: pages, increments, what comes again, and where the next one begins."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.extract.landed import Refused

from .conftest import CURSOR, LATER, OFFSET, SINCE, ids

PAGE = "  paging: {kind: page, size: 10}\n"


@pytest.mark.parametrize("paging", [CURSOR, OFFSET, PAGE])
def test_all_pages_land_in_one_file_exactly_as_they_were(world, paging):
    here = world(35)
    done = here.extract(paging + SINCE)
    assert here.landed() == here.desk.now()
    assert done.records == 35
    (name,) = here.files()
    assert done.file == f"desk/{name}"
    newest = max(r["updated_at"] for r in here.desk.now())
    assert re.match(rf"desk_start_{re.sub('[-:Z]', '', newest)}000000Z_[0-9a-f]{{12}}\.jsonl$", name)


def test_the_next_extract_asks_with_an_overlap_and_lands_nothing_when_nothing_new_came(world):
    here = world(35)
    here.extract()
    before, asked = here.files(), len(here.desk.asked)
    done = here.extract()
    assert (done.file, done.records) == (None, 0)
    assert here.files() == before
    newest = dt.datetime.fromisoformat(max(r["updated_at"] for r in here.desk.now()).replace("Z", "+00:00"))
    since = f"{newest - dt.timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    assert here.desk.asked[asked]["updated_since"] == since
    assert len(here.desk.asked) == asked + 1


def test_a_change_lands_alone_and_a_late_one_within_the_overlap_too(world):
    here = world(35)
    here.extract()
    newest = here.desk.now()[-1]
    changed = {**newest, "state": "closed", "updated_at": "2025-03-01T00:00:00Z"}
    late = {**newest, "id": "SR-late", "updated_at": newest["updated_at"].replace("Z", "+00:00")}
    here.desk.records = [*here.desk.records, changed]
    first = here.extract()
    here.desk.records = [*here.desk.records, late, {**late, "id": "SR-later", "updated_at": "2025-02-28T23:30:00Z"}]
    second = here.extract()
    assert (first.records, second.records) == (1, 1)
    assert ids(here.landed())[:2] == [changed["id"], "SR-later"]  # names with times sort before the first file's
    # what became visible later than the overlap reaches is not seen: that is what overlap_seconds is for
    assert "SR-late" not in ids(here.landed())
    assert here.extract().file is None


def test_two_late_changes_in_one_second_make_two_files_and_none_supersedes_another(world):
    here = world(3)
    here.extract()
    newest = here.desk.now()[-1]
    for number in (1, 2):
        here.desk.records = [*here.desk.records, {**newest, "id": f"twin-{number}"}]
        assert here.extract().records == 1
    assert len(here.files()) == 3
    assert {"twin-1", "twin-2"} <= set(ids(here.landed()))


def test_a_removed_file_is_asked_for_again_and_what_other_files_hold_is_not_landed_twice(world):
    here = world(35)
    first = here.extract()
    here.desk.records = [*here.desk.records, {**here.desk.now()[-1], "updated_at": "2025-03-01T00:00:00Z"}]
    here.extract()
    (here.landing / str(first.file)).unlink()
    again = here.extract()
    assert again.records == 35
    assert len(here.landed()) == 36
    assert here.extract().file is None


def test_a_rejected_file_is_asked_for_again_but_the_same_content_is_not_landed_again(world):
    here = world(35)
    first = here.extract()
    path = here.landing / str(first.file)
    import hashlib

    refused = Refused({str(first.file)}, {hashlib.sha256(path.read_bytes()).hexdigest()})
    assert here.extract(refused=refused).told == "the source still answers what was rejected"
    assert here.files() == [path.name]
    here.desk.records[0]["state"] = "mended"
    again = here.extract(refused=refused)
    assert again.records == 35
    assert len(here.files()) == 2


def test_a_time_in_the_future_does_not_move_the_beginning_beyond_now(world):
    here = world(5)
    here.desk.records[0]["updated_at"] = "2999-01-01T00:00:00Z"
    here.extract()
    here.desk.records = [*here.desk.records, {**here.desk.records[1], "updated_at": "2025-05-31T23:59:00Z"}]
    assert here.extract().records == 1


def test_start_says_where_the_first_extract_begins(world):
    here = world(35)
    since = SINCE.replace("overlap_seconds: 3600", "overlap_seconds: 60, start: '2025-01-20T00:00:00Z'")
    here.extract(CURSOR + since)
    assert here.desk.asked[0]["updated_since"] == "2025-01-19T23:59:00Z"
    assert ids(here.landed()) == [r["id"] for r in here.desk.now() if r["updated_at"] >= "2025-01-19T23:59:00Z"]


def test_numbers_and_texts_stay_as_they_were(world):
    here = world(0)
    odd = '{"id": "1", "amount": 1.10, "big": 12345678901234567890.123, "e": 1E5, "updated_at": "2025-01-01T00:00:00Z"}'
    here.desk.page = lambda *_: {"data": [], "next_cursor": None}
    body = f'{{"data": [{odd}, {{"id": "\\ud800", "t": "äß\\u2028\\n", "updated_at": "2025-01-01T00:00:00Z"}}]}}'
    here.desk.page = lambda *_: Raw(body)
    here.extract()
    first, second = (here.landing / "desk" / here.files()[0]).read_text("utf-8").split("\n")[:2]
    assert first == odd.replace(": ", ":").replace(", ", ",")
    assert second == '{"id":"\\ud800","t":"äß\u2028\\n","updated_at":"2025-01-01T00:00:00Z"}'


class Raw(dict):
    """An answer that is sent as it stands."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


@pytest.fixture(autouse=True)
def raw_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = json.dumps
    monkeypatch.setattr(
        "utilityflow.simulate.serve.json.dumps", lambda v, **k: v.text if isinstance(v, Raw) else usual(v, **k)
    )


def test_without_an_increment_the_whole_state_lands_when_it_changed(world):
    here = world(25)
    here.extract(CURSOR)
    assert here.files()[0].startswith("desk_full_20250601T000000000000Z_")
    assert here.extract(CURSOR, now=LATER + dt.timedelta(days=1)).told == "nothing has changed"
    here.desk.records = here.desk.records[1:]
    assert here.extract(CURSOR, now=LATER + dt.timedelta(days=2)).records == 24
    assert len(here.files()) == 2


def test_of_a_named_record_that_comes_twice_in_an_extract_the_last_state_is_kept(world):
    here = world(12)
    pages = [here.desk.now()[:10], [{**here.desk.now()[0], "state": "newer", "updated_at": "2025-04-01T00:00:00Z"}]]
    here.desk.page = lambda query, fault: {"data": pages[int("cursor" in query)],
                                           "next_cursor": None if "cursor" in query else "next"}  # fmt: skip
    here.extract(CURSOR + SINCE + "  record_id: id\n")
    assert len(here.landed()) == 10
    assert [r["state"] for r in here.landed() if r["id"] == pages[1][0]["id"]] == ["newer"]
    # without a name each state is a record of its own
    for path in (here.landing / "desk").iterdir():
        path.unlink()
    here.extract(CURSOR + SINCE)
    assert len(here.landed()) == 11


@pytest.mark.parametrize("fault", ["repeated@2", "shifted@2"])
@pytest.mark.parametrize("paging", [CURSOR, OFFSET])
def test_repeated_and_shifted_pages_are_landed_once(world, fault, paging):
    here = world(35, fault)
    here.extract(paging + SINCE)
    assert sorted(ids(here.landed())) == sorted(ids(here.desk.now()))


def test_a_record_that_shifted_past_a_page_is_found_by_the_second_reading(world):
    here = world(35)
    usual, calls = here.desk.page, []

    def page(query, fault):
        calls.append(query)
        if len(calls) == 2:  # the first record is updated: it moves to the end, the eleventh to the page already read
            first = here.desk.now()[0]
            here.desk.records = [{**r, "updated_at": "2025-05-01T00:00:00Z"} if r is first else r for r in here.desk.records]
        return usual(query, fault)

    here.desk.page = page
    eleventh = here.desk.now()[10]["id"]
    here.extract(OFFSET + SINCE)
    assert eleventh in ids(here.landed())
    # the guard can fail: without the second reading it is missed
    here.desk.records, calls[:] = here.desk.records, []
    for path in (here.landing / "desk").iterdir():
        path.unlink()
    missed = here.desk.now()[10]["id"]
    here.extract(OFFSET.replace("size: 10", "size: 10, confirm: false") + SINCE)
    assert missed not in ids(here.landed())


def test_a_file_under_the_landing_root_that_is_not_ours_is_left_alone(world):
    here = world(5)
    (here.landing / "desk").mkdir()
    (here.landing / "desk" / "by_hand.jsonl").write_text('{"id": "x"}\n')
    assert here.extract().records == 5
    assert "by_hand.jsonl" in here.files()


def test_a_folder_that_leads_out_of_the_landing_root_is_refused(world, tmp_path):
    here = world(5)
    (tmp_path / "out").mkdir()
    (here.landing / "desk").symlink_to(tmp_path / "out")
    with pytest.raises(UtilityFlowError, match="leads out") as caught:
        here.extract()
    assert caught.value.code == "UF-2008"
