"""`distributed.config`: dask's configuration with our defaults, and how loops and loggers are set up by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dask.config import config, get

from headrace.config import register_defaults
from headrace.logging_setup import initialize_logging
from headrace.rpc import new_event_loop

register_defaults()
defaults = config.get("distributed", {})


def get_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The function that makes the event loops of clients and servers: uvloop's where that is installed."""
    return new_event_loop


__all__ = ["config", "defaults", "get", "get_loop_factory", "initialize_logging"]
