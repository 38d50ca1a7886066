"""A class of the user stays as it is when pickles of it are loaded where it was defined."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from headrace.protocol import dumps, dumps_function, hand_over, hand_over_function, loads, loads_function
from headrace.protocol.functions.classes import set_class_state

SOURCE = """
import functools
number = 1
class Rule:
    weight = 1
    names = ["a", "number"]
    kept = staticmethod(len)
    part = functools.partial(int)
    def apply(self): return number + self.weight
    @property
    def doubled(self): return 2 * self.weight
def f(): return Rule().apply()
def changes():
    Rule.weight += 1
    Rule.names.append("c")
    return Rule.weight, len(Rule.names)
rule = Rule()
def reads(): return rule.apply()
"""


@pytest.fixture
def script() -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(SOURCE, found)
    return found


@pytest.mark.parametrize("pickle", [dumps_function, hand_over_function])
def test_loading_a_function_leaves_the_users_class_alone(script: dict[str, Any], pickle: Any) -> None:
    before = dict(vars(script["Rule"]))
    data = pickle(script["f"])
    assert loads_function(bytes(bytearray(data)))() == 2
    assert dict(vars(script["Rule"])) == before
    assert pickle(script["f"]) == data  # so that the call is the same one
    script["number"] = 10
    assert script["f"]() == 11


@pytest.mark.parametrize("pickle", [dumps, hand_over])
def test_loading_a_value_leaves_the_users_class_alone(script: dict[str, Any], pickle: Any) -> None:
    """The result of an earlier task does not take back what the user has changed since."""
    data = pickle(script["Rule"]())
    script["Rule"].weight = 10
    script["Rule"].apply = lambda self: "changed"
    assert loads(data).weight == 10
    assert script["f"]() == "changed"


def test_each_task_in_the_same_process_finds_the_data_of_a_class_as_it_was_sent(script: dict[str, Any]) -> None:
    data = dumps_function(script["changes"])
    names = script["Rule"].names
    loads_function(data)
    assert script["Rule"].names is names
    assert [loads_function(data)() for _ in range(3)] == [(2, 3)] * 3


def test_a_task_that_only_reads_a_class_does_not_take_back_what_the_user_changed(script: dict[str, Any]) -> None:
    data = dumps_function(script["reads"])
    script["Rule"].weight = 10
    assert loads_function(data)() == 11
    assert script["Rule"].weight == 10


def test_a_class_from_elsewhere_is_what_the_last_pickle_says() -> None:
    kind = type("Rule", (), {"weight": 1})
    set_class_state(kind, ({"weight": 2, "apply": lambda self: 3}, {}))
    dumps(kind())
    set_class_state(kind, ({"weight": 4}, {}))
    assert (kind.weight, kind().apply()) == (4, 3)  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_process_owns_no_classes(script: dict[str, Any]) -> None:
    from headrace.protocol.functions import classes

    kind = script["Rule"]
    dumps(kind())
    assert kind in classes._own
    try:
        classes._disown()
        set_class_state(kind, ({"weight": 5}, {}))
        assert kind.weight == 5
    finally:
        classes._from_elsewhere.discard(kind)
