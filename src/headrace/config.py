"""Configuration: defaults in `headrace.yaml`, registered with dask, and the frozen options that servers read once.

Importing this module does not import dask, which takes a tenth of a second; the first value read does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

#: The environment variable in which dask hands its configuration to processes that it starts.
INHERITED = "DASK_INTERNAL_INHERIT_CONFIG"

# The usual units, so that a process can start without dask, which knows all.
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "seconds": 1, "m": 60, "minutes": 60, "h": 3600, "hours": 3600}
_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "kiB": 2**10, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "B": 1}


@lru_cache
def defaults() -> dict[str, Any]:
    """What `headrace.yaml` says."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(Path(__file__).with_name("headrace.yaml")) as file:
        return dict(yaml.load(file, Loader=loader))


@lru_cache
def _register_once() -> Any:
    import dask.config

    dask.config.update_defaults(defaults())
    return dask.config


def register_defaults() -> Any:
    """Put our defaults below what the user configured; returns `dask.config`."""
    config = _register_once()
    if "version" not in config.config.get("distributed", ()):
        # The end of a `dask.config.set` that began before took all of `distributed` away with it.
        config.update(config.config, defaults(), priority="old")
    return config


@lru_cache
def inherited() -> dict[str, Any] | None:
    """The whole configuration of the process that started this one, as dask passes it on; None if there is none."""
    text = os.environ.get(INHERITED)
    return json.loads(base64.urlsafe_b64decode(text)) if text else None


def get(name: str, default: Any = None) -> Any:
    """A value by its dotted name, from the user's configuration or else our defaults."""
    if "dask.config" not in sys.modules and (value := inherited()) is not None:
        for part in name.split("."):  # a process that was given its configuration can start without dask
            if not isinstance(value, dict) or part not in value:
                break
            value = value[part]
        else:
            return value
    return register_defaults().get(name, default)


def parse_seconds(value: float | str | None, default: float | None = None) -> float:
    """Seconds in a number or a text such as "500ms".

    Raises:
        ValueError: not a time, or `None` without a default.
    """
    if value is None:
        if default is None:
            raise ValueError("a time is missing")
        return default
    if isinstance(value, (int, float)):
        return float(value)
    found = _QUANTITY.fullmatch(value)
    if found and found[2] in _SECONDS:
        return float(found[1]) * _SECONDS[found[2]]
    from dask.utils import parse_timedelta

    try:
        return float(parse_timedelta(value))
    except (LookupError, ValueError):  # the former for a unit that it does not know, and for no text
        raise ValueError(f"{value!r} is no time: give seconds, or a text such as '500ms' or '2 minutes'") from None


def parse_bytes(value: float | str) -> int:
    """Bytes in a number or a text such as "64MiB"."""
    if isinstance(value, (int, float)):
        return int(value)
    found = _QUANTITY.fullmatch(value)
    if found and found[2] in _BYTES:
        return int(float(found[1]) * _BYTES[found[2]])
    from dask.utils import parse_bytes as dask_parse_bytes

    return int(dask_parse_bytes(value))


@dataclass(frozen=True, slots=True)
class CommOptions:
    """What connections read from `distributed.comm`.

    Attributes:
        connect_timeout: seconds to try to connect, and to wait for a stranger's handshake.
        tcp_timeout: seconds after which a silent TCP connection counts as dead.
        compression: "lz4", "zstd", "auto" or `None`.
        max_frame_bytes: longest frame that is accepted.
        socket_backlog: connections that wait to be accepted.
        require_encryption: refuse addresses that do not encrypt.
        share_memory: whether processes of one machine may read large frames from each other's memory.
    """

    connect_timeout: float = 30
    tcp_timeout: float = 30
    compression: str | None = None
    max_frame_bytes: int = 64 << 30
    socket_backlog: int = 2048
    require_encryption: bool = False
    share_memory: bool = True

    @classmethod
    def from_config(cls) -> CommOptions:
        """As configured now."""
        values = get("distributed.comm")
        return cls(
            connect_timeout=parse_seconds(values["timeouts"]["connect"]),
            tcp_timeout=parse_seconds(values["timeouts"]["tcp"]),
            compression=values["compression"] or None,
            max_frame_bytes=parse_bytes(values["max-frame-bytes"]),
            socket_backlog=values["socket-backlog"],
            require_encryption=bool(values["require-encryption"]),
            share_memory=bool(values["same-machine-memory"]),
        )
