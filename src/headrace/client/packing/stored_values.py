"""Values that are stored at the scheduler: pickled here, together with the keys of the futures in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.client.current import temp_default_client
from headrace.client.future import Future
from headrace.client.waiting import futures_of
from headrace.common.keys import Key, to_wire
from headrace.messages.base import Payload
from headrace.messages.client import KeysReceived
from headrace.protocol import dumps, hand_over, loads

if TYPE_CHECKING:
    from headrace.client.api.client_base import ClientBase


class PackedValue(NamedTuple):
    """A pickled value, and the keys of the futures in it, which live at least until the scheduler keeps them."""

    payload: Payload
    keys: list[Key]
    futures: list[Future[Any]]


def pack(value: object, client: ClientBase) -> PackedValue:
    """Pickle a value, or hand it over if the client's scheduler is in this process.

    Raises:
        SerializationError: it cannot be pickled; names the type and the cause.
    """
    futures = futures_of(value)
    payload = hand_over(value) if client.session.in_process else dumps(value)
    return PackedValue(payload, [to_wire(future.key) for future in futures], futures)


async def settled(client: ClientBase, *values: PackedValue) -> None:
    """Wait until the scheduler knows the futures in these values: what we submitted goes another way."""
    if any(value.keys for value in values):
        await client.held.barrier()


async def settled_and_known(client: ClientBase, value: PackedValue) -> None:
    """`settled`, for a value whose futures must not be cancelled: nobody could ever have their results.

    Raises:
        TimeoutError: one of them is cancelled; names it.
    """
    await settled(client, value)
    for future in value.futures:
        if future._state is not None and future._state.status == "cancelled":
            raise TimeoutError(f"Task {future.key} unknown to scheduler: its future is cancelled")


async def unpack(client: ClientBase, payloads: Iterable[Payload], token: int | None) -> list[Any]:
    """The values; futures in them are the client's, and have the status that they have at the scheduler.

    Args:
        token: what the scheduler called the handover of their futures, if there are any.
    """
    try:
        with temp_default_client(client._whole_client):
            values = [loads(payload) for payload in payloads]
    finally:
        if token is not None:
            client.outbox.post(KeysReceived(token))
    if token is not None:
        await client.held.barrier()
    return values
