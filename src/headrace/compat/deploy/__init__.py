"""`distributed.deploy`: `headrace.deploy`, and modules of other names."""

from __future__ import annotations

from headrace import deploy
from headrace.common.facade import names_before

__all__ = list(deploy.__all__)

__getattr__ = names_before(__name__, "headrace.deploy")
