"""Versions of Python and of packages that a client tells when it registers."""

from __future__ import annotations

import sys
from typing import Any

#: Packages that must be the same everywhere, or pickles may not load.
TOLD = ("dask", "msgspec", "cloudpickle")


def handshake_versions() -> dict[str, Any]:
    """The few versions that a client tells the scheduler when it registers; imports nothing that is not loaded."""
    known = {name: getattr(sys.modules.get(name), "__version__", None) for name in TOLD}
    return {"python": ".".join(map(str, sys.version_info)), **known}
