"""The file in which a scheduler tells workers and clients its address, as JSON. They wait until the file is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import secrets
from collections.abc import Mapping
from typing import Any

from headrace.private_directories import private_opener

from .slow_waits import say_if_slow

logger = logging.getLogger("distributed.core")

#: Seconds between two looks for a file that is not there yet.
LOOK_SECONDS = 0.05


def write_scheduler_file(path: str, identity: Mapping[str, Any], token: str | None = None) -> None:
    """Write a scheduler's identity to a file for this user alone; readers see the whole file or none.

    Args:
        token: by which the scheduler admits others, for those who read the file.

    Raises:
        OSError: the file cannot be written.
    """
    partial = f"{path}.{secrets.token_hex(8)}"  # where all users may write, none can have put a link of this name
    try:
        with open(partial, "x", encoding="utf-8", opener=private_opener) as file:
            json.dump({**identity, **({} if token is None else {"token": token})}, file, indent=2, default=str)
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        if isinstance(error, OSError) and error.errno is not None:  # the message must name the user's file, not ours
            raise OSError(error.errno, f"cannot write the scheduler file: {error.strerror}", path) from error
        raise


def remove_scheduler_file(path: str, identity: str) -> None:
    """Remove the file if the scheduler with this id has written it: another may have written its own since."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            if json.load(file).get("id") != identity:
                return
        os.unlink(path)


def read_scheduler_file(path: str) -> str | None:
    """The scheduler's address; None as long as there is no file.

    Raises:
        ValueError: the file does not name an address.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    try:
        address = json.loads(text)["address"]
    except (ValueError, KeyError, TypeError):
        if not text.strip():  # another program writes the file in place, and has not come to the text yet
            return None
        address = None
    if not isinstance(address, str) or not address:
        raise ValueError(f"the scheduler file {path!r} names no address")
    return address


async def wait_for_scheduler_file(path: str, timeout: float | None) -> str:
    """The scheduler's address as soon as there is a file.

    Args:
        timeout: seconds; None for as long as it takes.

    Raises:
        TimeoutError: there was no file in time; the message names it.
        ValueError: the file does not name an address.
    """
    loop = asyncio.get_running_loop()
    deadline = math.inf if timeout is None else loop.time() + timeout
    with say_if_slow(logger, "Waiting for the scheduler file %s", path):
        while (address := read_scheduler_file(path)) is None:
            if loop.time() > deadline:
                raise TimeoutError(f"no scheduler wrote its address to {path} within {timeout:g} s")
            await asyncio.sleep(LOOK_SECONDS)
    return address
