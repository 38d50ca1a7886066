"""The exceptions that users and other parts of headrace catch. Imports nothing of headrace."""

from __future__ import annotations

from typing import Any


class SerializationError(TypeError):
    """A value cannot be pickled; the message names its type and the cause."""


class DeserializationError(RuntimeError):
    """A payload that arrived whole cannot be turned back into a value here."""


class MessageTooLargeError(ValueError):
    """A value is too large to be sent; the message names the sizes and the setting."""


class CommClosedError(OSError):
    """The connection is closed, or was closed while in use."""


class MalformedDataError(CommClosedError):
    """The connection was closed because the bytes that came over it make no sense."""


class FrameTooLargeError(MalformedDataError):
    """The connection was closed because a message is longer than this side accepts; the message names the setting."""


class FatalCommClosedError(CommClosedError):
    """The connection cannot be made, and another attempt would fail as well."""


class EncryptionRequiredError(FatalCommClosedError, RuntimeError):
    """Encryption is required, and the address has a scheme without it."""


class MissingCertificatesError(FatalCommClosedError, TypeError):
    """An address has a scheme with encryption, and there are no certificates to connect with."""


class ProtocolVersionError(FatalCommClosedError):
    """The two ends speak different versions of headrace's protocol."""


class NotAdmittedError(FatalCommClosedError, PermissionError):
    """One end of a connection does not show that it belongs to the cluster; the message says what to do."""


class ConnectTimeoutError(TimeoutError):
    """No connection was made within the time limit; the message names the address, the seconds and the last cause."""


class RPCClosed(OSError):
    """The `rpc` proxy or pool was closed and cannot be called any more."""


class UnknownOperationError(ValueError):
    """A server was asked for an operation that it does not have."""


class UnknownMessage(TypeError):
    """A message is of a class that its receiver does not handle; names the class."""


class BadRequestError(ValueError):
    """A server refuses a request. The message tells the caller all there is to know; the server logs no traceback."""


class UnknownWorkerError(BadRequestError, KeyError):
    """No worker has the name, address or host in a request; the message names it, and those that there are."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()  # a KeyError shows it quoted


class RemoteError(RuntimeError):
    """Stands for a remote exception that cannot be loaded or must not be raised here; its text describes that one."""


class Reschedule(Exception):
    """Raised by a task that wants the scheduler to place it anew, perhaps elsewhere."""


class WorkerStartTimeoutError(TimeoutError):
    """Fewer workers than asked for arrived in time.

    Args:
        available_workers: number of workers that are there.
        expected_workers: number of workers that were asked for.
        timeout: seconds waited.
    """

    def __init__(self, available_workers: int, expected_workers: int, timeout: float) -> None:
        super().__init__(available_workers, expected_workers, timeout)
        self.available_workers = available_workers
        self.expected_workers = expected_workers
        self.timeout = timeout

    def __str__(self) -> str:
        return f"Only {self.available_workers}/{self.expected_workers} workers arrived after {self.timeout}s"


class KilledWorker(Exception):
    """A task was running on several workers as they died, too often for chance.

    Args:
        task: the task's key.
        last_worker: the last of these workers: a `WorkerState`, or an address.
        allowed_failures: number of deaths that are put down to chance.
        cause: the cause of the last worker's death, as far as it is known.
    """

    def __init__(self, task: object, last_worker: object, allowed_failures: int, cause: str = "") -> None:
        super().__init__(task, last_worker, allowed_failures, cause)
        self.task = task
        self.last_worker = last_worker
        self.allowed_failures = allowed_failures
        self.cause = cause

    @property
    def _last(self) -> str:
        """The last worker's address, and the cause of its death where that is known."""
        worker = getattr(self.last_worker, "address", self.last_worker)
        return f"{worker} ({self.cause})" if self.cause else str(worker)

    def __str__(self) -> str:
        return (
            f"{self.allowed_failures + 1} workers died while they ran task {self.task!r}, the last one at {self._last}"
            ". It may need more memory than they have, or crash the interpreter; their logs tell more."
        )


class KilledWorkerServing(KilledWorker):
    """Workers died while a result was fetched from them, too often for chance; arguments as for `KilledWorker`."""

    def __str__(self) -> str:
        return (
            f"{self.allowed_failures + 1} workers died while the result of task {self.task!r} was fetched from them, "
            f"the last one at {self._last}. Sending a result can take as much memory again as holding it: give the "
            "workers more (memory_limit), fetch it in parts, or make it smaller on the workers first"
        )


class KilledWorkerLeaving(KilledWorker):
    """Workers left in good order, one after the other, while they ran a task; arguments as for `KilledWorker`."""

    def __str__(self) -> str:
        return (
            f"{self.allowed_failures + 1} workers left while they ran task {self.task!r}, the last one at {self._last}"
            ". It may end them itself. If it does not, and workers come and go often, raise "
            "distributed.scheduler.allowed-failures"
        )


class NoWorkerError(Exception):
    """A task waited too long without any worker running.

    Args:
        task: the task's key.
        timeout: seconds waited.
    """

    def __init__(self, task: object, timeout: float) -> None:
        super().__init__(task, timeout)
        self.task = task
        self.timeout = timeout

    def __str__(self) -> str:
        return f"task {self.task!r} waited {self.timeout:g} s, and no worker was running"


class NoValidWorkerError(Exception):
    """A task waited too long for a worker that may run it.

    Args:
        task: the task's key.
        host_restrictions: names and hosts of workers that may run it.
        worker_restrictions: addresses of workers that may run it.
        resource_restrictions: abstract resources that it takes.
        timeout: seconds waited.
    """

    def __init__(
        self,
        task: object,
        host_restrictions: set[str],
        worker_restrictions: set[str],
        resource_restrictions: dict[str, float],
        timeout: float,
    ) -> None:
        super().__init__(task, host_restrictions, worker_restrictions, resource_restrictions, timeout)
        self.task = task
        self.host_restrictions = host_restrictions
        self.worker_restrictions = worker_restrictions
        self.resource_restrictions = resource_restrictions
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"task {self.task!r} waited {self.timeout:g} s for a worker that may run it, and none came. It asks for "
            f"host_restrictions={self.host_restrictions}, worker_restrictions={self.worker_restrictions}, "
            f"resource_restrictions={self.resource_restrictions}"
        )


class LostActorError(RuntimeError):
    """The worker of an actor is gone, and the actor's state with it."""


class TaskTimeout(TimeoutError):
    """A task ran longer than its `timeout` allows.

    Args:
        task: the task's key.
        timeout: the limit in seconds.
        worker: address of the task's worker.
    """

    def __init__(self, task: object, timeout: float, worker: str) -> None:
        # One text: a TimeoutError is an OSError, which takes the first of several arguments for its number.
        super().__init__(f"task {task!r} ran longer than its limit of {timeout:g} s on the worker at {worker}")
        self.task = task
        self.timeout = timeout
        self.worker = worker

    def __reduce__(self) -> Any:
        return TaskTimeout, (self.task, self.timeout, self.worker)


class UserCodeError(RuntimeError):
    """Stands for an object that users' code raised, if that is no `Exception` or raises another when it is looked at.

    Args:
        text: the object's class and text.
    """


class TaskCancelled(BaseException):
    """Raised inside a running task that was cancelled with `running=True`.

    The class is no `Exception`, as `KeyboardInterrupt` is none, so that a task's own `except Exception` does not catch
    it. Only the task sees it: clients that want the result find the future cancelled.

    Args:
        task: the task's key.
    """

    def __init__(self, task: object) -> None:
        super().__init__(task)
        self.task = task

    def __str__(self) -> str:
        return f"task {self.task!r} was cancelled while it ran"
