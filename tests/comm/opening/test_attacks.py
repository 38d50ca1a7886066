"""Strangers in the middle who are drawn at random; see `attack` for more of them."""

from __future__ import annotations

from headrace.comm.opening.opening_states import State
from tests.comm.opening.attack import Setting, attack, attacks


def test_attacks_at_random() -> None:
    attacks(1000)()


def test_the_man_can_be_a_wire() -> None:
    """The attacks reach the last state, so that it means something that they do not get there otherwise."""
    setting = Setting("client", ("off", "off"), False, False, 1)
    steps = [(to_listening, "relay", 0, [], False) for _ in range(4) for to_listening in (True, False)]
    seen = []

    class Watched(Setting):
        def make(self):  # type: ignore[no-untyped-def]
            seen.extend(Setting.make(self))
            return seen

    attack(Watched(**{name: getattr(setting, name) for name in setting.__dataclass_fields__}), list(steps))
    assert [end.state for end in seen] == [State.OPENED, State.OPENED]
