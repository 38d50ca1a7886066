"""The scheduler's half of published datasets: it stores pickles, and keeps the tasks of the futures in them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from headrace.common.keys import Key
from headrace.messages.base import Payload
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell

from ..stored_futures import FutureKeeper


class PublishedDataset(dict[str, Any]):
    """One dataset: "data", the pickle; "keys" of the futures in it; "keeper", which keeps their tasks, or None."""


class PublishExtension:
    """Datasets by name."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self.datasets: dict[Hashable, PublishedDataset] = {}
        self.futures = FutureKeeper.of(scheduler)
        register_operations(
            scheduler,
            "publish",
            {
                "publish_put": self.put,
                "publish_get": self.get,
                "publish_list": self.list,
                "publish_delete": self.delete,
            },
        )

    async def put(
        self,
        names: Iterable[Hashable],
        keys: Iterable[Iterable[Key]],
        data: Iterable[Payload],
        override: bool = False,
        client: str | None = None,
        uid: object = None,
    ) -> dict[str, Any]:
        """Publish datasets, all or none.

        Args:
            names: of the datasets.
            keys: for each, the keys of the futures in it.
            data: for each, the pickle.
            override: replace those that are there.
            client, uid: accepted for compatibility.

        Returns:
            "exists": the names that are there already; then nothing was published.
        """
        names = list(names)
        taken = [name for name in names if name in self.datasets]
        if taken and not override:
            return {"exists": taken}
        for name, own, payload in zip(names, keys, data, strict=True):
            keeper = self.futures.keep(f"published-{name}", own)
            self._remove(name)
            self.datasets[name] = PublishedDataset(data=payload, keys=list(own), keeper=keeper)
        return {"exists": []}

    async def delete(self, names: Iterable[Hashable], client: str | None = None, uid: object = None) -> None:
        """Forget datasets; names that are not there are passed over."""
        for name in names:
            self._remove(name)

    def list(self) -> tuple[Any, ...]:
        """All names, in the order of their texts."""
        return tuple(sorted(self.datasets, key=str))

    def get(self, names: Iterable[Hashable], client: str | None = None) -> dict[str, Any]:
        """Datasets by name; those that are not there are left out.

        Returns:
            "data": names and pickles; "token": see `FutureKeeper.hand_over`.
        """
        found = {name: self.datasets[name] for name in names if name in self.datasets}
        keepers = [self.futures.keep(f"published-{name}", dataset["keys"]) for name, dataset in found.items()]
        return {
            "data": [(name, dataset["data"]) for name, dataset in found.items()],
            "token": self.futures.hand_over(client, keepers),
        }

    def flush_batched_send(self, client: object, uid: object) -> None:
        """Accepted for compatibility: clients wait until their tasks are known before they publish."""

    # Hooks that the scheduler calls

    def work_forgotten(self) -> None:
        """A restart: datasets with futures in them go with the tasks of these."""
        for name in [name for name, dataset in self.datasets.items() if dataset["keys"]]:
            self._remove(name)

    def _remove(self, name: Hashable) -> None:
        dataset = self.datasets.pop(name, None)
        if dataset is not None:
            self.futures.let_go([dataset["keeper"]])
