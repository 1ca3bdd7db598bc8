"""Where the objectives come from: `slo.yaml`, a Python file, an import path, or the default.

A bad file must never reach a running service: whatever is wrong is a DefinitionError with file, line and column.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import yaml

from otelslo import exporters
from otelslo.errors import DefinitionError, Key, Place, nearest, shown
from otelslo.match import import_object
from otelslo.slo import SLO
from otelslo.window import format_duration, parse_positive_duration

ENV_CONFIG = "OTELSLO_CONFIG"
DEFAULT_FILE = "slo.yaml"
LARGEST_FILE_BYTES = 1_000_000
MOST_NODES = 100_000
DEEPEST = 40
_TOP_KEYS = ("slos", "state_dir", "retention", "exporters")
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
Marks = dict[tuple[Key, ...], tuple[int, int]]
_EXAMPLE = 'Write\nslos:\n  - name: availability\n    target: "99.9%"'


@dataclass(frozen=True, slots=True)
class Config:
    """The objectives in force. `path` says where they came from, None for the default."""

    slos: tuple[SLO, ...]
    path: str | None = None
    state_dir: str | None = None
    retention_ns: int | None = None
    exporters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def watchable(self) -> str | None:
        """The file to watch for changes; None where there is none."""
        return self.path if self.path is not None and Path(self.path).is_file() else None


def load(path: str | os.PathLike[str] | None = None, env: Mapping[str, str] | None = None) -> Config:
    """The configuration at `path`, else at $OTELSLO_CONFIG, else in ./slo.yaml, else one default availability SLO.

    A path is a YAML file, a Python file that has `slos`, or an import path "package.module:slos".
    Raises DefinitionError.
    """
    source = os.fspath(path) if path is not None else (os.environ if env is None else env).get(ENV_CONFIG)
    if not source:
        if not Path(DEFAULT_FILE).is_file():
            return Config((SLO("availability"),))
        source = DEFAULT_FILE
    if _IMPORT_PATH.fullmatch(source) and not Path(source).exists():
        return _from_python(import_object(source, Place(source)), source)
    if source.endswith(".py"):
        return _from_python(_run_file(source), source)
    return _from_yaml(_compose(source, _read(source)))


def given_or_loaded(slos: Iterable[SLO] | None) -> Config:
    """An engine's configuration: the objectives that it is given, else what `load` finds. Raises DefinitionError."""
    if slos is None:
        return load()
    given = tuple(slos)
    refuse_twins(given, lambda at, *texts: DefinitionError(f"SLO {at + 1}", *texts))
    return Config(given)


def difference(old: Sequence[SLO], new: Sequence[SLO]) -> str:
    """What has changed between two sets of objectives, in words."""
    before, after = ({slo.name: slo.definition() for slo in slos} for slos in (old, new))
    parts = [
        f"{len(new)} objectives",
        *(f"{name} added" for name in after if name not in before),
        *(f"{name} removed" for name in before if name not in after),
        *(f"{name} changed" for name in after if name in before and after[name] != before[name]),
    ]
    return ", ".join(parts)


def _read(source: str) -> str:
    try:
        with open(source, "rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        raise DefinitionError(source, f"it cannot be read ({reason})", "Check the path and its rights") from failure
    if len(data) > LARGEST_FILE_BYTES:
        raise DefinitionError(source, f"it is larger than {LARGEST_FILE_BYTES} bytes", "Is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        column = failure.start - data.rfind(b"\n", 0, failure.start)
        raise DefinitionError(f"{source}:{line}:{column}", "it is not UTF-8 text", "Save it as UTF-8") from failure


@dataclass
class _Document:
    """A YAML file's values, and the line and column of each value and key by its way from the top."""

    source: str
    value: Any = None
    values: Marks = field(default_factory=dict)
    keys: Marks = field(default_factory=dict)
    nodes: int = 0

    def error(self, path: tuple[Key, ...], problem: str, remedy: str, at_key: bool = False) -> DefinitionError:
        """The error at the deepest part of `path` that the file has."""
        marks = self.keys if at_key and path in self.keys else self.values
        while path and path not in marks:
            path, marks = path[:-1], self.values
        line, column = marks.get(path, (1, 1))
        return DefinitionError(f"{self.source}:{line}:{column}", problem, remedy, path=path, at_key=at_key)

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


def _compose(source: str, text: str) -> _Document:
    document = _Document(source)
    try:
        node = _Loader(text).get_single_node()
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
    return document


def _unreadable(source: str, failure: yaml.MarkedYAMLError) -> DefinitionError:
    mark = failure.problem_mark or failure.context_mark
    where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    problem = " ".join(f"unreadable YAML: {failure.problem or failure.context}".split())
    remedy = "Check the indentation, colons and quotes there"
    if "\\t" in problem or "tab" in problem:
        remedy = "Indent with spaces"
    elif "alias" in f"{failure.context} {failure.problem}":
        remedy = 'A text that begins with * must be quoted: "*"'
    elif "single document" in f"{failure.context}":
        problem, remedy = "it holds several documents", "Keep one; remove the line ---"
    elif "cannot start any token" in problem:
        remedy = 'Put the text in quotes: "99.9%"'
    return DefinitionError(where, problem, remedy)


def _construct(node: yaml.Node, path: tuple[Key, ...], document: _Document, above: tuple[int, ...]) -> Any:
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


def _mapping(node: yaml.MappingNode, path: tuple[Key, ...], document: _Document, above: tuple[int, ...]) -> Any:
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


def _merge(value: Any, path: tuple[Key, ...], document: _Document) -> dict[str, Any]:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise document.error(path, "<< takes a mapping or a list of mappings", "Write <<: *name")
    return {key: item for part in reversed(parts) for key, item in part.items()}


def _scalar(node: yaml.Node, path: tuple[Key, ...], document: _Document) -> Any:
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


def _from_yaml(document: _Document) -> Config:
    top = document.value
    if not isinstance(top, Mapping):
        raise document.error((), "it is empty" if top is None else "its top is no mapping", _EXAMPLE)
    if "apiVersion" in top:
        raise document.error(("apiVersion",), "OpenSLO documents are not supported yet", _EXAMPLE, at_key=True)
    with document.located():
        Place("file").only(top, _TOP_KEYS)
    items = top.get("slos")
    if not isinstance(items, list) or not items:
        raise document.error(("slos",), "there is no list of SLOs", _EXAMPLE)
    slos: list[SLO] = []
    for index, item in enumerate(items):
        with document.located("slos", index):
            slos.append(SLO.from_mapping(item))
    refuse_twins(slos, lambda index, *texts: document.error(("slos", index, "name"), *texts))
    with document.located():
        state_dir, retention_ns = _reserved(top, max(slo.window_ns for slo in slos))
        chosen = _exporters(top.get("exporters"))
    return Config(tuple(slos), document.source, state_dir, retention_ns, chosen)


def _exporters(value: object) -> dict[str, Mapping[str, Any]]:
    """`exporters: [otlp]`, or a mapping of names to options."""
    place = Place("file").at("exporters")
    if value is None:
        return {}
    if isinstance(value, list):
        value = dict.fromkeys(value)
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no list of exporters", "Write exporters: [otlp]")
    found = {}
    for name, options in value.items():
        if name not in exporters.members():
            problem = f"unknown exporter {shown(name)}"
            raise place.at(str(name)).error(problem, nearest(str(name), exporters.members()), at_key=True)
        if options is not None and not isinstance(options, Mapping):
            raise place.at(name).error(f"{shown(options)} is no mapping of options", f"Write {name}: {{}}")
        found[name] = options or {}
    return found


def _reserved(top: Mapping[str, Any], longest_window_ns: int) -> tuple[str | None, int | None]:
    place = Place("file")
    state_dir, retention = top.get("state_dir"), top.get("retention")
    if state_dir is not None:
        place.at("state_dir").expect(state_dir, str, "a directory")
    if retention is None:
        return state_dir, None
    retention_ns = place.at("retention").parse(parse_positive_duration, retention)
    if retention_ns < longest_window_ns:
        longest = format_duration(longest_window_ns)
        problem = f"{shown(retention)} is less than the longest window, {longest}"
        raise place.at("retention").error(problem, f"Write {longest} or more, or leave it out")
    return state_dir, retention_ns


def refuse_twins(slos: Sequence[SLO], error: Callable[[int, str, str], DefinitionError]) -> None:
    """Names must differ by more than case: they become names of series and files elsewhere."""
    seen: dict[str, str] = {}
    for index, slo in enumerate(slos):
        folded = slo.name.casefold()
        if folded in seen:
            raise error(index, f"two SLOs are named {slo.name!r} and {seen[folded]!r}", "Give each a name of its own")
        seen[folded] = slo.name


def _from_python(found: object, source: str) -> Config:
    if not isinstance(found, list | tuple) or not found or not all(isinstance(slo, SLO) for slo in found):
        raise DefinitionError(source, "it is no list of SLO objects", 'Write slos = [SLO("availability")]')
    refuse_twins(found, lambda index, *texts: DefinitionError(f"{source}[{index}]", *texts))
    return Config(tuple(found), source)


def _run_file(source: str) -> object:
    """What the file calls `slos`. Its DefinitionErrors name the SLO; anything else it raises names the line."""
    _read(source)
    spec = spec_from_file_location("otelslo_config_file", source)
    if spec is None or spec.loader is None:
        raise DefinitionError(source, "it is no Python file", "Name a file that ends with .py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except (Exception, SystemExit) as failure:
        line = _line_in(failure, source)
        problem = f"it raises {type(failure).__name__}: {shown(str(failure))}"
        raise DefinitionError(f"{source}:{line}", problem, "Run it with python to see the whole of it") from failure
    if not hasattr(module, "slos"):
        raise DefinitionError(source, "it has no slos", 'Write slos = [SLO("availability")]')
    return module.slos


def _line_in(failure: BaseException, source: str) -> int:
    if isinstance(failure, SyntaxError):
        return failure.lineno or 1
    line, trace = 1, failure.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == os.path.abspath(source):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
