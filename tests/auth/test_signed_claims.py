"""Texts that show what the token allows: only who holds a token can make them, and none is good for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.auth.signed_claims import (
    LOGIN,
    PASS,
    SESSION,
    checked_claim,
    link_with_code,
    login_code,
    looks_signed,
    proven_claim,
    signed_claim,
)
from headrace.auth.tokens import Tokens, read_only_token

NEW, OLD = "a-token-of-the-tests", "an-older-one-of-the-tests"
TOKENS, BOTH, OTHER = Tokens((NEW,)), Tokens((OLD, NEW)), Tokens((OLD,))
RIGHTS = st.sampled_from(["full", "read"])
TEXTS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


@given(RIGHTS, st.sampled_from([LOGIN, SESSION, PASS]), st.integers(1, 10**11), st.text())
def test_a_claim_says_what_was_signed_and_no_longer_than_it_is_good(
    rights: str, purpose: str, expires: int, about: str
) -> None:
    text = signed_claim(TOKENS, purpose, rights, expires, about)
    assert looks_signed(text)
    for tokens in (TOKENS, BOTH):
        claim = checked_claim(text, tokens, purpose, expires - 1, about)
        assert claim is not None
        assert (claim.rights, claim.expires) == (rights, expires)
        assert checked_claim(text, tokens, purpose, expires, about) is None
        assert proven_claim(text, tokens, purpose, about) == claim
    assert proven_claim(text, OTHER, purpose, about) is None
    assert proven_claim(text, Tokens(), purpose, about) is None
    assert proven_claim(text, TOKENS, purpose, about + "x") is None
    assert all(proven_claim(text, TOKENS, other, about) is None for other in {LOGIN, SESSION, PASS} - {purpose})


@given(RIGHTS, st.data())
def test_a_claim_that_was_changed_proves_nothing(rights: str, data: st.DataObject) -> None:
    text = signed_claim(TOKENS, LOGIN, rights, 1000)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from(TEXTS))
    changed = data.draw(
        st.sampled_from(
            [
                text[:place] + character + text[place + 1 :],
                text[:place] + character + text[place:],
                text[:place] + text[place + 1 :],
                text.replace("read-", "full-"),
                text.replace("-1000-", "-9999-"),
                text + "\n",
            ]
        )
    )
    if changed != text:
        assert proven_claim(changed, TOKENS, LOGIN) is None


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_any_other_text_is_none(text: str) -> None:
    assert proven_claim(text, TOKENS, LOGIN) is None


def test_who_may_read_can_make_claims_to_read_and_no_others() -> None:
    stolen = Tokens((read_only_token(NEW),))
    assert proven_claim(signed_claim(stolen, LOGIN, "full", 1000), TOKENS, LOGIN) is None


def test_no_two_codes_are_the_same_and_each_is_good_for_ten_minutes() -> None:
    codes = {login_code(TOKENS, "full", 1000.5) for _ in range(100)}
    assert len(codes) == 100
    claim = proven_claim(codes.pop(), TOKENS, LOGIN)
    assert claim is not None
    assert claim.expires == 1600


def test_what_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match=r"no token \(it is lost\)"):
        login_code(Tokens(problem="it is lost"), "full", 0)
    with pytest.raises(ValueError, match="not 'some'"):
        login_code(TOKENS, "some", 0)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("http://host:8787/status", "http://host:8787/status?login=c"),
        ("http://[::1]:8787/status?a=1#x", "http://[::1]:8787/status?a=1&login=c#x"),
        ("/user/me/proxy/8787/status", "/user/me/proxy/8787/status?login=c"),
    ],
)
def test_links(link: str, expected: str) -> None:
    assert link_with_code(link, "c") == expected
