"""The exceptions that users and other parts of headrace catch, in one place and without imports of ours."""

from __future__ import annotations

from typing import Any


class SerializationError(TypeError):
    """A value cannot be pickled; the message names its type and the cause."""


class DeserializationError(Exception):
    """A payload that arrived whole cannot be turned back into a value here."""


class MessageTooLargeError(ValueError):
    """A value is larger than what may be sent; names the sizes and the setting."""


class CommClosedError(OSError):
    """The connection is closed, or was closed while in use."""


class MalformedDataError(CommClosedError):
    """The connection was closed because what came over it makes no sense."""


class FrameTooLargeError(MalformedDataError):
    """The connection was closed because what came is longer than this side accepts; names the setting."""


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


class UnknownMessage(TypeError):
    """A message is of a class that its receiver does not handle; names the class."""


class BadRequestError(ValueError):
    """A server refuses what it was asked for. The message tells the caller all there is to know: the server's log needs
    no traceback."""


class UnknownWorkerError(BadRequestError, KeyError):
    """No worker has the name, address or host that was asked for; the message names it, and those that there are."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()  # a KeyError shows it quoted


class RemoteError(RuntimeError):
    """Stands for a remote exception that cannot be loaded, or must not be raised, here; its text says what it was."""


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


class KilledWorker(Exception):
    """A task was running each time on a worker that died, too often for chance.

    Args:
        task: its key.
        last_worker: the last of those workers: a `WorkerState`, or an address.
        allowed_failures: how many deaths are put down to chance.
        cause: what the last one died of, as far as is known.
    """

    def __init__(self, task: Any, last_worker: Any, allowed_failures: int, cause: str = "") -> None:
        super().__init__(task, last_worker, allowed_failures, cause)
        self.task = task
        self.last_worker = last_worker
        self.allowed_failures = allowed_failures
        self.cause = cause

    @property
    def _last(self) -> str:
        """The last worker's address, and what ended it where that is known."""
        worker = getattr(self.last_worker, "address", self.last_worker)
        return f"{worker} ({self.cause})" if self.cause else str(worker)

    def __str__(self) -> str:
        return (
            f"{self.allowed_failures + 1} workers died while they ran task {self.task!r}, the last one at {self._last}"
            ". It may need more memory than they have, or crash the interpreter; their logs tell more."
        )


class KilledWorkerServing(KilledWorker):
    """Workers died while a result was fetched from them, too often for chance; arguments as of `KilledWorker`."""

    def __str__(self) -> str:
        return (
            f"{self.allowed_failures + 1} workers died while the result of task {self.task!r} was fetched from them, "
            f"the last one at {self._last}. Sending a result can take as much memory again as holding it: give the "
            "workers more (memory_limit), fetch it in parts, or make it smaller on the workers first"
        )


class KilledWorkerLeaving(KilledWorker):
    """Workers left in good order, one after the other, while they ran a task; arguments as of `KilledWorker`."""

    def __str__(self) -> str:
        return (
            f"{self.allowed_failures + 1} workers left while they ran task {self.task!r}, the last one at {self._last}"
            ". It may end them itself. If it does not, and workers come and go often, raise "
            "distributed.scheduler.allowed-failures"
        )


class NoWorkerError(Exception):
    """A task waited too long without any worker running.

    Args:
        task: its key.
        timeout: seconds waited.
    """

    def __init__(self, task: Any, timeout: float) -> None:
        super().__init__(task, timeout)
        self.task = task
        self.timeout = timeout

    def __str__(self) -> str:
        return f"task {self.task!r} waited {self.timeout:g} s, and no worker was running"


class NoValidWorkerError(Exception):
    """A task waited too long for a worker that it may run on.

    Args:
        task: its key.
        host_restrictions, worker_restrictions: names and hosts, and addresses, of workers that may run it.
        resource_restrictions: abstract resources that it takes.
        timeout: seconds waited.
    """

    def __init__(
        self,
        task: Any,
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
    """The worker on which an actor lived is gone, and the actor's state with it."""


class TaskTimeout(TimeoutError):
    """A task ran longer than its `timeout` allows.

    Args:
        task: its key.
        timeout: the limit in seconds.
        worker: address of the worker it ran on.
    """

    def __init__(self, task: Any, timeout: float, worker: str) -> None:
        # one text: of two arguments and more, an OSError, which every TimeoutError is, takes the first for its number
        super().__init__(f"task {task!r} ran longer than its limit of {timeout:g} s on the worker at {worker}")
        self.task = task
        self.timeout = timeout
        self.worker = worker

    def __reduce__(self) -> Any:
        return TaskTimeout, (self.task, self.timeout, self.worker)


class UserCodeError(RuntimeError):
    """Stands for what a user's code raised outside its task, where that is no `Exception` or fails when looked at.

    Args:
        text: its class, and what it has to say.
    """


class TaskCancelled(BaseException):
    """Raised inside a running task that was cancelled with `running=True`.

    No `Exception`, as `KeyboardInterrupt` is none, so that a task's own `except Exception` does not hold it up. Nobody
    else sees it: those who wanted the result find it cancelled.

    Args:
        task: its key.
    """

    def __init__(self, task: Any) -> None:
        super().__init__(task)
        self.task = task

    def __str__(self) -> str:
        return f"task {self.task!r} was cancelled while it ran"
