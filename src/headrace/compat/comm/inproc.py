"""`distributed.comm.inproc`: `headrace.comm.inproc`, with the documented form of new addresses."""

from __future__ import annotations

from headrace.comm import inproc
from headrace.common.facade import names_before

__getattr__ = names_before(__name__, "headrace.comm.inproc")


def new_address() -> str:
    """A new, unique address, `inproc://…`."""
    return f"inproc://{inproc.new_address()}"
