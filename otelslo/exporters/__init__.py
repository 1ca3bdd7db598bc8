"""Where committed numbers go: a family, one file per destination, named in configuration by the file's name.

A member is a module with `create(options) -> Exporter`. The runner hands every exporter what the leader has read once
and COMMITTED to SQLite, never anything newer: an export ahead of the database would go back after a rebuild.
`sqlite` is therefore not a member: it is what the members wait for, and offers no `create`.
Members from elsewhere register under the entry point group "otelslo.exporters".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Protocol, cast

from otelslo.errors import DefinitionError, nearest
from otelslo.snapshot import Snapshot

GROUP = "otelslo.exporters"
_TRUTH = "sqlite"


class Exporter(Protocol):
    """One destination. Called from the runner's thread only, so it may block, but never past its deadline."""

    def export(self, snapshot: Snapshot, statuses_json: str | None, deadline_ns: int) -> None:
        """Send one committed snapshot; `deadline_ns` (monotonic clock) bounds it. Raises when it was not delivered:
        the runner counts that and comes again with newer absolute totals, nothing is queued here."""

    def close(self, deadline_ns: int) -> None:
        """Let go of everything before `deadline_ns` (monotonic clock)."""


def members() -> list[str]:
    """The names that `load` knows: the files in this folder and the registered entry points."""
    files = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith(_TRUTH)}
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
