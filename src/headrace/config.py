"""Configuration: defaults in `headrace.yaml`, registered with dask, and the frozen options that servers read once.

Importing this module does not import dask, which takes a tenth of a second; the first value read does.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import sys
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from headrace.common.renamed_settings import RENAMED

#: The environment variable in which dask hands its configuration to processes that it starts.
INHERITED = "DASK_INTERNAL_INHERIT_CONFIG"
#: Stands for a value that is not configured.
MISSING = object()
#: Settings of dask in processes whose work goes to a cluster, unless the user has chosen others: dask would shuffle
#: from peer to peer, which headrace does not offer yet. Without a client dask decides by itself.
WITH_A_CLUSTER = {"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"}
#: Sections whose names the user chooses: none of our names is missing there if the user leaves it out.
NAMED_BY_USERS = (
    "distributed.scheduler.default-task-durations",
    "distributed.nanny.environ",
    "distributed.nanny.pre-spawn-environ",
    "distributed.worker.resources",
)
#: Texts that stand for true and false in a variable of the environment.
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

# The usual units, so that a process can start without dask, which knows all units.
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "seconds": 1, "m": 60, "minutes": 60, "h": 3600, "hours": 3600}
_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "kiB": 2**10, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "B": 1}


@lru_cache
def defaults() -> dict[str, Any]:
    """The defaults in `headrace.yaml`."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(Path(__file__).with_name("headrace.yaml"), encoding="utf-8") as file:
        return dict(yaml.load(file, Loader=loader))


@lru_cache
def _register_once() -> Any:
    import dask.config

    dask.config.deprecations.update(RENAMED)
    dask.config.rename(RENAMED)
    dask.config.update_defaults(defaults())
    return dask.config


def register_defaults() -> Any:
    """Register our defaults with dask, below the user's configuration; returns `dask.config`."""
    config = _register_once()
    if "version" not in config.config.get("distributed", ()):
        # A `dask.config.set` that began before the registration has ended, and has taken all of `distributed` away.
        config.update(config.config, defaults(), priority="old")
    return config


@lru_cache
def inherited() -> dict[str, Any] | None:
    """The whole configuration of the process that started this one, as dask passes it on; None if it did not.

    None as well if that process passed on a part (`Nanny(config=...)`): dask has to add the rest of the configuration.
    """
    text = os.environ.get(INHERITED)
    values = json.loads(base64.urlsafe_b64decode(text)) if text else {}
    return values if "version" in (values.get("distributed") or ()) else None


def _values() -> dict[str, Any]:
    """The whole configuration now."""
    if "dask.config" not in sys.modules and (values := inherited()) is not None:
        return values  # a process that was given its configuration can start without dask
    return register_defaults().config  # type: ignore[no-any-return]


def _find(values: object, name: str) -> Any:
    """The value under a dotted name, spelled with hyphens or underscores; MISSING if there is none."""
    for part in name.split("."):
        if not isinstance(values, dict):
            return MISSING
        if part not in values:
            part = part.replace("_", "-") if "_" in part else part.replace("-", "_")
            if part not in values:
                return MISSING
        values = values[part]
    return values


def get(name: str, default: object = None) -> Any:
    """A value by its dotted name, from the user's configuration or else our defaults.

    A section comes as a dictionary with the names that `headrace.yaml` has, however the user spelled them, and with our
    defaults for missing names: variables of the environment and some files have `socket_backlog` for `socket-backlog`,
    and `dask.config.set` of a section replaces all of it.
    """
    value = _find(_values(), name)
    if value is MISSING:
        value = _find(defaults(), name) if name.startswith("distributed.") else MISSING
        return default if value is MISSING else value
    if isinstance(value, dict):
        known = _find(defaults(), name)
        return _section(value, known if isinstance(known, dict) else {}, name)
    return value


def _section(values: dict[str, Any], known: dict[str, Any], name: str) -> dict[str, Any]:
    found = (
        {} if name in NAMED_BY_USERS else {key: value for key, value in known.items() if _find(values, key) is MISSING}
    )
    for key, value in values.items():
        hyphened = key.replace("_", "-") if isinstance(key, str) else key
        ours = hyphened if key not in known and hyphened in known else key
        inner = known.get(ours)
        if isinstance(inner, dict) and (value is None or isinstance(value, dict)):
            value = _section(value or {}, inner, f"{name}.{ours}")
        if ours == key or ours not in values:
            found[ours] = value
    return found


def truth(name: str) -> bool:
    """A setting that is on or off; None is off.

    Raises:
        ValueError: the value is neither; the message names the setting.
    """
    value = get(name)
    if value is None or isinstance(value, (bool, int)):
        return bool(value)
    if isinstance(value, str) and value.lower() in _TRUTHS:
        return _TRUTHS[value.lower()]
    raise ValueError(f"{name} must be true or false, not {value!r}")


def texts(name: str) -> list[str]:
    """A setting that lists texts; a single text, as a variable of the environment gives it, is a list of one.

    Raises:
        ValueError: the value is neither; the message names the setting.
    """
    value = get(name)
    if isinstance(value, str):
        return [value]
    if value is None or isinstance(value, (list, tuple, set, frozenset)):
        return [str(one) for one in value or ()]
    raise ValueError(f"{name} must be a list, not {value!r}")


def variables(name: str) -> dict[str, Any]:
    """The variables of the environment that a section sets, in their true spelling.

    Of `DASK_DISTRIBUTED__NANNY__ENVIRON__OMP_NUM_THREADS=2` dask keeps `omp_num_threads`. The true spelling is that in
    such a variable of this process's environment, or else in our defaults. If a name is there in both spellings, the
    user's value in the true one counts.

    Raises:
        ValueError: the section is no dictionary.
    """
    prefix = f"DASK_{name.replace('.', '__').replace('-', '_')}__".upper()
    spelled = {known.lower(): known for known in _find(defaults(), name)}
    for variable in os.environ:
        if variable.upper().startswith(prefix):
            spelled[variable[len(prefix) :].lower()] = variable[len(prefix) :]
    given = get(name) or {}
    if not isinstance(given, dict):
        raise ValueError(f"{name} must have names and values of variables, not {given!r}")
    exact = {key: value for key, value in given.items() if spelled.get(key, key) == key}
    return exact | {spelled[key]: value for key, value in given.items() if key not in exact}


def with_a_cluster(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration, completed by the settings of `WITH_A_CLUSTER` that it leaves open."""
    result = copy.deepcopy(values)
    for name, value in WITH_A_CLUSTER.items():
        *above, last = name.split(".")
        section = result
        for part in above:
            section = section.setdefault(part, {})
        if name not in values and section.get(last) is None:
            section[last] = value
    return result


def start_anew() -> None:
    """Read the environment again, in a process that was forked from one with another environment."""
    inherited.cache_clear()
    if "dask.config" not in sys.modules:
        return
    import dask.config

    if inherited() is None:
        dask.config.refresh()
    else:  # the inherited configuration includes the files
        dask.config.config.clear()
        dask.config.config.update(dask.config.collect_env())


def tell_dask_of_a_cluster() -> None:
    """Tell dask, in the process of a worker, that its tasks' own computations go to the cluster."""
    register_defaults().update_defaults(with_a_cluster({}))


def parse_seconds(value: float | str | None, default: float | None = None) -> float:
    """Seconds in a number or a text such as "500ms".

    Raises:
        ValueError: the value is not a time, or is `None` without a default.
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
    except (LookupError, ValueError):  # LookupError for an unknown unit, and for an empty text
        raise ValueError(f"{value!r} is no time: give seconds, or a text such as '500ms' or '2 minutes'") from None


def seconds_of(value: float | str | timedelta | None) -> float | None:
    """Seconds in a number, a text such as "500ms" or a `timedelta`; None, which stands for no limit, stays None."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return None if value is None else parse_seconds(value)


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
    """The options of connections, from `distributed.comm`.

    Attributes:
        connect_timeout: seconds to try to connect, and to wait for a stranger's handshake.
        tcp_timeout: seconds after which a silent TCP connection counts as dead.
        compression: "lz4", "zstd", "auto" or `None`.
        max_frame_bytes: longest frame that is accepted.
        socket_backlog: connections that may wait to be accepted.
        require_encryption: refuse addresses that do not encrypt.
        share_memory: whether processes of one machine may read large frames from each other's memory.
        websocket_message_bytes: longest message that is sent on a WebSocket.
    """

    connect_timeout: float = 30
    tcp_timeout: float = 30
    compression: str | None = None
    max_frame_bytes: int = 64 << 30
    socket_backlog: int = 2048
    require_encryption: bool = False
    share_memory: bool = True
    websocket_message_bytes: int = 8 << 20

    @classmethod
    def from_config(cls) -> CommOptions:
        """The options as configured now."""
        values = get("distributed.comm")
        return cls(
            connect_timeout=parse_seconds(values["timeouts"]["connect"]),
            tcp_timeout=parse_seconds(values["timeouts"]["tcp"]),
            compression=values["compression"] or None,
            max_frame_bytes=parse_bytes(values["max-frame-bytes"]),
            socket_backlog=int(values["socket-backlog"]),
            require_encryption=truth("distributed.comm.require-encryption"),
            share_memory=truth("distributed.comm.same-machine-memory"),
            websocket_message_bytes=parse_bytes(values["websockets"]["shard"]),
        )
