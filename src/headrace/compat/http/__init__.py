"""`distributed.http`: `headrace.http`, and modules that only exist for their public names."""

from __future__ import annotations

from headrace.common.facade import names_before

__getattr__ = names_before(__name__, "headrace.http")
