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
from typing import TypeAlias

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
PROOFS_BYTES, VERDICT_BYTES, ADMITTED = 66, 34, 0
#: (to the listening end?, where from, which message, changes, joined to the next?)
Step: TypeAlias = tuple[bool, str, int, list[tuple[str, int, int]], bool]


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
            assert [len(end.sent) for end in pair] == [3, 2]  # which PLANS counts on
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
        st.sampled_from(["byte", "side", "role", "flags", "wish", "random number", "head", "tail", "turn"]),
        st.integers(0, 160),
        st.integers(0, 255),
    ),
    max_size=2,
)
STEPS = st.tuples(
    st.booleans(),
    st.sampled_from(["relay", "relay", "relay", "reflect", "recorded", "made up"]),
    st.integers(0, 40),
    CHANGES,
    st.booleans(),
)


def _sent(to_listening: bool, kind: str, which: int = 0, *changes: str) -> Step:
    return (to_listening, kind, which, [(change, 0, 1) for change in changes], False)


def _replayed(session: int, to_listening: bool) -> list[Step]:
    """All that one end has said in a recorded opening, in its order."""
    numbers = range(3) if to_listening else range(3, 5)
    return [_sent(to_listening, "recorded", 5 * session + number) for number in numbers]


#: Attacks that make sense by themselves; the man leaves out, alters and adds some steps.
PLANS: list[list[Step]] = [
    [_sent(to_listening, "relay") for _ in range(4) for to_listening in (True, False)],
    *[_replayed(session, to_listening) for session in range(4) for to_listening in (True, False)],
    *[
        # The connecting end's own proof, sent back after a listening end's recorded greeting, or its own one turned.
        [first, _sent(False, "reflect", 1, "turn"), _sent(False, "recorded", 2)]
        for first in (_sent(False, "recorded", 3), _sent(False, "recorded", 8), _sent(False, "reflect", 0, "side"))
    ],
    [_sent(to_listening, "made up", number) for number in range(3) for to_listening in (True, False)],
    # Proofs that answer another greeting than the one that was sent.
    [_sent(True, "relay"), _sent(True, "recorded", 1), _sent(True, "recorded", 2)],
    [_sent(False, "relay"), _sent(False, "recorded", 4)],
]


@st.composite
def planned(draw: st.DrawFn) -> list[Step]:
    """A plan with some changes."""
    steps = list(draw(st.sampled_from(PLANS)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(steps)))
        change = draw(st.sampled_from(["add", "leave out", "tamper", "repeat", "flip"]))
        if change == "add" or place == len(steps):
            steps.insert(place, draw(STEPS))
        elif change == "leave out":
            del steps[place]
        elif change == "repeat":
            steps.insert(place, steps[place])
        elif change == "flip":
            steps[place] = (not steps[place][0], *steps[place][1:])
        else:
            steps[place] = (*steps[place][:3], draw(CHANGES), draw(st.booleans()))
    return steps


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
        elif kind == "turn" and len(made) == PROOFS_BYTES:  # proofs as the verdict of a listening end
            made = bytearray([ADMITTED, 1]) + made[2 : 2 + 32]
        elif kind == "turn" and PROOFS_BYTES > len(made) >= VERDICT_BYTES:  # a verdict as proofs
            made = bytearray([1, value % 2]) + made[2:34] * 2
    return bytes(made)


def attack(setting: Setting, steps: list[Step]) -> None:
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
            if target.state is State.TLS:
                target.encrypt(ITS_CERTIFICATE if to_listening else HIS_CERTIFICATE)
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
    @given(SETTINGS, st.one_of(planned(), planned(), st.lists(STEPS, min_size=1, max_size=9)))
    def run(setting: Setting, steps: list[Step]) -> None:
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
