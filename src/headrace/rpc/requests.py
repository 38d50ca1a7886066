"""A request and its reply over a comm, and exceptions in replies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.comm import Comm
from headrace.exceptions import DeserializationError, FrameTooLargeError, MessageTooLargeError, RemoteError
from headrace.protocol import Serialize, dumps_exception, loads_exception, loads_traceback
from headrace.protocol.marks import Serialized

#: `status` of a reply that stands for an exception in the handler.
UNCAUGHT_ERROR = "uncaught-error"


async def send_recv(
    comm: Comm,
    *,
    reply: bool = True,
    serializers: Iterable[str] | None = None,
    deserializers: Iterable[str] | None = None,
    **kwargs: object,
) -> Any:
    """Send a request and return the reply.

    Args:
        reply: whether the other side should answer; if not, this returns `None` once the request is sent.
        serializers: names of the families by which marked values in the request are serialized; the other side learns
            them for its reply.
        deserializers: names of the families from which values in the reply are accepted.
        kwargs: the operation's name, `op`, and its keywords.

    Raises:
        MessageTooLargeError: the reply is longer than this side accepts.
        CommClosedError: the connection ended. A cancelled call closes the comm as well, since its reply, which may
            still come, would be taken for that to the next request.
        Exception: the handler's exception, with its traceback.
    """
    message = {"reply": reply, **kwargs}
    if serializers is not None:
        message["serializers"] = serializers = list(serializers)
    try:
        await comm.write(message, serializers)
        if not reply:
            return None
        answer = await comm.read(deserializers)
    except (TypeError, ValueError, DeserializationError):  # nothing was sent, or all of the reply has come
        raise
    except FrameTooLargeError as error:  # no OSError, after which callers try again: the reply would be as long again
        raise MessageTooLargeError(
            f"the answer of {comm.peer_address} to {kwargs.get('op')!r} is longer than accepted here: "
            f"{error.__cause__ or error}; "
            "set distributed.comm.max-frame-bytes to the same on both sides, or split the value into several"
        ) from error
    except BaseException:
        comm.abort()
        raise
    try:
        if type(answer) is dict and answer.get("status") == UNCAUGHT_ERROR:
            raise remote_exception(answer)
        return answer
    finally:
        del answer  # the error's traceback holds this frame: if the frame held the error, only the collector freed them


def error_message(exception: BaseException) -> dict[str, Any]:
    """The reply that stands for an exception."""
    dumped = dumps_exception(exception)
    return {
        "status": UNCAUGHT_ERROR,
        "exception": Serialized.of(dumped.exception),
        "traceback": Serialized.of(dumped.traceback),
        "text": dumped.exception_text,
        "traceback_text": dumped.traceback_text,
    }


def remote_exception(message: dict[str, Any]) -> BaseException:
    """The exception in an `error_message`, with the traceback from the server, ready to be raised."""
    exception, traceback, text = message.get("exception"), message.get("traceback"), str(message.get("text", ""))
    if isinstance(exception, Serialized):
        exception = loads_exception(exception.payload, text)
    elif isinstance(exception, Serialize):
        exception = exception.value
    if isinstance(traceback, Serialized):
        traceback = loads_traceback(traceback.payload)
    if not isinstance(exception, BaseException):
        exception = RemoteError(text)
    return exception.with_traceback(traceback)
