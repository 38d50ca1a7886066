"""Preloads: users' code that runs in a scheduler, worker, nanny or client as it starts and as it ends.

A preload is a module's name, a file, an http(s) address of a file, or Python text. Its `dask_setup` is called with the
server when the server starts, its `dask_teardown` when the server closes; either may be async. A `dask_setup` that is a
click command gets its options from `preload_argv`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from headrace.containment import log_raised
from headrace.private_directories import private_opener

if TYPE_CHECKING:
    import click

logger = logging.getLogger("distributed.preloading")

#: Seconds that a download may take.
DOWNLOAD_SECONDS = 30.0


class Preload:
    """A preload of a server.

    Args:
        dask_object: the server; given to `dask_setup` and `dask_teardown`.
        name: a module's name, a file ending in ".py", an address, or Python text.
        argv: arguments for a `dask_setup` that is a click command.
        file_dir: directory for a downloaded file; by default its text stays in memory.
    """

    def __init__(self, dask_object: object, name: str, argv: Iterable[str], file_dir: str | None) -> None:
        self.dask_object = dask_object
        self.name = str(name)
        self.argv = list(argv)
        self.file_dir = file_dir
        self.module: ModuleType | None = None

    def __repr__(self) -> str:
        return f"<Preload {self.name!r}>"

    async def start(self) -> None:
        """Load the code, if it is not loaded yet, and call its `dask_setup`.

        Raises:
            ImportError: see `load`.
            ValueError: `preload_argv` does not fit `dask_setup`.
        """
        await self.load()
        setup = getattr(self.module, "dask_setup", None)
        if setup is None:
            return
        click = sys.modules.get("click")
        if click is not None and isinstance(setup, click.Command):
            result = self._call_command(click, setup)
        else:
            result = setup(self.dask_object)
        if inspect.isawaitable(result):
            await result
        logger.info("Run preload setup: %s", self.name)

    async def load(self) -> ModuleType:
        """The code as a module; loaded at the first call.

        Raises:
            ImportError: the code cannot be found or downloaded; the message names it.
            Exception: the code raised it during its import.
        """
        if self.module is None:
            self.module = await self._load()
        return self.module

    async def teardown(self) -> None:
        """Call the code's `dask_teardown`."""
        teardown = getattr(self.module, "dask_teardown", None)
        if teardown is None:
            return
        result = teardown(self.dask_object)
        if inspect.isawaitable(result):
            await result
        logger.info("Run preload teardown: %s", self.name)

    def _call_command(self, click: ModuleType, command: click.Command) -> Any:
        try:
            context = command.make_context("dask_setup", list(self.argv), allow_extra_args=False)
        except click.ClickException as error:
            raise ValueError(
                f"preload_argv {self.argv} does not fit the preload {self.name!r}: {error.format_message()}"
            ) from error
        if command.callback is None:
            return None
        return command.callback(self.dask_object, *context.args, **context.params)

    async def _load(self) -> ModuleType:
        name = self.name
        if is_webaddress(name):
            logger.info("Downloading preload at %s", name)
            text = await asyncio.get_running_loop().run_in_executor(None, _download, name)
            if self.file_dir:
                path = os.path.join(self.file_dir, _file_name(name))
                with open(path, "wb", opener=private_opener) as file:
                    file.write(text)
                return _load_file(path)
            return _run_text(text, name)
        if is_python_text(name):
            return _run_text(name, "<preload>")
        logger.info("Load preload %s", name)
        if name.endswith(".py"):
            return _load_file(name)
        return importlib.import_module(name)


class PreloadManager(Sequence[Preload]):
    """The preloads of a server, started in order and torn down in the same order.

    Args:
        preloads: the server's preloads.
    """

    def __init__(self, preloads: Iterable[Preload]) -> None:
        self._preloads = list(preloads)

    @overload
    def __getitem__(self, index: int) -> Preload: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Preload]: ...
    def __getitem__(self, index: int | slice) -> Preload | Sequence[Preload]:
        return self._preloads[index]

    def __len__(self) -> int:
        return len(self._preloads)

    async def load(self) -> None:
        """Load all preloads that are not loaded yet.

        Raises:
            ImportError: a preload cannot be found.
            Exception: a preload raised it during its import.
        """
        for preload in self._preloads:
            await preload.load()

    async def start(self) -> None:
        """Load all preloads, and call their `dask_setup`s; one that fails is logged, and the others start all the same.

        Raises:
            ImportError: a preload cannot be found; no `dask_setup` has been called then.
            Exception: a preload raised it during its import.
        """
        await self.load()
        for preload in self._preloads:
            try:
                await preload.start()
            except BaseException as raised:
                log_raised(logger, raised, "Failed to start preload: %s", preload.name, awaited=True)

    async def teardown(self) -> None:
        """Call all `dask_teardown`s; one that fails is logged."""
        for preload in self._preloads:
            try:
                await preload.teardown()
            except BaseException as raised:
                log_raised(logger, raised, "Failed to tear down preload: %s", preload.name, awaited=True)


def process_preloads(
    dask_server: object,
    preload: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None,
    preload_argv: Iterable[Any] | None,
    file_dir: str | None = None,
) -> PreloadManager:
    """The preloads of a server.

    Args:
        preload: one preload or several.
        preload_argv: arguments for all preloads, or a list of arguments for each.
        file_dir: see `Preload`.

    Raises:
        ValueError: the numbers of argument lists and of preloads differ.
    """
    given = [preload] if isinstance(preload, (str, os.PathLike)) else list(preload or ())
    names = [os.fspath(each) for each in given]
    arguments = [preload_argv] if isinstance(preload_argv, str) else list(preload_argv or ())
    if not arguments or isinstance(arguments[0], str):
        per_preload: list[Any] = [arguments] * len(names)
    else:
        per_preload = arguments
    if len(per_preload) != len(names):
        raise ValueError(
            f"there are {len(names)} preloads and {len(per_preload)} lists in preload_argv: give one list for each"
        )
    return PreloadManager(
        Preload(dask_server, name, argv, file_dir) for name, argv in zip(names, per_preload, strict=True)
    )


def configured_preloads(
    dask_server: object, kind: str, preload: str | Iterable[str] | None, preload_argv: Iterable[Any] | None
) -> PreloadManager:
    """The preloads of a server, as by `process_preloads`; None stands for the configured ones.

    Args:
        kind: "scheduler", "worker", "nanny" or "client".
    """
    from headrace import config

    if preload is None:
        preload = config.get(f"distributed.{kind}.preload", None)
    if not preload_argv:
        preload_argv = config.get(f"distributed.{kind}.preload-argv", None)
    return process_preloads(dask_server, preload, preload_argv)


def is_webaddress(s: str) -> bool:
    """Whether a text is an http or https address.

    >>> is_webaddress("https://example.com/setup.py"), is_webaddress("setup.py")
    (True, False)
    """
    return s.startswith(("http://", "https://"))


def is_python_text(s: str) -> bool:
    """Whether a text is Python rather than the name of a module or file.

    >>> is_python_text("import os; os.environ['A'] = '1'"), is_python_text("my folder/setup.py")
    (True, False)
    """
    return not s.endswith(".py") and any(character in s for character in "\n ;=(")


def _file_name(address: str) -> str:
    name = address.partition("?")[0].rstrip("/").rpartition("/")[2] or "preload"
    return name if name.endswith(".py") else f"{name}.py"


def _download(address: str) -> bytes:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(address, timeout=DOWNLOAD_SECONDS) as response:
            return bytes(response.read())
    except OSError as error:
        if isinstance(error, HTTPError):
            error.close()  # the error is the response as well
        raise ImportError(f"the preload {address} cannot be downloaded: {error}") from error


def _run_text(text: str | bytes, name: str) -> ModuleType:
    module = ModuleType(f"_headrace_preload_{abs(hash(text)):x}")
    module.__file__ = name
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def _load_file(path: str) -> ModuleType:
    """Run a file as a module that can be imported by its name afterwards."""
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise ImportError(f"there is no preload file {path}")
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module
