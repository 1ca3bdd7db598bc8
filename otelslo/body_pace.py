"""The pace of a streamed HTTP response: which messages of its body are tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otelslo.chunks import event_is_token
from otelslo.exchange import Exchange
from otelslo.stream import Pace


class BodyPace(Pace):
    """Of a text/event-stream from its start; of another response from its second message on.

    A piece of body that is not empty is a token; of an event stream, but its comments, `data: [DONE]`, and chunks of a
    model without content.
    """

    __slots__ = ("_is_kept",)

    def __init__(self, clock_ns: Callable[[], int], begin_ns: int, event_stream: bool) -> None:
        super().__init__(clock_ns, begin_ns, event_stream)
        self._is_kept = event_stream

    def sent(self, exchange: Exchange, message: Mapping[str, Any]) -> None:
        """A message of the body was sent."""
        if not self._is_kept:
            if not message.get("more_body"):  # the whole of it, or the rest of what was empty
                return
            exchange.keep(self)
            self._is_kept = True
        body = message.get("body", b"")
        self.hand_over(event_is_token(body) if self.event_stream else len(body) > 0)
