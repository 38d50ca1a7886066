"""Sets loggers up as the configuration says: in commands, in programs with `distributed`, and in their workers."""

from __future__ import annotations

import contextlib
import logging
import logging.config
import os
import site
import sys
from collections.abc import Mapping
from typing import Any

from headrace.config import get

#: Levels of loggers that the configuration does not name.
DEFAULT_LEVELS = {"distributed": "info", "headrace": "info", "distributed.client": "warning", "bokeh": "error"}
_KEYS = ("logging", "logging-file-config")
_HANDLER = "headrace-initialized"


def initialize_logging(config: Mapping[Any, Any]) -> None:
    """Set loggers up as a configuration says.

    Args:
        config: dask's configuration; its section "distributed" counts, or, if that has neither of the two keys, its own
            keys. "logging-file-config" is the path of a file for `logging.config.fileConfig`; "logging" is for
            `logging.config.dictConfig` if it has a "version", and else gives levels by logger's name, with lines to
            standard error in the format `distributed.admin.log-format`.

    Raises:
        RuntimeError: the configuration has both keys.
        ValueError: a level is unknown; the message names the logger.
        FileNotFoundError: there is no such file.
    """
    chosen = _section(config)
    path, levels = chosen.get("logging-file-config"), chosen.get("logging") or {}
    if path and levels:
        raise RuntimeError("the configuration has both 'logging-file-config' and 'logging': remove one of the two")
    if path:
        logging.config.fileConfig(path, disable_existing_loggers=False)
    elif "version" in levels:
        logging.config.dictConfig({"disable_existing_loggers": False, **levels})
    else:
        _set_levels({**DEFAULT_LEVELS, **levels})


def configured_logging() -> dict[str, Any]:
    """What the configuration says of logging now, as `initialize_logging` takes it."""
    chosen: dict[str, Any] = {name: get(name, None) for name in _KEYS}
    section = {name: value for name in _KEYS if (value := get(f"distributed.{name}", None)) is not None}
    return {**chosen, "distributed": section}


def initialize_where_configured() -> None:
    """Set loggers up if the configuration says anything of them; else leave them to the program.

    Raises:
        RuntimeError, ValueError, FileNotFoundError: as for `initialize_logging`.
    """
    if "dask" not in sys.modules and not _anything_is_configured():
        return  # importing dask, to be told that nothing is, would take longest of all
    config = configured_logging()
    if any(config.values()):
        initialize_logging(config)


def _anything_is_configured() -> bool:
    """Whether dask would find any settings of the user's: in variables of the environment, or in files."""
    if any(name.startswith("DASK_") for name in os.environ):
        return True
    folders = ["/etc/dask", os.path.expanduser("~/.config/dask")]
    folders += [os.path.join(prefix, "etc", "dask") for prefix in {sys.prefix, *site.PREFIXES}]
    for folder in folders:
        with contextlib.suppress(OSError):  # most are not there; one that may not be read has nothing to say
            if any(name.endswith((".yaml", ".yml", ".json")) for name in os.listdir(folder)):
                return True
    return False


def _section(config: Mapping[Any, Any]) -> Mapping[Any, Any]:
    section = config.get("distributed")
    if isinstance(section, Mapping) and ("logging" in section or "logging-file-config" in section):
        return section
    return config


def _set_levels(levels: Mapping[str, Any]) -> None:
    numbers = {name: _level(name, level) for name, level in levels.items()}
    for name, number in numbers.items():
        logger = logging.getLogger(name)
        logger.setLevel(number)
        for handler in [handler for handler in logger.handlers if handler.get_name() == _HANDLER]:
            logger.removeHandler(handler)
        handler = logging.StreamHandler(sys.stderr)
        handler.set_name(_HANDLER)
        handler.setFormatter(logging.Formatter(get("distributed.admin.log-format")))
        logger.addHandler(handler)
        logger.propagate = False


def _level(name: str, level: object) -> int:
    known = logging.getLevelNamesMapping()
    if isinstance(level, str) and level.upper() in known:
        return known[level.upper()]
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    raise ValueError(
        f"logger {name!r}: unknown level {level!r}; give a number or one of {', '.join(map(str.lower, known))}"
    )
