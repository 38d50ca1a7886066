"""`distributed.event`."""

from __future__ import annotations

from headrace.extensions.events import Event
from headrace.extensions.events.scheduler import EventExtension

__all__ = ["Event", "EventExtension"]
