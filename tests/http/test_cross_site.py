"""Requests that a page of another web site makes through a visitor's browser."""

from __future__ import annotations

import pytest

from headrace.http.cross_site import is_cross_site


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),  # programs
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),  # typed by the user
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://hub.example"}, False),  # a proxy replaced the host
        ({"Origin": "http://localhost:8787"}, False),
        ({"Origin": "http://LOCALHOST:8787"}, False),
        ({"Origin": "http://localhost:8888"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://[::1"}, True),
        ({"Origin": "https://hub.example", "X-Forwarded-Host": "hub.example"}, False),
    ],
)
def test_is_cross_site(headers: dict[str, str], expected: bool) -> None:
    assert is_cross_site(headers, "localhost:8787") is expected
