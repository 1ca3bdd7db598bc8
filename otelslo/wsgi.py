"""The WSGI edge: speaks PEP 3333, times what passes, and stays out of the way.

    from otelslo.wsgi import SLOMiddleware
    app.wsgi_app = SLOMiddleware(app.wsgi_app)           # Flask
    application = SLOMiddleware(get_wsgi_application())  # Django, and anything else

A request ends when the server has taken all of its body, or closes it before: what the app does in `close()` is not the
user's wait. A body that the server leaves early was left by its client, unless an error says otherwise. What the app
raises passes through untouched; what we get wrong is counted, logged once, and never reaches a request. The app finds
its `Exchange` as `environ["otelslo.exchange"]` (PEP 3333 wants a dot in the names of what is no text).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from otelslo.body import Body, Environ, StartResponse, handed_on
from otelslo.edge import Edge
from otelslo.engine import Engine
from otelslo.exchange import Exchange, Site
from otelslo.frameworks import router_of
from otelslo.routes import Routes
from otelslo.slo import SLO

App = Callable[[Environ, StartResponse], Iterable[bytes]]

EXCHANGE_KEY = "otelslo.exchange"
_NO_METHOD = "?"  # so that none can pose as a websocket


class SLOMiddleware(Edge):
    """Counts every request of a WSGI app.

    Args:
        app: the wrapped app.
        slos: objectives of an engine of its own; by default the process's engine (see `otelslo.default`).
        engine: an engine to use instead.
        routes: templates ("/items/{id}") of an app whose router we cannot read; the first that matches a path counts.
        first_byte: a request's clock stops at its first byte of body instead of its end.

    Raises:
        DefinitionError: the configuration or `routes` is wrong.
    """

    def __init__(
        self,
        app: App,
        slos: Iterable[SLO] | None = None,
        *,
        engine: Engine | None = None,
        routes: Iterable[str] | None = None,
        first_byte: bool = False,
    ) -> None:
        super().__init__(app, slos, engine, routes, first_byte)
        self._pid, self._starting = os.getpid(), threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        body: Body | None = None
        try:
            method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", "")
            site = self._by_path[method][path] or self._site_of(environ)
            if site is not None:
                exchange = self._exchange()
                if environ.setdefault(EXCHANGE_KEY, exchange) is not exchange:
                    exchange = environ[EXCHANGE_KEY]
                    site = self._joined(exchange, site)
                if site is not None:
                    body = Body(self, site, environ, exchange, start_response)
        except Exception as e:
            self._not_begun(e)
        if body is None or not body.token:
            return self._uncounted(environ, start_response)
        try:
            chunks = self.app(environ, body.start_response)
        except BaseException as e:
            body.failed(e)
            raise
        return handed_on(body, chunks)

    def _uncounted(self, environ: Environ, start_response: StartResponse) -> Any:
        """We are off, or another middleware of ours counts it already; the app may say something all the same."""
        if EXCHANGE_KEY not in environ:
            environ[EXCHANGE_KEY] = Exchange()
        return self.app(environ, start_response)

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Have everything ready before the first request, which otherwise waits for it: seconds, the first time.

        For the hooks of a server, after it has forked. Never raises; again is harmless.
        """
        if self._pid != os.getpid() and not self._ready:
            self._pid, self._starting = os.getpid(), threading.Lock()  # forked while another thread was starting
        with self._starting:
            if not self._ready and not self._disabled:
                self._start(None)

    # ── begin and end ──────────────────────────────────────────────────────────────────────────────────────────────
    def _site_of(self, environ: Environ) -> Site | None:
        """The site of a request that is not remembered by its path; None: it is not counted."""
        if not self._ready:
            self.start()
        if self._disabled:
            return None
        method, path = environ.get("REQUEST_METHOD") or _NO_METHOD, environ.get("PATH_INFO", "")
        return self._sites.find(method, path, "", self._host(environ))

    def _routes(self, request: Any) -> Routes | None:
        return router_of(self.app)

    def _late(self, site: Site, body: Body) -> Site:
        if body.route is None or body.route == site.template:
            return site
        return self._sites.named(site, body.route, self._host(body.environ))

    def _host(self, environ: Environ) -> str:
        return environ.get("HTTP_HOST", "") if self._sites.by_host else ""

    def _header(self, body: Body, name: str) -> str | None:
        value = body.environ.get("HTTP_" + name.upper().replace("-", "_"))
        return value if isinstance(value, str) else None

    def _content_length(self, body: Body) -> str | None:
        return body.environ.get("CONTENT_LENGTH") or None  # one of the two headers without HTTP_ before its name

    def _status(self, given: str | None) -> int | None:
        return None if given is None else int(given.split(" ", 1)[0])

    @staticmethod
    def _decode(path: str) -> str:
        """Servers hand on the bytes of a path as Latin-1; frameworks match what they are as UTF-8."""
        return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
