"""`distributed.comm.addressing`: `headrace.comm.addressing`, and what other packages import from there."""

from __future__ import annotations

from headrace.common.facade import names_before

__getattr__ = names_before(
    __name__,
    "headrace.comm.addressing",
    {"addr_from_args": "headrace.compat.core.addresses", "get_backend": "headrace.comm.registry"},
)
