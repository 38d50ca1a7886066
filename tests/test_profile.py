"""Profiles as trees: collecting, merging, cutting out a span of time, drawing."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
from collections import deque
from types import FrameType
from typing import Any

import pytest

from headrace import profile
from headrace.compat.profile import format_time, plot_data, plot_figure
from headrace.profile import StackTree, Watcher, create, get_profile, merge, process
from headrace.testing.helpers.polling import poll_for


def innermost() -> FrameType:
    return sys._getframe()


def middle() -> FrameType:
    return innermost()


def outer() -> FrameType:
    return middle()


def names(state: dict[str, Any]) -> list[str]:
    """Function names along the heaviest path."""
    found = []
    while state["children"]:
        state = max(state["children"].values(), key=lambda child: child["count"])
        found.append(state["description"]["name"])
    return found


def test_empty() -> None:
    assert create() == {
        "count": 0,
        "children": {},
        "identifier": "root",
        "description": {"filename": "", "name": "", "line_number": 0, "line": ""},
    }
    assert merge() == create()


def test_frames_as_text() -> None:
    frame = outer()
    first = innermost.__code__.co_firstlineno
    assert profile.identifier(frame) == f"innermost;{__file__};{first}"
    assert profile.identifier(None) == "None"
    assert profile.info_frame(frame) == {
        "filename": __file__,
        "name": "innermost",
        "line_number": first + 1,
        "line": "return sys._getframe()\n",
    }
    assert profile.repr_frame(frame) == (
        f'  File "{__file__}", line {first + 1}, in innermost\n\treturn sys._getframe()\n'
    )
    stack = profile.call_stack(outer())
    assert "in innermost" in stack[-1], "outermost first"


def test_process_counts_a_stack() -> None:
    state = create()
    node = process(outer(), None, state)
    process(middle(), None, state)
    assert state["count"] == 2
    assert node is not None
    assert node["description"]["name"] == "innermost"
    assert node["count"] == 1


def test_process_stop_omit_and_depth() -> None:
    frame = outer()
    state = create()
    assert process(frame, None, state, stop="test_profile.py") is None, "nothing is inside of this file"
    assert process(frame, None, state, omit="test_profile.py") is None
    assert process(frame, None, state, omit=("nowhere.py", "test_profile.py")) is None
    assert state == create()
    node = process(frame, None, state, depth=1)
    assert node is not None
    assert list(state["children"].values()) == [node]
    assert node["children"] == {}


def test_tree_counts_only_what_is_below_a_function() -> None:
    tree = StackTree()

    def run() -> FrameType:
        return outer()

    assert not tree.add(middle(), run.__code__)
    assert tree.count == 0
    # a frame of its own keeps its callers
    assert tree.add(run(), run.__code__)
    assert tree.add(run(), run.__code__)
    state = tree.profile()
    assert state["count"] == 2
    assert names(state) == ["outer", "middle", "innermost"]


def test_tree_agrees_with_process() -> None:
    tree, state = StackTree(), create()
    for make in (outer, middle, outer):
        frame = make()
        seen = [tree.add(frame), process(frame, None, state)]  # on one line, so that both see the same
        assert all(seen)
        del frame
    assert tree.profile() == state


def test_deep_stacks_are_cut() -> None:
    def dive(depth: int) -> FrameType:
        return dive(depth - 1) if depth else sys._getframe()

    tree = StackTree()
    tree.add(dive(500), test_deep_stacks_are_cut.__code__)
    assert len(names(tree.profile())) == profile.MAX_DEPTH


def test_merge_adds_and_changes_nothing() -> None:
    one, two = create(), create()
    process(outer(), None, one)
    process(middle(), None, two)
    before = repr((one, two))
    both = merge(one, two)
    assert both["count"] == 2
    assert repr((one, two)) == before
    assert merge(both, create()) == both


def test_get_profile_of_a_span_of_time() -> None:
    states = []
    for _ in range(4):
        state = create()
        process(outer(), None, state)
        states.append(state)
    history = deque([(1.0, states[0]), (2.0, states[1]), (3.0, states[2])])
    assert get_profile(history)["count"] == 3
    assert get_profile(history, states[3])["count"] == 4
    assert get_profile(history, states[3], start=2.0)["count"] == 3
    assert get_profile(history, states[3], start=1.5, stop=2.5)["count"] == 1
    by_key = deque([(1.0, {"inc": states[0]}), (2.0, {"dec": states[1]})])
    assert get_profile(by_key, {"inc": states[2]}, key="inc")["count"] == 2
    assert get_profile(by_key, key="nobody") == create()


def test_plot_data_has_parents_before_children_and_shares_of_the_width() -> None:
    state = create()
    for make in (outer, outer, outer, middle):
        process(make(), None, state, stop=None)
    data = plot_data(state, 0.01)
    assert len({len(column) for column in data.values()}) == 1
    assert (data["left"][0], data["right"][0], data["bottom"][0]) == (0, 1, 0)
    assert data["percentage"][0] == "100.0%"
    assert data["time"][0] == "40.00 ms"
    widths = dict(zip(data["name"], data["width"], strict=True))
    assert widths["outer"] == pytest.approx(0.75)
    assert plot_data(create())["percentage"] == ["0.0%"]


def test_times() -> None:
    assert [format_time(seconds) for seconds in (2, 0.02, 0.00002)] == ["2.00 s", "20.00 ms", "20.00 us"]


@pytest.mark.skipif(importlib.util.find_spec("bokeh") is not None, reason="bokeh is installed")
def test_figures_need_bokeh() -> None:
    with pytest.raises(ImportError, match="bokeh"):
        plot_figure(plot_data(create()))


def test_watching_a_thread() -> None:
    release = threading.Event()
    watched = threading.Thread(target=release.wait)
    watched.start()
    assert watched.ident is not None
    watcher = Watcher(watched.ident, interval=0.001, cycle=0.01)
    poll_for(lambda: len(watcher.log) > 1)
    watcher.close()
    release.set()
    watched.join()
    assert "wait" in names(merge(*[state for _, state in watcher.log]))
    times = [when for when, _ in watcher.log]
    assert times == sorted(times)


def test_watch_ends_when_told_and_with_its_thread() -> None:
    done = threading.Event()
    before = set(threading.enumerate())
    log = profile.watch(interval="1 ms", cycle="5 ms", stop=done.is_set)
    poll_for(lambda: len(log) > 0)
    done.set()
    short = threading.Thread(target=lambda: None)
    short.start()
    ident = short.ident
    short.join()
    profile.watch(ident, interval="1 ms")
    poll_for(lambda: set(threading.enumerate()) <= before)


def test_public_path() -> None:
    import distributed.profile

    assert distributed.profile.create is profile.create


def test_no_garbage_is_collected_while_frames_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    look = sys._current_frames

    def watched() -> dict[int, FrameType]:
        assert not gc.isenabled()
        return look()

    monkeypatch.setattr(profile, "_UNSAFE", True)
    monkeypatch.setattr(sys, "_current_frames", watched)
    assert threading.get_ident() in profile.current_frames()
    assert gc.isenabled()
    gc.disable()
    try:
        profile.current_frames()
        assert not gc.isenabled()
    finally:
        gc.enable()
