"""The scheduler's half of published datasets: it stores pickles, and keeps the tasks of the futures in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..stored_futures import Keeping


class PublishedDataset(dict[str, Any]):
    """One dataset: "data", the pickle; "keys", those of the futures in it; "keeper", what keeps their tasks."""


class PublishExtension:
    """Datasets by name."""

    def __init__(self, scheduler: Any) -> None:
        self.datasets: dict[Any, PublishedDataset] = {}
        self.keeping = Keeping.of(scheduler)
        scheduler.server.handlers.update(
            publish_put=self.put,
            publish_get=self.get,
            publish_list=self.list,
            publish_delete=self.delete,
        )

    async def put(
        self,
        names: Iterable[Any],
        keys: Iterable[Any],
        data: Iterable[Any],
        override: bool = False,
        client: str | None = None,
        uid: Any = None,
    ) -> dict[str, Any]:
        """Publish datasets, all or none.

        Args:
            names: of the datasets.
            keys: for each, those of the futures in it.
            data: for each, the pickle.
            override: replace those that are there.
            client, uid: who publishes.

        Returns:
            "exists": the names that are there already; then nothing was published.
        """
        names = list(names)
        taken = [name for name in names if name in self.datasets]
        if taken and not override:
            return {"exists": taken}
        for name, own, payload in zip(names, keys, data, strict=True):
            keeper = self.keeping.keep(f"published-{name}", own)
            self._remove(name)
            self.datasets[name] = PublishedDataset(data=payload, keys=list(own), keeper=keeper)
        return {"exists": []}

    async def delete(self, names: Iterable[Any], client: str | None = None, uid: Any = None) -> None:
        """Forget datasets; names that are not there are passed over."""
        for name in names:
            self._remove(name)

    def list(self) -> tuple[Any, ...]:
        """All names, in the order of their texts."""
        return tuple(sorted(self.datasets, key=str))

    def get(self, names: Iterable[Any], client: str | None = None) -> dict[str, Any]:
        """Datasets by name; those that are not there are left out.

        Returns:
            "data": names and pickles; "token": see `Keeping.hand_over`.
        """
        found = {name: self.datasets[name] for name in names if name in self.datasets}
        keepers = [self.keeping.keep(f"published-{name}", dataset["keys"]) for name, dataset in found.items()]
        return {
            "data": [(name, dataset["data"]) for name, dataset in found.items()],
            "token": self.keeping.hand_over(client, keepers),
        }

    def flush_batched_send(self, client: Any, uid: Any) -> None:
        """Accepted for compatibility: clients wait until their tasks are known before they publish."""

    # What the scheduler tells

    def work_forgotten(self) -> None:
        """A restart: datasets with futures in them are gone."""
        for name in [name for name, dataset in self.datasets.items() if dataset["keys"]]:
            self._remove(name)

    def _remove(self, name: Any) -> None:
        dataset = self.datasets.pop(name, None)
        if dataset is not None:
            self.keeping.let_go([dataset["keeper"]])
