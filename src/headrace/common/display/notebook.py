"""Questions about a notebook: whether this process is a kernel, and whether widgets can be shown."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["is_kernel", "widgets_module"]


def is_kernel() -> bool:
    """Whether this is a Jupyter kernel, rather than a script, a terminal, or IPython in one.

    >>> is_kernel()
    False
    """
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def widgets_module() -> Any:
    """`ipywidgets`, or None where it is not installed."""
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets
