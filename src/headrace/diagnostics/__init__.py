"""Plugins, progress bars and reports, by which users watch and extend a cluster. The core does without them."""

from __future__ import annotations

from headrace.common.facade import lazy_names

__getattr__ = lazy_names(__name__, {"MemorySampler": ".memory_sampler", "SchedulerPlugin": ".plugin"})
