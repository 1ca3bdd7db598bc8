"""OpenSLO documents as objects by kind and name, whose every part knows the line and column that it stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

from otelslo.document import Document
from otelslo.errors import BadValue, DefinitionError, Key, nearest, shown
from otelslo.openslo.spelling import API_VERSION, PREFIX

T = TypeVar("T")
SPEC_KEYS = {
    "SLO": (
        *("description", "service", "indicator", "indicatorRef", "timeWindow", "budgetingMethod", "objectives"),
        "alertPolicies",
    ),
    "SLI": ("description", "thresholdMetric", "ratioMetric"),
    "Service": ("description",),
    "DataSource": ("description", "type", "connectionDetails"),
    "AlertPolicy": (
        *("description", "alertWhenNoData", "alertWhenResolved", "alertWhenBreaching", "conditions"),
        "notificationTargets",
    ),
    "AlertCondition": ("description", "severity", "condition"),
    "AlertNotificationTarget": ("description", "target"),
}
_EXAMPLE = f"Write apiVersion: {API_VERSION}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What of a document is not done here, or differently: `place` is "file:line:column"."""

    place: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Part:
    """A value and its way in a document. Whatever is asked of it and not so raises DefinitionError with its place."""

    document: Document
    path: tuple[Key, ...]
    value: Any

    @property
    def place(self) -> str:
        """ "file:line:column" of its key."""
        return self.document.place(self.path, at_key=True)

    def error(self, problem: str, remedy: str, at_key: bool = False) -> DefinitionError:
        return self.document.error(self.path, problem, remedy, at_key)

    def finding(self, problem: str, remedy: str) -> Finding:
        """At the part's key."""
        return Finding(self.place, problem, remedy)

    def get(self, key: str) -> Part | None:
        """The part under a key; None if it is absent or empty."""
        value = self._mapping().get(key)
        return None if value is None else Part(self.document, (*self.path, key), value)

    def _mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.value, Mapping):
            raise self.error(f"{shown(self.value)} is no mapping", "Write it as key: value")
        return self.value

    def need(self, key: str, example: str) -> Part:
        """As `get`; an error if there is none."""
        part = self.get(key)
        if part is None:
            raise self.error(f"it has no {key}", f"Add {key}: {example}")
        return part

    def only(self, *keys: str) -> Part:
        """Itself, if it is a mapping with no other keys."""
        for key in self._mapping():
            if key not in keys:
                spot = Part(self.document, (*self.path, key), None)
                raise spot.error(f"unknown key {shown(key)}", nearest(key, keys), at_key=True)
        return self

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Keys and parts of a mapping, without the empty ones."""
        for key, value in self._mapping().items():
            if value is not None:
                yield key, Part(self.document, (*self.path, key), value)

    def items(self) -> list[Part]:
        if not isinstance(self.value, list):
            raise self.error(f"{shown(self.value)} is no list", "Write a list, each item after a dash")
        return [Part(self.document, (*self.path, index), value) for index, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.error(f"{shown(self.value)} is no text", "Write a text, in quotes if it looks like a number")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.error(f"{shown(self.value)} is neither true nor false", "Write true or false")
        return self.value

    def number(self) -> Fraction:
        if isinstance(self.value, bool) or not isinstance(self.value, int | Decimal):
            raise self.error(f"{shown(self.value)} is no number", "Write a plain number, without quotes, such as 0.99")
        return Fraction(self.value)

    def one_of(self, words: Sequence[str]) -> str:
        if self.value not in words:
            raise self.error(f"{shown(self.value)} is unknown", nearest(str(self.value), words))
        return str(self.value)

    def parse(self, parser: Callable[[Any], T]) -> T:
        """`parser(value)`, its BadValue at this place."""
        try:
            return parser(self.value)
        except BadValue as refused:
            raise self.error(refused.problem, refused.remedy) from None


@dataclass(frozen=True, slots=True)
class Object:
    """A document, or an object that stands inline in another. `ours` are its annotations that begin with our prefix."""

    kind: str
    name: str
    root: Part
    spec: Part
    labels: Mapping[str, str]
    ours: Mapping[str, Part]
    display_name: str = ""


@dataclass(slots=True)
class Catalogue:
    """All objects of a file. `find` remembers what was asked for, so that the rest can be named."""

    objects: dict[str, dict[str, Object]] = field(default_factory=lambda: {kind: {} for kind in SPEC_KEYS})
    used: set[tuple[str, str]] = field(default_factory=set)

    def of(self, kind: str) -> list[Object]:
        return list(self.objects[kind].values())

    def find(self, kind: str, name: str) -> Object | None:
        self.used.add((kind, name))
        return self.objects[kind].get(name)

    def resolve(self, item: Part, key: str, kind: str) -> tuple[Part, Object | None]:
        """The object that stands inline in `item`, or that its `key` refers to (None if no document has that name)."""
        part = item.get(key)
        if part is None:
            own = item.only("apiVersion", "kind", "metadata", "spec").get("kind")
            if own is not None:
                own.one_of((kind,))
            return item, read_object(item, kind)
        if item.get("spec") is not None:
            raise part.error(f"it has both {key} and a {kind} of its own", "Keep one", at_key=True)
        item.only(key)
        return part, self.find(kind, part.text())

    def missing(self, kind: str, name: str) -> tuple[str, str]:
        """Problem and remedy for a reference that leads nowhere."""
        known = list(self.objects[kind])
        remedy = nearest(name, known) if known else "Write it in this file, after a line ---"
        return f"no {kind} of this file is named {shown(name)}", remedy

    def unused(self, kind: str) -> list[Object]:
        return [found for found in self.of(kind) if (kind, found.name) not in self.used]


def recognises(documents: Sequence[Document]) -> bool:
    """Whether these are, or want to be, OpenSLO's documents rather than otelslo's own form."""
    tops = [top for document in documents for top in _tops(document)]
    return any(isinstance(top.value, Mapping) and ("apiVersion" in top.value or "kind" in top.value) for top in tops)


def catalogue(documents: Sequence[Document]) -> Catalogue:
    """The objects of all documents of a file, a document being one or a list of them. Raises DefinitionError."""
    found = Catalogue()
    for document in documents:
        for top in _tops(document):
            if top.value is None:
                continue
            made = _top_object(top)
            if made.name in found.objects[made.kind]:
                spot = Part(document, (*top.path, "metadata", "name"), made.name)
                raise spot.error(f"two objects of kind {made.kind} are named {made.name!r}", "Rename one")
            found.objects[made.kind][made.name] = made
    return found


def _tops(document: Document) -> list[Part]:
    top = Part(document, (), document.value)
    return top.items() if isinstance(document.value, list) else [top]


def _top_object(top: Part) -> Object:
    version = top.get("apiVersion")
    if version is None and "slos" in top.value:
        problem = "otelslo's own form and OpenSLO's documents do not mix"
        raise top.error(problem, "Keep the slos in a file of their own")
    if version is None:
        raise top.error("it has no apiVersion", _EXAMPLE)
    if version.value != API_VERSION:
        raise version.error(f"OpenSLO {shown(version.value)} is not supported", _EXAMPLE)
    kind = top.need("kind", "SLO").one_of(tuple(SPEC_KEYS))
    return read_object(top.only("apiVersion", "kind", "metadata", "spec"), kind)


def read_object(root: Part, kind: str) -> Object:
    """The object whose `metadata` and `spec` stand in `root`; deeper parts of the spec are its reader's."""
    metadata = root.need("metadata", "{name: checkout}").only("name", "displayName", "labels", "annotations")
    name = metadata.need("name", "checkout").text()
    display = metadata.get("displayName")
    spec = root.get("spec")
    if spec is None:
        if kind != "Service":
            raise root.error("it has no spec", "Add spec:")
        spec = Part(root.document, (*root.path, "spec"), {})
    return Object(
        kind,
        name,
        root,
        spec.only(*SPEC_KEYS[kind]),
        _labels(metadata.get("labels")),
        _ours(metadata.get("annotations")),
        "" if display is None else display.text(),
    )


def _labels(part: Part | None) -> dict[str, str]:
    """Labels; of several values of one key one text, with commas."""
    if part is None:
        return {}
    return {
        key: ",".join(item.text() for item in label.items()) if isinstance(label.value, list) else label.text()
        for key, label in part.parts()
    }


def _ours(part: Part | None) -> dict[str, Part]:
    found = {}
    for key, annotation in part.parts() if part is not None else ():
        if not isinstance(annotation.value, str):
            raise annotation.error(f"{shown(annotation.value)} is no text", "Write it in quotes")
        if key.startswith(PREFIX):
            found[key.removeprefix(PREFIX)] = annotation
    return found
