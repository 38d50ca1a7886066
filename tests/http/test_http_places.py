"""The documented forms of a dashboard's address, and the sockets for them."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from headrace.http.http_places import Place, bound_sockets, places_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (8787, [(None, (8787,))]),
        (0, [(None, (0,))]),
        ("8787", [(None, (8787,))]),
        (":8787", [(None, (8787,))]),
        (":0", [(None, (0,))]),
        ("", [(None, (99,))]),
        (":", [(None, (99,))]),
        (True, [(None, (99,))]),
        ("0.0.0.0:8787", [("0.0.0.0", (8787,))]),
        ("foo:8787", [("foo", (8787,))]),
        ("foo", [("foo", (99,))]),
        ("http://foo:8787/", [("foo", (8787,))]),
        ("[::1]:8787", [("::1", (8787,))]),
        ("[::1]", [("::1", (99,))]),
        ("fe80::1:2", [("fe80::1:2", (99,))]),
        ("8787:8789", [(None, (8787, 8788, 8789))]),
        (":8787:8788", [(None, (8787, 8788))]),
        ("foo:8787:8788", [("foo", (8787, 8788))]),
        (("foo", 8787), [("foo", (8787,))]),
        (("foo", "8787"), [("foo", (8787,))]),
        (("", 8787), [("", (8787,))]),
        (":8787,foo:1", [(None, (8787,)), ("foo", (1,))]),
        ([":8787", "foo:1", 5], [(None, (8787,)), ("foo", (1,)), (None, (5,))]),
        ([("foo", 1)], [("foo", (1,))]),
    ],
)
def test_forms(given: Any, expected: list[tuple[str | None, tuple[int, ...]]]) -> None:
    assert [(place.host, place.ports) for place in places_of(given, 99)] == expected


@pytest.mark.parametrize(
    "given", ["foo:bar", ":70000", -1, 70000, 1.5, [], "[::1", "[::1]8787", {"a": 1}, "ftp://x:1", b"x"]
)
def test_what_is_no_address_is_named(given: Any) -> None:
    with pytest.raises(ValueError, match="dashboard"):
        places_of(given, 0)


def test_a_port_that_is_taken_is_replaced_and_the_reason_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        sockets, why = bound_sockets(Place(None, (taken,)), "127.0.0.1")
        with contextlib.closing(sockets[0]) as mine:
            assert mine.getsockname()[0] == "127.0.0.1"
            assert mine.getsockname()[1] not in (0, taken)
            assert "in use" in why


def test_the_first_free_port_of_a_range_is_taken_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as free:
        taken, port = other.getsockname()[1], free.getsockname()[1]
        free.close()
        sockets, why = bound_sockets(Place("127.0.0.1", (taken, port)), "ignored")
        with contextlib.closing(sockets[0]) as mine:
            assert (mine.getsockname()[1], why) == (port, "")


def test_all_interfaces() -> None:
    sockets, _ = bound_sockets(Place("", (0,)), "ignored")
    try:
        assert sockets[0].getsockname()[0] == "0.0.0.0"
        assert {each.getsockname()[1] for each in sockets} == {sockets[0].getsockname()[1]}
    finally:
        for each in sockets:
            each.close()


def test_an_address_that_is_not_this_machines() -> None:
    with pytest.raises(OSError, match=r"cannot listen for HTTP at '192\.0\.2\.1'"):
        bound_sockets(Place("192.0.2.1", (0,)), "")
