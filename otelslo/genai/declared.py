"""What `gen_ai:` of a configuration says: which calls are those of a model, and what they are called.

gen_ai:
  - match: {kind: http, route: /v1/chat/completions}
    operation: chat
    provider: vllm
    model: llama-3.1-8b
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otelslo.errors import Place, nearest, shown
from otelslo.genai.instruments import SERVER, SIDES
from otelslo.match import Match, parse_match, texts

OPERATION, PROVIDER, MODEL = "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"
KEYS = ("match", "side", "operation", "provider", "model", "models")
_KINDS = ("call", "http")
_LONGEST = 100
_EXAMPLE = "Write\ngen_ai:\n  - match: {kind: call, route: chat}\n    operation: chat\n    provider: openai"


@dataclass(frozen=True)
class GenAI:
    """Calls that count in the `gen_ai.*` metrics; the first declaration that matches a call is the one that counts it.

    A call may say otherwise by attributes of the same names: `gen_ai.operation.name` and the others.

    Args:
        operation: gen_ai.operation.name: chat, embeddings, text_completion, ...
        provider: gen_ai.provider.name: openai, anthropic, ...
        model: gen_ai.request.model, where the app does not say it.
        side: "server" (we answer) or "client" (we ask); another set of metrics each.
        match: as that of an SLO; kind "call" unless told, or "http", without `where`.
        models: the models there are; any other that the app says counts as `_OTHER`. For names that clients send.

    Raises:
        DefinitionError: what is written cannot be meant.
    """

    operation: str
    provider: str
    model: str | None = None
    side: str = SERVER
    match: Mapping[str, Any] = field(default_factory=dict)
    models: Sequence[str] | None = None

    covers: Match = field(init=False, repr=False)

    def __post_init__(self) -> None:
        place = Place("gen_ai")
        for key in ("operation", "provider", "model"):
            self._check(place.at(key), getattr(self, key), key == "model")
        if self.side not in SIDES:
            raise place.at("side").error(f"{shown(self.side)} is no side", nearest(str(self.side), SIDES))
        if self.models is not None:
            object.__setattr__(self, "models", texts(self.models, place.at("models")))
        where = place.at("match")
        if not isinstance(self.match, Mapping):
            raise where.error(f"{shown(self.match)} is no mapping", "Write match: {route: chat}")
        found = parse_match(self.match, "call", where)
        if found.kind not in _KINDS:
            raise where.at("kind").error(f"no model is called by kind {found.kind}", "Write call or http")
        for key in ("host", "where"):
            if self.match.get(key) is not None:
                raise where.at(key).error(f"{key} cannot be told here", "Match kind, route and method", at_key=True)
        object.__setattr__(self, "covers", found)

    def _check(self, place: Place, value: object, optional: bool) -> None:
        if value is None and optional:
            return
        text = place.expect(value, str, "a text, such as chat")
        if not 0 < len(text) <= _LONGEST:
            raise place.error(f"a text of {len(text)} characters", f"Write 1 to {_LONGEST} characters")

    @classmethod
    def from_mapping(cls, data: object) -> GenAI:
        """What one item of `gen_ai:` declares. Raises DefinitionError."""
        place = Place("gen_ai")
        if not isinstance(data, Mapping):
            raise place.error(f"{shown(data)} is no declaration", _EXAMPLE)
        place.only(data, KEYS)
        for key, example in (("operation", "chat"), ("provider", "openai")):
            if data.get(key) is None:
                raise place.error(f"it has no {key}", f"Add {key}: {example}")
        return cls(**{key: value for key, value in data.items() if value is not None})

    def attributes(self, told: Mapping[str, str]) -> tuple[str, str, str | None]:
        """Operation, provider and model of a call with these attributes."""
        model = told.get(MODEL, self.model)
        if model is not None and self.models is not None and model not in (*self.models, self.model):
            model = "_OTHER"
        return (
            told.get(OPERATION, self.operation)[:_LONGEST],
            told.get(PROVIDER, self.provider)[:_LONGEST],
            None if model is None else model[:_LONGEST],
        )


def parse_gen_ai(items: object, place: Place) -> list[object]:
    """The items of `gen_ai:`, each for `GenAI.from_mapping`. Raises DefinitionError."""
    if items is None:
        return []
    if not isinstance(items, list) or not items:
        raise place.error("it is no list of declarations", _EXAMPLE)
    return items
