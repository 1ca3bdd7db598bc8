"""Who is told: a family, one file per kind of channel, named in configuration by the file's name.

    channels:
      ops: {webhook: {url: "env:OPS_HOOK", secret: "file:/run/secrets/hook"}}

A member is a module with `create(name, options) -> Channel`; a file whose name holds an underscore is a part of
members, and none itself. Members from elsewhere register under the entry point group "otelslo.channels". A channel
sends one notice and says whether it arrived; when to try again, and in which order, is the courier's to know.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from otelslo.errors import DefinitionError, OtelsloError, Place, nearest, shown
from otelslo.notice import Notice

GROUP = "otelslo.channels"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EXAMPLE = 'Write ops: {webhook: {url: "env:OPS_HOOK"}}'


class SendFailed(OtelsloError):
    """A notice did not arrive, as far as we know.

    `retryable` says whether the same might arrive later, and `retry_after_s` how long the receiver asks to be left
    alone. The text never holds a secret.
    """

    def __init__(self, text: str, retry_after_s: float | None = None, retryable: bool = True) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.retryable = retryable


class Channel(Protocol):
    """One way to tell people. One thread at a time calls it: it may block, but never past its deadline."""

    def send(self, notice: Notice, deadline_ns: int) -> None:
        """Tell it before `deadline_ns` (monotonic clock). The same notice may come again: at least once, not once.

        Raises:
            SendFailed: it did not arrive. Nothing is kept here; the caller comes again.
        """

    def close(self, deadline_ns: int) -> None:
        """Let go of everything before `deadline_ns` (monotonic clock); again is harmless."""


Create = Callable[[str, Mapping[str, object]], Channel]


def members() -> list[str]:
    """The kinds that `load` knows: the files in this folder and the registered entry points."""
    return sorted(_files() | {point.name for point in entry_points(group=GROUP)})


def load(name: str) -> Create:
    """The `create` of the kind called `name`. Raises DefinitionError for a kind that nobody offers."""
    if name not in members():
        raise DefinitionError("channels", f"unknown kind of channel {shown(name)}", nearest(name, members()))
    if name in _files():
        module: object = importlib.import_module(f"{__name__}.{name}")
    else:
        module = next(iter(entry_points(group=GROUP, name=name))).load()
    return cast("Create", module.create)  # type: ignore[attr-defined]


def place_of(name: str, kind: str) -> Place:
    """Where the options of the channel called `name` stand in a configuration."""
    return Place("file", ("channels", name, kind))


def parse_channels(value: object, place: Place) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Kind and options by the channel's name. The options are read by `create`, secrets not before that.

    Args:
        value: what stands at `channels:`, None where nothing does.
        place: where that is.

    Raises:
        DefinitionError: it is no mapping of names to {kind: options}, or nobody offers that kind.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no mapping of channels", _EXAMPLE)
    return {_name(name, place): _channel(given, place.at(str(name))) for name, given in value.items()}


def create_all(chosen: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Channel]:
    """The channels of `parse_channels`, by name. Raises DefinitionError: an option cannot be meant, a secret is not
    there, or a library is missing."""
    return {name: load(kind)(name, options) for name, (kind, options) in chosen.items()}


def _files() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__) if "_" not in module.name}


def _name(name: object, place: Place) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        remedy = "Use letters, digits, '.', '_' and '-', at most 64"
        raise place.at(str(name)).error(f"{shown(name)} is no name of a channel", remedy, at_key=True)
    return name


def _channel(given: object, place: Place) -> tuple[str, Mapping[str, Any]]:
    if isinstance(given, str):
        given = {given: None}
    if not isinstance(given, Mapping) or len(given) != 1:
        raise place.error(f"{shown(given)} is not one kind of channel with its options", _EXAMPLE)
    (kind, options) = next(iter(given.items()))
    if kind not in members():
        problem = f"unknown kind of channel {shown(kind)}"
        raise place.at(str(kind)).error(problem, nearest(str(kind), members()), at_key=True)
    if options is not None and not isinstance(options, Mapping):
        raise place.at(kind).error(f"{shown(options)} is no mapping of options", f"Write {kind}: {{}}")
    return kind, options or {}
