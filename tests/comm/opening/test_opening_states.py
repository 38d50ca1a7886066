"""The opening of connections without sockets: its rules one by one, then pairs of ends of all kinds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.auth.access_rules import AccessRules
from headrace.auth.tokens import Tokens
from headrace.comm.opening.handshake import MAGIC
from headrace.comm.opening.opening_states import GREETING_BYTES, MAX_INFO_BYTES, Encrypt, Opening, OpeningChannel, State
from headrace.exceptions import (
    CommClosedError,
    EncryptionRequiredError,
    FatalCommClosedError,
    NotAdmittedError,
    ProtocolVersionError,
)
from tests.comm.opening.driven import DrivenEnd, ends, rules_of, talk

A, B, C = "a-token-of-24-characters", "b-token-of-24-characters", "c-token-of-24-characters"
#: Where a greeting has its version, and its flags.
VERSION_AT, FLAGS_AT = len(MAGIC) + 4 + 10, GREETING_BYTES - 32 - 12 - 2
ASKS, KNOWS, LOCAL, CAN_ENCRYPT = 1, 2, 4, 8


def channel(**what: Any) -> OpeningChannel:
    return OpeningChannel("the other end", **what)


def same(value: bool) -> Any:
    return lambda: value


def opened(pair: tuple[DrivenEnd, DrivenEnd]) -> bool:
    """Whether both ends are open; fails if only one is."""
    states = {end.state for end in pair}
    assert states <= {State.OPENED} or State.OPENED not in states, [(end.state, end.error) for end in pair]
    return states == {State.OPENED}


# -- one rule at a time


def test_the_same_token_opens() -> None:
    connecting, listening = talk(*ends(rules_of("client", A), rules_of("scheduler", A)))
    assert opened((connecting, listening))
    assert connecting.info == {"end": "listening"}
    assert listening.info == {"end": "connecting"}
    assert not connecting.opening.is_encrypted


@pytest.mark.parametrize(("own", "other"), [((A, B), (B, C)), ((A, B), (B,)), ((B,), (A, B)), ((A, B), (B, A))])
def test_one_token_in_common_opens(own: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert opened(talk(*ends(rules_of("client", *own), rules_of("scheduler", *other))))


@pytest.mark.parametrize(
    ("own", "other", "text"),
    [
        ((B,), (A,), "is not that of its cluster"),
        ((), (A,), "this process has none"),
        ((A,), (), "has no token itself"),
        ((), (), "this process has none"),
    ],
)
def test_a_refusal_says_why_to_both_ends(own: tuple[str, ...], other: tuple[str, ...], text: str) -> None:
    pair = talk(*ends(rules_of("client", *own), rules_of("scheduler", *other)))
    assert not opened(pair)
    for end in pair:
        assert isinstance(end.error, NotAdmittedError)
        assert "DASK_DISTRIBUTED__COMM__TOKEN" in str(end.error)
        assert not any(token in str(end.error) for token in (A, B, C))
    assert text in str(pair[0].error)


def test_nothing_told_before_the_other_end_is_admitted() -> None:
    """A stranger that poses as either end reads only greetings, proofs and refusals."""
    connecting, listening = talk(*ends(rules_of("client", A), rules_of("scheduler", B)))
    assert not any(b"end" in message for message in connecting.sent + listening.sent)


def test_no_end_is_open_for_one_that_refuses_it() -> None:
    """The listening end is open to everybody, and the connecting end wants a proof that it does not get."""
    pair = talk(*ends(rules_of("worker", A), rules_of("scheduler", auth="none")))
    assert not opened(pair)
    assert "is open to everybody" in str(pair[0].error)
    assert not any(b"connecting" in message for message in pair[0].sent)


def test_auth_none_at_both_ends_opens_without_tokens() -> None:
    def no_tokens() -> Tokens:
        raise AssertionError("nobody asks for tokens")

    rules = [AccessRules(role, "none", "off", no_tokens) for role in ("client", "scheduler")]
    assert opened(talk(*ends(rules[0], rules[1])))


def test_the_same_user_needs_no_token() -> None:
    known = channel(local=True, is_same_user=same(True), tells_users=True, can_encrypt=True)
    pair = talk(*ends(rules_of("client"), rules_of("scheduler", A), known, known))
    assert opened(pair)
    assert not pair[0].opening.is_encrypted


def test_another_user_on_the_machine_is_encrypted() -> None:
    """Who has taken the port of a scheduler that ended could pass on what two other ends say."""
    stranger = channel(local=True, is_same_user=same(False), tells_users=True, can_encrypt=True)
    pair = talk(*ends(rules_of("client", A), rules_of("scheduler", A), stranger, stranger))
    assert opened(pair)
    assert all(end.opening.is_encrypted for end in pair)
    pair = talk(*ends(rules_of("client", A), rules_of("scheduler", A), stranger, stranger), (b"m" * 32, b"l" * 32))
    assert not opened(pair)


def test_one_end_that_knows_the_other_still_proves_itself() -> None:
    """Root sees a user's connection as a stranger's; that user knows root."""
    pair = talk(
        *ends(rules_of("client", A), rules_of("scheduler", B), channel(is_same_user=same(True)), channel()),
    )
    assert not opened(pair)
    pair = talk(
        *ends(rules_of("client", A), rules_of("scheduler", B), channel(), channel(is_same_user=same(True))),
    )
    assert not opened(pair)
    assert isinstance(pair[0].error, NotAdmittedError)


def test_a_checked_certificate_is_proof() -> None:
    checked = channel(checked=True)
    pair = talk(*ends(rules_of("client"), rules_of("scheduler"), checked, checked))
    assert opened(pair)
    assert not pair[0].opening.is_encrypted  # the opening has nothing to do for it


@pytest.mark.parametrize("encryptions", [("off", "auto"), ("auto", "off"), ("off", "off")])
def test_off_at_one_end_is_plain(encryptions: tuple[str, str]) -> None:
    can = channel(can_encrypt=True)
    pair = talk(
        *ends(
            rules_of("client", A, encryption=encryptions[0]), rules_of("worker", A, encryption=encryptions[1]), can, can
        )
    )
    assert opened(pair)
    assert not pair[0].opening.is_encrypted


@pytest.mark.parametrize("encryptions", [("off", "required"), ("required", "off")])
def test_required_and_off_do_not_open(encryptions: tuple[str, str]) -> None:
    can = channel(can_encrypt=True)
    pair = talk(
        *ends(
            rules_of("client", A, encryption=encryptions[0]), rules_of("worker", A, encryption=encryptions[1]), can, can
        )
    )
    assert not opened(pair)
    assert all(isinstance(end.error, EncryptionRequiredError) for end in pair)


def test_required_encrypts_on_one_machine() -> None:
    can = channel(can_encrypt=True, local=True, is_same_user=same(True))
    pair = talk(*ends(rules_of("client", A, encryption="required"), rules_of("worker", A), can, can))
    assert opened(pair)
    assert all(end.opening.is_encrypted for end in pair)


def test_a_man_in_the_middle_has_another_certificate() -> None:
    can = channel(can_encrypt=True)
    pair = talk(*ends(rules_of("client", A), rules_of("worker", A), can, can), (b"m" * 32, b"l" * 32))
    assert not opened(pair)
    assert all(isinstance(end.error, NotAdmittedError) for end in pair)


def test_nothing_is_read_while_tls_begins() -> None:
    can = channel(can_encrypt=True)
    connecting, listening = ends(rules_of("client", A), rules_of("worker", A), can, can)
    assert listening.take(connecting.opening.greeting + b"more") == b"more"
    assert listening.state is State.TLS
    assert listening.opening.wanted == 0
    effects = Opening(listens=True, rules=rules_of("worker", A), info={}, channel=can)
    assert isinstance(
        [*effects.feed(connecting.opening.greeting[:23]), *effects.feed(connecting.opening.greeting[23:])][0], Encrypt
    )


# -- what makes no sense


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b"GET / HTTP/1.1\r\n", CommClosedError, "HTTP"),
        (b"\x16\x03\x01\x02\x00", FatalCommClosedError, "TLS"),
        (b"h", None, ""),
        (b"headrack", CommClosedError, "does not speak"),
        (bytes(64), CommClosedError, "does not speak"),
        (MAGIC + b"\xff\xff\xff\xff" + b"\x83\xa8protocol\x02", CommClosedError, "announced"),
        (MAGIC + b"\x40\0\0\0" + b"\x93\xa8protocol\x02", CommClosedError, "version first"),
        (MAGIC + b"\x40\0\0\0" + b"\x83\xa8protocoX\x02", CommClosedError, "version first"),
        (MAGIC + b"\x40\0\0\0" + b"\x86\xa8protocol\x01" + bytes(53), ProtocolVersionError, "version 1"),
        (MAGIC + b"\x40\0\0\0" + b"\x83\xa8protocol\x03" + bytes(53), ProtocolVersionError, "version 3"),
    ],
    ids=["http", "tls", "begun", "word", "zeros", "length", "array", "name", "older", "newer"],
)
@pytest.mark.parametrize("listens", [True, False], ids=["listens", "connects"])
def test_garbage(data: bytes, kind: type[Exception] | None, text: str, listens: bool) -> None:
    end = ends(rules_of("client", A), rules_of("worker", A))[listens]
    end.take(data)
    assert type(end.error) is (kind or type(None))
    assert text in str(end.error)


def test_fields_that_do_not_exist() -> None:
    for offset, value in [(-1, 9), (0, 255), (1, 3), (-2, 0)]:  # role, flags (any will do), encryption, side
        connecting, listening = ends(rules_of("client", A), rules_of("worker", A))
        greeting = bytearray(connecting.opening.greeting)
        greeting[FLAGS_AT + offset] = value
        listening.take(bytes(greeting))
        assert (listening.error is None) is (offset == 0), (offset, value, listening.error)


def test_proofs_that_make_no_sense() -> None:
    for count, wants in [(3, 0), (0, 2), (255, 255)]:
        connecting, listening = ends(rules_of("client", A), rules_of("worker", A))
        listening.take(connecting.opening.greeting)
        listening.take(bytes([count, wants]) + bytes(64))
        assert isinstance(listening.error, CommClosedError)


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (b"\0\0\0\0", "announced"),
        ((MAX_INFO_BYTES + 1).to_bytes(4, "little"), "announced"),
        (b"\1\0\0\0\xc1", "malformed"),
        (b"\1\0\0\0\x01", "malformed"),
        (b"\x03\0\0\0\x81\x01\x02", "malformed"),
    ],
)
def test_broken_info(info: bytes, text: str) -> None:
    """Even from an end that is admitted."""
    connecting, listening = ends(rules_of("client", A), rules_of("worker", A, auth="none"))
    listening.take(connecting.opening.greeting + bytes(66) + info)
    assert isinstance(listening.error, CommClosedError)
    assert text in str(listening.error)


def test_a_deep_info_is_an_error_of_the_connection() -> None:
    deep = b"\x81\xa1x" + b"\x91" * 60_000 + b"\x01"
    connecting, listening = ends(rules_of("client", A), rules_of("worker", A, auth="none"))
    listening.take(connecting.opening.greeting + bytes(66) + len(deep).to_bytes(4, "little") + deep)
    assert isinstance(listening.error, CommClosedError)


def test_a_failed_end_wants_nothing() -> None:
    end = ends(rules_of("client", A), rules_of("worker", A))[1]
    end.take(b"GET / HTTP")
    assert end.state is State.FAILED
    assert end.opening.wanted == 0


def test_an_unreadable_token_file_is_named() -> None:
    def broken() -> Tokens:
        raise PermissionError("others may read the token file /some/where")

    pair = talk(*ends(rules_of("client", A), AccessRules("worker", tokens=broken)))
    assert not opened(pair)
    assert "/some/where" in str(pair[1].error)
    assert "/some/where" not in str(pair[0].error)


# -- all kinds of honest ends

TOKENS = st.lists(st.sampled_from([A, B, C]), max_size=2, unique=True)
CHANNELS = st.fixed_dictionaries(
    {"can_encrypt": st.booleans(), "checked": st.booleans(), "same_user": st.booleans(), "tells_users": st.booleans()}
)


@st.composite
def sides(draw: st.DrawFn) -> tuple[AccessRules, dict[str, bool]]:
    rules = rules_of(
        draw(st.sampled_from(["client", "worker", "nanny", "scheduler"])),
        *draw(TOKENS),
        auth=draw(st.sampled_from(["token", "token", "none"])),
        encryption=draw(st.sampled_from(["auto", "off", "required"])),
    )
    return rules, draw(CHANNELS)


def made(what: dict[str, bool], local: bool, checked: bool) -> OpeningChannel:
    return channel(
        local=local,
        checked=checked,
        can_encrypt=what["can_encrypt"] and not checked,
        is_same_user=same(what["same_user"] and local),
        tells_users=what["tells_users"],
    )


@settings(max_examples=400, deadline=None)
@given(sides(), sides(), st.booleans(), st.booleans(), st.sampled_from([None, 1, 7]), st.booleans())
def test_honest_ends_agree(
    connecting: tuple[AccessRules, dict[str, bool]],
    listening: tuple[AccessRules, dict[str, bool]],
    local: bool,
    checked: bool,
    most: int | None,
    middle: bool,
) -> None:
    """Both are open or neither is; and only if each holds a token of the other, or knows it, or asks for nothing."""
    (own, own_channel), (other, other_channel) = connecting, listening
    channels = made(own_channel, local, checked), made(other_channel, local, checked)
    certificates = (b"\1" * 32, (b"\2" if middle else b"\1") * 32)
    pair = talk(*ends(own, other, *channels), certificates, most)
    shared = bool(set(own.tokens().valid) & set(other.tokens().valid))
    encrypted = pair[0].opening.is_encrypted
    assert encrypted == pair[1].opening.is_encrypted
    proven = shared and not (encrypted and middle)
    needs = [
        rules.asks and not (each.checked or each.is_same_user())
        for rules, each in zip((own, other), channels, strict=True)
    ]
    refuses_plain = "required" in (own.encryption, other.encryption) and not (
        checked or ("off" not in (own.encryption, other.encryption) and all(each.can_encrypt for each in channels))
    )
    assert opened(pair) is ((proven or not any(needs)) and not refuses_plain)
    if "required" in (own.encryption, other.encryption):
        assert not opened(pair) or encrypted or checked


@settings(max_examples=100, deadline=None)
@given(sides(), sides(), st.booleans(), st.booleans(), st.integers(1, 5))
def test_bytes_may_come_in_any_pieces(
    connecting: tuple[AccessRules, dict[str, bool]],
    listening: tuple[AccessRules, dict[str, bool]],
    local: bool,
    checked: bool,
    most: int,
) -> None:
    channels = made(connecting[1], local, checked), made(listening[1], local, checked)
    results = []
    for size in (None, most):
        pair = talk(*ends(connecting[0], listening[0], *channels), most=size)
        results.append([(end.state, end.info, str(end.error), len(end.sent)) for end in pair])
    assert results[0] == results[1]


# -- greetings that change on the way


@settings(max_examples=300, deadline=None)
@given(sides(), sides(), st.booleans(), st.integers(0, 255), st.integers(0, 255), st.integers(0, 2), st.integers(0, 2))
def test_changed_flags_gain_nothing(
    connecting: tuple[AccessRules, dict[str, bool]],
    listening: tuple[AccessRules, dict[str, bool]],
    local: bool,
    change: int,
    other_change: int,
    wish: int,
    other_wish: int,
) -> None:
    """Flags and wishes that change on the way let nobody in who checks, unless both knew each other anyway."""
    own, other = (dataclasses.replace(rules, auth="token") for rules in (connecting[0], listening[0]))
    channels = made(connecting[1], local, False), made(listening[1], local, False)
    honest = talk(*ends(own, other, *channels))
    first, second = ends(own, other, *channels)
    for end, flags, encryption in ((first, change, wish), (second, other_change, other_wish)):
        greeting = bytearray(end.sent[0])
        greeting[FLAGS_AT] ^= flags
        greeting[FLAGS_AT + 1] = (greeting[FLAGS_AT + 1] + encryption) % 3
        end.sent[0] = bytes(greeting)
    altered = any(end.sent[0] != end.opening.greeting for end in (first, second))
    pair = talk(first, second, (b"m" * 32, b"l" * 32))
    for end, each in zip(pair, channels, strict=True):
        if altered and not each.is_same_user():
            assert end.state is not State.OPENED
    if not altered and not honest[0].opening.is_encrypted:
        assert [end.state for end in pair] == [end.state for end in honest]
