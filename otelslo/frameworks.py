"""Finds who can read an app's routes: the adapter of the framework that the app is made with.

An adapter is `otelslo.integrations.<the framework's package>`, and offers `router(application) -> Routes | None`. The
framework is told by the app's class, so a new one is one new file, and none is imported but for its own apps.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from otelslo.routes import Routes

_INTEGRATIONS = "otelslo.integrations"
# Where middleware keeps what it wraps.
_WRAPPED = ("app", "application", "wsgi_app", "asgi_app", "wsgi", "wrapped", "__wrapped__", "func", "__self__")
_MOST_LOOKED_AT = 64


def router_of(application: Any) -> Routes | None:
    """The routes of an app, looked for through what is wrapped around it; None if nobody can read them.

    Also the app of a bound method (`app.wsgi_app`), of a partial, and what a function's closure holds. Raises what an
    adapter raises.
    """
    return next((found for found in map(_adapted, layers(application)) if found is not None), None)


def layers(application: Any) -> Iterator[Any]:
    """The app and, from the outside inwards, what it wraps; a bounded number."""
    waiting, known = [application], {id(None)}
    for _ in range(_MOST_LOOKED_AT):
        if not waiting:
            return
        candidate = waiting.pop(0)
        if id(candidate) not in known:
            known.add(id(candidate))
            yield candidate
            waiting += _inside(candidate)


def _adapted(candidate: Any) -> Routes | None:
    packages = dict.fromkeys(str(cls.__module__).partition(".")[0] for cls in type(candidate).__mro__)
    for package in packages:
        if package in ("builtins", "otelslo") or importlib.util.find_spec(f"{_INTEGRATIONS}.{package}") is None:
            continue
        router = getattr(importlib.import_module(f"{_INTEGRATIONS}.{package}"), "router", None)
        found: Routes | None = None if router is None else router(candidate)
        if found is not None:
            return found
    return None


def _inside(candidate: Any) -> Iterator[Any]:
    for name in _WRAPPED:
        try:
            found = getattr(candidate, name, None)
        except Exception:  # an attribute may be any code
            continue
        if callable(found):
            yield found
    for cell in getattr(candidate, "__closure__", None) or ():
        try:
            if callable(cell.cell_contents):
                yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
