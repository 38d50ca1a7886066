"""Tasks as they end, sent over the network: a scheduler's plugin, and its use by way of the operation `feed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin

if TYPE_CHECKING:
    from headrace import Scheduler
    from headrace.comm import Comm

__all__ = ["EventStream", "eventstream", "swap_buffer", "teardown"]


class EventStream(SchedulerPlugin):
    """Collects the keywords of each transition of a task that leaves its worker.

    Args:
        scheduler: the scheduler that the plugin adds itself to, if one is given.

    Attributes:
        buffer: the transitions since `swap_buffer` was last called.
    """

    name = "event-stream"

    def __init__(self, scheduler: Scheduler | None = None) -> None:
        self.buffer: list[dict[str, Any]] = []
        if scheduler is not None:
            scheduler.add_plugin(self, name=f"{self.name}-{id(self):x}")

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        """Collect a transition from processing."""
        if start == "processing" and finish in ("memory", "erred"):
            kwargs["key"] = key
            self.buffer.append(kwargs)


def swap_buffer(scheduler: object, es: EventStream) -> list[dict[str, Any]]:
    """Take the transitions that were collected since the last call."""
    es.buffer, buffer = [], es.buffer
    return buffer


def teardown(scheduler: Scheduler, es: EventStream) -> None:
    """Take the plugin from the scheduler."""
    name = f"{es.name}-{id(es):x}"
    if name in scheduler.plugins:
        scheduler.remove_plugin(name)


async def eventstream(address: str, interval: float | str) -> Comm:
    """Open a comm on which a scheduler sends lists of events until it is closed.

    Args:
        address: the scheduler's.
        interval: seconds, or text, between two lists.

    Raises:
        OSError: the scheduler cannot be reached.
    """
    from headrace.comm import connect
    from headrace.protocol import dumps

    comm = await connect(address)
    functions = {"setup": EventStream, "function": swap_buffer, "teardown": teardown}
    await comm.write({"op": "feed", "interval": interval, **{name: dumps(each) for name, each in functions.items()}})
    return comm
