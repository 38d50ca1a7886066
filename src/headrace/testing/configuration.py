"""Configuration for the length of a test."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config

from headrace.config import defaults, register_defaults


@contextlib.contextmanager
def new_config(new_config: dict[str, Any]) -> Iterator[None]:
    """Exactly this configuration within the block, defaults apart."""
    register_defaults()
    before = copy.deepcopy(dask.config.config)
    try:
        dask.config.config.clear()
        dask.config.config.update(dask.config.merge(defaults(), copy.deepcopy(new_config)))
        yield
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)


@contextlib.contextmanager
def reset_config() -> Iterator[None]:
    """Put the configuration back after the block."""
    register_defaults()  # they are registered once, and must be in what is put back
    before = copy.deepcopy(dask.config.config)
    try:
        yield
    finally:
        if dask.config.config != before:
            dask.config.config.clear()
            dask.config.config.update(before)


@contextlib.contextmanager
def new_config_file(c: dict[str, Any]) -> Iterator[None]:
    """A configuration file, in the environment of this process and its children, within the block."""
    import yaml

    before = os.environ.get("DASK_CONFIG")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dask.yaml"
        file.write_text(yaml.dump(c))
        os.environ["DASK_CONFIG"] = str(file)
        try:
            with new_config(c):
                yield
        finally:
            if before is None:
                del os.environ["DASK_CONFIG"]
            else:
                os.environ["DASK_CONFIG"] = before
