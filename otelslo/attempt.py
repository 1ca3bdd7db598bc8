"""One attempt of a probe: ask once, before a deadline, and say what was found; nothing here counts or waits longer.

The server is one's own, so private addresses are right, no proxy of the environment is used, no redirect is followed
(it is an answer), and of an answer only its first 64 KiB are read.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple

from otelslo._version import VERSION
from otelslo.endpoint import Endpoint, host_header, login
from otelslo.http_call import Connection, Deadline, Lookup
from otelslo.indicators import Options, uptime
from otelslo.indicators.uptime import Target

_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
USUAL_EXCEPTIONS = (
    *("ConnectionRefusedError", "ConnectionResetError", "ConnectionError", "RemoteDisconnected", "Late", "gaierror"),
    *("SSLError", "SSLCertVerificationError", "SSLEOFError", "TimeoutError", "OSError"),
)
_HEADERS = {"user-agent": f"otelslo-probe/{VERSION}", uptime.HEADER: "1", "accept": "*/*", "connection": "close"}


class Found(NamedTuple):
    """What an attempt found: `failure` as `otelslo.indicators.uptime` names it, None where all was as expected."""

    failure: str | None = None
    status: int | None = None
    exception: str | None = None


class Attempt:
    """What one objective asks, again and again.

    Args:
        options: of the indicator `uptime`.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lookup = Lookup()
        self._tls: ssl.SSLContext | None = None
        self._making = threading.Lock()

    def once(self) -> Found:
        """Ask, by now plus the timeout; only a function that hangs may take longer. Never raises."""
        try:
            called, target = self._options["call"], self._options["url"]
            if called is not None:
                return Found(None if called.function() in (True, None) else uptime.STATUS)
            deadline = Deadline(time.monotonic_ns() + self._options["timeout"])
            with Connection(self._endpoint(target), deadline, self._lookup) as connection:
                if target.url.scheme == "tcp":
                    connection.reach()
                    return Found()
                answer = connection.get(_HEADERS)
            return self._judged(answer.status, answer.body)
        except (Exception, SystemExit) as e:
            return Found(failure_of(e), exception=type(e).__name__)

    def _judged(self, status: int, body: bytes) -> Found:
        expected, text = self._options["expect"] or uptime.USUAL, self._options["body"]
        if status not in expected:
            return Found(uptime.STATUS, status)
        if text is not None and text.encode() not in body:
            return Found(uptime.WRONG_BODY, status)
        return Found(None, status)

    def _endpoint(self, target: Target) -> Endpoint:
        url = target.url
        return Endpoint(
            shown=f"{url.scheme}://{host_header(url)}",
            host=target.host,
            port=target.port,
            target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
            headers={**login(url), "host": host_header(url)},
            tls=self._context() if url.scheme == "https" else None,
            proxy=None,
        )

    def _context(self) -> ssl.SSLContext:
        """Made once, in a thread of a probe: it reads all certificates of the system."""
        with self._making:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls


def failure_of(error: BaseException) -> str:
    """What is wrong, by what was raised; also what a function of the app raised."""
    if isinstance(error, ssl.SSLError):
        return uptime.TLS
    if isinstance(error, TimeoutError):
        return uptime.TIMEOUT
    if isinstance(error, socket.gaierror):
        return uptime.DNS
    if isinstance(error, ConnectionRefusedError) or _errno(error) in _NO_WAY:
        return uptime.REFUSED
    return uptime.NO_RESPONSE if isinstance(error, ConnectionError) else uptime.PROBE_ERROR


def _errno(error: Any) -> int | None:
    return error.errno if isinstance(error, OSError) else None
