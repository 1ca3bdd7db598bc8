"""The body of a WSGI response, between app and server: passes on what it is given, and knows how the request ended.

It behaves as the app's own: has a length where that has one, calls its `close()`, and what its iteration raises comes
through. All state of a request lies here, never on the middleware.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, MutableMapping
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from otelslo.event import Ending
from otelslo.exchange import Exchange, Site, how_failed, is_clients

if TYPE_CHECKING:
    from otelslo.wsgi import SLOMiddleware

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Any]

_handled = sys.exception
_WITHOUT_BODY = ("204", "304")


class Body:
    """A request of one edge, which ends once: exhausted, failed, or left by the server.

    The server gets it as the body, or what `handed_on` makes of it; the app gets its `start_response`.
    """

    chunks: Any
    token: int  # of a request that is in flight, else 0
    __slots__ = (
        *("chunks", "edge", "environ", "exchange", "first_ns", "gone", "handled", "iterator", "route", "site"),
        *("status", "token", "_start", "_write"),
    )

    def __init__(
        self, edge: SLOMiddleware, site: Site, environ: Environ, exchange: Exchange, start: StartResponse
    ) -> None:
        self.token = 0
        self.iterator: Any = None
        self.edge = edge
        self.site = site
        self.environ = environ
        self.exchange = exchange
        self._start = start
        self.route: str | None = None  # the template that the framework has chosen, if it says so
        self.status: str | None = None  # the whole line, as the server took it last
        self.gone: OSError | None = None  # what a write raised: how a server says that the client is gone
        self.first_ns = 0
        self.handled = _handled()  # the server may run in an `except` of its own
        self.token = edge._kernel_begin(edge._page, site.track) or edge._begin_again(site)

    # ── what the app does ──────────────────────────────────────────────────────────────────────────────────────────
    def start_response(self, status: Any, headers: Any, exc_info: Any = None) -> Any:
        """The server's, with what the app gives it."""
        start = self._start
        write = self._write = start(status, headers) if exc_info is None else start(status, headers, exc_info)
        self.status = status
        chosen = self.edge._sites.chosen
        if chosen is not None:  # asked now, since Flask takes its word back before the server gets the body
            try:
                self.route = chosen(self.environ)
            except Exception as e:
                self.edge._not_ended(e)
        return None if write is None else self.write

    def write(self, data: Any) -> Any:
        """The server's, too."""
        try:
            done = self._write(data)
        except OSError as e:
            self.gone = e
            raise
        if self.edge._first_byte and data:
            self.begun_to_answer()
        return done

    # ── what the server takes ──────────────────────────────────────────────────────────────────────────────────────
    def __iter__(self) -> Iterator[Any]:
        first_byte = self.edge._first_byte
        try:
            for chunk in self.chunks:
                if first_byte and chunk:
                    self.begun_to_answer()
                yield chunk
        except GeneratorExit:  # dropped by the server; `close` tells
            raise
        except BaseException as e:
            self.failed(e)
            raise
        self.exhausted()

    def __next__(self) -> Any:
        if self.iterator is None:
            self.iterator = iter(self)
        return next(self.iterator)

    def close(self) -> None:
        """Ends a request whose body was left, and has the app close what is its own."""
        if self.token:
            self.left(sys.exception())
        close = getattr(self.chunks, "close", None)
        if close is None:
            self.chunks = ()  # else an app that keeps its `start_response` would be kept in a ring of references
        else:
            close()

    def __del__(self) -> None:
        if self.token:  # the server, or a middleware around us, has dropped it without a word
            self.left(None)

    # ── how it ends ────────────────────────────────────────────────────────────────────────────────────────────────
    def begun_to_answer(self) -> None:
        """The first byte goes out."""
        try:
            self.first_ns = self.first_ns or self.edge.now_ns()
        except Exception as e:
            self.edge._not_ended(e)

    def exhausted(self) -> None:
        """The server has taken everything. The usual end, kept flat."""
        token, self.token = self.token, 0
        if token == 0:
            return
        edge, site, status = self.edge, self.site, self.status
        try:
            if self.first_ns:
                token += edge.now_ns() - self.first_ns
            plan = site.plans.get(status)
            if plan is None or self.gone or self.exchange.spoken or self.route not in (None, site.template):
                ending = Ending.COMPLETE if status is not None else Ending.NO_RESPONSE
                ending = Ending.CLIENT_CANCEL if self.gone else ending
                edge._end(site, self, self.exchange, token, status, ending)
            elif code := edge._kernel_end(edge._page, site.track, token, plan):
                edge._after(self, code)
        except Exception as e:
            edge._not_ended(e)

    def failed(self, error: BaseException) -> None:
        """The app has raised `error`, in its call or in its body's iteration."""
        token, self.token = self.token, 0
        ending = how_failed((self.gone,) if self.gone else (), error)
        self.edge._end(self.site, self, self.exchange, token, self.status, ending, error)

    def left(self, error: BaseException | None, *, whole: bool = False) -> None:
        """The server will take no more.

        Args:
            error: what it handles just now.
            whole: whether it may have sent everything all the same, as it may have of a file.
        """
        token, self.token = self.token, 0
        if error is self.handled:
            error = None
        ending = self._how_left(error, whole)
        self.edge._end(self.site, self, self.exchange, token, self.status, ending)

    def _how_left(self, error: BaseException | None, whole: bool) -> Ending:
        if error is not None and not isinstance(error, Exception | GeneratorExit):
            return Ending.SERVER_CANCEL  # a worker's time-out, or its end
        if self.status is None:
            return Ending.NO_RESPONSE
        if error is not None and not is_clients(error) and not isinstance(error, GeneratorExit):
            return Ending.CUT  # the server could not send what the app gave it
        # Nobody who left hides a failure, and of a body that nobody gets there is nothing to be left.
        status = str(self.status)
        if status[:1] == "5" or self.environ.get("REQUEST_METHOD") == "HEAD" or status[:3] in _WITHOUT_BODY:
            return Ending.COMPLETE
        return Ending.COMPLETE if whole and error is None and not self.gone else Ending.CLIENT_CANCEL


class SizedBody(Body):
    """A body that has a length, from which servers tell the Content-Length of a single chunk."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.chunks)


class WholeBody(SizedBody):
    """A list or tuple, whose iteration cannot fail."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        if self.edge._first_byte:
            self.begun_to_answer()
        yield from self.chunks
        self.exhausted()

    def close(self) -> None:
        """Nothing is the app's own."""
        if self.token:
            self.left(sys.exception())

    def __getitem__(self, at: Any) -> Any:
        return self.chunks[at]


class _ClosedFile:
    """The `close` of a file wrapper, which ends its request."""

    def __init__(self, body: Body, file: Any) -> None:
        self._body = body
        self._file = file
        self._own: Any = vars(file).get("close")
        file.close = self

    def __call__(self) -> None:
        if self._body.token:
            self._body.left(sys.exception(), whole=True)
        try:
            if self._own is None:
                del self._file.close
            else:
                self._file.close = self._own
        except AttributeError:  # somebody was here before
            pass
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


def handed_on(body: Body, chunks: Any) -> Any:
    """What the server is given for `chunks`, which the app has returned."""
    body.chunks = chunks
    kind = type(chunks)
    if kind is list or kind is tuple:
        body.__class__ = WholeBody  # to make one anew would cost twice as much
        return body
    if kind is GeneratorType:
        return body
    try:
        if _is_file(body.environ, chunks):
            _pass_file(body, chunks)
            return chunks
        if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
            body.left(TypeError())  # no body: an error of the app's, or a word between it and its server
            return chunks
        if hasattr(kind, "__len__"):
            body.__class__ = SizedBody
        return body
    except Exception as e:
        body.edge._not_ended(e)
        return chunks


def _is_file(environ: Environ, chunks: Any) -> bool:
    """Whether the server has a faster way to send it, which it takes only if it gets it back as it is.

    uWSGI's wrapper is a function that answers with the file itself.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(chunks, wrapper)
    return wrapper is not None and hasattr(chunks, "read")


def _pass_file(body: Body, file: Any) -> None:
    """Ends with the file's `close()`; at once where that cannot be watched (the file is a type of C's)."""
    try:
        _ClosedFile(body, file)
    except (AttributeError, TypeError):
        body.left(None, whole=True)
