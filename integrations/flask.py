"""Flask: the routes of its `url_map`, and the rule that it chose.

    app.wsgi_app = SLOMiddleware(app.wsgi_app)

Templates are werkzeug's rules: "/items/<int:id>", blueprints' prefixes included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule

from otelslo.routes import Leaf


class FlaskRoutes:
    """The rules of one app, as they are now: a route that is registered late is seen at once.

    What depends on a host or a subdomain is left to Flask: the rule that it chose is known when the request ends.
    """

    hosts: tuple[()] = ()

    def __init__(self, application: Flask) -> None:
        self._map: Map = application.url_map
        self._by_path = not (self._map.host_matching or getattr(application, "subdomain_matching", False))
        self._adapter = self._map.bind("localhost", subdomain="" if self._by_path else None)

    @property
    def leaves(self) -> list[Leaf]:
        """All rules."""
        return [Leaf(rule.rule, "", _methods(rule), rule.websocket) for rule in self._map.iter_rules()]

    def template(self, method: str, path: str, host: str = "") -> str | None:
        """The rule that answers `path`, or refuses its method."""
        if not self._by_path:
            return None
        try:
            return self._matched(path, method)
        except MethodNotAllowed as e:
            other = next(iter(e.valid_methods or ()), None)
            return None if other is None else self._matched(path, other)
        except HTTPException:  # not found, or a redirect to the same path with a slash
            return None

    def _matched(self, path: str, method: str) -> str:
        rule, _ = self._adapter.match(path, method=method, return_rule=True)
        return rule.rule

    def chosen(self, environ: Mapping[str, Any]) -> str | None:
        """The rule that Flask has chosen, None if none matched."""
        rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
        return None if rule is None else rule.rule


def _methods(rule: Rule) -> frozenset[str] | None:
    """Without the OPTIONS that Flask answers by itself."""
    methods = frozenset(rule.methods or ())
    return (methods - {"OPTIONS"} if getattr(rule, "provide_automatic_options", False) else methods) or None


def router(application: object) -> FlaskRoutes | None:
    """The routes of a Flask app; None of anything else."""
    return FlaskRoutes(application) if isinstance(application, Flask) else None
