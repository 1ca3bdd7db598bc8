"""What one token of a tracked stream costs: a generator or an iterator that is handed over, against the bare one.

Two objectives of streams ask for its pace (time to first token, goodput by four limits), and the end's judgement is
shared by the items of one stream. One process; async generators are stepped by hand, so that no event loop blurs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from . import ours
from .harness import Contender, Plan, Unavailable, expect, interleave
from .results import Results
from .track import consume, drain

TOKENS = 1000


def texts(tokens: int) -> Iterator[str]:
    for _ in range(tokens):
        yield "token"


async def async_texts(tokens: int) -> AsyncIterator[str]:
    for _ in range(tokens):
        yield "token"


def chunks(tokens: int) -> Iterator[dict[str, Any]]:
    chunk = {"choices": [{"index": 0, "delta": {"content": "token"}}]}
    for _ in range(tokens):
        yield chunk


def openai_chunks(tokens: int) -> Iterator[Any]:
    """As the client of OpenAI makes them."""
    chunk = _openai_chunk()
    for _ in range(tokens):
        yield chunk


def _openai_chunk() -> Any:
    try:
        from openai.types.chat import chat_completion_chunk as types
    except ImportError as error:
        raise Unavailable(f"openai is not installed: {error}") from error
    choice = types.Choice(index=0, delta=types.ChoiceDelta(content="token"), finish_reason=None)
    return types.ChatCompletionChunk(id="1", object="chat.completion.chunk", created=1, model="m", choices=[choice])


FORMS: dict[str, tuple[Callable[..., Any], str, bool]] = {
    "stream_generator_token_added_ns": (texts, "for _ in it(tokens): pass", True),
    "stream_async_generator_token_added_ns": (async_texts, "drain(consume(it(tokens)))", True),
    "stream_iterator_token_added_ns": (texts, "for _ in it(tokens): pass", False),
    "stream_chunk_token_added_ns": (chunks, "for _ in it(tokens): pass", False),
    "stream_openai_chunk_token_added_ns": (openai_chunks, "for _ in it(tokens): pass", False),
}
NAMES = (*FORMS,)


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    for name, (bare, statement, decorated) in FORMS.items():
        objectives = ours.stream_slos()
        with ours.engine(objectives) as engine:
            names = {"drain": drain, "consume": consume, "tokens": TOKENS}
            tracked = ours.track(engine)(bare) if decorated else ours.track_stream(engine, bare)
            mine = Contender("ours", statement, {**names, "it": tracked}, TOKENS)
            samples = interleave([mine, Contender("bare", statement, {**names, "it": bare}, TOKENS)], plan)
            for counted in ours.valid(engine, objectives):
                expect(name, counted, mine.calls)
        results.timing(name, samples, "ours", "bare", "2 SLOs of streams on the call site")
