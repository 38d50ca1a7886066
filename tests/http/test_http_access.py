"""Who may ask what: the rules, without any server."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import dask.config
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.auth.access_rules import AccessRules
from headrace.auth.tokens import Tokens, read_only_token
from headrace.http.http_access import PASS_HEADER, Asking, HttpAccess, is_own_name, may_do, name_to_check

TOKEN = "a-token-of-the-tests"
TOKENS = Tokens((TOKEN,))
OWN = "tcp://10.0.0.1:1234"


def access(auth: str = "token", tokens: Tokens = TOKENS) -> HttpAccess:
    return HttpAccess(AccessRules("worker", auth=auth, tokens=lambda: tokens), lambda: OWN)


def rights(asked: HttpAccess, **asking: Any) -> str | None:
    usual = {"method": "GET", "target": "/status", "host": "10.0.0.1:8787", "scheme": "http", "port": 8787}
    return asyncio.run(asked.rights_of(Asking(**{**usual, **asking})))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, True),  # programs of old
        ("", True),
        ("localhost:8787", True),
        ("LOCALHOST.:8787", True),
        ("a.localhost:8787", True),
        ("127.0.0.1:8787", True),
        ("192.0.2.7:8787", True),
        ("[::1]:8787", True),
        ("[fe80::1%25eth0]:8787", True),
        (f"{socket.gethostname().upper()}:8787", True),
        ("hub.example", True),  # a proxy at the usual port, which passes on what it is called
        ("localhost:8888", True),
        ("evil.example:8787", False),
        ("evil.example:8888", False),
        ("localhost.evil.example:8787", False),
        ("127.0.0.1.evil.example:8787", False),
        ("2130706433.:8787", False),
        (":8787", False),
        ("[evil]:8787", False),
        ("[::1:8787", False),
        ("evil.example:87a", False),
        ("evil.example:8787:1", False),
    ],
)
def test_names_under_which_a_browser_of_this_user_may_call(host: str | None, expected: bool) -> None:
    assert (rights(access(), host=host, is_same_user=lambda: True) == "full") is expected
    assert rights(access(), host=host) is None


@pytest.mark.parametrize(
    ("host", "scheme", "port", "counts"),
    [
        ("evil.example", "http", 80, True),
        ("evil.example", "https", 443, True),
        ("evil.example", "https", 80, False),
        ("evil.example", "http", 8787, False),
        ("evil.example:80", "http", 80, True),
    ],
)
def test_the_usual_port_goes_without_saying(host: str, scheme: str, port: int, counts: bool) -> None:
    assert (name_to_check(host, scheme, port) == "evil.example") is counts
    assert (name_to_check(host, scheme, port) is None) is not counts


@given(st.text(), st.sampled_from(["http", "https"]))
def test_no_text_is_taken_for_this_machine_that_does_not_name_it(text: str, scheme: str) -> None:
    name = name_to_check(f"{text}.example:8787", scheme, 8787)
    assert name is not None
    assert not is_own_name(name, {"own"})


def test_names_that_are_allowed() -> None:
    with dask.config.set({"distributed.dashboard.allowed-hosts": ["Cluster.example"]}):
        asked = access()
    for host, expected in (("cluster.EXAMPLE:8787", "full"), ("other.example:8787", None)):
        assert rights(asked, host=host, is_same_user=lambda: True) == expected
    with dask.config.set({"distributed.dashboard.allowed-hosts": "*"}):
        asked = access()
    assert rights(asked, host="any.example:8787", is_same_user=lambda: True) == "full"
    assert rights(asked, host=":8787", is_same_user=lambda: True) is None


def test_this_machines_full_name_is_looked_up_where_it_may_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    monkeypatch.setattr(socket, "getfqdn", lambda: looked_up.append(1) or "Node7.cluster.example")
    asked = access()
    for host, expected in (("node7", "full"), ("evil.example", None)):
        assert rights(asked, host=f"{host}:8787", is_same_user=lambda: True) == expected
    assert not looked_up
    for host, expected in (("node7.cluster.example", "full"), ("node7.evil.example", None)):
        assert rights(access(), host=f"{host}:8787", is_same_user=lambda: True) == expected
    assert len(looked_up) == 2


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {TOKEN}", "full"),
        (f"bearer  {TOKEN} ", "full"),
        (f"Bearer {read_only_token(TOKEN)}", "read"),
        (f"Basic {TOKEN}", None),
        (f"Bearer {TOKEN}x", None),
        ("Bearer", None),
        ("Bearer \udcff", None),
        ("", None),
    ],
)
def test_tokens_that_are_shown(authorization: str, expected: str | None) -> None:
    assert rights(access(), authorization=authorization) == expected
    assert rights(access(tokens=Tokens(problem="none")), authorization=authorization) is None
    assert rights(access("none"), authorization=authorization) == "full"


def test_a_token_that_is_shown_counts_before_the_connection_and_a_wrong_one_does_no_harm() -> None:
    def known() -> bool:
        raise AssertionError("this need not be asked")

    reading = f"Bearer {read_only_token(TOKEN)}"
    assert rights(access(), authorization=reading, is_same_user=known) == "read"
    assert rights(access(), authorization="Bearer of another proxy", is_same_user=lambda: True) == "full"


def test_a_token_file_that_cannot_be_read_admits_nobody() -> None:
    def tokens() -> Tokens:
        raise PermissionError("others may read it")

    asked = HttpAccess(AccessRules("worker", tokens=tokens), lambda: OWN)
    assert rights(asked, authorization=f"Bearer {TOKEN}") is None
    assert asked.tokens().problem == "others may read it"
    assert asked.pass_for(OWN, "full", "GET", "/") == {}


def test_a_pass_is_good_for_one_request_to_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, worker = access(), access()
    shown = scheduler.pass_for(OWN, "read", "GET", "/status?a=%20")[PASS_HEADER]
    assert TOKEN not in shown
    asked = {"target": "/status?a=%20", "shown_pass": shown}
    assert rights(worker, **asked) == "read"
    assert rights(worker, **{**asked, "target": "/status"}) is None
    assert rights(worker, **asked, method="POST") is None
    assert rights(access(tokens=Tokens(("another-token-of-the-tests",))), **asked) is None
    assert rights(HttpAccess(AccessRules("worker", tokens=lambda: TOKENS), lambda: "tcp://10.0.0.2:1"), **asked) is None
    assert rights(worker, authorization=f"Bearer {shown}") is None
    assert rights(worker, cookies=(f"headrace-8787={shown}",)) is None
    monkeypatch.setattr("headrace.http.http_access.time.time", lambda: 1e10)
    assert rights(worker, **asked) is None


@pytest.mark.parametrize(
    ("held", "method", "acts", "expected"),
    [
        ("full", "POST", True, True),
        ("read", "GET", False, True),
        ("read", "HEAD", False, True),
        ("read", "OPTIONS", False, True),
        ("read", "GET", True, False),
        ("read", "POST", False, False),
        ("read", "PROPFIND", False, False),
        (None, "GET", False, False),
        ("", "GET", False, False),
    ],
)
def test_what_rights_allow(held: str | None, method: str, acts: bool, expected: bool) -> None:
    assert may_do(held, method, acts) is expected


def test_what_is_open() -> None:
    asked = access()
    assert [asked.is_open(each) for each in ("all", "scrapers", "members", "nonsense")] == [True, True, False, False]
    with dask.config.set({"distributed.dashboard.open-metrics": False}):
        asked = access()
    assert [asked.is_open(each) for each in ("all", "scrapers", "members")] == [True, False, False]
    assert all(access("none").is_open(each) for each in ("all", "scrapers", "members"))
