"""Links to log in by are good once, and cookies as long as the token is: the rules, without any server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.auth.signed_claims import LOGIN, SESSION, login_code, signed_claim
from headrace.auth.tokens import Tokens
from headrace.http import login_links
from headrace.http.login_links import (
    COOKIE_SECONDS,
    LoginCodes,
    LoginRefusedError,
    rights_of_cookies,
    set_cookie_text,
    split_code,
)

NEW, OLD = "a-token-of-the-tests", "an-older-one-of-the-tests"
TOKENS, BOTH, OTHER = Tokens((NEW,)), Tokens((OLD, NEW)), Tokens((OLD,))


@pytest.mark.parametrize("rights", ["full", "read"])
@pytest.mark.parametrize("tokens", [TOKENS, BOTH])
def test_a_code_is_good_once(rights: str, tokens: Tokens) -> None:
    codes = LoginCodes()
    code = login_code(TOKENS, rights, 1000)
    assert codes.use(code, tokens, 1001) == rights
    with pytest.raises(LoginRefusedError, match="used already"):
        codes.use(code, tokens, 1002)
    assert codes.use(login_code(TOKENS, rights, 1000), tokens, 1003) == rights


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "not made with the token"),
        ("full-1-2-3", "not made with the token"),
        (login_code(OTHER, "full", 1000), "not made with the token"),
        (signed_claim(TOKENS, SESSION, "full", 1100), "not made with the token"),
        (login_code(TOKENS, "full", 1000 - 600), "has ended"),
        (login_code(TOKENS, "full", 1000 + 601), "ahead"),
    ],
)
def test_codes_that_are_refused(code: str, words: str) -> None:
    with pytest.raises(LoginRefusedError, match=words):
        LoginCodes().use(code, TOKENS, 1000)


def test_used_codes_are_kept_until_they_end_and_are_not_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_links, "MOST_USED", 10)
    codes = LoginCodes()
    used = [login_code(TOKENS, "full", 1000) for _ in range(10)]
    for code in used:
        codes.use(code, TOKENS, 1000)
    with pytest.raises(LoginRefusedError, match="too many"):
        codes.use(login_code(TOKENS, "full", 1000), TOKENS, 1599)
    for code in used:
        with pytest.raises(LoginRefusedError, match="used already"):
            codes.use(code, TOKENS, 1599)
    assert codes.use(login_code(TOKENS, "full", 1600), TOKENS, 1600) == "full"
    assert len(codes._used) == 1


def cookie(tokens: Tokens, rights: str, now: float = 0, port: int = 8787) -> str:
    return set_cookie_text(tokens, rights, now, port, "/", False).partition(";")[0]


@pytest.mark.parametrize("rights", ["full", "read"])
def test_a_cookie_is_good_until_it_ends_or_its_token_is_gone(rights: str) -> None:
    (header,) = headers = [f"a=b; {cookie(TOKENS, rights)}; c"]
    for tokens in (TOKENS, BOTH):
        assert rights_of_cookies(headers, 8787, tokens, COOKIE_SECONDS - 1) == rights
        assert rights_of_cookies(headers, 8787, tokens, COOKIE_SECONDS) is None
    assert rights_of_cookies(headers, 8787, OTHER, 1) is None
    assert rights_of_cookies(headers, 8787, Tokens(), 1) is None
    assert rights_of_cookies(headers, 8788, TOKENS, 1) is None
    code = signed_claim(TOKENS, LOGIN, rights, 100)
    assert rights_of_cookies([f"headrace-8787={code}"], 8787, TOKENS, 1) is None
    assert rights_of_cookies([cookie(TOKENS, "read"), "x", cookie(TOKENS, "full"), header], 8787, TOKENS, 1) == "full"


@given(st.lists(st.text() | st.text().map("headrace-8787={}".format), max_size=5))
def test_any_other_cookies_give_no_rights(headers: list[str]) -> None:
    assert rights_of_cookies(headers, 8787, TOKENS, 1) is None
    assert rights_of_cookies([*headers, cookie(TOKENS, "read")], 8787, TOKENS, 1) == "read"


def test_attributes_of_a_cookie() -> None:
    text = set_cookie_text(TOKENS, "read", 0, 8787, "/a%20b", True)
    assert text.startswith("headrace-8787=read-2592000-")
    assert text.split("; ")[1:] == ["Max-Age=2592000", "Path=/a%20b", "HttpOnly", "SameSite=Lax", "Secure"]
    assert "; Path=/; HttpOnly; SameSite=Lax" in set_cookie_text(TOKENS, "read", 0, 8787, "/a;b", False)


@given(st.text("ab=?%2F", max_size=10), st.text("ab=%", max_size=10), st.text("abc", min_size=1, max_size=5))
def test_a_code_is_taken_out_of_a_query(before: str, after: str, code: str) -> None:
    assert split_code(f"{before}&login={code}&{after}") == (code, f"{before}&{after}")
    assert split_code(f"login={code}") == (code, "")
    assert split_code(f"{before}&xlogin={code}")[0] is None
