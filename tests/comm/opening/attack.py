"""A man in the middle who has no token, drawn at random: `python -m tests.comm.opening.attack --cases 100000`.

Between a connecting and a listening end that hold the same token stands one who has recorded earlier openings of
theirs, inside TLS too. He sends either end whatever he can make of what he has heard, before and now: pieces that are
replayed, reflected, cut, joined, and changed in their side, role, flags, wishes, random numbers or any byte. He ends
TLS at himself with a certificate of his own. Neither end may open, unless he has done no more than a wire does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.comm.opening.opening_states import GREETING_BYTES, OpeningChannel, State
from tests.comm.opening.driven import DrivenEnd, ends, rules_of, talk

TOKENS = ("the-token-of-the-cluster", "the-one-before-that-token")
WRONG = "what-the-stranger-guesses"
#: Digests of the listening end's certificate and of the man's own.
ITS_CERTIFICATE, HIS_CERTIFICATE = b"l" * 32, b"m" * 32
#: Where a greeting's fields begin: side, role, flags, encryption, 12 bytes of nothing, random number.
FIELDS_AT = GREETING_BYTES - 48


@dataclass(frozen=True)
class Setting:
    """How the two ends are set up."""

    role: str
    encryption: tuple[str, str]
    local: bool
    can_encrypt: bool
    tokens: int

    def make(self) -> tuple[DrivenEnd, DrivenEnd]:
        channel = OpeningChannel("the other end", local=self.local, can_encrypt=self.can_encrypt)
        held = TOKENS[: self.tokens]
        return ends(
            rules_of(self.role, *held, encryption=self.encryption[0]),
            rules_of("scheduler", *held, encryption=self.encryption[1]),
            channel,
            channel,
        )


def _recorded() -> tuple[bytes, ...]:
    """Messages of openings that went well, of both ends, plain and encrypted; and of one with a wrong token."""
    found: list[bytes] = []
    for role in ("client", "worker"):
        for can_encrypt in (False, True):
            pair = talk(
                *Setting(role, ("auto", "auto"), False, can_encrypt, 1).make(), (ITS_CERTIFICATE, ITS_CERTIFICATE)
            )
            assert all(end.state is State.OPENED for end in pair)
            found += [message for end in pair for message in end.sent]
    stranger, listening = ends(rules_of("client", WRONG), rules_of("scheduler", TOKENS[0]))
    talk(stranger, listening)
    return (*found, *stranger.sent, *listening.sent)


RECORDED = _recorded()

SETTINGS = st.builds(
    Setting,
    st.sampled_from(["client", "worker", "nanny"]),
    st.tuples(*[st.sampled_from(["auto", "auto", "off", "required"])] * 2),
    st.booleans(),
    st.booleans(),
    st.integers(1, 2),
)
#: What is done to a message: (kind, place, value).
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["byte", "side", "role", "flags", "wish", "random number", "head", "tail", "swap proofs"]),
        st.integers(0, 160),
        st.integers(0, 255),
    ),
    max_size=2,
)
#: What is sent: (to the listening end?, where from, which message, changes, joined to the one before?).
STEPS = st.tuples(
    st.booleans(),
    st.sampled_from(["relay", "relay", "relay", "reflect", "recorded", "made up"]),
    st.integers(0, 40),
    CHANGES,
    st.booleans(),
)


def changed(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """A message after it was tampered with."""
    made = bytearray(data)
    for kind, place, value in changes:
        greeting = len(made) >= GREETING_BYTES
        if kind == "byte" and made:
            made[place % len(made)] ^= value
        elif kind == "side" and greeting:
            made[FIELDS_AT] = b"CL"[value % 2]
        elif kind == "role" and greeting:
            made[FIELDS_AT + 1] = value % 5
        elif kind == "flags" and greeting:
            made[FIELDS_AT + 2] = value % 16
        elif kind == "wish" and greeting:
            made[FIELDS_AT + 3] = value % 3
        elif kind == "random number" and greeting:
            made[GREETING_BYTES - 32 : GREETING_BYTES] = bytes([value]) * 32
        elif kind == "head":
            del made[: place % (len(made) + 1)]
        elif kind == "tail":
            del made[len(made) - place % (len(made) + 1) :]
        elif kind == "swap proofs" and len(made) >= 66:
            made[2:66] = made[34:66] + made[2:34]
    return bytes(made)


def attack(setting: Setting, steps: list[tuple[bool, str, int, list[tuple[str, int, int]], bool]]) -> None:
    """Have the man do his steps, and check that neither end has opened."""
    connecting, listening = setting.make()
    held = {False: b"", True: b""}
    next_to = {False: 0, True: 0}
    made_up = ends(rules_of("client", WRONG), rules_of("scheduler", WRONG))
    for to_listening, kind, which, changes, joined in steps:
        target, other = (listening, connecting) if to_listening else (connecting, listening)
        if target.state is State.TLS:
            target.encrypt(ITS_CERTIFICATE if to_listening else HIS_CERTIFICATE)
        if kind == "relay":  # in their order, as a wire does, and then what he likes
            source = other.sent
            which = next_to[to_listening] if next_to[to_listening] < len(source) else which
            next_to[to_listening] += 1
        elif kind == "reflect":
            source = target.sent
        elif kind == "recorded":
            source = list(RECORDED)
        else:
            stranger = made_up[not to_listening]
            stranger.take(b"".join(target.sent)[len(stranger.taken) :])
            if stranger.state is State.TLS:
                stranger.encrypt(ITS_CERTIFICATE if to_listening else HIS_CERTIFICATE)
            source = stranger.sent
        message = changed(source[which % len(source)], changes)
        held[to_listening] += message
        if not joined:
            target.take(held[to_listening])
            held[to_listening] = b""
    for end, other in ((connecting, listening), (listening, connecting)):
        if end.state is State.OPENED:
            assert bytes(end.taken[:GREETING_BYTES]) == other.opening.greeting, f"admitted: {end}"
            assert not end.opening.is_encrypted, f"admitted over TLS that ends at the man in the middle: {end}"


def attacks(cases: int) -> Callable[[], None]:
    """A test of so many attacks."""

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(SETTINGS, st.lists(STEPS, min_size=1, max_size=9))
    def run(setting: Setting, steps: list[tuple[bool, str, int, list[tuple[str, int, int]], bool]]) -> None:
        count[0] += 1
        attack(setting, steps)

    count = [0]
    run.count = count  # type: ignore[attr-defined]
    return run


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.comm.opening.attack", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    options = parser.parse_args()
    start = time.monotonic()
    run = attacks(options.cases)
    run()
    print(f"{run.count[0]} attacks, none admitted, {time.monotonic() - start:.0f} s")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
