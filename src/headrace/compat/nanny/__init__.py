"""`distributed.nanny`: the public `Nanny`, and the names of `headrace.nanny`.

Nothing below imports this package: what makes a nanny gets the class from the facade `headrace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.common.facade import lazy_names, names_before

if TYPE_CHECKING:
    from headrace.nanny import WorkerProcess

    from .public_nanny import Nanny

_NAMES = {"Nanny": ".public_nanny"}

__all__ = ["Nanny", "WorkerProcess"]

_own = lazy_names(__name__, _NAMES)
_others = names_before(__name__, "headrace.nanny")


def __getattr__(name: str) -> Any:
    return _own(name) if name in _NAMES else _others(name)
