"""The environment of a worker's process: variables, configuration and module path, as its parent has them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from headrace import config
from headrace.config import INHERITED

#: Variable with which a parent tells a command to close when its standard input does, that is, when the parent ends.
STOP_WITH_STDIN = "HEADRACE_STOP_WITH_STDIN"
#: Variable with the specification of a process's servers (`headrace spec --spec-variable`): all users of a machine see
#: command lines, and a specification may have keys, passwords and others' variables in it.
SPEC_VARIABLE = "HEADRACE_SPEC"
#: Variable that says what `hash` of texts is like, and its value in workers' processes where the user has none: each
#: process would have hashes of its own, and `hash(word) % n` put a word here and there. The number is the peer's.
SEED_VARIABLE = "PYTHONHASHSEED"
HASH_SEED = "6640"


def process_environment(
    extra: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The variables that a worker's process starts with.

    In falling precedence: `extra` (None removes a variable), this process's own, `distributed.nanny.environ`, and
    `distributed.nanny.pre-spawn-environ` (which keeps numeric libraries from starting threads of their own). `hash` of
    texts is the same in all such processes.

    Args:
        extra: variables for this process alone.
        settings: configuration that is laid over this process's; names may be dotted.
    """
    environ = config.variables("distributed.nanny.environ")
    chosen = {**{name: value for name, value in environ.items() if name not in os.environ}, **(extra or {})}
    environment: dict[str, Any] = {
        **config.variables("distributed.nanny.pre-spawn-environ"),
        **own_variables(),
        INHERITED: inherited_configuration(chosen, settings),
        **chosen,
    }
    environment[SEED_VARIABLE] = hash_seed(environment)
    return {name: str(value) for name, value in environment.items() if value is not None}


def hash_seed(environment: Mapping[str, Any]) -> str:
    """The seed of `hash` for a process with these variables: theirs, or else that of all workers.

    "random" is none: with it, one word would have many hashes in one cluster.
    """
    seed = environment.get(SEED_VARIABLE)
    return HASH_SEED if seed in (None, "", "random") else str(seed)


def own_variables() -> dict[str, str]:
    """Variables of this process, without those that its interpreter was told to ignore."""
    ignored = "PYTHON" if sys.flags.ignore_environment else None
    return {name: value for name, value in os.environ.items() if ignored is None or not name.startswith(ignored)}


def interpreter_arguments() -> list[str]:
    """The options of this interpreter for another one, which must not ignore the variables of `process_environment`."""
    arguments: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if "-I" in arguments:
        arguments += ["-s", "-P"]
    return [argument for argument in arguments if argument not in ("-I", "-E")]


def inherited_configuration(chosen: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None) -> str:
    """Configuration of this process as the environment variable that dask reads; what is not JSON is left out.

    Args:
        chosen: variables of the process that is started; what they say of the configuration (`DASK_...`) is put on top,
            since a process that was given its configuration need not look for them.
        settings: laid over all that; names may be dotted.
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
    values = config.with_a_cluster(values)
    said = {name: str(value) for name, value in (chosen or {}).items() if value is not None and name != INHERITED}
    if any(name.startswith("DASK_") for name in said):
        values = dask_config.merge(values, dask_config.collect_env(said))
    if settings:
        values = laid_over(values, settings)
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def laid_over(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with some settings of one's own; sections are merged, and names may be dotted."""
    import dask.config

    result: dict[str, Any] = dask.config.merge(values)
    for name, value in settings.items():
        *above, last = name.split(".")
        nested = {last: value}
        for part in reversed(above):
            nested = {part: nested}
        dask.config.update(result, nested)
    return result


def module_path() -> list[str]:
    """The module path here, as absolute paths: what the user's script can import, its tasks can."""
    here = os.getcwd()
    return [os.path.join(here, entry) if entry else here for entry in sys.path]
