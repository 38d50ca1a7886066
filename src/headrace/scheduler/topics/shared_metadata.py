"""The nested dictionary that clients share."""

from __future__ import annotations

from typing import Any

from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell


class SharedMetadata:
    """Reads and writes it."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "get_metadata": Operation(self.get_metadata, repeatable=True),
            "set_metadata": Operation(self.set_metadata),
        }

    def set_metadata(self, keys: object, value: object = None) -> None:
        """Set a value in the nested dictionary that clients share."""
        path = list(keys) if isinstance(keys, (list, tuple)) else [keys]
        node = self.shell.task_metadata
        for key in path[:-1]:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[path[-1]] = value

    def get_metadata(self, keys: object, default: object = "__no_default__") -> Any:
        """A value of the nested dictionary that clients share.

        Raises:
            KeyError: it is not there, and no default was given.
        """
        node: Any = self.shell.task_metadata
        for key in list(keys) if isinstance(keys, (list, tuple)) else [keys]:
            try:
                node = node[key]
            except (KeyError, TypeError):
                if default == "__no_default__":
                    raise KeyError(f"no metadata at {keys!r}") from None
                return default
        return node
