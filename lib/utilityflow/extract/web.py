"""One page of a REST interface over HTTP: bounded in bytes and time, tried again where that can help, never redirected elsewhere.

The standard library is enough, and knows what others hide: a deadline for the whole request (a time-out alone begins anew
with each byte) and a redirect that is not followed. No message tells a query, a header, a body or a secret.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import email.utils
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from utilityflow import __version__
from utilityflow.bronze.sources import Bounds, Rest
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import resolve_secret

PIECE = 256 * 1024
FIRST_WAIT = 1.0  # seconds; doubles with each attempt
MOST_REDIRECTS = 3
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}

Say = Callable[[str], None]


class Refusal(UtilityFlowError):
    """The source refuses a request, and would refuse it again; ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__("UF-2012", message, hint=hint)
        self.status = status


class _Again(Exception):
    """A failure that another attempt may mend. ``wait``: seconds that the source asks for; None: it does not say."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


@dataclass(frozen=True)
class Clock:
    """Time as a caller sees it; tests give another. ``chance``: from 0 to 1, for the jitter."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class Caller:
    """Asks one interface, page by page, until the extract's time is up.

    :param feed: its name, for messages.
    :param say: is told of each attempt that failed.
    :raises UtilityFlowError: UF-1010 when a secret cannot be resolved.
    """

    def __init__(self, feed: str, rest: Rest, say: Say, clock: Clock | None = None) -> None:
        self.feed, self.rest, self.say = feed, rest, say
        self.clock = clock or Clock()
        self.limits: Bounds = rest.limits
        self.ends = self.clock.now() + self.limits.seconds
        self.headers, self.secrets = _identity(feed, rest)

    def get(self, parameters: Mapping[str, str]) -> bytes:
        """The body of the answer to one request.

        :param parameters: of the query, beside those of the feed file.
        :raises UtilityFlowError: UF-2012 the source cannot be reached or refuses, UF-2013 it redirects elsewhere, UF-2014
            the answer or the extract exceeds its bounds.
        """
        query = urlencode({**self.rest.parameters, **parameters, **self.secrets})
        for attempt in range(1, self.limits.attempts + 1):
            self.require_time()
            try:
                return self._answer(f"{self.rest.base_url}?{query}" if query else self.rest.base_url)
            except _Again as failure:
                self._pause(attempt, failure)
        raise AssertionError("the last attempt raises")

    def require_time(self) -> None:
        """Pass while the extract's time is not up.

        :raises UtilityFlowError: UF-2014.
        """
        if self.clock.now() >= self.ends:
            raise over(self.feed, f"takes more than {self.limits.seconds:g} seconds", "seconds")

    def _pause(self, attempt: int, failure: _Again) -> None:
        """Wait before the next attempt.

        :raises UtilityFlowError: UF-2012 when there is none, or the source asks for a longer wait than there may be.
        """
        if attempt >= self.limits.attempts:
            raise self._cannot(f"{failure}, {attempt} times")
        spread = 0.5 + self.clock.chance() / 2  # those that failed at once must not come back at once
        wait = min(FIRST_WAIT * 2.0 ** (attempt - 1), self.limits.wait_seconds) * spread
        if failure.wait is not None:
            wait = max(wait, failure.wait)
        if wait > self.limits.wait_seconds or self.clock.now() + wait >= self.ends:
            raise self._cannot(f"{failure}, and the next attempt is due in {wait:.0f} s, later than the feed allows")
        self.say(f"{self.feed}: {failure}; attempt {attempt + 1} of {self.limits.attempts} in {wait:.1f} s")
        self.clock.sleep(wait)

    def _cannot(self, what: str) -> UtilityFlowError:
        return UtilityFlowError("UF-2012", f"{self.feed}: {self.rest.shown}: {what}", hint="the next run asks again")

    def _answer(self, url: str) -> bytes:
        origin = _origin(urlsplit(url))
        for _ in range(MOST_REDIRECTS + 1):
            status, headers, body = self._once(urlsplit(url))
            if status == HTTPStatus.OK:
                return body
            if status not in _REDIRECTS:
                raise self._failed(status, headers)
            url = urljoin(url, headers.get("location", ""))
            if _origin(urlsplit(url)) != origin:
                message = f"{self.feed}: {self.rest.shown} redirects to another host, scheme or port; that is not followed"
                raise UtilityFlowError("UF-2013", message, hint="name the right address in base_url")
        raise UtilityFlowError("UF-2013", f"{self.feed}: {self.rest.shown} redirects more than {MOST_REDIRECTS} times")

    def _failed(self, status: int, headers: Mapping[str, str]) -> Exception:
        known = status in HTTPStatus._value2member_map_
        told = f"answers {status}" + (f" {HTTPStatus(status).phrase}" if known else "")
        if status in _AGAIN:
            return _Again(told, retry_after(headers.get("retry-after"), dt.datetime.now(dt.timezone.utc)))
        hint = "does the secret of 'auth' still hold?" if status in (401, 403) else None
        return Refusal(status, f"{self.feed}: {self.rest.shown} {told}", hint)

    def _once(self, url: SplitResult) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers in lower case, and body of one request; its time begins now."""
        seconds = min(self.limits.request_seconds, max(self.ends - self.clock.now(), 0.001))
        try:
            with _connected(url, seconds) as (connection, late):
                try:
                    connection.request("GET", _target(url), headers=self.headers)
                    # the library gives the socket to the response: a body that is not read to its end would keep it open
                    with connection.getresponse() as response:
                        headers = {name.lower(): value for name, value in response.getheaders()}
                        body = self._body(response, headers) if response.status == HTTPStatus.OK else b""
                except (OSError, http.client.HTTPException, AttributeError) as error:
                    # the deadline closes the socket under the library's hands
                    raise _Again(f"no whole answer within {seconds:.0f} s" if late() else _words(error)) from None
                if late():
                    raise _Again(f"no whole answer within {seconds:.0f} s")
                return response.status, headers, body
        except ssl.SSLCertVerificationError as error:
            raise self._cannot(f"its certificate is not valid: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Again(_words(error)) from None

    def _body(self, response: http.client.HTTPResponse, headers: Mapping[str, str]) -> bytes:
        coding = headers.get("content-encoding", "identity").lower()
        if coding not in ("", "identity"):
            raise UtilityFlowError("UF-2013", f"{self.feed}: {self.rest.shown} answers compressed, though it was not asked to")
        bound, declared = self.limits.page_bytes, headers.get("content-length", "")
        pieces, size = [], 0
        while piece := response.read1(PIECE):
            size += len(piece)
            if size > bound:
                raise over(self.feed, f"gets a page of more than {bound:,} bytes", "page_bytes")
            pieces.append(piece)
        if declared.isdigit() and size != int(declared):
            raise _Again(f"the answer is cut off after {size:,} of {int(declared):,} bytes")
        return b"".join(pieces)


def over(feed: str, what: str, limit: str) -> UtilityFlowError:
    """The error of an extract that would exceed one of its bounds."""
    hint = f"nothing was landed; options.limits.{limit} is the bound"
    return UtilityFlowError("UF-2014", f"{feed}: the extract {what}", hint=hint)


def retry_after(text: str | None, now: dt.datetime) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date of HTTP; None when it says neither."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
        return max((moment - now).total_seconds(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _identity(feed: str, rest: Rest) -> tuple[dict[str, str], dict[str, str]]:
    """Headers of each request, and the parameters of its query that are secret."""
    headers = {"Accept": "application/json", "User-Agent": f"utilityflow/{__version__}", **rest.headers}
    headers |= {"Accept-Encoding": "identity", "Connection": "close"}
    auth = rest.auth
    if auth is None:
        return headers, {}
    secret = resolve_secret(auth.secret)
    user = resolve_secret(auth.user) if auth.user else ""
    if not secret or not (secret + user).isprintable() or (auth.kind in ("bearer", "header") and not secret.isascii()):
        what = f"{feed}: what {auth.secret} stands for is empty or holds characters that no request can carry"
        raise UtilityFlowError("UF-1010", what)
    if auth.kind == "query":
        return headers, {auth.name: secret}
    if auth.kind == "basic":
        pair = base64.b64encode(f"{user}:{secret}".encode()).decode("ascii")
        return headers | {"Authorization": f"Basic {pair}"}, {}
    return headers | ({auth.name: secret} if auth.kind == "header" else {"Authorization": f"Bearer {secret}"}), {}


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    try:
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
    except ValueError:  # no port of any server
        port = None
    return url.scheme, (url.hostname or "").lower(), port


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _words(error: Exception) -> str:
    """What went wrong, without the library's own text, which may quote the answer."""
    if isinstance(error, TimeoutError | socket.timeout):
        return "the connection is silent for too long"
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(error, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return f"the connection fails ({error.strerror})"
    return f"the connection ends before the answer does ({type(error).__name__})"


@contextlib.contextmanager
def _connected(url: SplitResult, seconds: float) -> Iterator[tuple[http.client.HTTPConnection, Callable[[], bool]]]:
    """A connection that is shut when its time is up, and whether it was. Proxies as the usual variables say."""
    host, port = url.hostname or "", url.port
    proxy = urlsplit(getproxies().get(url.scheme, ""))
    through = bool(proxy.hostname) and host not in ("localhost", "127.0.0.1", "::1") and not proxy_bypass(host)
    first, first_port = (proxy.hostname or "", proxy.port) if through else (host, port)
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            first, first_port, timeout=seconds, context=context
        )
    else:
        connection = http.client.HTTPConnection(first, first_port, timeout=seconds)
    if through:
        connection.set_tunnel(host, port or (443 if url.scheme == "https" else 80), headers=_for_proxy(proxy))
    shut = threading.Event()

    def cut(sock: socket.socket) -> None:
        shut.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of the plain socket: that of TLS would wait for the other side

    began = time.monotonic()
    connection.connect()
    left = max(seconds - (time.monotonic() - began), 0.001)
    watch = threading.Timer(left, cut, [connection.sock])
    watch.daemon = True
    watch.start()
    try:
        yield connection, shut.is_set
    finally:
        watch.cancel()
        connection.close()


def _for_proxy(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode("ascii")
    return {"Proxy-Authorization": f"Basic {pair}"}
