"""Where and how OTLP is sent: OpenTelemetry's environment variables, and the options of a configuration.

The variables are shared with the application's own OpenTelemetry SDK, so each means here what it means to that: the
timeout is in seconds, as in Python's SDK, though the specification says milliseconds.
"""

from __future__ import annotations

import logging
import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from opentelemetry.util.re import parse_env_headers

from otelslo.endpoint import HEADER_VALUE, Endpoint, Proxy, host_header, http_url, login, port_of, proxy_at
from otelslo.errors import BadValue, DefinitionError, Place, shown

log = logging.getLogger("otelslo")

_PREFIX = "OTEL_EXPORTER_OTLP_"
_DEFAULT_BASE = "http://localhost:4318"
_PATH = "/v1/metrics"
_DEFAULT_TIMEOUT_S = 10.0
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, repr=False)
class Settings(Endpoint):
    """One endpoint, and how reports are sent there."""

    compression: str = "none"
    timeout_s: float = _DEFAULT_TIMEOUT_S


def settings(options: Mapping[str, object], env: Mapping[str, str], place: Place) -> Settings:
    """What `options` (endpoint, headers) and then the environment say. Raises DefinitionError."""
    url, spot = _endpoint(options, env, place)
    headers = {**_headers(options, env, place), **login(url)}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise place.at("headers").error(f"{shown(name)} cannot be sent as a header", "Percent-encode it")
    assert url.hostname is not None
    return Settings(
        shown=_without_password(url),
        host=url.hostname,
        port=port_of(url),
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        headers={**headers, "host": host_header(url)},
        compression=_compression(env),
        timeout_s=_timeout_s(env),
        tls=_tls(env) if url.scheme == "https" else None,
        proxy=_proxy(url, spot),
    )


def _first(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable of that name for metrics, or for all signals, and its value; a value of "" counts as none."""
    for variable in (f"{_PREFIX}METRICS_{name}", f"{_PREFIX}{name}"):
        if env.get(variable, "").strip():
            return variable, env[variable].strip()
    return f"{_PREFIX}{name}", ""


def _endpoint(options: Mapping[str, object], env: Mapping[str, str], place: Place) -> tuple[SplitResult, Place]:
    if options.get("endpoint") is not None:
        spot = place.at("endpoint")
        text = spot.expect(options["endpoint"], str, f"a URL, such as {_DEFAULT_BASE}{_PATH}").strip()
    else:
        variable, text = _first(env, "ENDPOINT")
        spot = Place(variable)
        if variable == f"{_PREFIX}ENDPOINT":
            text = (text or _DEFAULT_BASE).removesuffix("/") + _PATH
    return spot.parse(lambda given: http_url(given, _DEFAULT_BASE + _PATH), text), spot


def _without_password(url: SplitResult) -> str:
    return url._replace(netloc=host_header(url), query="", fragment="").geturl()


def _headers(options: Mapping[str, object], env: Mapping[str, str], place: Place) -> dict[str, str]:
    found = dict(parse_env_headers(_first(env, "HEADERS")[1], liberal=True))
    spot = place.at("headers")
    more = {} if options.get("headers") is None else options["headers"]
    if not isinstance(more, Mapping):
        raise spot.error(f"{type(more).__name__} is no mapping", "Write {api-key: ...}")
    for name, value in more.items():
        found[str(name).lower()] = spot.at(str(name)).expect(value, str, "a text")
    return found


def _compression(env: Mapping[str, str]) -> str:
    variable, text = _first(env, "COMPRESSION")
    if text.lower() not in ("", "none", "gzip", "deflate"):
        log.warning("%s is %s. Write gzip, deflate or none; nothing is compressed until then", variable, shown(text))
        return "none"
    return text.lower() or "none"


def _timeout_s(env: Mapping[str, str]) -> float:
    variable, text = _first(env, "TIMEOUT")
    try:
        found = float(text or _DEFAULT_TIMEOUT_S)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        log.warning("%s is %s. Write a number of seconds; it is 10 s until then", variable, shown(text))
        return _DEFAULT_TIMEOUT_S
    return found


def _tls(env: Mapping[str, str]) -> ssl.SSLContext:
    authority, certificate, key = (_first(env, name) for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"))
    try:
        context = ssl.create_default_context(cafile=authority[1] or None)
    except OSError as e:  # ssl.SSLError is one
        raise _unreadable(authority, e) from e
    if certificate[1]:
        try:
            context.load_cert_chain(certificate[1], key[1] or None)
        except OSError as e:
            raise _unreadable(certificate, e) from e
    return context


def _unreadable(variable: tuple[str, str], error: OSError) -> DefinitionError:
    problem = f"{variable[1]!a} cannot be used: {error.strerror or error}"
    return Place(variable[0]).error(problem, "Name a file in PEM form, its key with it or in ..._CLIENT_KEY")


def _proxy(url: SplitResult, spot: Place) -> Proxy | None:
    """HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case, as usual."""
    assert url.hostname is not None
    proxies = getproxies_environment()
    text = proxies.get(url.scheme) or proxies.get("all")
    if not text or proxy_bypass_environment(url.hostname):
        return None
    try:
        return proxy_at(text)
    except BadValue as e:
        raise spot.error(e.problem, f"Give {url.scheme}_proxy an http:// URL, or name it in no_proxy") from None
