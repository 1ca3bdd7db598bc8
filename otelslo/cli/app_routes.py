"""The routes of an app that is imported and not started, for whoever compares objectives with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from otelslo.edge import Edge
from otelslo.errors import DefinitionError, Place, shown
from otelslo.frameworks import layers, router_of
from otelslo.match import import_object
from otelslo.routes import Leaf, RouteTable, application_routes

_PLACE = Place("--app")
_CALLED = "()"
_SWITCH = "OTELSLO_DISABLED"


def leaves(path: str) -> list[Leaf]:
    """All routes of the app at "module:name", or of what "module:name()" makes; looked for in this directory, too.

    DefinitionError: it cannot be imported, or its routes cannot be read.
    """
    with importing():
        application = _application(path)
        try:
            found = _routes(application)
        except Exception as failure:  # of a framework that is not set up
            problem = f"the routes of {shown(path)} cannot be read ({type(failure).__name__}: {shown(str(failure))})"
            raise _PLACE.error(problem, "Name the object that the server runs") from failure
    if not found:
        problem = f"{shown(path)} is {type(application).__name__}, of which no routes can be read"
        raise _PLACE.error(problem, "Name an app of Starlette, FastAPI, Flask or Django, or SLOMiddleware with routes")
    return found


@contextmanager
def importing() -> Iterator[None]:
    """As a server imports an app, from this directory, too; nothing of ours in it is to start or to read a
    configuration."""
    before, path = os.environ.get(_SWITCH), os.getcwd()
    os.environ[_SWITCH] = "true"
    sys.path.insert(0, path)
    try:
        with redirect_stdout(sys.stderr):  # what it prints is not our answer
            yield
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before
        if path in sys.path:
            sys.path.remove(path)


def _application(path: str) -> Any:
    found = import_object(path.removesuffix(_CALLED), _PLACE)
    if not path.endswith(_CALLED):
        return found
    try:
        return found()
    except DefinitionError:
        raise
    except (Exception, SystemExit) as failure:
        problem = f"{shown(path)} raises {type(failure).__name__}: {shown(str(failure))}"
        raise _PLACE.error(problem, "Does it need arguments?") from failure


def _routes(application: Any) -> list[Leaf]:
    """The operator's word first, then a router like Starlette's, then what a framework's adapter reads."""
    for layer in layers(application):
        if isinstance(layer, Edge) and layer.declared is not None:
            return layer.declared.leaves
        if routes := RouteTable(application_routes(layer)).leaves:
            return routes
    found = router_of(application)
    return [] if found is None else found.leaves
