"""`distributed.client`: `headrace.client`, and older and smaller documented names."""

from __future__ import annotations

from typing import Any, NoReturn, TypedDict

from dask.base import is_dask_collection

from headrace import client
from headrace.client.current import global_client as _get_global_client  # noqa: F401  # dask.distributed's name
from headrace.common.facade import names_before

__all__ = sorted({*client.__all__, "AsCompleted", "VersionsDict", "get_collections_metadata", "redict_collection"})

__getattr__ = names_before(__name__, "headrace.client")


class VersionsDict(TypedDict):
    """The answer of `Client.get_versions`: versions of packages by where they are."""

    scheduler: dict[str, dict[str, Any]]
    workers: dict[str, dict[str, dict[str, Any]]]
    client: dict[str, dict[str, Any]]


def AsCompleted(*args: Any, **kwargs: Any) -> NoReturn:
    """Has another name.

    Raises:
        TypeError: always; says which.
    """
    raise TypeError("AsCompleted is called as_completed: from distributed import as_completed")


def get_collections_metadata(collection: Any) -> dict[str, Any]:
    """Facts about a collection beside its tasks: the name of its class."""
    return {"type": type(collection).__name__}


def redict_collection(c: Any, dsk: Any) -> Any:
    """A collection with another graph, in which its keys are.

    Raises:
        TypeError: it is no collection.
    """
    if not is_dask_collection(c):
        raise TypeError(f"{type(c).__name__} is no collection of dask's")
    rebuild, arguments = c.__dask_postpersist__()
    return rebuild(dsk, *arguments)
