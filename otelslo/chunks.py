"""What of a stream is a token: not its comments, its markers, or chunks that only tell a role or a usage.

Clients of models are told by their shape, as dicts or objects, so that none of them is imported.
"""

from __future__ import annotations

from typing import Any

# Whatever of a delta is output of the model, in the words of OpenAI's API and of the servers that speak it.
_OUTPUT = ("content", "reasoning_content", "reasoning", "tool_calls", "function_call", "refusal", "audio")
_PLAIN = frozenset({str, bytes, int, float, bool, list, tuple, type(None), bytearray, memoryview})
# Within the text of a model, quotes are escaped, so that these stand only where the chunk itself says so.
_EMPTY = (b'"content":""', b'"content": ""', b'"delta":{}', b'"delta": {}', b'"choices":[]', b'"choices": []')


def is_token(item: Any) -> bool:
    """Whether an item is output. Anything is but an empty text, `data: [DONE]`, and a chunk of a model without content.

    A text that begins with ":" may well be output; only in a response it is a comment. Never raises: what cannot be
    looked at is output.
    """
    kind = type(item)
    try:  # a usual chunk by the shortest way: this is the path of every token
        if kind is dict:
            if "choices" not in item or item["choices"][0]["delta"]["content"]:
                return True
        elif (choices := getattr(item, "choices", None)) is not None and choices[0].delta.content:
            return True
    except Exception:
        pass  # an item may be any code
    try:
        return _is_output(item)
    except Exception:
        return True


def event_is_token(text: bytes) -> bool:
    """Whether a piece of a text/event-stream is output; several events in one piece are one item."""
    if text.startswith(b":") and b"\ndata:" not in text:  # a comment, which keeps the connection alive
        return False
    if not text.startswith(b"data:"):
        return not text.isspace() and text != b""
    if text.startswith((b"data: [DONE]", b"data:[DONE]")):
        return False
    return b"\n" in text.strip() or not any(empty in text for empty in _EMPTY)


def _is_output(item: Any) -> bool:
    kind = type(item)
    if kind is str:
        return event_is_token(item.encode()) if item.startswith("data:") else item != ""
    if kind is bytes:
        return event_is_token(item) if item.startswith(b"data:") else item != b""
    choices = None if kind in _PLAIN else _part(item, "choices")
    return choices is None or any(_has_output(choice) for choice in choices)


def _has_output(choice: Any) -> bool:
    delta = _part(choice, "delta")
    if delta is None:
        return bool(_part(choice, "text"))
    return any(_part(delta, name) for name in _OUTPUT)


def usage_of(item: Any) -> tuple[Any, Any] | None:
    """Input and output tokens that an item tells, as OpenAI's last chunk may; None: nothing. Never raises."""
    if type(item) in _PLAIN:
        return None
    try:
        usage = _part(item, "usage")
        return None if usage is None else (_part(usage, "prompt_tokens"), _part(usage, "completion_tokens"))
    except Exception:
        return None  # an item may be any code


def _part(of: Any, name: str) -> Any:
    return of.get(name) if isinstance(of, dict) else getattr(of, name, None)
