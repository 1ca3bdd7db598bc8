"""Counts a stream that somebody else makes, such as a model client's, and stays what that is to whoever uses it.

    stream = otelslo.track_stream("chat", lambda: client.chat.completions.create(..., stream=True))
    for chunk in stream: ...                       # or async for; `.close()`, `.response` and the like are the client's

A generator of one's own is counted by `@otelslo.track`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any

from otelslo.calls import Call
from otelslo.chunks import is_token
from otelslo.decorators import Tracked, track
from otelslo.engine import Engine
from otelslo.event import Ending
from otelslo.words import here, leave

_ITERATION = ("__iter__", "__next__", "__aiter__", "__anext__", "__await__")


def track_stream(name: str, source: Any, /, *, engine: Engine | None = None, **attributes: str) -> Any:
    """Count the stream `source` as a call of `name`, with the pace of its items, from here until it ends.

    One that is closed or dropped before its end was left by its caller, see `otelslo.calls.ending_by`. Chunks of model
    clients are tokens if they have content, see `otelslo.chunks`.

    Args:
        source: an iterable, an async one, or a function without arguments that makes one, or is awaited for one: then
            the wait for it belongs to the first token.
        engine: by default the process's own (see `otelslo.default`).
        attributes: to group by, such as version="2026-11-01".

    Raises:
        DefinitionError: the name is none.
    """
    site = track(name, engine=engine, **attributes)
    call = site.begin(Call())
    if callable(source) and not any(hasattr(source, method) for method in _ITERATION):
        source = _made(call, source)
    return TrackedStream(site, call, source)


def _made(call: Call, make: Callable[[], Any]) -> Any:
    entered = here.set(call)
    try:
        return make()
    except BaseException as e:
        call.close(e)
        raise
    finally:
        leave(entered)


class TrackedStream:
    """What `track_stream` makes: `source` itself, but for what is counted by the way."""

    _otelslo: _Watch

    def __init__(self, site: Tracked, call: Call, source: Any) -> None:
        object.__setattr__(self, "_otelslo", _Watch(site, call, source))

    def __getattr__(self, name: str) -> Any:
        watch = self._otelslo
        found = getattr(watch.source, name)
        return watch.closing(found) if name in ("close", "aclose") else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._otelslo.source, name, value)

    def __iter__(self) -> Iterator[Any]:
        """A loop over it: cheaper than `next`, an item. It may be left and begun again."""
        watch, call = self._otelslo, self._otelslo.call
        told, entered = watch.told, None
        try:
            step = watch.items().__next__
            while True:
                entered = here.set(call)
                item = step()
                here.reset(entered)
                entered = None
                if told is not None:  # `handed_over`, flat: this is the path of every token
                    try:
                        told(item)
                    except Exception as e:
                        watch.fault(e)
                try:
                    yield item
                except GeneratorExit:
                    return  # it is left when the stream is dropped or closed
        except BaseException as e:
            watch.ended(e)
            if not isinstance(e, StopIteration):
                raise
        finally:
            if entered is not None:
                leave(entered)

    def __next__(self) -> Any:
        watch = self._otelslo
        entered = here.set(watch.call)
        try:
            item = next(watch.items())
        except BaseException as e:
            watch.ended(e)
            raise
        finally:
            leave(entered)
        watch.handed_over(item)
        return item

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        watch = self._otelslo
        entered = here.set(watch.call)
        try:
            item = await watch.anext()
        except BaseException as e:
            watch.ended(e)
            raise
        finally:
            leave(entered)
        watch.handed_over(item)
        return item

    def __enter__(self) -> TrackedStream:
        watch = self._otelslo
        if hasattr(watch.source, "__enter__"):
            watch.source = watch.source.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> Any:
        watch = self._otelslo
        watch.left(error)
        return watch.source.__exit__(kind, error, tb) if hasattr(watch.source, "__exit__") else None

    async def __aenter__(self) -> TrackedStream:
        watch = self._otelslo
        await watch.arrive()
        if hasattr(watch.source, "__aenter__"):
            watch.source = await watch.source.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> Any:
        watch = self._otelslo
        watch.left(error)
        return await watch.source.__aexit__(kind, error, tb) if hasattr(watch.source, "__aexit__") else None

    def __del__(self) -> None:
        watch = self.__dict__.get("_otelslo")
        if watch is not None:
            watch.left()


class _Watch:
    """The call of one stream, its pace, and where its items come from."""

    def __init__(self, site: Tracked, call: Call, source: Any) -> None:
        self.call = call
        self.source = source
        self._site = site
        self._items: Any = None
        self.told = call.stream(is_token)

    def items(self) -> Iterator[Any]:
        if self._items is None:
            self._items = iter(self.source)
        items: Iterator[Any] = self._items
        return items

    async def anext(self) -> Any:
        if self._items is None:
            await self.arrive()
            self._items = aiter(self.source)
        return await anext(self._items)

    async def arrive(self) -> None:
        """Wait for a source that must be awaited, such as what an async client's `create` gives."""
        if inspect.isawaitable(self.source):
            awaited: Awaitable[Any] = self.source
            try:
                self.source = await awaited
            except BaseException as e:
                self.ended(e)
                raise

    def handed_over(self, item: Any) -> None:
        try:
            if self.told is not None:
                self.told(item)
        except Exception as e:
            self.fault(e)

    def fault(self, error: Exception) -> None:
        self._site.fault(error)

    def ended(self, error: BaseException) -> None:
        self.call.close(None if isinstance(error, StopIteration | StopAsyncIteration) else error)

    def left(self, error: BaseException | None = None) -> None:
        """Its user needs no more of it; harmless after its end."""
        if error is None:
            self.call.close(ending=Ending.CLIENT_CANCEL)
        else:
            self.call.close(error)

    def closing(self, close: Callable[..., Any]) -> Callable[..., Any]:
        def closed(*args: Any, **kwargs: Any) -> Any:
            self.left()
            return close(*args, **kwargs)

        return closed
