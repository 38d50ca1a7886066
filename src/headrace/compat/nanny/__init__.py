"""`distributed.nanny`: the public `Nanny`, and the names of `headrace.nanny`.

Nothing below imports this package: what makes a nanny gets the class from the facade `headrace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import names_before

if TYPE_CHECKING:
    from headrace.nanny import WorkerProcess

    from .public_nanny import Nanny

_NAMES = {"Nanny": ".public_nanny"}

__all__ = ["Nanny", "WorkerProcess"]

__getattr__ = names_before(__name__, "headrace.nanny", _NAMES)
