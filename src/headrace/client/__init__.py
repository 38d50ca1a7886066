"""The user's side: `Client`, `Future`, and functions over futures. Names are resolved when they are used."""

from __future__ import annotations

from headrace.common.facade import lazy_names

_NAMES = {
    "AllExit": ".errors",
    "AsCompleted": ".documented",
    "VersionsDict": ".documented",
    "get_collections_metadata": ".documented",
    "redict_collection": ".documented",
    "CancelledError": ".errors",
    "CancelledFuturesGroup": ".errors",
    "Client": ".client",
    "ClientExecutor": ".executor",
    "CompatibleExecutor": ".executor",
    "ClosedClientError": ".errors",
    "DoneAndNotDoneFutures": ".waiting",
    "Future": ".future",
    "FutureCancelledError": ".errors",
    "FutureState": ".state",
    "SourceCode": "headrace.common.source_code",
    "FuturesCancelledError": ".errors",
    "Retry": ".retrying",
    "as_completed": ".waiting",
    "default_client": ".current",
    "done_callback": ".future",
    "ensure_default_client": ".current",
    "fire_and_forget": ".waiting",
    "futures_of": ".waiting",
    "get_client": ".current",
    "get_task_metadata": ".task_metadata",
    "performance_report": "headrace.diagnostics.performance",
    "temp_default_client": ".current",
    "wait": ".waiting",
}

__all__ = sorted(_NAMES)

__getattr__ = lazy_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted(_NAMES)
