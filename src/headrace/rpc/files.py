"""Files that clients upload: a server's process writes them into a directory and imports them anew."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from types import ModuleType
from typing import Any

from headrace.containment import log_raised
from headrace.private_directories import private_opener
from headrace.protocol import Frames, forget_loaded_functions, loads, unwrap

from .run_function import error_reply

logger = logging.getLogger("distributed.core")


def take_file(directory: str, filename: str, data: object, load: bool = True) -> dict[str, Any]:
    """Write a file into a directory and, with `load`, import it (a module, egg or zip) anew; the reply to the client.

    Raises:
        ValueError: the name is not a plain file name.
    """
    filename = str(filename)
    if os.path.basename(filename) != filename or filename in ("", ".", ".."):
        raise ValueError(f"upload_file takes a file name without directories, not {filename!r}")
    data = _file_content(data)
    path = os.path.join(directory, filename)
    with open(path, "wb", opener=private_opener) as file:
        file.write(data)
    if load:
        try:
            import_file(path)
        except BaseException as raised:
            return error_reply(log_raised(logger, raised, "Could not import %s", filename))
    return {"status": "OK", "nbytes": len(data)}


def _file_content(value: object) -> bytes:
    content = unwrap(value)
    if isinstance(content, Frames):
        return bytes(loads(content))
    return content.encode() if isinstance(content, str) else bytes(content)


def import_file(path: str) -> list[ModuleType]:
    """Import a module from a file, or add an archive to the path and import what it holds; returns the modules."""
    directory, filename = os.path.split(path)
    name, extension = os.path.splitext(filename)
    names = []
    if extension in (".py", ".pyc"):
        names.append(name)
        if directory not in sys.path:
            sys.path.insert(0, directory)
        cached = os.path.join(directory, "__pycache__", f"{name}.{sys.implementation.cache_tag}.pyc")
        if os.path.exists(cached):  # it may stem from an older upload within the same second
            os.unlink(cached)
    elif extension in (".egg", ".zip", ".pyz"):
        if path not in sys.path:
            sys.path.insert(0, path)
        names += [module.name for module in pkgutil.iter_modules([path])]
    importlib.invalidate_caches()
    modules = []
    for module in names:
        logger.info("Reload module %s from %s file", module, extension)
        loaded = sys.modules.get(module)
        modules.append(importlib.import_module(module) if loaded is None else importlib.reload(loaded))
    forget_loaded_functions(names)
    return modules
