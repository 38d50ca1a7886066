"""`Client.datasets`: published datasets as a mapping."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client.client import Client


class Datasets(MutableMapping[Any, Any]):
    """The datasets that are published at a client's scheduler, by name.

    With an asynchronous client, values are awaited (`await datasets["x"]`) and names come by `async for`; setting and
    deleting are left to `Client.publish_dataset` and `Client.unpublish_dataset`.

    Args:
        client: whose scheduler is asked.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, key: object) -> Any:
        return self._client.get_dataset(key)

    def __setitem__(self, key: object, value: object) -> None:
        self._refuse_asynchronous("set items of", "await client.publish_dataset(value, name=…)")
        self._client.publish_dataset(value, name=key)

    def __delitem__(self, key: object) -> None:
        self._refuse_asynchronous("delete items of", "await client.unpublish_dataset(name)")
        self._client.unpublish_dataset(key)

    def __contains__(self, key: object) -> bool:
        self._refuse_asynchronous("look for names in", "name in await client.list_datasets()")
        return key in self._client.list_datasets()

    def __iter__(self) -> Iterator[Any]:
        self._refuse_asynchronous("invoke iter() or `for` on", "async for")
        return iter(self._client.list_datasets())

    def __aiter__(self) -> AsyncIterator[Any]:
        if not self._client.asynchronous:
            raise TypeError("Can't invoke `async for` on client.datasets when client is synchronous; use `for` instead")
        return self._names()

    async def _names(self) -> AsyncIterator[Any]:
        for name in await self._client.list_datasets():
            yield name

    def __len__(self) -> int:
        self._refuse_asynchronous("invoke len() on", "len(await client.list_datasets())")
        return len(self._client.list_datasets())

    def __repr__(self) -> str:
        return f"<Datasets of {self._client!r}>"

    def _refuse_asynchronous(self, what: str, instead: str) -> None:
        if self._client.asynchronous:
            raise TypeError(f"Can't {what} client.datasets when client is asynchronous; use `{instead}` instead")
