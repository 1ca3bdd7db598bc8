"""Where and how OTLP is sent: OpenTelemetry's environment variables, and the options of a configuration.

The variables are shared with the application's own OpenTelemetry SDK, so each means here what it means to that: the
timeout is in seconds, as in Python's SDK, though the specification says milliseconds.
"""

from __future__ import annotations

import base64
import logging
import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from opentelemetry.util.re import parse_env_headers

from otelslo.errors import DefinitionError, Place, shown

log = logging.getLogger("otelslo")

_PREFIX = "OTEL_EXPORTER_OTLP_"
_DEFAULT_BASE = "http://localhost:4318"
_PATH = "/v1/metrics"
_DEFAULT_TIMEOUT_S = 10.0
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and what it wants to be told."""

    host: str
    port: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)  # the headers are often secret
class Settings:
    """One endpoint: `shown` is its URL without a password, `target` its path and query; `tls` None is plain HTTP."""

    shown: str
    host: str
    port: int
    target: str
    headers: Mapping[str, str]
    compression: str
    timeout_s: float
    tls: ssl.SSLContext | None
    proxy: Proxy | None


def settings(options: Mapping[str, object], env: Mapping[str, str], place: Place) -> Settings:
    """What `options` (endpoint, headers) and then the environment say. Raises DefinitionError."""
    url, spot = _endpoint(options, env, place)
    headers = {**_headers(options, env, place), **_authorization(url)}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise place.at("headers").error(f"{shown(name)} cannot be sent as a header", "Percent-encode it")
    assert url.hostname is not None
    return Settings(
        shown=_without_password(url),
        host=url.hostname,
        port=url.port or (443 if url.scheme == "https" else 80),
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        headers={**headers, "host": url.netloc.rpartition("@")[2]},
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
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and text.isascii()
    except ValueError:
        usable = False
    if not usable or re.search(r"[\x00-\x20\x7f]", text):
        raise spot.error("it is no http or https URL", f"Write one, such as {_DEFAULT_BASE}{_PATH}")
    return url, spot


def _without_password(url: SplitResult) -> str:
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _headers(options: Mapping[str, object], env: Mapping[str, str], place: Place) -> dict[str, str]:
    found = dict(parse_env_headers(_first(env, "HEADERS")[1], liberal=True))
    spot = place.at("headers")
    more = {} if options.get("headers") is None else options["headers"]
    if not isinstance(more, Mapping):
        raise spot.error(f"{type(more).__name__} is no mapping", "Write {api-key: ...}")
    for name, value in more.items():
        found[str(name).lower()] = spot.at(str(name)).expect(value, str, "a text")
    return found


def _authorization(url: SplitResult | None) -> dict[str, str]:
    if url is None or url.username is None:
        return {}
    secret = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
    return {"authorization": f"Basic {base64.b64encode(secret).decode()}"}


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
        found = urlsplit(text if "://" in text else f"http://{text}")
        usable = found.scheme == "http" and bool(found.hostname) and found.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise spot.error("its proxy cannot be used", f"Give {url.scheme}_proxy an http:// URL, or name it in no_proxy")
    assert found.hostname is not None
    told = {f"proxy-{name}": value for name, value in _authorization(found).items()}
    return Proxy(found.hostname, found.port or 80, told)
