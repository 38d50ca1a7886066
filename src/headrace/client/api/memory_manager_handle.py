"""The client's handle on the scheduler's active memory manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client.client import Client


class AMMClientProxy:
    """`Client.amm`: starts, stops and runs the scheduler's active memory manager.

    Each call waits for the scheduler's answer; with an asynchronous client it is awaitable.

    Args:
        client: the client to ask by.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def _ask(self, method: str) -> Any:
        return self._client.sync(self._request, method)

    async def _request(self, method: str) -> Any:
        return await self._client._call("amm_handler", method=method)

    def start(self) -> Any:
        """Run policies every interval from now on."""
        return self._ask("start")

    def stop(self) -> Any:
        """Run policies no more unless asked."""
        return self._ask("stop")

    def run_once(self) -> Any:
        """Run all policies now."""
        return self._ask("run_once")

    def running(self) -> Any:
        """Whether policies run by themselves."""
        return self._ask("running")
