"""`Client(serializers=…, deserializers=…)`: values of such a client travel by certain families only.

Applies to data between the client and the cluster: `scatter`, `gather` and results. Tasks are always pickled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.client.state import ClientCore
from headrace.messages import ToClient
from headrace.messages.client import KeyInMemory
from headrace.protocol import Serialized
from headrace.protocol.families import known_families, loads_by_family
from headrace.protocol.marks import SerializeBy
from headrace.rpc import ConnectionPool, PatientCalls


class FetchedResults(ClientCore):
    """Leaves on the workers even small results: those that ride on messages are pickles."""

    def handle(self, message: ToClient) -> None:
        """React to a message from the scheduler."""
        if type(message) is KeyInMemory:
            message.result = None
        super().handle(message)


class ChosenFamilies:
    """The families of one client.

    Args:
        serializers: by which values are serialized for this client and by it, in order of preference.
        deserializers: from which it accepts values; the same by default.

    Raises:
        ValueError: a family that is not registered in this process.
    """

    def __init__(self, serializers: Iterable[str] | None, deserializers: Iterable[str] | None) -> None:
        self.serializers = known_families(("dask", "pickle") if serializers is None else serializers)
        self.deserializers = known_families(self.serializers if deserializers is None else deserializers)
        self._pool: ConnectionPool | None = None
        self._calls: PatientCalls | None = None

    async def ask(self, connection_args: dict[str, Any], address: str, op: str, **kwargs: object) -> dict[str, Any]:
        """Call an operation whose reply has values under "data".

        Raises:
            TypeError: a value was serialized by a family from which nothing is accepted.
        """
        if self._calls is None:  # values are to come unopened, unlike over the client's other connections
            self._pool = ConnectionPool(deserialize=False, connection_args=connection_args)
            self._calls = PatientCalls(self._pool)
        reply: dict[str, Any] = await self._calls.call(address, op, serializers=self.serializers, **kwargs)
        reply["data"] = {key: self.open(value) for key, value in (reply.get("data") or {}).items()}
        return reply

    def mark(self, value: object) -> SerializeBy:
        """A value for a worker."""
        return SerializeBy(value, self.serializers)

    def open(self, value: object) -> Any:
        """A value from a worker."""
        if isinstance(value, Serialized):
            return loads_by_family(value.payload, self.deserializers)
        return value.load() if isinstance(value, SerializeBy) else value

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = self._calls = None
