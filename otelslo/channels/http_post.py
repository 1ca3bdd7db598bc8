"""Posting to a configured URL: the options that all channels over HTTP share, and what an answer means.

Where `allow_private` is not given, the address that the name resolves to is checked, and that very address is connected
to. The environment's proxies are not used, since they would look up the name themselves; a `proxy` that is configured
does, and then which addresses can be reached is up to it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from urllib.parse import SplitResult

from otelslo._version import VERSION
from otelslo.channels import SendFailed
from otelslo.endpoint import (
    HEADER_VALUE,
    Endpoint,
    Proxy,
    basic,
    host_header,
    http_url,
    is_public,
    login,
    port_of,
    proxy_at,
)
from otelslo.errors import BadValue, Place, shown
from otelslo.http_call import Answer, Connection, Deadline, Lookup, retry_after_s
from otelslo.secret import Secret, secret, text_or_secret
from otelslo.window import format_duration, parse_positive_duration

OPTIONS = ("ca_file", "password", "proxy", "timeout", "token", "url", "username")
LONGEST_TIMEOUT_NS = 30_000_000_000
_TIMEOUT = "10s"
_EXAMPLE = "https://hooks.example.com/slo"
_TRY_AGAIN = (408, 425, 429)


class HttpPost:
    """Posts bodies to one URL, each over a connection of its own, so nothing is kept that could go stale or be forked.

    Args:
        options: of OPTIONS.
        path: what is appended to the path of the URL.
        allow_http: whether the URL may be http://.
        allow_private: whether it may lead to an address that is not of the public internet.

    Raises:
        DefinitionError: an option cannot be meant, or a secret is not there.
    """

    def __init__(
        self, options: Mapping[str, object], place: Place, *, path: str = "", allow_http: bool, allow_private: bool
    ) -> None:
        self._place = place
        self._path = path
        self._allow_http, self._allow_private = allow_http, allow_private
        self._lookup = Lookup()
        if options.get("url") is None:
            raise place.error("it has no url", f'Write url: "{_EXAMPLE}", or "env:NAME", a variable that holds it')
        self._url = text_or_secret(options["url"], place.at("url"), "a URL")
        self._refuse_written_login()
        self._timeout_ns = _timeout_ns(options.get("timeout", _TIMEOUT), place.at("timeout"))
        self._token, self._username, self._password = _credentials(options, place)
        self._proxy = None
        if options.get("proxy") is not None:
            self._proxy = text_or_secret(options["proxy"], place.at("proxy"), "an http:// URL")
        self._tls = _tls(options.get("ca_file"), place.at("ca_file"))
        self._check()

    def post(self, body: bytes, headers: Mapping[str, str], deadline_ns: int) -> None:
        """Send `body` and wait until it is taken, before `deadline_ns` (monotonic clock) and the timeout.

        Raises:
            SendFailed: it was not; redirects are not followed.
        """
        try:
            endpoint = self._endpoint()
        except BadValue as e:
            raise SendFailed(str(e)) from None
        deadline = Deadline(min(deadline_ns, time.monotonic_ns() + self._timeout_ns))
        told = {"user-agent": f"otelslo/{VERSION}", "content-type": "application/json", **headers}
        try:
            with Connection(endpoint, deadline, self._lookup) as connection:
                answer = connection.post(body, told)
        except (OSError, RuntimeError, ValueError) as e:
            text = str(getattr(e, "strerror", None) or e or type(e).__name__)
            raise SendFailed(f"{endpoint.shown}: {text}") from e
        judge(answer, endpoint.shown)

    # ── what is posted to: read each time, since a secret may have been rotated ────────────────────────────────────
    def _endpoint(self) -> Endpoint:
        url = http_url(self._url.read().strip(), _EXAMPLE)
        if url.scheme == "http" and not self._allow_http:
            raise BadValue("http:// is not encrypted", "Use https://, or write allow_http: true")
        assert url.hostname is not None
        return Endpoint(
            shown=_shown(url),
            host=url.hostname,
            port=port_of(url),
            target=(url.path.rstrip("/") + self._path if self._path else url.path or "/") + _query(url),
            headers={**login(url), **self._authorization(), "host": host_header(url)},
            tls=self._tls if url.scheme == "https" else None,
            proxy=self._proxy_endpoint(),
            public_only=not self._allow_private,
        )

    def _authorization(self) -> dict[str, str]:
        if self._token is not None:
            found = {"authorization": f"Bearer {self._token.read()}"}
        elif self._username is not None and self._password is not None:
            found = basic(self._username.read(), self._password.read())
        else:
            return {}
        if not HEADER_VALUE.fullmatch(found["authorization"]):
            raise BadValue("it cannot be sent as a header", "A token has no line breaks and no letters past Latin-1")
        return found

    def _proxy_endpoint(self) -> Proxy | None:
        return None if self._proxy is None else proxy_at(self._proxy.read().strip())

    # ── what is wrong is said at the start ─────────────────────────────────────────────────────────────────────────
    def _check(self) -> None:
        for name, part in (("token", self._token), ("username", self._username), ("password", self._password)):
            if part is not None:
                self._place.at(name).parse(Secret.read, part)
        if self._proxy is not None:
            self._place.at("proxy").parse(lambda part: proxy_at(part.read().strip()), self._proxy)
        endpoint = self._place.at("url").parse(lambda _: self._endpoint(), None)
        if endpoint.public_only and _surely_private(endpoint.host):
            problem = "it leads to this host or a private network"
            raise self._place.at("url").error(problem, "Write allow_private: true if that is meant")

    def _refuse_written_login(self) -> None:
        url = self._url.written
        if url is not None and "@" in url.partition("://")[2].partition("/")[0]:
            remedy = 'Write username: and password: "env:NAME", or the whole url as "env:NAME"'
            raise self._place.at("url").error("a password is not written here", remedy)


def judge(answer: Answer, where: str) -> None:
    """Raises SendFailed unless the answer says that the body was taken."""
    status = answer.status
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        text = f"{where} answered {status}, a redirect, which is not followed: write the url that it leads to"
        raise SendFailed(text, retryable=False)
    quoted = answer.body.decode("utf-8", "replace").strip()
    text = f"{where} answered {status}" + (f": {shown(quoted)}" if quoted else "")
    retryable = status >= 500 or status in _TRY_AGAIN
    raise SendFailed(text, retry_after_s(answer.retry_after) if retryable else None, retryable)


def _timeout_ns(value: object, place: Place) -> int:
    timeout_ns = place.parse(parse_positive_duration, place.expect(value, str, f'a duration, such as "{_TIMEOUT}"'))
    if timeout_ns > LONGEST_TIMEOUT_NS:
        raise place.error(f"{shown(value)} is too long", f"Write {format_duration(LONGEST_TIMEOUT_NS)} at most")
    return timeout_ns


def _credentials(options: Mapping[str, object], place: Place) -> tuple[Secret | None, Secret | None, Secret | None]:
    token, username, password = (options.get(name) for name in ("token", "username", "password"))
    if (username is None) != (password is None):
        missing = "username" if username is None else "password"
        raise place.error(f"it has no {missing}", "username and password go together")
    if token is not None and username is not None:
        raise place.at("token").error("there is a username, too", "Write token, or username and password")
    return (
        None if token is None else secret(token, place.at("token")),
        None if username is None else text_or_secret(username, place.at("username"), "a name"),
        None if password is None else secret(password, place.at("password")),
    )


def _tls(ca_file: object, place: Place) -> ssl.SSLContext:
    path = None if ca_file is None else place.expect(ca_file, str, "the path of a file")
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as e:  # ssl.SSLError is one
        raise place.error(f"{shown(path)} cannot be used: {e.strerror or e}", "Name a file in PEM form") from e


def _surely_private(host: str) -> bool:
    """As far as the name alone says; what it resolves to is checked when it is used."""
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _shown(url: SplitResult) -> str:
    """Without its path, which is the secret of many a webhook."""
    return f"{url.scheme}://{host_header(url)}"


def _query(url: SplitResult) -> str:
    return f"?{url.query}" if url.query else ""
