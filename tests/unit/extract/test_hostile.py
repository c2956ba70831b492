"""What a source can do wrong: each case ends in bounded time and bytes, with a code, and lands nothing half."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import json
import shutil
import ssl
import subprocess
import time
import warnings

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.extract.rest import MOST_FRUITLESS
from utilityflow.extract.web import retry_after
from utilityflow.simulate.serve import Server, parse_fault

from .conftest import CURSOR, OFFSET, SINCE, ids

QUICK = "  limits: {request_seconds: 0.5, attempts: 2}\n"


def refused(here, options: str = CURSOR + SINCE) -> UtilityFlowError:
    with pytest.raises(UtilityFlowError) as caught:
        here.extract(options)
    assert not list((here.landing / "desk").glob("*.jsonl"))
    assert not list((here.landing / "desk").glob("*.part"))
    return caught.value


@pytest.mark.parametrize(
    ("fault", "waits"),
    [("429@2", [1.0]), ("503@2-4", [0.5, 1.0, 2.0]), ("500@1", [0.5]), ("drop@2", [0.5]), ("truncated@2", [0.5])],
)
def test_what_passes_is_tried_again_with_growing_waits(world, fault, waits):
    here = world(35, fault)
    here.extract()
    assert here.landed() == here.desk.now()
    assert here.waits == waits
    assert "attempt 2 of 6" in here.said[0]


def test_retry_after_as_a_date_is_kept(world):
    here = world(5, "429date@1", retry_after=30)
    here.extract()
    assert 25 < here.waits[0] <= 30


def test_a_source_that_asks_for_too_long_a_wait_ends_the_extract(world):
    here = world(5, "429@1", retry_after=3600)
    error = refused(here)
    assert error.code == "UF-2012"
    assert "429 Too Many Requests" in str(error)
    assert here.waits == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), ("Sat, 01 Mar 2025 00:01:00 GMT", 60.0), ("Sat, 01 Mar 2025 00:01:00 -0000", 60.0),
     ("Fri, 28 Feb 2025 00:00:00 GMT", 0.0), ("soon", None), ("", None), (None, None), ("-5", None), ("9" * 400, None)],
)  # fmt: skip
def test_retry_after(text, seconds):
    assert retry_after(text, dt.datetime(2025, 3, 1, tzinfo=dt.timezone.utc)) == seconds


def test_a_source_that_stays_down_is_given_up_with_its_pages_kept(world):
    here = world(35, "503@3-99")
    error = refused(here)
    assert error.code == "UF-2012"
    assert "503 Service Unavailable, 6 times" in str(error)
    assert here.files() == [".desk.work"]
    here.desk.faults = []
    asked = len(here.desk.asked)
    here.extract()
    assert here.landed() == here.desk.now()
    assert len(here.desk.asked) == asked + 2  # four pages, of which two were kept
    assert "going on after 2 page(s)" in here.said[-1]


def test_a_cursor_that_has_grown_old_makes_the_extract_start_again(world):
    here = world(35, "503@3-99")
    refused(here)
    here.desk.faults, usual = [], here.desk.page
    before = len(here.desk.asked)
    stale = {q["cursor"] for q in here.desk.asked if "cursor" in q}

    def page(query, fault):
        if query.get("cursor") in stale and len(here.desk.asked) == before + 1:
            raise ValueError("unknown cursor")
        return usual(query, fault)

    here.desk.page = page
    here.extract()
    assert here.landed() == here.desk.now()
    assert "starting again" in here.said[-1]


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("html@1", "UF-2013", "the answer is no JSON"),
        ("shape@1", "UF-2013", "the answer is an object, with no array in 'data'"),
        ("elsewhere@1", "UF-2013", "redirects to another host"),
        ("loop@*", "UF-2013", "the cursor loops"),
        ("empty@*", "UF-2013", f"{MOST_FRUITLESS} pages in a row bring nothing new"),
        ("html@3", "UF-2013", "no JSON"),
    ],
)
def test_answers_of_another_kind(world, fault, code, words):
    here = world(35, fault)
    error = refused(here)
    assert error.code == code
    assert words in str(error)
    assert here.files() == []  # what cannot be gone on with is not kept


@pytest.mark.parametrize("fault", ["endless@*", "slow@*"])
def test_a_page_that_never_ends_is_bounded_in_time(world, fault):
    here = world(5, fault, delay=60)
    began = time.monotonic()
    error = refused(here, CURSOR + SINCE + QUICK)
    assert error.code == "UF-2012"
    assert "within" in str(error) or "silent" in str(error)
    assert time.monotonic() - began < 20


def test_a_page_that_never_ends_is_bounded_in_bytes(world):
    here = world(5, "flood@*")
    error = refused(here, CURSOR + SINCE + "  limits: {page_bytes: 1000000}\n")
    assert error.code == "UF-2014"
    assert "more than 1,000,000 bytes" in str(error)
    assert "page_bytes" in str(error)


def test_an_answer_that_is_given_up_leaves_no_socket_open(world):
    here = world(5, "flood@*")
    gc.collect()  # what others left is not of this
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        refused(here, CURSOR + SINCE + "  limits: {page_bytes: 1000000}\n")
        gc.collect()
    assert [str(w.message) for w in seen] == []


@pytest.mark.parametrize(
    ("limits", "words"),
    [("pages: 2", "more than 2 pages"), ("bytes: 5000", "more than 5,000 bytes"), ("records: 12", "more than 12 records")],
)
def test_an_extract_is_bounded(world, limits, words):
    here = world(35)
    error = refused(here, f"{CURSOR}{SINCE}  limits: {{{limits}}}\n")
    assert error.code == "UF-2014"
    assert words in str(error)


def test_the_whole_extract_is_bounded_in_time(world):
    here = world(35)
    from utilityflow.extract.landed import Refused
    from utilityflow.extract.rest import extract_rest
    from utilityflow.extract.web import Clock

    ticks = iter(range(0, 10**6, 1000))
    clock = Clock(now=lambda: float(next(ticks)), sleep=here.waits.append)
    with pytest.raises(UtilityFlowError, match="more than 3600 seconds") as caught:
        extract_rest(here.feed(), here.landing, Refused(), here.said.append, clock=clock)
    assert caught.value.code == "UF-2014"


def test_a_server_that_ignores_the_offset_is_seen(world):
    here = world(35)
    usual = here.desk.page
    here.desk.page = lambda query, fault: usual({**query, "offset": "0"}, fault)
    assert "bring nothing new" in str(refused(here, OFFSET + SINCE))


def test_a_record_that_is_no_object(world):
    here = world(5)
    here.desk.page = lambda *_: {"data": [{"id": 1, "updated_at": "2025-01-01T00:00:00Z"}, 7]}
    assert "record 2 of a page is a number" in str(refused(here))


def test_records_without_a_time_that_can_be_read(world):
    here = world(5)
    for record in here.desk.records:
        record["updated_at"] = "yesterday"
    here.desk.page = lambda *_: {"data": here.desk.records, "next_cursor": None}
    assert "no record has a time that can be read in 'updated_at'" in str(refused(here))
    # a few of them are for bronze and silver to judge
    here.desk.records[0]["updated_at"] = "2025-01-01T00:00:00Z"
    assert here.extract().records == 5


def test_a_nested_bomb(world, monkeypatch):
    here = world(5)
    monkeypatch.setattr("utilityflow.simulate.serve.json.dumps", lambda v, **_: "[" * 200_000)
    assert refused(here).code == "UF-2013"


def test_nobody_there(world):
    here = world(5)
    feed = here.feed()
    address = "http://127.0.0.1:9/service-requests"
    here.feed = lambda options="": dataclasses.replace(feed, extract=dataclasses.replace(feed.extract, base_url=address))
    error = refused(here)
    assert error.code == "UF-2012"
    assert "the connection is refused, 6 times" in str(error)


# -- secrets -----------------------------------------------------------------------------------------------------------

AUTH = "  auth: {kind: bearer, secret: 'env:DESK_TOKEN'}\n"


def test_a_secret_comes_from_the_environment_and_is_told_nowhere(world, monkeypatch):
    here = world(35, "503@2", token="s3cret-word")
    monkeypatch.setenv("DESK_TOKEN", "s3cret-word")
    here.extract(CURSOR + SINCE + AUTH)
    assert len(here.landed()) == 35
    monkeypatch.setenv("DESK_TOKEN", "another-word")
    with pytest.raises(UtilityFlowError) as caught:
        here.extract(CURSOR + SINCE + AUTH)
    assert "401 Unauthorized" in str(caught.value)
    kept = "".join(p.read_text("utf-8") for p in (here.landing / "desk").iterdir())
    assert "word" not in kept + str(caught.value) + "".join(here.said) + repr(here.feed(CURSOR + AUTH))


def test_a_secret_in_the_query_is_not_told_by_any_error(world, monkeypatch):
    here = world(5, "500@*")
    monkeypatch.setenv("DESK_TOKEN", "s3cret-word")
    error = refused(here, CURSOR + SINCE + AUTH.replace("bearer", "query, name: key"))
    assert here.desk.asked[0]["key"] == "s3cret-word"
    assert "s3cret" not in str(error) + "".join(here.said) + (here.landing / "desk" / ".desk.work").read_text("utf-8")


@pytest.mark.parametrize("value", [None, "", "two\nlines", "ключ"])
def test_a_secret_that_cannot_be_sent(world, monkeypatch, value):
    here = world(5)
    monkeypatch.delenv("DESK_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("DESK_TOKEN", value)
    with pytest.raises(UtilityFlowError) as caught:
        here.extract(CURSOR + SINCE + AUTH)
    assert caught.value.code == "UF-1010"
    assert "DESK_TOKEN" in str(caught.value)
    assert not value or value not in str(caught.value)
    assert here.desk.asked == []


def test_a_redirect_to_the_same_place_is_followed_and_a_circle_is_not(world, monkeypatch):
    from utilityflow.simulate import serve

    here = world(5)
    usual = serve._Handler._failed
    monkeypatch.setattr(serve, "PATH", "/moved")

    def failed(self, fault, desk):
        return usual(self, fault, desk)

    def do_get(self):
        if self.path.startswith("/service-requests"):
            return self._send(307, b"", {"Location": self.path.replace("/service-requests", "/moved")})
        if self.path.startswith("/circle"):
            return self._send(302, b"", {"Location": self.path})
        return original(self)

    original = serve._Handler.do_GET
    monkeypatch.setattr(serve._Handler, "do_GET", do_get)
    here.extract()
    assert sorted(ids(here.landed())) == sorted(ids(here.desk.now()))
    here.address = here.address.replace("/service-requests", "/circle")
    with pytest.raises(UtilityFlowError, match="redirects more than 3 times"):
        here.extract()


def test_the_work_file_of_another_ask_is_not_gone_on_with(world):
    here = world(35, "503@3-99")
    refused(here)
    kept = json.loads((here.landing / "desk" / ".desk.work").read_text("utf-8").splitlines()[0][2:])
    assert kept["begin"] == "start"
    here.desk.faults = []
    here.extract(CURSOR.replace("10", "20") + SINCE)  # other pages: their positions would not fit
    assert not [s for s in here.said if "going on" in s]
    assert len(here.landed()) == 35


def test_a_record_that_no_line_of_a_file_may_hold(world, monkeypatch):
    here = world(5)
    monkeypatch.setattr("utilityflow.extract.pages.MOST_RECORD_BYTES", 1000)
    here.desk.records[3]["detail"] = "x" * 1000
    assert "of a page has more than 1,000 bytes" in str(refused(here))
    here.desk.records[3]["detail"] = "x" * 100
    assert here.extract().records == 5


def test_a_compressed_answer_that_was_not_asked_for(world, monkeypatch):
    from utilityflow.simulate import serve

    usual, packed = serve._Handler._send, {"Content-Encoding": "gzip"}
    monkeypatch.setattr(serve._Handler, "_send", lambda self, status, body, *_, **k: usual(self, status, body, packed, **k))
    here = world(5)
    assert "answers compressed" in str(refused(here))


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """A certificate of this machine that nobody vouches for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    paths = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=desk", "-addext",
         "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return paths


def over_tls(here, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = Server(here.desk)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    here.address = server.address.replace("http:", "https:")
    return server


def test_a_certificate_that_nobody_vouches_for_is_refused_and_not_tried_again(world, certificate):
    here = world(5)
    with over_tls(here, certificate):
        error = refused(here)
    assert error.code == "UF-2012"
    assert "its certificate is not valid" in str(error)
    assert (here.waits, here.desk.asked) == ([], [])


def test_over_tls_pages_come_and_an_endless_one_is_bounded_too(world, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    here = world(35)
    with over_tls(here, certificate):
        here.extract()
        assert here.landed() == here.desk.now()
        here.desk.faults = [parse_fault("endless@*")]
        began = time.monotonic()
        with pytest.raises(UtilityFlowError, match="no whole answer within"):
            here.extract(CURSOR + SINCE + QUICK)
        assert time.monotonic() - began < 20
