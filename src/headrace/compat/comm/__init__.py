"""`distributed.comm`: `headrace.comm`, and modules of other names."""

from __future__ import annotations

from headrace import comm
from headrace.common.facade import names_before

__all__ = list(comm.__all__)

__getattr__ = names_before(__name__, "headrace.comm")
