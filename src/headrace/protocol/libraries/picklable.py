"""Objects that pickle well by themselves: sparse arrays, tensors, models. Only families without pickle need this."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from headrace.protocol.frames import Frame, Frames

from . import LibraryClass


def classes(toplevel: str) -> Iterator[LibraryClass]:
    """The classes of a package that has been imported."""
    module = sys.modules["torch" if toplevel == "torchvision" else toplevel]
    listed: dict[str, Callable[[], list[Any]]] = {
        "scipy": lambda: [getattr(module.sparse, name, None) for name in ("spmatrix", "sparray")],
        "sparse": lambda: [module.COO],
        "keras": lambda: [module.Model],
        "torch": lambda: [module.Tensor, module.nn.Parameter],
        "torchvision": lambda: [module.Tensor, module.nn.Parameter],
    }
    for cls in listed[toplevel]():
        if cls is not None:
            yield LibraryClass(cls, dump_pickle, load_pickle)


def dump_pickle(value: object) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of an object: its pickle, and its buffers beside it."""
    from headrace.protocol.pickling import dumps  # late: it needs these modules

    payload = dumps(value)
    return {"pickled": True}, payload.frames if isinstance(payload, Frames) else [payload]


def load_pickle(header: dict[str, Any], frames: list[Frame]) -> Any:
    """The object in what `dump_pickle` returned."""
    from headrace.protocol.pickling import loads

    return loads(Frames(list(frames)))
