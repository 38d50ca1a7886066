"""Tokens: what is one, what it allows, and that no message shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.auth.tokens import MOST, SHORTEST, Tokens, new_token, parse_tokens, read_only_token

A, B = "a-token-of-24-characters", "b-token-of-24-characters"


def test_new_tokens_are_tokens() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        assert parse_tokens(token, "a test").valid == (token,)
        assert len(token) >= 43


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (A, (A,)),
        (f"{A}\n", (A,)),
        (f"{A}\r\n{B}\r\n", (A, B)),
        (f"# of the cluster\n\n  {B}  \n{A}", (B, A)),
        (f"{A}\n{A}\n{A}\n", (A,)),
    ],
)
def test_one_a_line(text: str, valid: tuple[str, ...]) -> None:
    found = parse_tokens(text, "a test")
    assert found.valid == valid
    assert found.source == "a test"
    assert found.keys == tuple(token.encode() for token in valid)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no token"),
        ("\n# only this\n", "no token"),
        ("secret-too-short"[: SHORTEST - 1], "could be guessed"),
        (f"{A}\n{B}\nc-token-of-24-characters", f"at most {MOST}"),
        ("secret with spaces in it", "spaces"),
        ("secret-wïth-ümlauts-in-it", "ASCII"),
        ("secret-with-\0-zero-in-it", "ASCII"),
        (f"{A}\nsecret\twith a tab in it", "spaces"),
    ],
)
def test_what_is_no_token_is_said_without_it(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        parse_tokens(text, "the file X")
    assert "the file X" in str(caught.value)
    for line in text.splitlines():
        assert not line.strip() or line.startswith("#") or line.strip() not in str(caught.value)


def shown(token: str) -> str | None:
    return Tokens((A, B), "a test").rights_of(token)


def test_rights() -> None:
    assert shown(A) == shown(B) == "full"
    assert shown(read_only_token(A)) == shown(read_only_token(B)) == "read"
    assert shown(read_only_token(read_only_token(A))) is None
    assert shown("") is None
    assert shown(A[:-1]) is None
    assert shown(f"{A} ") is None
    assert Tokens().rights_of("") is None
    assert Tokens().rights_of(A) is None


@pytest.mark.parametrize("strange", ["\udc80" * 24, "ä" * 24, "\0", "x" * 1_000_000, "\ud800"])
def test_whatever_is_shown_is_compared(strange: str) -> None:
    """Headers of HTTP may hold any bytes, which Python shows as surrogates."""
    assert shown(strange) is None


@given(st.text(st.characters()))
def test_any_text_is_compared(text: str) -> None:
    assert shown(text) is None


def test_the_one_for_reading_does_not_tell_the_full_one() -> None:
    reading = read_only_token(A)
    assert A not in reading
    assert parse_tokens(reading, "a test").valid == (reading,)


def test_no_token_in_a_repr() -> None:
    tokens = Tokens((A, B), "a file")
    assert repr(tokens) == str(tokens) == "<Tokens: 2 from a file>"
    assert A not in f"{tokens!r} {tokens}"
    assert bool(tokens)
    assert not Tokens()
