"""Messages of a caller of actors and the worker that has them to each other, on their stream."""

from __future__ import annotations

from headrace.common.keys import Key

from .base import Message, Payload


class ActorCall(Message):
    """Call a method of an actor, or read an attribute; calls are begun in the order in which they come.

    Attributes:
        number: the caller's; the reply repeats it.
        key: the actor's.
        name: of the method or attribute.
        arguments: pickled `(args, kwargs)`; None to read an attribute.
    """

    number: int
    key: Key
    name: str
    arguments: Payload = None


class ActorReply(Message):
    """Outcome of a call: `value` is a pickle, unless `failed`: then there is an exception, as in `TaskErred`."""

    number: int
    value: Payload = None
    failed: bool = False
    exception: Payload = None
    traceback: Payload = None
    exception_text: str = ""
