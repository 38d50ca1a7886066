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
    facing_address,
    full_contact_address,
    uri_from_host_port,
)
from headrace.compat.core import addr_from_args
from headrace.security import Security


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


def test_locations_of_whole_addresses() -> None:
    assert parse_host_port("tcp://127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_host_port("tls://[::1]", "8786") == ("::1", 8786)
    with pytest.raises(TypeError, match="as text, not NoneType"):
        parse_host_port(None)  # type: ignore[arg-type]


def test_hosts() -> None:
    assert get_address_host("tcp://127.0.0.1:80") == "127.0.0.1"
    assert get_address_host("inproc://10.0.0.1/12/3") == "10.0.0.1"
    assert get_address_host_port("tls://[::1]:80") == ("::1", 80)
    with pytest.raises(ValueError, match="inproc"):
        get_address_host_port("inproc://10.0.0.1/12/3")
    assert resolve_address("tcp://localhost:80") == "tcp://127.0.0.1:80"
    assert resolve_address("tcp://127.0.0.1") == "tcp://127.0.0.1"
    assert resolve_address("tcp://:80") == "tcp://127.0.0.1:80"
    assert get_local_address_for("tcp://127.0.0.1:80") == "tcp://127.0.0.1"
    assert get_local_address_for("inproc://10.0.0.1/12/3").startswith("inproc://")


def test_uri_from_host_port() -> None:
    assert uri_from_host_port("", 8786, None) == "tcp://:8786"
    assert uri_from_host_port("tls://a", None, 1) == "tls://a:1"
    assert uri_from_host_port("a:5", 5, 1) == "tcp://a:5"
    with pytest.raises(ValueError, match="twice"):
        uri_from_host_port("a:5", 6, 1)


def test_any_port_where_the_host_names_one() -> None:
    assert uri_from_host_port("a:5", 0, 1) == "tcp://a:5"
    assert address_from_user_args(host="tls://a:5", port=0) == "tls://a:5"
    assert uri_from_host_port("a", 0, 8786) == "tcp://a:0"


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
        ({"peer": "tcp://127.0.0.1:8786", "host": ""}, "tcp://:0"),
        ({"host": "tcp://a", "protocol": "tls"}, "tls://a:0"),
        ({"host": "tcp://a:5", "security": Security(require_encryption=True)}, "tls://a:5"),
        ({"host": "a", "security": Security(require_encryption=True), "protocol": "tcp"}, "tcp://a:0"),
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
    ],
)
def test_contradictory_user_args(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"inproc|interface|protocols"):
        address_from_user_args(**arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"host": "a", "port": 1}, ["tcp://a:1"]),
        ({"host": ["a", "b"], "port": [1, 2]}, ["tcp://a:1", "tcp://b:2"]),
        ({"host": "a", "port": (1, 2)}, ["tcp://a:1", "tcp://a:2"]),
        ({"host": ["a"], "port": [1, 2]}, ["tcp://a:1", "tcp://a:2"]),
        ({"protocol": ["tcp", "tls"], "port": [1, 2]}, ["tcp://:1", "tls://:2"]),
        ({"protocol": ["tcp", "tls"], "host": "a"}, ["tcp://a:0", "tls://a:0"]),
        ({"protocol": ["inproc", "tcp"], "port": [None, 2]}, ["inproc://", "tcp://:2"]),
        ({"protocol": ["inproc", "tcp"], "port": 2, "host": "a"}, ["inproc://", "tcp://a:2"]),
        ({"interface": ["lo", "lo"], "port": [1, 2]}, ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]),
        ({"port": []}, []),
    ],
)
def test_addresses_from_user_args(arguments: dict[str, Any], expected: list[str]) -> None:
    assert addresses_from_user_args(**arguments) == expected


def test_addresses_from_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="3 of port and 2 of protocol"):
        addresses_from_user_args(protocol=["tcp", "tls"], port=[1, 2, 3])


def test_address_that_faces_a_peer() -> None:
    assert facing_address("tls://0.0.0.0:5", "tcp://127.0.0.1:8786") == "tls://127.0.0.1"
    assert facing_address("tcp://[::]:5", "tcp://[::1]:8786") == "tcp://[::1]"
    assert facing_address("tcp://127.0.0.1:5", "tcp://127.0.0.1:8786") is None
    assert facing_address("tcp://0.0.0.0:5", "inproc://127.0.0.1/2/3") is None


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


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("ws://127.0.0.1:8786", ("127.0.0.1", 8786)),
        ("ws://127.0.0.1", ("127.0.0.1", 80)),
        ("wss://127.0.0.1/dask/", ("127.0.0.1", 443)),
        ("wss://[::1]:9000/dask/a", ("::1", 9000)),
    ],
)
def test_addresses_of_websockets(address: str, place: tuple[str, int]) -> None:
    scheme, _, location = address.partition("://")
    assert parse_address(address) == (scheme, location)
    assert normalize_address(address) == unparse_address(scheme, location) == address
    assert get_address_host_port(address) == parse_host_port(address) == place
    assert get_address_host(address) == place[0]
    assert resolve_address(address.replace("127.0.0.1", "localhost")) == address.rstrip("/")
    assert get_local_address_for(address) == unparse_address(scheme, unparse_host_port(place[0]))


def test_paths_of_websockets() -> None:
    assert uri_from_host_port("ws://127.0.0.1/a", 8786, None) == "ws://127.0.0.1:8786/a"
    assert full_contact_address("ws://gateway/b", "ws://10.0.0.1:9000/a") == "ws://gateway:9000/b"
    assert full_contact_address("gateway:80", "ws://10.0.0.1:9000/a") == "ws://gateway:80/a"
    assert facing_address("ws://0.0.0.0:9000", "wss://127.0.0.1:80/a") == "ws://127.0.0.1"
    assert facing_address("ws://10.0.0.1:9000", "ws://127.0.0.1:80/a") is None
    with pytest.raises(ValueError, match="malformed"):
        parse_host_port("tcp://127.0.0.1:80/a")


def test_listening_as_the_peer_does() -> None:
    encrypted = Security(require_encryption=True)
    assert address_from_user_args(host="127.0.0.1", peer="ws://127.0.0.1:80/a") == "ws://127.0.0.1:0"
    assert address_from_user_args(host="tcp://127.0.0.1", peer="ws://127.0.0.1:80") == "tcp://127.0.0.1:0"
    assert address_from_user_args(peer="ws://127.0.0.1:80/a") == "ws://127.0.0.1:0"
    assert address_from_user_args(host="127.0.0.1", peer="inproc://127.0.0.1/1/1") == "tcp://127.0.0.1:0"
    assert address_from_user_args(peer="wss://127.0.0.1:80", security=encrypted) == "wss://:0"
    assert address_from_user_args(peer="tls://127.0.0.1:80", security=encrypted) == "tls://:0"
