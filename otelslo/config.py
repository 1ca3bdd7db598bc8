"""Where the objectives come from: `slo.yaml`, a Python file, an import path, or the default.

A bad file must never reach a running service: whatever is wrong is a DefinitionError with file, line and column.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from otelslo import exporters, openslo
from otelslo.channels import parse_channels
from otelslo.document import Document, compose_all
from otelslo.errors import DefinitionError, Key, Place, nearest, shown
from otelslo.genai.declared import GenAI, parse_gen_ai
from otelslo.limit import Limit
from otelslo.maintenance import parse_maintenance
from otelslo.match import import_object
from otelslo.policy import parse_policy
from otelslo.slo import SLO
from otelslo.toml_document import read_toml
from otelslo.window import format_duration, parse_positive_duration

log = logging.getLogger("otelslo")

ENV_CONFIG = "OTELSLO_CONFIG"
DEFAULT_FILE = "slo.yaml"
LARGEST_FILE_BYTES = 1_000_000
_TOP_KEYS = ("slos", "limits", "state_dir", "retention", "exporters", "channels", "policy", "maintenance", "gen_ai")
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_LIMIT_EXAMPLE = "Write\nlimits:\n  - name: model-age\n    limit: 90d"
_EXAMPLE = 'Write\nslos:\n  - name: availability\n    target: "99.9%"'


@dataclass(frozen=True, slots=True)
class Config:
    """The objectives in force. `path` says where they came from, None for the default.

    `notices` say what of an OpenSLO file is not done here, or differently, and where it stands. `channels_at` says
    where what an error says of a channel's options stands.
    """

    slos: tuple[SLO, ...]
    path: str | None = None
    state_dir: str | None = None
    retention_ns: int | None = None
    exporters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    channels: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    notices: tuple[openslo.Finding, ...] = ()
    limits: tuple[Limit, ...] = ()
    gen_ai: tuple[GenAI, ...] = ()
    locate: Callable[[str, tuple[Key, ...]], str] | None = field(default=None, repr=False, compare=False)
    channels_at: Callable[[DefinitionError], str] | None = field(default=None, repr=False, compare=False)

    def place(self, slo: str, path: tuple[Key, ...]) -> str | None:
        """ "file:line:column" of a key of an SLO or limit, or of the nearest thing around it; None if it came from no
        file of documents."""
        return None if self.locate is None else self.locate(slo, path)

    @property
    def watchable(self) -> str | None:
        """The file to watch for changes; None where there is none."""
        return self.path if self.path is not None and Path(self.path).is_file() else None


def load(path: str | os.PathLike[str] | None = None, env: Mapping[str, str] | None = None) -> Config:
    """The configuration at `path`, else at $OTELSLO_CONFIG, else in ./slo.yaml, else one default availability SLO.

    A path is a YAML or TOML file, a Python file that has `slos` (and `limits`), or an import path
    "package.module:slos"; a Python list may have limits among its SLOs.
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
        return _from_python(*_run_file(source))
    if source.endswith(".toml"):
        return _from_documents([read_toml(source, _read(source))])
    return _from_documents(compose_all(source, _read(source)))


def given_or_loaded(slos: Iterable[SLO] | None, limits: Iterable[Limit] | None = None) -> Config:
    """An engine's configuration: the objectives that it is given, else what `load` finds; limits come from the same
    place as the SLOs, unless they are given. Raises DefinitionError."""
    if slos is None:
        found = load()
        for notice in found.notices:
            log.warning("%s", notice)
    else:
        found = Config(tuple(slos))
        refuse_twins(found.slos, lambda at, *texts: DefinitionError(f"SLO {at + 1}", *texts))
    if limits is None:
        return found
    found = replace(found, limits=tuple(limits))
    refuse_limit_twins(found.slos, found.limits, lambda at, *texts: DefinitionError(f"limit {at + 1}", *texts))
    return found


Promised = Sequence[SLO | Limit]


def difference(old: Promised, new: Promised) -> str:
    """What has changed between two sets of objectives, in words."""
    before, after = ({one.name: one.definition() for one in promised} for promised in (old, new))
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


def _from_documents(documents: list[Document]) -> Config:
    if openslo.recognises(documents):
        return _from_openslo(documents)
    document = documents[0]
    if len(documents) > 1:
        line, column = documents[1].start
        place = f"{document.source}:{line}:{column}"
        raise DefinitionError(place, "it holds several documents", "Keep one; remove the line ---")
    top = document.value
    if not isinstance(top, Mapping):
        raise document.error((), "it is empty" if top is None else "its top is no mapping", _EXAMPLE)
    with document.located():
        Place("file").only(top, _TOP_KEYS)
        parse_policy(top.get("policy"), Place("file").at("policy"))
        parse_maintenance(top.get("maintenance"), Place("file").at("maintenance"))
    items, limited = top.get("slos"), top.get("limits")
    if items is None and limited is not None:
        items = []
    elif not isinstance(items, list) or not items:
        raise document.error(("slos",), "there is no list of SLOs", _EXAMPLE)
    slos: list[SLO] = []
    for index, item in enumerate(items):
        with document.located("slos", index):
            whole = _with_maintenance(_with_policy(item, top.get("policy")), top.get("maintenance"))
            slos.append(SLO.from_mapping(whole))
    refuse_twins(slos, lambda index, *texts: document.error(("slos", index, "name"), *texts))
    limits = _limits(document, limited, slos)
    with document.located():
        state_dir, retention_ns = _reserved(top, max((slo.window_ns for slo in slos), default=0))
        chosen = _exporters(top.get("exporters"))
        channels = parse_channels(top.get("channels"), Place("file").at("channels"))
    _refuse_unknown_channels(document, "slos", slos, channels)
    _refuse_unknown_channels(document, "limits", limits, channels)
    return Config(
        tuple(slos),
        document.source,
        state_dir,
        retention_ns,
        chosen,
        channels,
        limits=limits,
        gen_ai=_gen_ai(document, top.get("gen_ai")),
        locate=_locator(document, slos, limits),
        channels_at=lambda error: document.place(error.path, error.at_key),
    )


def _limits(document: Document, items: object, slos: Sequence[SLO]) -> tuple[Limit, ...]:
    if items is None:
        return ()
    if not isinstance(items, list) or not items:
        raise document.error(("limits",), "it is no list of limits", _LIMIT_EXAMPLE)
    limits = []
    for index, item in enumerate(items):
        with document.located("limits", index):
            limits.append(Limit.from_mapping(item))
    refuse_limit_twins(slos, limits, lambda index, *texts: document.error(("limits", index, "name"), *texts))
    return tuple(limits)


def _gen_ai(document: Document, items: object) -> tuple[GenAI, ...]:
    found = []
    with document.located():
        listed = parse_gen_ai(items, Place("file").at("gen_ai"))
    for index, item in enumerate(listed):
        with document.located("gen_ai", index):
            found.append(GenAI.from_mapping(item))
    return tuple(found)


def _locator(document: Document, slos: Sequence[SLO], limits: Sequence[Limit]) -> Callable[[str, tuple[Key, ...]], str]:
    """Where the keys of these SLOs and limits stand; what they have from the top of the file stands there."""
    numbers = {slo.name: number for number, slo in enumerate(slos)}
    of_limits = {limit.name: number for number, limit in enumerate(limits)}

    def locate(name: str, path: tuple[Key, ...]) -> str:
        if name in of_limits:
            return document.place(("limits", of_limits[name], *path))
        own = document.value["slos"][numbers[name]]
        if path[:1] == ("maintenance",) and len(path) > 1:
            index, before = int(path[1]), len(own.get("maintenance") or ())
            if index >= before:
                return document.place(("maintenance", index - before, *path[2:]))
        if path and path[0] in ("policy", "maintenance") and own.get(path[0]) is None:
            return document.place(path)
        return document.place(("slos", numbers[name], *path))

    return locate


def _refuse_unknown_channels(document: Document, key: str, promised: Promised, channels: Iterable[str]) -> None:
    known = tuple(channels) or ("log",)
    for index, one in enumerate(promised):
        for number, name in enumerate(one.notify or ()):
            if name not in known:
                path = (key, index, "notify", number)
                raise document.error(path, f"there is no channel {shown(name)}", nearest(name, known))


def _with_policy(item: Any, policy: object) -> Any:
    """An SLO as written, with the policy of all where it has none of its own."""
    if policy is None or not isinstance(item, Mapping) or item.get("policy") is not None:
        return item
    return {**item, "policy": policy}


def _with_maintenance(item: Any, windows: list[Any] | None) -> Any:
    """An SLO as written, with the windows of all after its own."""
    if not windows or not isinstance(item, Mapping):
        return item
    own = item.get("maintenance")
    return {**item, "maintenance": [*(own or []), *windows]} if own is None or isinstance(own, list) else item


def _from_openslo(documents: list[Document]) -> Config:
    found = openslo.imported(documents)
    if not found.slos:
        said = next(iter(found.left_out), openslo.Finding(documents[0].place(()), "it has no SLO", "Add one"))
        problem = f"no SLO of this file can be measured here; first of all: {said.problem}"
        raise DefinitionError(said.place, problem, said.remedy)
    channels = _openslo_channels(found, documents[0].source)
    return Config(
        found.slos,
        documents[0].source,
        channels=channels,
        notices=found.notices,
        locate=found.locate,
        channels_at=lambda error: _channel_place(found, documents[0].source, error),
    )


def _openslo_channels(found: openslo.Imported, source: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """What its notification targets set up; each that is told must be there."""
    try:
        channels = parse_channels(found.channels, Place("file").at("channels"))
    except DefinitionError as refused:
        raise DefinitionError(_channel_place(found, source, refused), refused.problem, refused.remedy) from None
    known = tuple(channels) or ("log",)
    for name in (name for slo in found.slos for name in slo.notify or ()):
        if name not in known:
            remedy = f"Set it up: an AlertNotificationTarget of this name with an annotation {openslo.CHANNEL_EXAMPLE}"
            raise DefinitionError(found.places.get(name, source), f"there is no channel {shown(name)}", remedy)
    return channels


def _channel_place(found: openslo.Imported, source: str, error: DefinitionError) -> str:
    """Where the channel stands that an error under `channels` is about."""
    return found.places.get(str(error.path[1]) if len(error.path) > 1 else "", source)


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


def refuse_limit_twins(
    slos: Sequence[SLO], limits: Sequence[Limit], error: Callable[[int, str, str], DefinitionError]
) -> None:
    """A limit's name is no other limit's and no SLO's, whatever their case."""
    seen = {slo.name.casefold(): f"the SLO {slo.name!r}" for slo in slos}
    for index, limit in enumerate(limits):
        folded = limit.name.casefold()
        if folded in seen:
            problem = f"{limit.name!r} is named like {seen[folded]}"
            raise error(index, problem, "Give each objective a name of its own")
        seen[folded] = f"the limit {limit.name!r}"


def _from_python(found: object, source: str, beside: object = (), gen_ai: object = ()) -> Config:
    """Of a list of SLOs, in which there may be limits, and the lists of limits and of GenAI beside it."""
    items = list(found) if isinstance(found, list | tuple) else [None]
    if not isinstance(beside, list | tuple) or not all(isinstance(limit, Limit) for limit in beside):
        remedy = 'Write limits = [Limit("model-age", limit="90d")]'
        raise DefinitionError(source, "its limits are no list of Limit objects", remedy)
    if not isinstance(gen_ai, list | tuple) or not all(isinstance(one, GenAI) for one in gen_ai):
        remedy = 'Write gen_ai = [GenAI("chat", "openai", match={"route": "chat"})]'
        raise DefinitionError(source, "its gen_ai is no list of GenAI objects", remedy)
    if not (items or beside) or not all(isinstance(item, SLO | Limit) for item in items):
        raise DefinitionError(source, "it is no list of SLO objects", 'Write slos = [SLO("availability")]')
    slos = tuple(item for item in items if isinstance(item, SLO))
    limits = (*(item for item in items if isinstance(item, Limit)), *beside)
    refuse_twins(slos, lambda index, *texts: DefinitionError(f"{source}[{index}]", *texts))
    refuse_limit_twins(slos, limits, lambda index, *texts: DefinitionError(f"{source}: limit {index + 1}", *texts))
    return Config(slos, source, limits=limits, gen_ai=tuple(gen_ai))


def _run_file(source: str) -> tuple[object, str, object, object]:
    """What the file calls `slos`, the file, and what it calls `limits` and `gen_ai`.

    Its DefinitionErrors name the SLO; anything else it raises names the line.
    """
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
    if not hasattr(module, "slos") and not hasattr(module, "limits"):
        raise DefinitionError(source, "it has no slos", 'Write slos = [SLO("availability")]')
    return getattr(module, "slos", []), source, getattr(module, "limits", ()), getattr(module, "gen_ai", ())


def _line_in(failure: BaseException, source: str) -> int:
    if isinstance(failure, SyntaxError):
        return failure.lineno or 1
    line, trace = 1, failure.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == os.path.abspath(source):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
