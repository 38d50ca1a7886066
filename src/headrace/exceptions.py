"""The exceptions that users and other parts of headrace catch, in one place and without imports of ours."""

from __future__ import annotations


class SerializationError(TypeError):
    """A value cannot be pickled; the message names its type and the cause."""


class DeserializationError(Exception):
    """A payload that arrived whole cannot be turned back into a value here."""


class CommClosedError(OSError):
    """The connection is closed, or was closed while in use."""


class FatalCommClosedError(CommClosedError):
    """The connection cannot be made, and trying again would not help."""


class ProtocolVersionError(FatalCommClosedError):
    """The two ends speak different versions of headrace's protocol."""


class ConnectTimeoutError(TimeoutError):
    """No connection within the time allowed; the message names the address, the seconds and the last cause."""


class RPCClosed(OSError):
    """The `rpc` proxy or pool was closed and cannot be called any more."""


class UnknownOperationError(ValueError):
    """A server was asked for an operation that it does not have."""


class RemoteError(RuntimeError):
    """Stands for a remote exception whose class cannot be loaded here; its text names the class and the message."""


class Reschedule(Exception):
    """Raise this inside a task to have the scheduler place it anew, perhaps elsewhere."""


class WorkerStartTimeoutError(TimeoutError):
    """Fewer workers than asked for arrived in time.

    Args:
        available_workers: how many there are.
        expected_workers: how many were asked for.
        timeout: seconds waited.
    """

    def __init__(self, available_workers: int, expected_workers: int, timeout: float) -> None:
        super().__init__(available_workers, expected_workers, timeout)
        self.available_workers = available_workers
        self.expected_workers = expected_workers
        self.timeout = timeout

    def __str__(self) -> str:
        return f"Only {self.available_workers}/{self.expected_workers} workers arrived after {self.timeout}s"
