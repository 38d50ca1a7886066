"""Addresses in and out of their parts."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.comm import (
    get_address_host,
    get_address_host_port,
    get_backend,
    get_local_address_for,
    normalize_address,
    parse_address,
    parse_host_port,
    resolve_address,
    unparse_address,
    unparse_host_port,
)
from headrace.comm.addressing import (
    address_from_user_args,
    addresses_from_user_args,
    coerce_to_address,
    full_contact_address,
    uri_from_host_port,
)
from headrace.compat.core import addr_from_args


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("tcp://127.0.0.1:8786", ("tcp", "127.0.0.1:8786")),
        ("127.0.0.1:8786", ("tcp", "127.0.0.1:8786")),
        ("tls://[::1]:1", ("tls", "[::1]:1")),
        ("inproc://10.0.0.1/12/3", ("inproc", "10.0.0.1/12/3")),
    ],
)
def test_parse_address(address: str, parts: tuple[str, str]) -> None:
    assert parse_address(address) == parts
    assert normalize_address(address) == unparse_address(*parts)


def test_strict_and_wrong_addresses() -> None:
    with pytest.raises(ValueError, match="scheme"):
        parse_address("127.0.0.1:80", strict=True)
    with pytest.raises(TypeError, match="int"):
        parse_address(80)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown address scheme 'ucx'.*inproc, tcp, tls"):
        get_backend("ucx")


@pytest.mark.parametrize(
    ("location", "expected"),
    [("localhost:80", ("localhost", 80)), ("[::1]:80", ("::1", 80)), (":80", ("", 80)), ("host", ("host", 9))],
)
def test_parse_host_port(location: str, expected: tuple[str, int]) -> None:
    assert parse_host_port(location, 9) == expected
    assert parse_host_port(unparse_host_port(*expected)) == expected


@pytest.mark.parametrize("location", ["host", "host:", "host:x", "host:70000", "::1", "[::1", "[::1]80", "a:b:c"])
def test_malformed_locations(location: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_host_port(location)


def test_a_location_may_have_a_scheme() -> None:
    assert parse_host_port("tcp://127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_host_port("tls://[::1]", 5) == ("::1", 5)


def test_hosts() -> None:
    assert get_address_host("tcp://127.0.0.1:80") == "127.0.0.1"
    assert get_address_host("inproc://10.0.0.1/12/3") == "10.0.0.1"
    assert get_address_host_port("tls://[::1]:80") == ("::1", 80)
    with pytest.raises(ValueError, match="inproc"):
        get_address_host_port("inproc://10.0.0.1/12/3")
    assert resolve_address("tcp://localhost:80") == "tcp://127.0.0.1:80"
    assert resolve_address("tcp://127.0.0.1") == "tcp://127.0.0.1"
    assert get_local_address_for("tcp://127.0.0.1:80") == "tcp://127.0.0.1"
    assert get_local_address_for("inproc://10.0.0.1/12/3").startswith("inproc://")


def test_uri_from_host_port() -> None:
    assert uri_from_host_port("", 8786, None) == "tcp://:8786"
    assert uri_from_host_port("tls://a", None, 1) == "tls://a:1"
    assert uri_from_host_port("a:5", 5, 1) == "tcp://a:5"
    with pytest.raises(ValueError, match="twice"):
        uri_from_host_port("a:5", 6, 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "tcp://:0"),
        ({"port": 5}, "tcp://:5"),
        ({"host": "127.0.0.1", "default_port": 7}, "tcp://127.0.0.1:7"),
        ({"host": "127.0.0.1", "port": "5", "protocol": "tls"}, "tls://127.0.0.1:5"),
        ({"host": "::1", "port": 5, "protocol": "tls://"}, "tls://[::1]:5"),
        ({"protocol": "inproc"}, "inproc://"),
        ({"interface": "lo", "port": 3}, "tcp://127.0.0.1:3"),
        ({"peer": "tcp://127.0.0.1:8786"}, "tcp://127.0.0.1:0"),
    ],
)
def test_address_from_user_args(arguments: dict[str, Any], expected: str) -> None:
    assert address_from_user_args(**arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"protocol": "inproc", "port": 5},
        {"interface": "lo", "host": "a"},
        {"interface": "no-such-interface"},
        {"host": "tcp://a", "protocol": "tls"},
    ],
)
def test_contradictory_user_args(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"inproc|interface|protocols"):
        address_from_user_args(**arguments)


def test_addresses_from_user_args() -> None:
    assert addresses_from_user_args(host=["a", "b"], port=[1, 2]) == [
        "tcp://a:1",
        "tcp://a:2",
        "tcp://b:1",
        "tcp://b:2",
    ]
    assert addresses_from_user_args(host="a", port=1) == ["tcp://a:1"]


def test_addresses_from_pairs() -> None:
    assert coerce_to_address("10.0.0.1:80") == coerce_to_address(("10.0.0.1", 80)) == "tcp://10.0.0.1:80"
    assert addr_from_args("tls://10.0.0.1:80") == "tls://10.0.0.1:80"
    assert addr_from_args(ip="10.0.0.1", port=80) == addr_from_args(("10.0.0.1", 80)) == "tcp://10.0.0.1:80"
    for wrong in ({}, {"addr": "10.0.0.1:80", "ip": "10.0.0.1"}):
        with pytest.raises(TypeError, match="give an address"):
            addr_from_args(**wrong)


@pytest.mark.parametrize(
    ("given", "listening", "expected"),
    [
        ("10.0.0.1:80", "tcp://127.0.0.1:9000", "tcp://10.0.0.1:80"),
        ("10.0.0.1:80", "tls://127.0.0.1:9000", "tls://10.0.0.1:80"),
        ("gateway", "tls://127.0.0.1:9000", "tls://gateway:9000"),
        ("tcp://gateway", "tls://127.0.0.1:9000", "tcp://gateway:9000"),
        ("[::1]", "tcp://127.0.0.1:9000", "tcp://[::1]:9000"),
        ("inproc://10.0.0.1/2/3", "tcp://127.0.0.1:9000", "inproc://10.0.0.1/2/3"),
    ],
)
def test_an_address_to_be_told(given: str, listening: str, expected: str) -> None:
    assert full_contact_address(given, listening) == expected


@pytest.mark.parametrize("given", ["", ":80", "a:b", "::1", "tcp://:1", 5, None])
def test_no_address_to_be_told(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="contact_address"):
        full_contact_address(given, "tcp://127.0.0.1:9000")
