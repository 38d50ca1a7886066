"""Statistical profiles, trees of call stacks with the number of samples of each: collecting, merging and drawing them.

A profile is a dictionary: `{"count", "identifier", "description": {"filename", "name", "line_number", "line"},
"children": {identifier: profile}}`. Samplers collect in a `StackTree`, which is cheaper to add to, and turn it into
that form when they are off the hot path. Imports little, since every worker imports this module.
"""

from __future__ import annotations

import gc
import linecache
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FrameType
from typing import Any, cast

from headrace.config import parse_seconds
from headrace.containment import let_pass

#: Frames of a stack that are kept, from the outermost on: trees of recursive functions would be too deep to send.
MAX_DEPTH = 100

_DESCRIPTION = {"filename": "", "name": "", "line_number": 0, "line": ""}


def create() -> dict[str, Any]:
    """An empty profile."""
    return {"count": 0, "children": {}, "identifier": "root", "description": dict(_DESCRIPTION)}


class StackTree:
    """A profile while it is collected.

    Attributes:
        code: the node's code; None for the root. The reference keeps its `id` from being used again.
        line: the line of the first sample.
        count: number of stacks that led here.
    """

    __slots__ = ("children", "code", "count", "line")

    def __init__(self, code: CodeType | None = None, line: int = 0) -> None:
        self.code = code
        self.line = line
        self.count = 0
        self.children: dict[int, StackTree] = {}

    def add(self, frame: FrameType | None, below: CodeType | None = None) -> bool:
        """Count a stack.

        Args:
            frame: the innermost frame.
            below: count only frames that this code has called; a stack without this code is not counted at all.

        Returns:
            Whether the stack was counted.
        """
        path: list[tuple[CodeType, int]] = []
        while frame is not None and frame.f_code is not below:
            path.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back
        if frame is None and below is not None:
            return False
        node = self
        node.count += 1
        for code, line in path[: -MAX_DEPTH - 1 : -1]:
            child = node.children.get(id(code))
            if child is None:
                child = node.children[id(code)] = StackTree(code, line)
            child.count += 1
            node = child
        return True

    def profile(self) -> dict[str, Any]:
        """The profile so far."""
        code = self.code
        found = create()
        found["count"] = self.count
        if code is not None:
            found["identifier"] = _identifier(code)
            found["description"] = _description(code, self.line)
        for child in self.children.values():
            made = child.profile()
            other = found["children"].get(made["identifier"])  # the same source, compiled twice
            found["children"][made["identifier"]] = made if other is None else merge(other, made)
        return found


#: Whether this Python may collect garbage while it holds a lock that the collector takes as well.
_UNSAFE = sys.version_info < (3, 11, 9) or (3, 12) <= sys.version_info < (3, 12, 3)
_looking = threading.Lock()


def current_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread, by identity; unlike `sys._current_frames`, safe in all Pythons."""
    if not _UNSAFE:
        return sys._current_frames()
    with _looking:  # no other caller may allow collections while this one counts on there being none
        allowed = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if allowed:
                gc.enable()


def _identifier(code: CodeType) -> str:
    return f"{code.co_name};{code.co_filename};{code.co_firstlineno}"


def _description(code: CodeType, line_number: int) -> dict[str, Any]:
    try:
        line = linecache.getline(code.co_filename, line_number).lstrip()
    except BaseException as raised:  # linecache is not thread-safe, and loaders of users' modules may fail
        let_pass(raised)
        line = ""
    return {"filename": code.co_filename, "name": code.co_name, "line_number": line_number, "line": line}


def identifier(frame: FrameType | None) -> str:
    """A text that is the same for all frames of one function."""
    return "None" if frame is None else _identifier(frame.f_code)


def info_frame(frame: FrameType) -> dict[str, Any]:
    """A frame's description: `{"filename", "name", "line_number", "line"}`."""
    return _description(frame.f_code, frame.f_lineno)


def repr_frame(frame: FrameType) -> str:
    """A frame's description as in a traceback."""
    info = info_frame(frame)
    return f'  File "{info["filename"]}", line {info["line_number"]}, in {info["name"]}\n\t{info["line"]}'


def call_stack(frame: FrameType | None) -> list[str]:
    """Descriptions of a frame and its callers, outermost first."""
    return [repr_frame(each) for each in reversed(_outwards(frame))]


def _outwards(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def process(
    frame: FrameType | None,
    child: object,
    state: dict[str, Any],
    *,
    stop: str | None = None,
    omit: Sequence[str] | str = (),
    depth: int | None = None,
) -> dict[str, Any] | None:
    """Count the stack of a frame in a profile.

    Args:
        frame: the innermost frame.
        child: accepted for compatibility.
        state: the profile; changed in place.
        stop: end of a file's name; only frames that the innermost frame of that file has called count.
        omit: ends of files' names; a stack with a frame in one of them is not counted.
        depth: at most so many frames, from the outermost on.

    Returns:
        The node of the innermost frame that counted; `None` if none did.
    """
    frames = _outwards(frame)
    omitted = (omit,) if isinstance(omit, str) else tuple(omit)
    if omitted and any(each.f_code.co_filename.endswith(omitted) for each in frames):
        return None
    if stop is not None:
        inside = next((i for i, each in enumerate(frames) if each.f_code.co_filename.endswith(stop)), len(frames))
        frames = frames[:inside]
    if not frames:
        return None
    state["count"] += 1
    node = state
    for each in frames[::-1][: MAX_DEPTH if depth is None else depth]:
        name = identifier(each)
        following = node["children"].get(name)
        if following is None:
            following = {"count": 0, "children": {}, "identifier": name, "description": info_frame(each)}
            node["children"][name] = following
        following["count"] += 1
        node = following
    return node


def merge(*args: dict[str, Any]) -> dict[str, Any]:
    """A profile with the counts of several, which are not changed."""
    if not args:
        return create()
    children: dict[str, list[dict[str, Any]]] = {}
    for state in args:
        for name, child in state["children"].items():
            children.setdefault(name, []).append(child)
    return {
        "count": sum(state["count"] for state in args),
        "children": {name: merge(*same) for name, same in children.items()},
        "identifier": args[0]["identifier"],
        "description": args[0]["description"],
    }


def get_profile(
    history: Iterable[tuple[float, Any]],
    recent: dict[str, Any] | None = None,
    start: float | None = None,
    stop: float | None = None,
    key: object = None,
) -> dict[str, Any]:
    """The profile of a span of time.

    Args:
        history: (time in seconds, profile), oldest first; with `key`, (time, {key: profile}).
        recent: the profile collected since the last entry; counts unless `stop` is given.
        start, stop: the span, in seconds; open by default.
        key: key of the profile in each entry.
    """
    chosen = [state for when, state in history if (start is None or when >= start) and (stop is None or when <= stop)]
    if recent is not None and stop is None:
        chosen.append(recent)
    if key is not None:
        chosen = [state[key] for state in chosen if key in state]
    return merge(*chosen)


def color_of(filename: str) -> str:
    """A light color that is the same for all frames of a file."""
    import zlib

    seed = zlib.crc32(filename.encode("utf-8", "replace"))
    return f"#{130 + seed % 110:02x}{130 + (seed >> 8) % 110:02x}{130 + (seed >> 16) % 110:02x}"


class Watcher:
    """A thread that profiles another.

    Args:
        thread_id: the other thread; the caller's by default.
        interval, cycle: seconds between two samples, and between two entries of the log.
        maxlen: entries that are kept.
        omit: see `process`.
        stop: called before each sample; the thread ends when it returns true.

    Attributes:
        log: (time in seconds since the epoch, profile), oldest first.
    """

    def __init__(
        self,
        thread_id: int | None = None,
        interval: float = 0.02,
        cycle: float = 2.0,
        maxlen: int | None = 1000,
        omit: Sequence[str] | str = (),
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.log: deque[tuple[float, dict[str, Any]]] = deque(maxlen=maxlen)
        self._interval, self._cycle, self._omit, self._stop = interval, cycle, omit, stop
        self._watched = threading.get_ident() if thread_id is None else thread_id
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="headrace-profile", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        recent = create()
        due = time.monotonic() + self._cycle
        while not self._stop() and not self._closed.wait(self._interval):
            frame = current_frames().get(self._watched)
            if frame is None or self._watched == threading.get_ident():
                break  # the thread has ended; its number may be this one's now
            process(frame, None, recent, omit=self._omit)
            del frame  # it must not outlive this turn
            if time.monotonic() >= due:
                self.log.append((time.time(), recent))
                recent = create()
                due = time.monotonic() + self._cycle
        if recent["count"]:
            self.log.append((time.time(), recent))

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._closed.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


_default_length = cast(int, type("no_default", (), {"__repr__": lambda self: "<no_default>"})())


def watch(
    thread_id: int | None = None,
    interval: str | float = "20ms",
    cycle: str | float = "2s",
    maxlen: int | None = _default_length,
    omit: Sequence[str] | str = (),
    stop: Callable[[], bool] = lambda: False,
) -> deque[tuple[float, dict[str, Any]]]:
    """Profile a thread from another one until `stop()` is true.

    Args:
        thread_id, omit, stop: see `Watcher`.
        interval, cycle: times between two samples, and between two entries of the log.
        maxlen: entries that are kept; 3600 by default.

    Returns:
        The log, which grows: (time in seconds since the epoch, profile), oldest first.
    """
    length = 3600 if maxlen is _default_length else maxlen
    return Watcher(thread_id, parse_seconds(interval), parse_seconds(cycle), length, omit, stop).log
