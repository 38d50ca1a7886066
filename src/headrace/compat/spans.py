"""`distributed.spans`."""

from __future__ import annotations

from headrace.extensions.spans import Span, SpanMetadata, SpansSchedulerExtension, SpansWorkerExtension, span

__all__ = ["Span", "SpanMetadata", "SpansSchedulerExtension", "SpansWorkerExtension", "span"]
