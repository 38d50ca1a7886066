"""Documented events for a live worker: their meaning to it, and those that it takes from its own parts only.

A live worker's threads and transfers report by themselves how what they do has ended. Nobody else can report that
without the report contradicting theirs, so such events are refused, and the worker goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.common.keys import to_wire
from headrace.common.status import Status
from headrace.compat.worker_state_machine import state_events as events
from headrace.containment import class_name_of, contained, described
from headrace.protocol import dumps, dumps_function
from headrace.worker.execution.run_spec import run_node
from headrace.worker.state.core import RECEIVED

if TYPE_CHECKING:
    from .methods import WorkerMethods

#: Events that the parts of a live worker report, and these parts.
_REPORTED: tuple[tuple[type[events.StateMachineEvent], str], ...] = (
    (events.ExecuteDoneEvent, "threads, which run its tasks,"),
    (events.SecedeEvent, "threads, which run its tasks,"),
    (events.GatherDepDoneEvent, "transfers, which ask its peers,"),
)


def take_documented(worker: WorkerMethods, event: Any) -> None:
    """Give one event to a live worker's state, and do what it decides. On the loop.

    Args:
        event: a documented one, or one of the core's own.

    Raises:
        TypeError: it is none, or its attributes are not of the documented kinds; the worker goes on.
        ValueError: only the worker's own parts can report that; the worker goes on.
    """
    if type(event) in RECEIVED:
        worker.handle_events((event,))
        return
    if type(event) is events.PauseEvent:
        worker.set_status(Status.paused)
    elif type(event) is events.UnpauseEvent:
        worker.set_status(Status.running)
    else:
        meant = _meant(worker, event)
        if isinstance(event, events.UpdateDataEvent):
            worker.update_data(dict(event.data))
        else:
            worker.handle_events(meant)


def _meant(worker: WorkerMethods, event: Any) -> list[Any]:
    for kind, part in _REPORTED:
        if isinstance(event, kind):
            raise ValueError(
                f"the worker at {worker.address_safe} cannot be told {type(event).__name__}: its own {part} report "
                "that. Give such events to a WorkerState of your own"
            )
    try:
        found: list[Any] = worker.state.meant(_with_wire_keys(event))
        if isinstance(event, events.ComputeTaskEvent):
            define, compute = found
            define.pickled, compute.arguments = _call(event.run_spec)
            compute.priority = (*event.priority, 0, 0, 0)[:3]  # documented ones may be of any length
        for message in found:
            _check_form(message)
    except BaseException as raised:
        raised = contained(raised)
        raise TypeError(f"the worker's state machine cannot take {_shown(event)}: {described(raised)}") from raised
    return found


def _call(run_spec: Any) -> tuple[Any, Any]:
    """Pickles of the function and the arguments of a documented `run_spec`: a graph node, or nothing."""
    spec = sys.modules.get("dask._task_spec")
    if run_spec is None or run_spec == b"":  # `ComputeTaskEvent.dummy`
        return dumps_function(_nothing), dumps(((), {}))
    if spec is None or not isinstance(run_spec, spec.GraphNode):
        raise TypeError(f"a run_spec is a graph node of dask, not a {class_name_of(run_spec)}")
    return dumps_function(run_node), dumps(((run_spec,), {}))


def _nothing(*_: Any) -> None:
    """Stand for the function of a task that is only a dummy."""


def _check_form(message: Any) -> None:
    """Refuse a message that could not have come over a wire: the core relies on the types of messages.

    Raises:
        msgspec.ValidationError: a part is not of its type.
    """
    kind = type(message)
    parts = {name: getattr(message, name) for name in kind.__struct_fields__}
    for part in parts.values():
        if isinstance(part, msgspec.Struct):
            _check_form(part)
    config = kind.__struct_config__
    if config.array_like:
        msgspec.convert([*([config.tag] if config.tag else []), *parts.values()], kind)
    else:
        msgspec.convert(parts, kind)


def _shown(event: Any) -> str:
    return f"{event!r:.200}" if isinstance(event, events.StateMachineEvent) else f"a {class_name_of(event)}"


def _with_wire_keys(event: Any) -> Any:
    """Copy an event with its keys in the form that the core knows."""
    changed: dict[str, Any] = {}
    if hasattr(event, "key"):
        changed["key"] = to_wire(event.key)
    if hasattr(event, "keys"):
        changed["keys"] = [to_wire(key) for key in event.keys]
    for name in ("who_has", "nbytes", "data"):
        value = getattr(event, name, None)
        if isinstance(value, Mapping):
            changed[name] = {to_wire(key): each for key, each in value.items()}
    return replace(event, **changed) if changed else event
