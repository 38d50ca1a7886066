"""A server process of `cluster`: starts what standard input says, prints its address, ends with the parent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pickle
import sys
import threading
from importlib import import_module
from typing import Any

from headrace.rpc import run

#: Stands before the pickled exception where an address is expected.
FAILED = b"failed:"


async def _serve(kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    module, name = kind.split(":")
    try:
        server = await getattr(import_module(module), name)(*args, **kwargs)
    except Exception as error:
        print((FAILED + base64.b64encode(_pickled(error))).decode(), flush=True)
        raise
    loop = asyncio.get_running_loop()
    parent_gone = asyncio.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(parent_gone.set)

    threading.Thread(target=watch, name="watch the parent", daemon=True).start()
    print(getattr(server, "worker_address", None) or server.address, flush=True)
    finished = asyncio.ensure_future(server.finished())
    gone = asyncio.ensure_future(parent_gone.wait())
    await asyncio.wait([finished, gone], return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    await server.close()
    finished.cancel()
    await asyncio.wait([finished, gone])


def _pickled(error: Exception) -> bytes:
    """An exception as bytes, by its text alone if it cannot be made of them again."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # whatever an exception's own methods raise
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data


def main() -> None:
    """Read what to start from standard input."""
    import dask.config

    kind, args, kwargs, config = pickle.loads(base64.b64decode(sys.stdin.buffer.readline()))
    dask.config.set(config)
    run(_serve(kind, args, kwargs))
    sys.stdout.flush()
    os._exit(0)  # the watching thread may still hold standard input


if __name__ == "__main__":
    main()
