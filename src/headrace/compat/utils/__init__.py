"""`distributed.utils`: small helpers that other libraries import; each file here has one subject."""

from __future__ import annotations

from asyncio import wait_for as wait_for
from concurrent.futures import CancelledError
from typing import Any as AnyType

from dask.utils import format_bytes, funcname, key_split, parse_bytes, parse_timedelta

from headrace.comm.addressing import ports_of as parse_ports
from headrace.comm.interfaces import ensure_ip, get_ip, get_ip_interface, get_ipv6
from headrace.common.callables import (
    has_arg,
    has_keyword,
    import_term,
    iscoroutinefunction,
)
from headrace.common.display.notebook import is_kernel
from headrace.common.display.text_table import asciitable
from headrace.common.keys import key_group as key_split_group
from headrace.deploy.foldable_logs import Log, Logs
from headrace.rpc import LoopRunner, sync
from headrace.rpc.dashboard_links import format_dashboard_link
from headrace.rpc.files import import_file
from headrace.rpc.loops.sync_methods import SyncMethodMixin
from headrace.worker.context import thread_state

from .awaitables import All, Any, NoOpAwaitable
from .blocks import (
    ensure_memoryview,
    json_load_robust,
    read_block,
    seek_delimiter,
    tmp_text,
)
from .commands import (
    clean_dashboard_address,
    cli_keywords,
    command_has_keyword,
    get_fileno_limit,
    open_port,
)
from .deadlines import Deadline, EmptyContext, warn_on_duration
from .describing import (
    TupleComparable,
    get_traceback,
    is_valid_xml,
    recursive_to_dict,
    truncate_exception,
    url_escape,
)
from .log_handlers import (
    DequeHandler,
    RateLimiterFilter,
    log_errors,
    reset_logger_locks,
    silence_logging_cmgr,
)
from .thread_calls import (
    get_mp_context,
    in_async_call,
    offload,
    run_in_executor_with_context,
    set_thread_state,
)


def nbytes(frame: AnyType, _bytes_like: AnyType = (bytes, bytearray)) -> int:
    """Bytes in a frame: of one of these types, or with an attribute `nbytes`."""
    size: int = len(frame) if isinstance(frame, _bytes_like) else frame.nbytes
    return size


is_coroutine_function = iscoroutinefunction
TimeoutError = TimeoutError

__all__ = [
    "All",
    "Any",
    "CancelledError",
    "Deadline",
    "DequeHandler",
    "EmptyContext",
    "Log",
    "Logs",
    "LoopRunner",
    "NoOpAwaitable",
    "RateLimiterFilter",
    "SyncMethodMixin",
    "TimeoutError",
    "TupleComparable",
    "asciitable",
    "clean_dashboard_address",
    "cli_keywords",
    "command_has_keyword",
    "ensure_ip",
    "ensure_memoryview",
    "format_bytes",
    "format_dashboard_link",
    "funcname",
    "get_fileno_limit",
    "get_ip",
    "get_ip_interface",
    "get_ipv6",
    "get_mp_context",
    "get_traceback",
    "has_arg",
    "has_keyword",
    "import_file",
    "import_term",
    "in_async_call",
    "is_coroutine_function",
    "is_kernel",
    "is_valid_xml",
    "iscoroutinefunction",
    "json_load_robust",
    "key_split",
    "key_split_group",
    "log_errors",
    "nbytes",
    "offload",
    "open_port",
    "parse_bytes",
    "parse_ports",
    "parse_timedelta",
    "read_block",
    "recursive_to_dict",
    "reset_logger_locks",
    "run_in_executor_with_context",
    "seek_delimiter",
    "set_thread_state",
    "silence_logging_cmgr",
    "sync",
    "thread_state",
    "tmp_text",
    "truncate_exception",
    "url_escape",
    "wait_for",
    "warn_on_duration",
]
