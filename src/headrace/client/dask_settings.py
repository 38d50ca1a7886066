"""Settings of dask's that hold while a client is in force, and only then: who computes, and how shuffles are cut.

Imports of this package leave dask as it is: without a client it computes, shuffles and rechunks as it would by itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import dask.config

from headrace.config import WITH_A_CLUSTER

SCHEDULER = {"scheduler": "dask.distributed"}

_lock = threading.Lock()
_holders = 0
#: What is set, and its end, by name.
_settings: dict[str, tuple[Any, dask.config.set]] = {}


def begin() -> None:
    """A client comes into force; each call must be followed by one of `end`."""
    global _holders
    with _lock:
        _holders += 1
        for name, value in {**SCHEDULER, **WITH_A_CLUSTER}.items():
            present = dask.config.get(name, None)
            # How to shuffle is the user's to say, who computes is not: a client is there for that. What was taken away
            # in between, by the end of a `dask.config.set` that began before, is set again.
            if present != value and (name in SCHEDULER or present is None):
                _settings[name] = (value, dask.config.set({name: value}))


def end() -> None:
    """A client goes; with the last one, what was there before comes back where the user has set nothing else since."""
    global _holders
    with _lock:
        _holders -= 1
        if _holders:
            return
        for name, (value, setting) in _settings.items():
            if dask.config.get(name, None) == value:
                setting.__exit__(None, None, None)
        _settings.clear()


@contextlib.contextmanager
def in_force() -> Iterator[None]:
    """A client is in force within the block."""
    begin()
    try:
        yield
    finally:
        end()
