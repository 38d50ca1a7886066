"""`performance_report`: a page about the work that is done within a context. The scheduler collects its figures."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from headrace.private_directories import open_named, path_of_url

if TYPE_CHECKING:
    from headrace.client.client import Client

logger = logging.getLogger("distributed.client")

__all__ = ["performance_report"]


class performance_report:
    """Writes a page about the work done within its context (`with` or `async with`).

    The page needs no other file. It shows the duration, each task on each thread, a profile of the threads, memory,
    tasks by name, workers, the code that was run, and versions. It is written when the block raises, too.

    Args:
        filename: the file to write: a path, or a URL as for `fsspec.open`.
        stacklevel: number of the caller whose code is shown: 1 uses the context, 2 called that one, …
        mode: accepted for compatibility.
        storage_options: for `fsspec.open`.

    Raises:
        ValueError: there is no client.
        TypeError: `with` is used where the client is asynchronous.
        OSError: the file cannot be written.

    Examples:
        >>> with performance_report("report.html"):  # doctest: +SKIP
        ...     x.compute()
    """

    _client: Client

    def __init__(
        self,
        filename: str = "dask-report.html",
        stacklevel: int = 1,
        mode: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self.filename = filename
        self.mode = mode
        self.storage_options = storage_options
        self._stacklevel = stacklevel
        self._report = ""
        self._code = ""
        self._asked_by: dict[str, Any] = {}

    def __enter__(self) -> performance_report:
        self._note_code(sys._getframe(1))
        self._client = _client()
        if self._client.asynchronous:
            raise TypeError("performance_report: this client is asynchronous; use `async with` instead of `with`")
        return self._client.sync(self._begin)  # type: ignore[no-any-return]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.sync(self._end, error)

    async def __aenter__(self) -> performance_report:
        self._note_code(sys._getframe(1))
        self._client = _client()
        return await self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end(error)

    async def _begin(self) -> performance_report:
        begun = await self._client._call("performance_report_start", client=self._client.id)
        self._report = begun["report"]
        return self

    async def _end(self, error: BaseException | None) -> None:
        try:
            asked_by = {**self._asked_by, "versions": _versions()}
            page = await self._client._call(
                "performance_report_stop", report=self._report, code=self._code, asked_by=asked_by
            )
            await asyncio.to_thread(write_text, self.filename, page, self.storage_options)
        except Exception:
            if error is None:
                raise
            logger.warning("The performance report could not be written", exc_info=True)

    def _note_code(self, frame: FrameType | None) -> None:
        """Keep the source of the caller's code; that of a prompt may not be known."""
        for _ in range(self._stacklevel - 1):
            if frame is not None and frame.f_back is not None:
                frame = frame.f_back
        if frame is None:
            return
        try:
            lines, first = inspect.getsourcelines(frame)
        except (OSError, TypeError):
            return
        self._code = "".join(lines)
        self._asked_by = {"filename": frame.f_code.co_filename, "line": frame.f_lineno, "first_line": max(1, first)}


def _client() -> Client:
    from headrace.client.current import get_client

    return get_client()


def _versions() -> dict[str, Any]:
    from headrace.common.package_versions import get_versions

    return get_versions()


def write_text(filename: str, text: str, storage_options: dict[str, Any] | None = None) -> None:
    """Write a text to a file, or with `fsspec` wherever a URL says."""
    path = path_of_url(filename, storage_options)
    if path is not None:
        with open_named(path, private=False) as file:
            file.write(text.encode())
        return
    import fsspec

    with fsspec.open(str(filename), "w", encoding="utf-8", **(storage_options or {})) as file:
        file.write(text)
