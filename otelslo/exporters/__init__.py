"""Where committed numbers go: a family, one file per destination, named in configuration by the file's name.

A member is a module with `create(options) -> Exporter`, and perhaps `wanted(env) -> bool`, where the environment alone
can ask for it; a file whose name holds an underscore is a part of the member that it is named after. Every exporter
gets what the leader has read once and COMMITTED to SQLite, never anything newer: an export ahead of the database would
go back after a rebuild. `sqlite` is therefore not a member: it is what the members wait for, and offers no `create`.
Members from elsewhere register under the entry point group "otelslo.exporters".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Protocol, cast

from otelslo.errors import DefinitionError, OtelsloError, nearest
from otelslo.report import Report

GROUP = "otelslo.exporters"
_TRUTH = "sqlite"


class ExportFailed(OtelsloError):
    """A report, or a part of it, did not arrive.

    `retryable` says whether the same might arrive later; where it is not, the next report is still tried in its turn.
    `retry_after_s` is how long the destination asks to be left alone, and `rejected_points` how many points it refused
    for good.
    """

    def __init__(
        self, text: str, retry_after_s: float | None = None, retryable: bool = True, rejected_points: int = 0
    ) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.retryable = retryable
        self.rejected_points = rejected_points


class Exporter(Protocol):
    """One destination. One thread at a time calls it, which is its own: it may block, but never past its deadline."""

    def export(self, report: Report, deadline_ns: int) -> None:
        """Send one report before `deadline_ns` (monotonic clock).

        Raises:
            ExportFailed: it did not arrive, or not whole. Nothing is kept here: the caller comes again with newer
                absolute totals.
        """

    def close(self, deadline_ns: int) -> None:
        """Let go of everything before `deadline_ns` (monotonic clock); again is harmless."""


def members() -> list[str]:
    """The names that `load` knows: the files in this folder and the registered entry points."""
    files = {module.name for module in pkgutil.iter_modules(__path__) if "_" not in module.name} - {_TRUTH}
    return sorted(files | {point.name for point in entry_points(group=GROUP)})


def load(name: str) -> Callable[[Mapping[str, object]], Exporter]:
    """The `create` of the exporter called `name`. Raises DefinitionError for a name that nobody offers."""
    if name not in members():
        raise DefinitionError("exporters", f"unknown exporter {name!r}", nearest(name, members()))
    if any(module.name == name for module in pkgutil.iter_modules(__path__)):
        module: object = importlib.import_module(f"{__name__}.{name}")
    else:
        module = next(iter(entry_points(group=GROUP, name=name))).load()
    return cast("Callable[[Mapping[str, object]], Exporter]", module.create)  # type: ignore[attr-defined]


def chosen(configured: Mapping[str, Mapping[str, object]], env: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """Options by exporter: those of the configuration, and those that the environment asks for by itself."""
    found = dict(configured)
    for module in pkgutil.iter_modules(__path__):
        if module.name in members() and module.name not in found and "_" not in module.name:
            wanted = getattr(importlib.import_module(f"{__name__}.{module.name}"), "wanted", None)
            if wanted is not None and wanted(env):
                found[module.name] = {}
    return found
