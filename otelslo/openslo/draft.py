"""An SLO to be, as slo.yaml would have it, that remembers where in the documents each of its keys was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from otelslo.errors import DefinitionError, Key
from otelslo.openslo.objects import Finding, Part
from otelslo.slo import SLO


@dataclass(slots=True)
class Draft:
    """`data` is what `SLO.from_mapping` takes, `origins` where each key was read, by its way inside of it.

    One that is not `measured` here, for `foreign`, is read to the end for what there is to say about it, and not made.
    """

    root: Part
    name: Part
    foreign: Finding | None = None
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[tuple[Key, ...], Part] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return self.foreign is None

    def put(self, key: str, value: Any, part: Part) -> None:
        self.data[key] = value
        self.origins[(key,)] = part

    def drop(self, key: str) -> None:
        self.data.pop(key, None)

    def notified(self) -> Iterator[tuple[str, Part]]:
        """The channels that it tells by name, and where each is named."""
        for index, name in enumerate(self.data.get("notify") or ()):
            yield str(name), self._origin(("notify", index))[0]

    def slo(self) -> SLO:
        """The SLO. Raises DefinitionError at the part of the document that it is about."""
        try:
            return SLO.from_mapping(self.data)
        except DefinitionError as refused:
            problem = f"{refused.place}: {refused.problem}"
            part, rest = self._origin(refused.path)
            path = (*part.path, *rest)
            raise part.document.error(path, problem, refused.remedy, refused.at_key) from refused.__cause__

    def place(self, path: tuple[Key, ...]) -> str:
        """ "file:line:column" of where a key of `data` was read, or of the objective."""
        part, rest = self._origin(path)
        return part.document.place((*part.path, *rest))

    def _origin(self, path: tuple[Key, ...]) -> tuple[Part, tuple[Key, ...]]:
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]], path[length:]
        return self.root, ()
