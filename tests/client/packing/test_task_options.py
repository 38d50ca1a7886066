"""Keywords and annotations to task options."""

from __future__ import annotations

from typing import Any

import dask
import pytest

from headrace.client.packing.task_options import OptionTable, make_options, normalize_workers
from headrace.messages.base import NO_OPTIONS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("alice", ["alice"]),
        (3, ["3"]),
        (["a", "b"], ["a", "b"]),
        ({"a"}, ["a"]),
        (("host", 8787), ["host:8787"]),
        ([("host", 8787), "b"], ["host:8787", "b"]),
    ],
)
def test_workers_in_all_their_forms(given: Any, expected: list[str]) -> None:
    assert normalize_workers(given) == expected


def test_workers_must_be_names() -> None:
    with pytest.raises(TypeError, match="workers must be"):
        normalize_workers(1.5)
    for endless in (dask.delayed(int)(1), {dask.delayed(int)(1): "alice"}):  # a delayed value can be iterated for ever
        with pytest.raises(TypeError, match="workers must be"):
            normalize_workers(endless)


def test_defaults_are_shared() -> None:
    assert make_options() is NO_OPTIONS
    assert make_options({}, workers=None, retries=None, priority=0, fifo_timeout="100 ms") is NO_OPTIONS


def test_keywords_win_over_annotations() -> None:
    options = make_options({"priority": 1, "retries": 2, "color": {"red": (1,)}}, priority=5, fifo_timeout="60s")
    assert (options.priority, options.retries, options.fifo_timeout) == (5, 2, 60)
    assert options.annotations == {"color": {"red": [1]}}


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="allow_other_workers"):
        make_options(allow_other_workers=True)
    with pytest.raises(TypeError, match="resources"):
        make_options(resources=5)


def test_a_table_of_equal_options_has_one_entry() -> None:
    table = OptionTable({"retries": 1}, {}, {})
    assert table.uniform
    assert len(table.options) == 1
    assert OptionTable({}, {}, {}).is_default


def test_a_graph_may_allow_other_workers_than_none() -> None:
    assert OptionTable({"workers": None, "allow_other_workers": True}, {}, {}).is_default
    named = OptionTable({"allow_other_workers": True}, {"workers": "a"}, {})
    assert [(options.workers, options.allow_other_workers) for options in named.options] == [(["a"], True)]


def test_annotations_that_are_callables_differ_by_key() -> None:
    table = OptionTable({}, {"priority": lambda key: key[1]}, {})
    positions = [table.position(("x", i)) for i in (1, 2, 1)]
    assert [table.options[position].priority for position in positions] == [1, 2, 1]
    assert table.options[0] == NO_OPTIONS, "the call has none that is the same for all"
    assert len(table.options) == 3


def test_what_was_given_is_told_from_what_is_so_by_default() -> None:
    options = make_options({"priority": 0, "retries": 0, "color": "red"}, priority=0, workers=None)
    assert options.as_annotations() == {"priority": 0, "retries": 0, "color": "red"}
    options = make_options({"priority": 2}, retries=3, workers=["a"], allow_other_workers=True, resources={"GPU": 1})
    assert options.as_annotations() == {
        "priority": 2,
        "retries": 3,
        "workers": ["a"],
        "allow_other_workers": True,
        "resources": {"GPU": 1},
    }
    assert make_options({}, priority=0, retries=0).as_annotations() == {}


def test_the_first_options_are_those_of_the_call() -> None:
    table = OptionTable({}, {"job": "j"}, {"priority": {"x": 5}})
    assert table.options[0].as_annotations() == {"job": "j"}
    assert table.options[table.position("x")].as_annotations() == {"job": "j", "priority": 5}
