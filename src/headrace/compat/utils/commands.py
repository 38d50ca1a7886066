"""Command lines, addresses and what the system allows."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable
from types import ModuleType
from typing import Any

import click
from dask.utils import typename

from headrace.common.callables import has_keyword

#: A port, "host:port", or (host, port).
Place = int | str | tuple[str, int]


def command_has_keyword(cmd: click.Command | ModuleType | str, k: str) -> bool:
    """Whether a command takes a keyword.

    Args:
        cmd: a click command, the module that has one (`main` if it has that), or the name of that module.
        k: name of a parameter of its function.
    """
    if isinstance(cmd, str):
        try:
            cmd = importlib.import_module(cmd)
        except ImportError as error:
            raise ImportError(f"Module for command {cmd} is not available") from error
    commands: list[object] = [cmd]
    if isinstance(cmd, ModuleType):
        commands = [getattr(cmd, "main", None), *vars(cmd).values()]
    command = next((one for one in commands if isinstance(one, click.Command)), None)
    return command is not None and k in {parameter.name for parameter in command.params}


def cli_keywords(
    d: dict[str, Any], cls: Callable[..., Any] | None = None, cmd: str | ModuleType | None = None
) -> list[str]:
    """Keywords as arguments of a command line.

    Args:
        d: the keywords.
        cls, cmd: what takes them, a class or a command (`command_has_keyword`); for a check.

    Raises:
        ValueError: neither takes one of them.

    >>> cli_keywords({"x": 123, "save_file": "foo.txt"})
    ['--x', '123', '--save-file', 'foo.txt']
    """
    for name in d:
        if cls is not None and not has_keyword(cls, name) and not (cmd is not None and command_has_keyword(cmd, name)):
            if cmd is None:
                raise ValueError(f"Class {typename(cls)} does not support keyword {name}")
            where = cmd if isinstance(cmd, str) else getattr(cmd, "__name__", cmd)
            raise ValueError(f"Neither class {typename(cls)} nor command {where} supports keyword {name}")
    return [text for name, value in d.items() for text in ("--" + name.replace("_", "-"), _argument(value))]


def _argument(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text and not isinstance(value, dict) else text


def clean_dashboard_address(addrs: Place | list[Place], default_listen_ip: str = "") -> list[dict[str, Any]]:
    """The places where a dashboard is to listen, as dictionaries with "address" and "port".

    Args:
        addrs: a port, "host:port" or ":port", several of these with commas or in a list, or (host, port).
        default_listen_ip: the address that goes with a bare port.

    Raises:
        ValueError: not such a thing.

    >>> clean_dashboard_address(":8787,foo:8887")
    [{'address': '', 'port': 8787}, {'address': 'foo', 'port': 8887}]
    """
    if isinstance(addrs, tuple) and len(addrs) == 2:
        return [{"address": addrs[0], "port": int(addrs[1])}]
    parts = addrs if isinstance(addrs, list) else str(addrs).split(",") if isinstance(addrs, str) else [addrs]
    return [_listen_at(part, default_listen_ip) for part in parts]


def _listen_at(part: Place, default: str) -> dict[str, Any]:
    if isinstance(part, tuple) and len(part) == 2:
        return {"address": part[0], "port": int(part[1])}
    if isinstance(part, int):
        return {"address": default, "port": part}
    text = str(part).strip()
    host, colon, port = text.rpartition(":")
    if not text or text == ":":
        return {"address": "", "port": 0}
    if "/" in host or not port.isdigit():
        raise ValueError(f"a dashboard's address is a port, 'host:port' or ':port', not {part!r}")
    return {"address": host if colon else default, "port": int(port)}


def open_port(host: str = "") -> int:
    """A port of this machine that was free just now; another process may take it before you do."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def get_fileno_limit() -> int:
    """The number of files and connections that this process may have open."""
    try:
        import resource
    except ImportError:  # not a POSIX system: what its C library allows by default
        return 512
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
