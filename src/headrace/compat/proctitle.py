"""`distributed.proctitle`."""

from __future__ import annotations

from headrace.compat.toolbox.titles import enable_proctitle_on_children, enable_proctitle_on_current, setproctitle

__all__ = ["enable_proctitle_on_children", "enable_proctitle_on_current", "setproctitle"]
