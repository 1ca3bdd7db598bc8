"""YAML texts as values that remember where they stand, so that every error can name line and column.

It reads what people mean (`on`, 1:30 and 010 are texts, numbers are exact), and a small text cannot become a large one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from otelslo.errors import DefinitionError, Key, shown

MOST_NODES = 100_000
DEEPEST = 40
Marks = dict[tuple[Key, ...], tuple[int, int]]


@dataclass
class Document:
    """A YAML document's values, and the line and column of each value and key by its way from the top.

    `start` is where the document itself begins; `nodes` counts the values of the whole text up to its end.
    """

    source: str
    value: Any = None
    values: Marks = field(default_factory=dict)
    keys: Marks = field(default_factory=dict)
    start: tuple[int, int] = (1, 1)
    nodes: int = 0

    def place(self, path: tuple[Key, ...], at_key: bool = False) -> str:
        """ "slo.yaml:3:5", the deepest part of `path` that the document has."""
        marks = self.keys if at_key and path in self.keys else self.values
        while path and path not in marks:
            path, marks = path[:-1], self.values
        line, column = marks.get(path, (1, 1))
        return f"{self.source}:{line}:{column}"

    def error(self, path: tuple[Key, ...], problem: str, remedy: str, at_key: bool = False) -> DefinitionError:
        """The error at the deepest part of `path` that the document has."""
        return DefinitionError(self.place(path, at_key), problem, remedy, path=path, at_key=at_key)

    @contextmanager
    def located(self, *under: Key) -> Iterator[None]:
        """Give errors raised inside, whose paths begin at `under`, their line and column."""
        try:
            yield
        except DefinitionError as refused:
            path = (*under, *refused.path)
            problem = f"{refused.place}: {refused.problem}"
            raise self.error(path, problem, refused.remedy, refused.at_key) from refused.__cause__


class _Loader(yaml.SafeLoader):
    """YAML that means what it says: `on`, 1:30 and 010 are texts; true, false, null and plain numbers are not."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789"),
    ("float", r"[-+]?[0-9]{1,18}\.[0-9]{0,30}", "-+0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def compose_all(source: str, text: str) -> list[Document]:
    """The documents of a YAML text, one at least; `source` names it in errors. Raises DefinitionError."""
    documents: list[Document] = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            mark = loader.peek_event().start_mark  # type: ignore[no-untyped-call]  # a stub without types
            before = documents[-1].nodes if documents else 0
            document = Document(source, start=(mark.line + 1, mark.column + 1), nodes=before)
            documents.append(document)
            node = loader.get_node()
            if node is not None:
                document.value = _construct(node, (), document, ())
    except yaml.MarkedYAMLError as failure:
        raise _unreadable(source, failure) from failure
    except yaml.reader.ReaderError as failure:
        line = text.count("\n", 0, failure.position) + 1
        problem = f"unreadable YAML: the character {failure.character!a} is not allowed"
        raise DefinitionError(f"{source}:{line}:1", problem, "Remove it") from failure
    except RecursionError as failure:
        raise DefinitionError(f"{source}:1:1", "it is nested too deeply", "Write it flat") from failure
    return documents or [Document(source)]


def _unreadable(source: str, failure: yaml.MarkedYAMLError) -> DefinitionError:
    mark = failure.problem_mark or failure.context_mark
    where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    problem = " ".join(f"unreadable YAML: {failure.problem or failure.context}".split())
    remedy = "Check the indentation, colons and quotes there"
    if "\\t" in problem or "tab" in problem:
        remedy = "Indent with spaces"
    elif "alias" in f"{failure.context} {failure.problem}":
        remedy = 'A text that begins with * must be quoted: "*"'
    elif "cannot start any token" in problem:
        remedy = 'Put the text in quotes: "99.9%"'
    return DefinitionError(where, problem, remedy)


def _construct(node: yaml.Node, path: tuple[Key, ...], document: Document, above: tuple[int, ...]) -> Any:
    """Plain values, with every use of an alias counted: a small file cannot grow into a large one."""
    document.nodes += 1
    document.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if id(node) in above:
        raise document.error(path, "the value contains itself", "Remove the alias")
    if document.nodes > MOST_NODES or len(above) > DEEPEST:
        raise document.error(path, "the file is too large, too deep or has too many aliases", "Write less")
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document, above)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_construct(item, (*path, index), document, above) for index, item in enumerate(node.value)]
    return _scalar(node, path, document)


def _mapping(node: yaml.MappingNode, path: tuple[Key, ...], document: Document, above: tuple[int, ...]) -> Any:
    if node.tag != "tag:yaml.org,2002:map":
        raise document.error(path, f"the tag {shown(node.tag)} is not allowed", "Remove it")
    result: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        at = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key_node.tag == "tag:yaml.org,2002:merge":
            merged = _merge(_construct(value_node, (*path, "<<"), document, above), (*path, "<<"), document) | merged
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise DefinitionError(f"{document.source}:{at[0]}:{at[1]}", "a key must be a text", "Write key: value")
        key = str(key_node.value)
        document.keys[(*path, key)] = at
        if key in result:
            raise document.error((*path, key), f"the key {shown(key)} stands here twice", "Keep one", at_key=True)
        result[key] = _construct(value_node, (*path, key), document, above)
    return merged | result


def _merge(value: Any, path: tuple[Key, ...], document: Document) -> dict[str, Any]:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise document.error(path, "<< takes a mapping or a list of mappings", "Write <<: *name")
    return {key: item for part in reversed(parts) for key, item in part.items()}


def _scalar(node: yaml.Node, path: tuple[Key, ...], document: Document) -> Any:
    text, kind = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
    if kind in ("str", "merge"):
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in ("int", "float") and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", text):
        return int(text) if kind == "int" and "." not in text else Decimal(text)
    raise document.error(path, f"the tag {shown(node.tag)} is not allowed here", "Remove it")
