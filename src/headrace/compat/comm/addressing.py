"""`distributed.comm.addressing`."""

from __future__ import annotations

from headrace.comm.addressing import (
    address_from_user_args,
    addresses_from_user_args,
    coerce_to_address,
    get_address_host,
    get_address_host_port,
    get_local_address_for,
    normalize_address,
    parse_address,
    parse_host_port,
    resolve_address,
    unparse_address,
    unparse_host_port,
    uri_from_host_port,
)
from headrace.comm.registry import get_backend
from headrace.common.facade import names_before
from headrace.compat.core.addresses import addr_from_args

__getattr__ = names_before(__name__, "headrace.comm.addressing")

__all__ = [
    "addr_from_args",
    "address_from_user_args",
    "addresses_from_user_args",
    "coerce_to_address",
    "get_address_host",
    "get_address_host_port",
    "get_backend",
    "get_local_address_for",
    "normalize_address",
    "parse_address",
    "parse_host_port",
    "resolve_address",
    "unparse_address",
    "unparse_host_port",
    "uri_from_host_port",
]
