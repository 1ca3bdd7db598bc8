"""WSGI apps as data, and a server played by hand: two runs of a script can be compared entry by entry.

A step of an app is a tuple: start, write, yield, raise, try, tick, say, set, get, environ, read. What the app returns,
how it closes, and what the server does with it are data too.
"""

from __future__ import annotations

import contextvars
import gc
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from wsgiref.util import FileWrapper

from .asgi_play import CATCHES, ERRORS, VAR, Transcript, _argument, frames_of

OURS = ("otelslo", "otelslo.exchange")


@dataclass(frozen=True)
class WsgiScript:
    """An app, and what its server does with it.

    Args:
        form: "function", "generator" or "class": what is called.
        call: steps of the call.
        body: steps of the body, its chunks among them.
        returns: what a function answers with: a key of BODIES, or an odd value.
        closes: steps of the body's `close()`; None where it has none.
        takes: chunks that the server takes before it stops; None for all.
        stops: how it stops then: "quietly", "error" (a broken pipe), "bug", "exit" or "drop" (no close at all).
        sendfile: it has a faster way to send a file wrapper.
        sizes: it asks for the length.
        writes_fail: the writes, by number, that raise an OSError.
        strict: a second start without exc_info is refused.
        handles: it serves while it handles an exception of its own.
        changes: keys of the environ that differ; `...` for one that is missing.
    """

    form: str = "function"
    call: tuple[Any, ...] = ()
    body: tuple[Any, ...] = ()
    returns: Any = "list"
    closes: tuple[Any, ...] | None = None
    takes: int | None = None
    stops: str = "quietly"
    sendfile: bool = False
    sizes: bool = False
    writes_fail: tuple[int, ...] = ()
    strict: bool = True
    handles: bool = False
    changes: tuple[tuple[str, Any], ...] = ()

    def environ(self) -> dict[str, Any]:
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/x", "QUERY_STRING": "", "SERVER_NAME": "s",
            "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "s", "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(b"body"), "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }  # fmt: skip
        for key, value in self.changes:
            if value is ...:
                environ.pop(key, None)
            else:
                environ[key] = value
        return environ


class WsgiPlay:
    """One run of a script. `tick` lets a number of ns pass in whatever measures from outside."""

    def __init__(self, script: WsgiScript, tick: Callable[[int], None] | None = None) -> None:
        self.script = script
        self.now_ns = 0
        self.seen = Transcript()
        self._tick = tick
        self._kept: list[BaseException] = []
        self._given: list[Any] = []
        self._writes = 0
        self._write: Any = None
        self._started = self._sent = False

    def note(self, what: str, thing: Any = None, shown: Any = None) -> None:
        self.seen.history.append((what, self.now_ns, thing))
        self.seen.log.append((what, self.now_ns, repr(thing) if shown is None else shown))

    # ── the app ────────────────────────────────────────────────────────────────────────────────────────────────────
    def app(self) -> Any:
        """The callable, of the script's form."""
        form = self.script.form
        if form == "generator":
            return lambda environ, start: self._body(environ, start, self.script.call + self.script.body)
        if form == "class":
            return lambda environ, start: _Iterable(self, environ, start)
        return self._function

    def _function(self, environ: Any, start: Any) -> Any:
        self.note("called", None, sorted(key for key in environ if key not in OURS))
        try:
            for _ in self._do(self.script.call, environ, start):
                pass
        except BaseException as e:
            self.note("left", e, self.exception(e))
            raise
        make = BODIES.get(self.script.returns) if isinstance(self.script.returns, str) else None
        return make(self, environ, start) if make else self.script.returns

    def chunks(self) -> list[Any]:
        return [step[1] for step in self.script.body if step[0] == "yield"]

    def _body(self, environ: Any, start: Any, steps: tuple[Any, ...]) -> Iterator[Any]:
        try:
            yield from self._do(steps, environ, start)
        except BaseException as e:
            self.note("left", e, self.exception(e))
            raise
        finally:
            self.note("body done")

    def _do(self, steps: tuple[Any, ...], environ: Any, start: Any) -> Iterator[Any]:
        for step in steps:
            what = step[0]
            if what == "yield":
                yield step[1]
            elif what == "try":
                try:
                    yield from self._do(step[1], environ, start)
                except CATCHES[step[2]] as e:
                    self._kept.append(e)
                    self.note("caught", e, self.exception(e))
                    yield from self._do(step[3], environ, start)
            elif what == "start":
                arguments = (step[1], step[2], sys.exc_info()) if step[3] and sys.exc_info()[0] else step[1:3]
                self._given.append(step[2])
                write = start(*arguments)
                self.note("may write", None, callable(write))
                self._write = write
            elif what == "write":
                self.note("written", self._write(step[1]) if self._write else "nothing started")
            else:
                self._at_once(what, step, environ)

    def _at_once(self, what: str, step: tuple[Any, ...], environ: Any) -> None:
        if what == "tick":
            self.now_ns += step[1]
            if self._tick is not None:
                self._tick(step[1])
        elif what == "say":
            self.note("said", step[1])
            exchange = environ.get("otelslo.exchange")
            if exchange is not None:
                getattr(exchange, step[1])(**dict(step[2:]))
        elif what == "set":
            VAR.set(step[1])
        elif what == "get":
            self.note("variable", VAR.get())
        elif what == "environ":
            environ[step[1]] = step[2]
        elif what == "read":
            self.note("read", environ["wsgi.input"].read(2))
        elif step[1] == "kept":
            raise self._kept[-1] if self._kept else ValueError("nothing kept")
        elif step[1] == "kept from itself":
            kept = self._kept[-1] if self._kept else ValueError("nothing kept")
            raise kept from kept
        else:
            self._kept.append(ERRORS[step[1]]())
            raise self._kept[-1]

    def close(self, environ: Any, start: Any) -> None:
        """The app's own part of a body's `close()`."""
        self.note("close")
        for _ in self._do(self.script.closes or (), environ, start):
            pass

    # ── the server ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _start_response(self, status: Any, headers: Any, *exc_info: Any) -> Any:
        own = [number for number, one in enumerate(self._kept) if exc_info and one is exc_info[0][1]]
        given = any(headers is one for one in self._given)
        self.note("start", None, (repr(status), repr(headers), given, len(exc_info), own))
        if exc_info and self._sent:
            raise exc_info[0][1].with_traceback(exc_info[0][2])
        if self.script.strict and self._started and not exc_info:
            raise AssertionError("headers are set already")
        self._started = True
        self.note("started", status)
        return self._write_out

    def _write_out(self, data: Any) -> Any:
        number = self._writes
        self._writes += 1
        self.note("write", data)
        if number in self.script.writes_fail:
            error = BrokenPipeError(32, "the client is gone")
            self._kept.append(error)
            self.note("write failed", error, self.exception(error))
            raise error
        self._sent = True
        self.note("wrote", data)
        return len(data) if isinstance(data, bytes) else None

    def run(self, app: Any) -> Transcript:
        """Serve one request."""
        context = contextvars.copy_context()
        context.run(VAR.set, "server")
        self._environ = self.script.environ()
        try:
            if self.script.handles:
                context.run(self._serve_handling, app)
            else:
                context.run(self._serve, app)
        except BaseException as e:
            self.seen.error = self.exception(e)
            self.seen.frames = frames_of(e)
            self.note("over", e, "")
        else:
            self.note("over", None, "")
        seen = self.seen
        environ = {key: value for key, value in self._environ.items() if key not in OURS}
        seen.scope = {key: value if isinstance(value, str) else type(value).__name__ for key, value in environ.items()}
        seen.variables = {variable.name: context[variable] for variable in context}
        return seen

    def _serve_handling(self, app: Any) -> None:
        try:
            raise LookupError("of the server's own")
        except LookupError:
            self._serve(app)

    def _serve(self, app: Any) -> None:
        result = app(self._environ, self._start_response)
        if self.script.sizes:
            self.note("length", None, _length(result))
        try:
            self._take(result)
        except BaseException as e:
            self.note("stopped", e, self.exception(e))
            self._close(result)
            raise
        self.note("stopped", None)
        self._close(result)
        if self.script.stops == "drop":
            del result
            self._forget()
            gc.collect()  # cheap, since the tests freeze all that was there before

    def _forget(self) -> None:
        """Let go of all by which we keep the body alive, such as the frames of exceptions."""
        self._write = None
        for _, _, thing in self.seen.history:
            while isinstance(thing, BaseException) and thing.__traceback__ is not None:
                thing.__traceback__ = None
                thing = thing.__context__

    def _take(self, result: Any) -> None:
        wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(result, wrapper):
            self.note("file")
            if self.script.sendfile:
                self.note("sent", result.filelike.read())
                return
        for taken, chunk in enumerate(result, 1):
            self._sent = True
            self.note("chunk", chunk)
            if taken == self.script.takes:
                return self._stop()
        self.note("exhausted")

    def _stop(self) -> None:
        self.note("enough")
        error = {"error": BrokenPipeError(32, "gone"), "bug": TypeError("no bytes"), "exit": SystemExit(1)}
        if self.script.stops in error:
            self._kept.append(error[self.script.stops])
            raise error[self.script.stops]

    def _close(self, result: Any) -> None:
        if self.script.stops != "drop" and hasattr(result, "close"):
            result.close()

    def exception(self, error: BaseException | None, depth: int = 4) -> Any:
        """Type, arguments, which one it is of those the app or server keeps, and what it came from."""
        if error is None or depth == 0:
            return None
        kept = [number for number, one in enumerate(self._kept) if one is error]
        below = self.exception(error.__cause__, depth - 1), self.exception(error.__context__, depth - 1)
        return (type(error).__name__, tuple(map(_argument, error.args)), kept, *below, error.__suppress_context__)


def _length(result: Any) -> Any:
    try:
        return len(result)
    except TypeError:
        return None


class _Iterable:
    """An app that is a class: iterating its instance runs it."""

    def __init__(self, play: WsgiPlay, environ: Any, start: Any) -> None:
        self._play, self._arguments = play, (environ, start)

    def __iter__(self) -> Iterator[Any]:
        return self._play._body(*self._arguments, self._play.script.call + self._play.script.body)


class _Body:
    """Iterated anew by each `iter`; the subclasses have what else a body may have."""

    def __init__(self, play: WsgiPlay, environ: Any, start: Any) -> None:
        self._play, self._arguments = play, (environ, start)

    def __iter__(self) -> Iterator[Any]:
        self._play.note("iter")
        return self._play._body(*self._arguments, self._play.script.body)


class _Closing(_Body):
    def close(self) -> None:
        self._play.close(*self._arguments)


class _Sized(_Closing):
    def __len__(self) -> int:
        return len(self._play.chunks())


class _Iterator(_Closing):
    """Its own iterator."""

    def __iter__(self) -> Iterator[Any]:
        self._play.note("iter")
        return self

    def __next__(self) -> Any:
        if not hasattr(self, "_items"):
            self._items = self._play._body(*self._arguments, self._play.script.body)
        return next(self._items)

    def close(self) -> None:
        if hasattr(self, "_items"):
            self._items.close()
        super().close()


class _BadIter(_Closing):
    def __iter__(self) -> Iterator[Any]:
        error = RuntimeError("no iterator")
        self._play.note("left", error)
        raise error


class _Indexed:
    """The older protocol of sequences."""

    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = chunks

    def __getitem__(self, at: int) -> Any:
        return self._chunks[at]


class _File(io.BytesIO):
    pass


BODIES: dict[str, Callable[[WsgiPlay, Any, Any], Any]] = {
    "list": lambda play, environ, start: play.chunks(),
    "tuple": lambda play, environ, start: tuple(play.chunks()),
    "generator": lambda play, environ, start: play._body(environ, start, play.script.body),
    "iterable": _Body,
    "closing": _Closing,
    "sized": _Sized,
    "iterator": _Iterator,
    "bad iter": _BadIter,
    "indexed": lambda play, environ, start: _Indexed(play.chunks()),
    "file": lambda play, environ, start: FileWrapper(_File(b"".join(c for c in play.chunks() if type(c) is bytes)), 2),
    "of C": lambda play, environ, start: iter(play.chunks()),
}
