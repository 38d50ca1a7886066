"""Spans: names for parts of a workflow. `span` annotates tasks where they are made; the scheduler's records add up."""

from __future__ import annotations

from .client import span
from .records import Span, SpanMetadata
from .scheduler import SpansSchedulerExtension

__all__ = ["Span", "SpanMetadata", "SpansSchedulerExtension", "span"]
