"""Loggers as the configuration wants them."""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import Mapping
from typing import Any

#: Levels that apply where the configuration says nothing.
DEFAULT_LEVELS = {"distributed": "info", "distributed.client": "warning", "bokeh": "error"}
_HANDLER = "headrace-initialized"


def initialize_logging(config: Mapping[Any, Any]) -> None:
    """Set loggers up as a configuration says.

    Args:
        config: with "logging-file-config", the path of a file for `logging.config.fileConfig`; or with "logging",
            which is for `logging.config.dictConfig` if it has a "version", and else gives levels by logger's name.

    Raises:
        ValueError: both, or an unknown level.
    """
    path = config.get("logging-file-config")
    levels = config.get("logging") or {}
    if path:
        if levels:
            raise ValueError("Configuration has both 'logging-file-config' and 'logging': remove one of the two")
        logging.config.fileConfig(path, disable_existing_loggers=False)
    elif "version" in levels:
        logging.config.dictConfig(dict(levels))
    else:
        _set_levels({**DEFAULT_LEVELS, **levels})


def _set_levels(levels: Mapping[str, Any]) -> None:
    from headrace.config import get

    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.setLevel(level.upper() if isinstance(level, str) else level)
        for handler in [handler for handler in logger.handlers if handler.get_name() == _HANDLER]:
            logger.removeHandler(handler)
        handler = logging.StreamHandler(sys.stderr)
        handler.set_name(_HANDLER)
        handler.setFormatter(logging.Formatter(get("distributed.admin.log-format")))
        logger.addHandler(handler)
        logger.propagate = False
