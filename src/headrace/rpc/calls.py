"""One request and its reply over one comm."""

from __future__ import annotations

from typing import Any

from headrace.comm import Comm
from headrace.exceptions import DeserializationError, RemoteError
from headrace.protocol import Serialize, dumps_exception, loads_exception, loads_traceback
from headrace.protocol.marks import Serialized

#: `status` of a reply that stands for an exception in the handler.
UNCAUGHT_ERROR = "uncaught-error"


async def send_recv(comm: Comm, *, op: str, reply: bool = True, **kwargs: Any) -> Any:
    """Send a request and return the reply.

    Args:
        op: the operation's name.
        reply: whether the other side should answer; without, returns `None` once the request is sent.

    Raises:
        CommClosedError: the connection ended; also when this call was cancelled the comm is closed, since the reply
            that is under way would be taken for another's.
        Exception: whatever the handler raised, with its traceback.
    """
    message = {"op": op, "reply": reply, **kwargs}
    try:
        await comm.write(message)
        if not reply:
            return None
        answer = await comm.read()
    except (TypeError, ValueError, DeserializationError):  # nothing was sent, or all of the reply has come
        raise
    except BaseException:
        comm.abort()
        raise
    if type(answer) is dict and answer.get("status") == UNCAUGHT_ERROR:
        raise remote_exception(answer)
    return answer


def error_message(exception: BaseException) -> dict[str, Any]:
    """The reply that stands for an exception."""
    from headrace.config import get

    dumped = dumps_exception(exception, max_length=get("distributed.admin.max-error-length"))
    return {
        "status": UNCAUGHT_ERROR,
        "exception": Serialized.of(dumped.exception),
        "traceback": Serialized.of(dumped.traceback),
        "text": dumped.exception_text,
        "traceback_text": dumped.traceback_text,
    }


def remote_exception(message: dict[str, Any]) -> BaseException:
    """The exception in an `error_message`, ready to be raised with the traceback of where it happened."""
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
