"""The records of the keys that a client holds: pure, synchronous, without locks, clocks or sockets.

The shell (`headrace.client.link.held_keys`) guards it with one lock, feeds it messages, and sends what it returns.
"""

from __future__ import annotations

from .futures import ClientCore, FutureState

__all__ = ["ClientCore", "FutureState"]
