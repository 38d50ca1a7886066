"""`distributed.utils`."""

from __future__ import annotations

from asyncio import CancelledError
from asyncio import wait_for as wait_for

from dask.sizeof import sizeof as nbytes
from dask.utils import format_bytes, funcname, key_split, parse_bytes, parse_timedelta

from headrace.comm.interfaces import get_ip, get_ip_interface, get_ipv6
from headrace.common.functions import has_arg, has_keyword, import_term, iscoroutinefunction
from headrace.common.keys import key_group as key_split_group
from headrace.common.ports import ports_of as parse_ports
from headrace.deploy.logs import Log, Logs
from headrace.rpc import LoopRunner, sync
from headrace.rpc.files import import_file
from headrace.rpc.sync_methods import SyncMethodMixin
from headrace.worker.context import thread_state

is_coroutine_function = iscoroutinefunction
TimeoutError = TimeoutError

__all__ = [
    "CancelledError",
    "Log",
    "Logs",
    "LoopRunner",
    "SyncMethodMixin",
    "TimeoutError",
    "format_bytes",
    "funcname",
    "get_ip",
    "get_ip_interface",
    "get_ipv6",
    "has_arg",
    "has_keyword",
    "import_file",
    "import_term",
    "is_coroutine_function",
    "iscoroutinefunction",
    "key_split",
    "key_split_group",
    "nbytes",
    "parse_bytes",
    "parse_ports",
    "parse_timedelta",
    "sync",
    "thread_state",
    "wait_for",
]
