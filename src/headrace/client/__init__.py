"""The user's side: `Client`, `Future`, and functions over futures. Names are resolved when they are used."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "AllExit": "errors",
    "CancelledError": "errors",
    "CancelledFuturesGroup": "errors",
    "Client": "client",
    "ClosedClientError": "errors",
    "DoneAndNotDoneFutures": "waiting",
    "Future": "future",
    "FutureCancelledError": "errors",
    "FutureState": "state",
    "FuturesCancelledError": "errors",
    "as_completed": "waiting",
    "default_client": "current",
    "done_callback": "future",
    "ensure_default_client": "current",
    "fire_and_forget": "waiting",
    "futures_of": "waiting",
    "get_client": "current",
    "temp_default_client": "current",
    "wait": "waiting",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_NAMES)
