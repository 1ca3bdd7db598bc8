"""HTTP requests of which everything, from the look-up of the name to the last byte of the answer, ends by one deadline.

The HTTP clients at hand bound each operation of a socket, so a peer that sends a byte a second holds them as long as it
likes, and none of them bounds the name look-up. Here http.client speaks HTTP, over a socket that knows the deadline.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from otelslo.endpoint import Endpoint, is_public
from otelslo.errors import shown

LONGEST_ANSWER_BYTES = 1 << 16
_PIECE_BYTES = 1 << 16
_SECOND_NS = 1_000_000_000
_Address = tuple[socket.AddressFamily, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header values are "" where they are missing, and the body may be cut off."""

    status: int
    content_type: str
    retry_after: str
    location: str
    body: bytes


class Late(TimeoutError):
    """The deadline is over."""


class NotPublic(OSError):
    """A name has no address that the endpoint may reach."""


class Deadline:
    """A moment on the monotonic clock."""

    def __init__(self, at_ns: int) -> None:
        self._at_ns = at_ns

    def left_s(self) -> float:
        """Seconds until then. Raises Late past it."""
        left_ns = self._at_ns - time.monotonic_ns()
        if left_ns <= 0:
            raise Late("no answer in time")
        return left_ns / _SECOND_NS


class Lookup:
    """Finds the addresses of names. Nothing can interrupt a look-up, so it runs in a thread of its own, which is left
    behind at the deadline; the next call waits for that one instead of beginning another."""

    def __init__(self) -> None:
        self._running: _Resolving | None = None

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[_Address]:
        """Raises OSError: there is no such name, or Late: it was not found in time."""
        try:
            return _resolve(host, port, socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            pass  # it is a name
        running = self._running
        if running is None or not running.is_alive() or running.asked != (host, port):
            running = self._running = _Resolving(host, port)
            running.start()
        running.join(deadline.left_s())
        if running.is_alive():
            raise Late(f"the name {host} was not found in time")
        self._running = None
        if running.error is not None:
            raise running.error
        return running.found


class _Resolving(threading.Thread):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="otelslo-lookup", daemon=True)
        self.asked = (host, port)
        self.found: list[_Address] = []
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            self.found = _resolve(*self.asked, 0)
        except OSError as e:
            self.error = e
        except UnicodeError as e:  # a name that no encoding of names takes
            self.error = OSError(f"{self.asked[0]} is no name of a host: {e}")


def _resolve(host: str, port: int, flags: int) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def retry_after_s(text: str) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class Connection:
    """Requests to one endpoint, one after the other, all before the deadline; opened when needed."""

    def __init__(self, endpoint: Endpoint, deadline: Deadline, lookup: Lookup) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._lookup = lookup
        self._socket: socket.socket | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def post(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Send `body` and read the answer, whatever it is; redirects are not followed.

        Raises:
            OSError: nobody there, the peer hung up or speaks no HTTP; NotPublic, or Late past the deadline.
        """
        used = self._socket is not None

        def again() -> Answer:
            try:
                return self._ask("POST", body, headers)
            except ConnectionError:
                if not used:
                    raise
            return self._ask("POST", body, headers)  # the peer closed between two requests, as it may at any time

        return _told(again)

    def get(self, headers: dict[str, str]) -> Answer:
        """As `post`, without a body and without a second try."""
        return _told(lambda: self._ask("GET", None, headers))

    def reach(self) -> None:
        """Be connected, and no more. Raises as `post`."""
        if self._socket is None:
            self._socket = _told(self._open)

    def close(self) -> None:
        found, self._socket = self._socket, None
        if found is not None:
            _hang_up(found)

    def _ask(self, method: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        endpoint = self._endpoint
        if self._socket is None:
            self._socket = self._open()
        line = _line(endpoint.host, endpoint.port, self._socket, self._deadline)
        through = f"http://{endpoint.headers['host']}" if endpoint.proxy is not None and endpoint.tls is None else ""
        told = dict(endpoint.proxy.headers) if through and endpoint.proxy is not None else {}
        try:
            line.request(method, through + endpoint.target, body, {**endpoint.headers, **told, **headers})
            response = line.getresponse()
            content = response.read(LONGEST_ANSWER_BYTES)
            if response.length and len(content) < LONGEST_ANSWER_BYTES:
                raise http.client.IncompleteRead(content, response.length)
            whole = response.isclosed() and not response.will_close
        except BaseException:
            self.close()
            raise
        if not whole:
            self.close()
        told_back = response.headers
        return Answer(
            status=response.status,
            content_type=told_back.get("content-type", ""),
            retry_after=told_back.get("retry-after", ""),
            location=told_back.get("location", ""),
            body=content,
        )

    # ── opening ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _open(self) -> socket.socket:
        endpoint = self._endpoint
        where = endpoint if endpoint.proxy is None else endpoint.proxy
        addresses = self._lookup.addresses(where.host, where.port, self._deadline)
        if endpoint.public_only and endpoint.proxy is None:
            addresses = _public(addresses, endpoint.host)
        found = self._dial(addresses)
        try:
            if endpoint.tls is None:
                return found
            if endpoint.proxy is not None:
                self._tunnel(found)
            found.settimeout(self._deadline.left_s())
            return endpoint.tls.wrap_socket(found, server_hostname=endpoint.host)
        except BaseException:
            _hang_up(found)
            raise

    def _dial(self, addresses: list[_Address]) -> socket.socket:
        """The first address that answers; each gets its share of the time that is left."""
        error: OSError = OSError("the name has no address")
        for tried, (family, address) in enumerate(addresses):
            found = socket.socket(family, socket.SOCK_STREAM)
            try:
                found.settimeout(self._deadline.left_s() / (len(addresses) - tried))
                found.connect(address)
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as e:
                found.close()
                error = e
            else:
                return found
        raise error

    def _tunnel(self, found: socket.socket) -> None:
        endpoint = self._endpoint
        assert endpoint.proxy is not None
        line = _line(endpoint.proxy.host, endpoint.proxy.port, found, self._deadline)
        there = f"[{endpoint.host}]:{endpoint.port}" if ":" in endpoint.host else f"{endpoint.host}:{endpoint.port}"
        line.request("CONNECT", there, headers={"host": there, **endpoint.proxy.headers})
        status = line.getresponse().status
        if status != 200:
            raise ConnectionError(f"the proxy answered {status}")


def _told(work: Callable[[], _T]) -> _T:
    """What it answers; whatever goes wrong in HTTP or is late is an OSError that says so."""
    try:
        return work()
    except ConnectionError:
        raise
    except http.client.HTTPException as e:
        raise ConnectionError(f"the answer is no HTTP ({type(e).__name__}: {shown(str(e))})") from e
    except TimeoutError as e:
        if e.errno is not None or isinstance(e, Late):
            raise
        raise Late("no answer in time") from e


def _public(addresses: list[_Address], host: str) -> list[_Address]:
    """The very addresses that are then connected to, so that no second answer of a name server comes in between."""
    public = [found for found in addresses if is_public(str(found[1][0]))]
    if addresses and not public:
        raise NotPublic(f"{host} is at {addresses[0][1][0]}, which is no public address")
    return public


def _line(host: str, port: int, found: socket.socket, deadline: Deadline) -> http.client.HTTPConnection:
    line = http.client.HTTPConnection(host, port)
    line.auto_open = 0  # it would open without a deadline
    line.sock = _Bounded(found, deadline)
    return line


def _hang_up(found: socket.socket) -> None:
    """Close for all, also where a forked child has the same socket open."""
    try:
        found.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        found.close()


class _Bounded:
    """What http.client asks of a socket, within the time that is left. Closing is up to the connection."""

    def __init__(self, found: socket.socket, deadline: Deadline) -> None:
        self._socket = found
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(self._deadline.left_s())
            rest = rest[self._socket.send(rest[:_PIECE_BYTES]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._socket, self._deadline))

    def close(self) -> None:
        """http.client closes when an answer ends the connection, before its body is read."""


class _Incoming(io.RawIOBase):
    def __init__(self, found: socket.socket, deadline: Deadline) -> None:
        self._socket = found
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._deadline.left_s())
        return self._socket.recv_into(buffer)
