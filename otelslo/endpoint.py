"""Where an HTTP request goes: a URL taken apart, with what must be told there, and which addresses it may reach."""

from __future__ import annotations

import base64
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from otelslo.errors import BadValue

_UNUSUAL = re.compile(r"[\x00-\x20\x7f]")
# What Python's `is_global` lets pass, at least in some of the versions that run this: the metadata services of Oracle
# and Azure, a range for documentation, and 6to4, which holds an IPv4 address and is given up by all.
_NOT_PUBLIC = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "168.63.129.16/32", "3fff::/20", "2002::/16")]
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and what it wants to be told."""

    host: str
    port: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)  # the headers are often secret
class Endpoint:
    """One place to post to: `shown` is what an error may say of it, `target` its path and query; `tls` None is plain
    HTTP. With `public_only` no other than a public address is connected to, whatever its name resolves to."""

    shown: str
    host: str
    port: int
    target: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    proxy: Proxy | None
    public_only: bool = False


def http_url(text: str, example: str) -> SplitResult:
    """A whole http or https URL. Raises BadValue, which quotes nothing of it: it may be secret."""
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and text.isascii()
    except ValueError:
        usable = False
    if not usable or _UNUSUAL.search(text):
        raise BadValue("it is no http or https URL", f"Write one, such as {example}")
    return url


def port_of(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def host_header(url: SplitResult) -> str:
    """Host and port, as the `host` header has them."""
    return url.netloc.rpartition("@")[2]


def login(url: SplitResult) -> dict[str, str]:
    """The `authorization` header that user and password of a URL ask for, if there are any."""
    if url.username is None:
        return {}
    return basic(unquote(url.username), unquote(url.password or ""))


def basic(username: str, password: str) -> dict[str, str]:
    """The `authorization` header of a user and a password."""
    secret = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"authorization": f"Basic {secret}"}


def proxy_at(text: str) -> Proxy:
    """The proxy at "http://user:password@host:port" or "host:port". Raises BadValue."""
    try:
        found = urlsplit(text if "://" in text else f"http://{text}")
        usable = found.scheme == "http" and bool(found.hostname) and found.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadValue("its proxy cannot be used", "Give an http:// URL, such as http://proxy:3128")
    assert found.hostname is not None
    told = {f"proxy-{name}": value for name, value in login(found).items()}
    return Proxy(found.hostname, port_of(found), told)


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, shared, multicast or
    reserved, no metadata service, and no IPv6 form of such an IPv4 address."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inside = _inside(address)
        if inside is None and (address not in _PUBLIC_IPV6 or address.teredo is not None):
            return False
        address = inside or address
    reserved = address.is_multicast or any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not reserved


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
