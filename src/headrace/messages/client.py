"""Messages of clients and the scheduler to each other, on their stream."""

from __future__ import annotations

from typing import Any, TypeAlias

from headrace.common.keys import Key
from headrace.common.source_code import SourceCode

from .base import HandlerMessage, Message, Payload, TaskOptions


class SubmitGraph(Message):
    """Tasks to compute, as columns: all but `functions`, `external`, `options` and `wanted` have one entry per task.

    A task is a call: a pickled callable out of `functions` and a pickled `(args, kwargs)` in `arguments`; inside these,
    `dask` graph nodes (`TaskRef`, `Task`, containers) stand for other tasks' results. A graph that is long is sent as
    several messages of the same `graph`, all but the last with `more`; dependencies are sent before their dependents
    and named by position: `i < len(keys)` is `keys[i]`, else `external[i - len(keys)]` (tasks that the scheduler has).

    Attributes:
        graph: the client's number for this submission; later submissions run later.
        functions: the distinct pickled callables; the scheduler sends each to a worker once.
        calls: per task, its callable's position in `functions`; empty means all 0.
        dependencies: per task, positions; empty when no task has any.
        rank: per task, its place in the graph's order (`dask.order`); empty means by position.
        options, option_of: the distinct options and, per task, a position (empty: all 0; no options: defaults).
            The first are those of the call, whether or not a task has them: they annotate the computation.
        wanted: positions of the tasks whose results the client wants; `None` means all.
    """

    graph: int
    functions: list[Payload]
    keys: list[Key]
    arguments: list[Payload]
    calls: list[int] = []
    dependencies: list[list[int]] = []
    external: list[Key] = []
    rank: list[int] = []
    options: list[TaskOptions] = []
    option_of: list[int] = []
    wanted: list[int] | None = None
    more: bool = False
    #: key of the task that submitted this from inside a worker, if any: its priority is inherited
    submitting_task: Key | None = None
    #: frames of the user's code, outermost first, for `Computation.code`; at most one tuple, in the first message
    code: list[tuple[SourceCode, ...]] = []


class ReleaseKeys(Message):
    """The client no longer wants these."""

    keys: list[Key]


class DesireKeys(Message):
    """The client wants these as well; the scheduler answers with the state that each is in (or `CancelledKeys`).

    With `until_done` it is the scheduler itself that keeps each until it is done, whatever happens to the client
    (`fire_and_forget`); there is no answer then.
    """

    keys: list[Key]
    until_done: bool = False


class CancelKeys(Message):
    """Stop work on these, if no other client wants them or `force`.

    With `running`, what runs is interrupted; with both, a worker on which it does not stop is restarted.
    """

    keys: list[Key]
    force: bool = False
    reason: str = "cancelled by the client"
    running: bool = False


class KeysReceived(Message):
    """The client has futures of the keys that came with a value (of a queue, say); see `extensions.stored_futures`."""

    token: int


class ClientHeartbeat(Message):
    """The client is alive."""


class CloseClient(Message):
    """The client leaves: drop its interest in everything; the scheduler then closes the stream."""


class KeyInMemory(Message):
    """A wanted task has a result; a small one is `result` itself (a pickle)."""

    key: Key
    type: str
    result: Payload = None


class TaskErred(Message):
    """A wanted task, or one it depends on (`blame`), failed; `exception` and `traceback` are pickles."""

    key: Key
    exception: Payload
    traceback: Payload
    blame: Key | None = None
    #: readable texts for a client that cannot unpickle the two above
    exception_text: str = ""
    traceback_text: str = ""


class TaskRetried(Message):
    """An erred task is pending again."""

    key: Key


class LostData(Message):
    """A result that was in memory is gone; it is being computed again."""

    key: Key


#: The reason for which tasks are cancelled that need what is gone: a cancelled or released future, or what never was.
LOST_DEPENDENCIES = "lost dependencies"


class CancelledKeys(Message):
    """Tasks that will not be computed: cancelled, or unknown to the scheduler, or their submission was refused."""

    keys: list[Key]
    reason: str = ""
    text: str | None = None


class GraphRefused(Message):
    """A whole submission was bad (a cycle, a missing key, a malformed column); none of it was taken."""

    keys: list[Key]
    message: str


class Restarted(Message):
    """The scheduler dropped all work; every future is cancelled."""


class ClientEvent(Message):
    """Something published on a topic the client subscribed to, or meant for its terminal (`print`, `warn`)."""

    topic: str
    event: Any


class MessagesReceived(Message):
    """So many of the client's messages have come, over all its connections; it need not send them again."""

    count: int


class SchedulerClosing(Message):
    """The scheduler is going away on purpose: do not reconnect."""

    reason: str = ""


FromClient: TypeAlias = (
    SubmitGraph | ReleaseKeys | DesireKeys | CancelKeys | KeysReceived | ClientHeartbeat | CloseClient | HandlerMessage
)
ToClient: TypeAlias = (
    KeyInMemory
    | TaskErred
    | TaskRetried
    | LostData
    | CancelledKeys
    | GraphRefused
    | Restarted
    | ClientEvent
    | MessagesReceived
    | SchedulerClosing
    | HandlerMessage
)
