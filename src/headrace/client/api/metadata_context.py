"""`get_task_metadata`: what the tasks of a span of code left behind, as the scheduler collected it."""

from __future__ import annotations

import uuid
from typing import Any

from headrace.client.current import default_client


class get_task_metadata:
    """Collects metadata and final states of the tasks submitted within its context (`with` or `async with`).

    Attributes:
        metadata: {key: what the task or plugins of workers put there, or None}, once the context has ended.
        state: {key: "memory" or "erred"}, likewise; tasks that have not ended are left out.

    Examples:
        >>> with get_task_metadata() as tasks:  # doctest: +SKIP
        ...     x.compute()
        >>> tasks.metadata  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.name = f"task-metadata-{uuid.uuid4().hex}"
        self.keys: set[Any] = set()
        self.metadata: dict[Any, Any] = {}
        self.state: dict[Any, str] = {}

    def __enter__(self) -> get_task_metadata:
        return default_client().sync(self.__aenter__, asynchronous=False)  # type: ignore[no-any-return]

    def __exit__(self, *error: object) -> None:
        default_client().sync(self.__aexit__, *error, asynchronous=False)

    async def __aenter__(self) -> get_task_metadata:
        await default_client()._call("start_task_metadata", name=self.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        found = await default_client()._call("stop_task_metadata", name=self.name)
        self.metadata, self.state = dict(found["metadata"]), dict(found["state"])
