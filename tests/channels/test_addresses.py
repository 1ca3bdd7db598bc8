"""Which addresses are of the public internet: the ways to this host and its networks that there are."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.endpoint import is_public

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 169.254.170.2
172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.7 203.0.113.7 224.0.0.1 239.1.1.1
240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 2002:808:808::1 3fff::1 fc00::1 fd00:ec2::254
fe80::1 fe80::1%lo fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 93.184.216.34 172.15.255.255 172.32.0.1 100.63.255.255 100.128.0.1 169.253.1.1
2606:4700:4700::1111 2a00:1450:4001::200e ::ffff:8.8.8.8 64:ff9b::808:808
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_not_public(address) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public(address) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv6_form_is_as_public_as_the_address_in_it(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = ((0xFFFF << 32) | number, (0x0064FF9B << 96) | number)
    assert {is_public(str(ipaddress.IPv6Address(form))) for form in forms} == {is_public(str(address))}


@given(st.ip_addresses())
def test_never_more_than_python_lets_pass(address) -> None:
    if is_public(str(address)):
        inner = getattr(address, "ipv4_mapped", None) or address
        assert not any((inner.is_private, inner.is_loopback, inner.is_link_local, inner.is_multicast))
