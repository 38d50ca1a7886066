"""Datasets: `publish_dataset`, `get_dataset` and their kin. What is published outlives this client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..packing.stored_values import (
    PackedValue,
    pack,
    settled,
    unpack,
)
from .client_base import ClientBase, no_default

if TYPE_CHECKING:
    from .datasets_mapping import Datasets


class DatasetMethods(ClientBase):
    """Named values at the scheduler."""

    def publish_dataset(self, *args: object, name: object = None, override: bool = False, **kwargs: object) -> Any:
        """Store collections, futures or values at the scheduler under names, for all clients.

        Futures in them are kept as long as they are published; what is not computed stays so: `persist` before.

        Args:
            args: one object (several become a tuple) with `name`; or one dictionary {name: object} without.
            name: str, int, float, bytes, or a tuple of these.
            override: replace what is published under the same name.
            kwargs: more objects by name.

        Raises:
            KeyError: there is one of that name, and not `override`. Nothing was published then.
            ValueError: objects without names, or a name without an object.

        Examples:
            >>> client.publish_dataset(frame=frame)  # doctest: +SKIP
            >>> client.publish_dataset(frame, name="frame")  # doctest: +SKIP
        """
        values: dict[Any, Any] = {}
        if name is not None:
            if not args:
                raise ValueError("If name is provided, expecting call signature like publish_dataset(df, name='ds')")
            values[tuple(name) if isinstance(name, list) else name] = args[0] if len(args) == 1 else args
        elif args:
            if len(args) != 1 or not isinstance(args[0], dict):
                raise ValueError("If name is omitted, positional argument must be a {name: value} dict")
            values.update(args[0])
        values.update(kwargs)
        packed = {name: pack(value, self) for name, value in values.items()}
        return self.sync(self._publish_datasets, packed, override)

    async def _publish_datasets(self, packed: Mapping[Any, PackedValue], override: bool) -> None:
        await settled(self, *packed.values())
        answer = await self._call(
            "publish_put",
            names=list(packed),
            keys=[one.keys for one in packed.values()],
            data=[one.payload for one in packed.values()],
            override=override,
            client=self.id,
        )
        if answer["exists"]:
            raise KeyError(f"Dataset {', '.join(map(str, answer['exists']))} already exists")

    def unpublish_dataset(self, name: object, **kwargs: Any) -> Any:
        """Remove datasets; names that are not published are passed over.

        Args:
            name: a name, or a list of them.
        """
        names = name if isinstance(name, list) else [name]
        return self.sync(self._call, "publish_delete", names=names, client=self.id, **kwargs)

    def list_datasets(self, **kwargs: Any) -> Any:
        """The names of all published datasets: a tuple."""
        return self.sync(self._call, "publish_list", **kwargs)

    def get_dataset(self, name: object, default: object = no_default, **kwargs: Any) -> Any:
        """A published dataset; a list of them for a list of names.

        Args:
            name: a name, or a list of them.
            default: what to return for one that is not published.

        Raises:
            KeyError: it is not published, and there is no default.
        """
        return self.sync(self._get_datasets, name, default, **kwargs)

    async def _get_datasets(self, name: object, default: object) -> Any:
        names = name if isinstance(name, list) else [name]
        answer = await self._call("publish_get", names=names, client=self.id)
        values = await unpack(self, [payload for _, payload in answer["data"]], answer["token"])
        found = dict(zip([known for known, _ in answer["data"]], values, strict=True))
        if default is no_default and (missing := [one for one in names if one not in found]):
            raise KeyError(f"Dataset {missing[0] if len(missing) == 1 else missing!r} not found")
        datasets = [found.get(one, default) for one in names]
        return datasets if isinstance(name, list) else datasets[0]

    @property
    def datasets(self) -> Datasets:
        """The published datasets as a mapping."""
        from .datasets_mapping import Datasets

        return Datasets(self._whole_client)
