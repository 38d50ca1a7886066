"""The environment of a worker's process: variables, configuration and module path, as its parent has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from headrace import config
from headrace.config import INHERITED

#: Variable with which a parent tells a command to close when its standard input does, that is, when the parent ends.
STOP_WITH_STDIN = "HEADRACE_STOP_WITH_STDIN"


def process_environment(extra: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The variables that a worker's process starts with.

    In falling precedence: `extra` (None removes a variable), this process's own, `distributed.nanny.environ`, and
    `distributed.nanny.pre-spawn-environ` (which keeps numeric libraries from starting threads of their own).
    """
    environ = config.variables("distributed.nanny.environ")
    chosen = {**{name: value for name, value in environ.items() if name not in os.environ}, **(extra or {})}
    environment: dict[str, Any] = {
        **config.variables("distributed.nanny.pre-spawn-environ"),
        **os.environ,
        INHERITED: inherited_configuration(chosen),
        **chosen,
    }
    return {name: str(value) for name, value in environment.items() if value is not None}


def inherited_configuration(chosen: Mapping[str, Any] | None = None) -> str:
    """This process's configuration as the environment variable that dask reads; what is not JSON is left out.

    Args:
        chosen: variables of the process that is started; what they say of the configuration (`DASK_...`) is put on top,
            since a process that was given its configuration need not look for them.
    """
    import base64
    import json

    dask_config = config.register_defaults()
    values = {}
    for name, value in dask_config.config.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            continue
        values[name] = value
    settings = {name: str(value) for name, value in (chosen or {}).items() if value is not None and name != INHERITED}
    if any(name.startswith("DASK_") for name in settings):
        values = dask_config.merge(values, dask_config.collect_env(settings))
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def module_path() -> list[str]:
    """Where modules are found here, as absolute paths: what the user's script can import, its tasks can."""
    here = os.getcwd()
    return [os.path.join(here, entry) if entry else here for entry in sys.path]
