"""One class per stream message, tagged by its class, decoded with types checked.

Streams carry batches: a `list` of these. `FromClient`, `ToClient`, `FromWorker` and `ToWorker` are the unions that each
end decodes. This package is pure: it knows neither sockets nor pickles.
"""

from __future__ import annotations

from .client import FromClient, ToClient
from .worker import FromWorker, ToWorker

__all__ = ["FromClient", "FromWorker", "ToClient", "ToWorker"]
