"""Django: the routes of its URL resolver, under WSGI and ASGI alike.

    application = SLOMiddleware(get_wsgi_application())
    application = SLOMiddleware(get_asgi_application())

Templates are Django's routes with a slash before them: "/items/<int:id>/", the prefixes of `include()` too. Of a
regular expression, anchors are left out and named groups shown by their names: "/items/<id>/". Where `i18n_patterns`
put the language first, each language has its own.

The route is found by the path and `ROOT_URLCONF`, before Django does the same: path converters are asked once more for
a path that is not remembered, and a `request.urlconf` that middleware sets is not seen.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.core.handlers.base import BaseHandler
from django.urls import Resolver404, URLResolver, get_resolver
from django.utils import translation

from otelslo.routes import Leaf

_MOST_ROUTES = 10_000
_MOST_DEEP = 16
_NAMED = re.compile(r"\(\?P<(\w+)>")
_SIGNS = ("^", "$", "(?", "\\")  # of a regular expression
_ANCHORS = re.compile(r"(?<!\\)(?:\^|\$|\\[AZz])")
_ESCAPED = re.compile(r"\\([^\w\s])")


class DjangoRoutes:
    """The routes of ROOT_URLCONF."""

    hosts: tuple[()] = ()

    @property
    def leaves(self) -> list[Leaf]:
        """All routes, in the default language."""
        with translation.override(settings.LANGUAGE_CODE):
            return [Leaf(_shown(route), "", None, False) for route in _routes(get_resolver(), "", 0)][:_MOST_ROUTES]

    def template(self, method: str, path: str, host: str = "") -> str | None:
        """The route that answers `path`."""
        path = path or "/"
        try:
            with _language_of(path):
                return _shown(get_resolver().resolve(path).route)
        except Resolver404:
            return None


def _language_of(path: str) -> contextlib.AbstractContextManager[Any]:
    """What LocaleMiddleware will choose by the path, if any path has a language in it."""
    if not settings.USE_I18N or not is_language_prefix_patterns_used(settings.ROOT_URLCONF)[0]:
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[Any] = translation.override(
        translation.get_language_from_path(path) or settings.LANGUAGE_CODE
    )
    return found


def _routes(resolver: URLResolver, prefix: str, depth: int) -> Iterator[str]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if not isinstance(pattern, URLResolver):
            yield route
        elif depth < _MOST_DEEP:
            yield from _routes(pattern, route, depth + 1)


def _shown(route: str) -> str:
    """A route as it is shown; of a regular expression, what a person would write."""
    if any(sign in route for sign in _SIGNS):
        route = _ESCAPED.sub(r"\1", _ANCHORS.sub("", _without_groups(route)))
    return "/" + route.lstrip("/")


def _without_groups(route: str) -> str:
    """Named groups by their names, others as <var>."""
    shown, depth, at = [], 0, 0
    while at < len(route):
        character = route[at]
        if character == "\\":
            shown += [route[at : at + 2]] if depth == 0 else []
            at += 2
            continue
        if character == "(":
            named = _NAMED.match(route, at)
            shown += [f"<{named[1] if named else 'var'}>"] if depth == 0 else []
        depth += (character == "(") - (character == ")" and depth > 0)
        if depth == 0 and character != ")":
            shown.append(character)
        at += 1
    return "".join(shown)


def router(application: object) -> DjangoRoutes | None:
    """The routes of a Django handler; None of anything else."""
    return DjangoRoutes() if isinstance(application, BaseHandler) else None
