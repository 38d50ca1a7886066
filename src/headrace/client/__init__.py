"""The user's side: `Client`, `Future`, and functions over futures. Names are resolved when they are used."""

from __future__ import annotations

from headrace.common.facade import lazy_names

_NAMES = {
    "AllExit": ".errors",
    "AsCompleted": "headrace.compat.client_names",
    "VersionsDict": "headrace.compat.client_names",
    "get_collections_metadata": "headrace.compat.client_names",
    "redict_collection": "headrace.compat.client_names",
    "CancelledError": ".errors",
    "CancelledFuturesGroup": ".errors",
    "Client": ".client",
    "ClientExecutor": ".cluster_executor",
    "CompatibleExecutor": ".cluster_executor",
    "ClosedClientError": ".errors",
    "DoneAndNotDoneFutures": ".waiting",
    "Future": ".future",
    "FutureCancelledError": ".errors",
    "FutureState": ".state",
    "SourceCode": "headrace.common.source_code",
    "FuturesCancelledError": ".errors",
    "Retry": ".packing.retry_options",
    "as_completed": ".waiting",
    "default_client": ".current",
    "done_callback": ".future",
    "ensure_default_client": ".current",
    "fire_and_forget": ".waiting",
    "futures_of": ".waiting",
    "get_client": ".current",
    "get_task_metadata": ".api.metadata_context",
    "performance_report": "headrace.diagnostics.performance_report",
    "temp_default_client": ".current",
    "wait": ".waiting",
}

__all__ = sorted(_NAMES)

__getattr__ = lazy_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted(_NAMES)
