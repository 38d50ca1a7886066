"""Base class of all messages, and the options that a task can carry."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

#: Opaque bytes that only clients and workers open: `bytes` when small, `headrace.protocol.Frames` when large (those
#: travel beside the message and are never copied or joined).
Payload: TypeAlias = Any


class Message(msgspec.Struct, array_like=True, tag=True, tag_field="op", gc=False):
    """Base of every stream message; its tag on the wire is its class name."""


class TaskOptions(msgspec.Struct, array_like=True, omit_defaults=True, frozen=True):
    """Options that a user may give a task beside the call itself; shared by many tasks.

    Attributes:
        priority: the user's priority; larger runs earlier.
        retries: how many times the task may err before it is erred.
        workers: addresses, names or hosts that may run it; empty means all.
        allow_other_workers: whether others may, when none of `workers` is there.
        resources: abstract resources that it takes, by name.
        fifo_timeout: seconds within which a later submission still counts as of the same priority generation.
        actor: whether the result lives on its worker as an actor.
        annotations: everything else from `dask.annotate`, msgpack types only.
        stated: names of the options above that the user gave although they are what they are by default.
    """

    priority: float = 0
    retries: int = 0
    workers: list[str] = msgspec.field(default_factory=list)
    allow_other_workers: bool = False
    resources: dict[str, float] = msgspec.field(default_factory=dict)
    fifo_timeout: float = 0.1
    actor: bool = False
    annotations: dict[str, Any] = msgspec.field(default_factory=dict)
    stated: list[str] = msgspec.field(default_factory=list)

    def as_annotations(self) -> dict[str, Any]:
        """All that the user gave, by the names of `dask.annotate`: what is so by default included."""
        given = {}
        for name in ANNOTATED:
            value = getattr(self, name)
            if value or name in self.stated:
                given[name] = value
        given.update(self.annotations)
        return given


#: Annotations that are options with fields of their own.
ANNOTATED = ("priority", "retries", "workers", "allow_other_workers", "resources")

NO_OPTIONS = TaskOptions()


class HandlerMessage(Message):
    """A message of a plugin's or an extension's own, either way on any stream.

    Attributes:
        handler: name of the function that takes it, in the receiver's `stream_handlers`.
        arguments: its keywords, msgpack types only.
    """

    handler: str
    arguments: dict[str, Any]


def as_message(given: dict[str, Any]) -> HandlerMessage:
    """The message that a dictionary `{"op": name of the handler, **keywords}` stands for.

    >>> as_message({"op": "note", "text": "x"})
    HandlerMessage(handler='note', arguments={'text': 'x'})

    Raises:
        ValueError: it names no handler.
    """
    arguments = dict(given)
    handler = arguments.pop("op", None)
    if not isinstance(handler, str):
        raise ValueError(f"a stream's message names the handler that takes it as 'op'; {given!r:.200} does not")
    return HandlerMessage(handler, arguments)
