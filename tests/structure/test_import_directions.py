"""Imports go down the table of layers in docs/design.md, and pure packages stay pure.

An arrow up or sideways fails. A lazy import (inside a function) that must go up or sideways is listed below, one by
one, with its reason; an entry that is no longer needed fails too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.import_graph import Import, dotted_strings, imports_of, modules

#: From the top down. A part may import any part of a lower row, and itself.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("distributed",),
    ("headrace.compat", "headrace.demo"),
    ("headrace.testing",),  # makes the public classes, which the facade knows
    ("headrace",),  # the facade: names, resolved lazily
    ("headrace.cli",),
    ("headrace.deploy",),
    ("headrace.http",),
    ("headrace.extensions", "headrace.diagnostics"),
    ("headrace.client", "headrace.scheduler", "headrace.worker", "headrace.nanny"),
    ("headrace.actor", "headrace.preloading", "headrace.system_monitor"),
    ("headrace.rpc",),
    ("headrace.comm",),
    ("headrace.protocol",),
    ("headrace.security",),
    ("headrace.auth",),
    ("headrace.machine", "headrace.profile", "headrace.cluster_dump", "headrace.directories"),
    ("headrace.graphics_cards",),
    ("headrace.clock", "headrace.containment"),
    ("headrace.logging_setup",),
    ("headrace.config", "headrace.private_directories"),
    ("headrace.scheduler.state", "headrace.worker.state", "headrace.client.state"),
    ("headrace.messages",),
    ("headrace.exceptions", "headrace.alias"),
    ("headrace.common",),
)

#: (importing module, imported part): why this lazy import goes up or sideways.
ALLOWED_LAZY: dict[tuple[str, str], str] = {
    ("headrace.cli.dask_scheduler", "headrace"): "the public Scheduler, with the documented members, is above",
    ("headrace.deploy.spec", "headrace"): "clusters start the public Scheduler, which is above",
    (
        "headrace.client.api.client_plugins",
        "headrace.diagnostics",
    ): "files are uploaded, and logs forwarded, by plugins",
    ("headrace.client.api.info", "headrace.diagnostics"): "drawings of profiles",
    ("headrace.client.api.task_inspection", "headrace.diagnostics"): "drawings of the task stream",
    ("headrace.client.api.task_inspection", "headrace.extensions"): "tasks that are run again here",
    ("headrace.cli.dask_worker", "headrace"): "the command makes the public Worker, or Nanny",
    ("headrace.deploy.local", "headrace"): "a cluster on this machine makes the public Worker, or Nanny",
    ("headrace.client.client", "headrace.deploy"): "a Client without an address starts a LocalCluster",
    ("headrace.nanny.forking", "headrace"): "a fork server has imported the public Worker before it copies itself",
    ("headrace.nanny.worker_child", "headrace"): "the child process makes the public Worker",
    ("headrace.worker.task_clients", "headrace.client"): "tasks use a client of their worker's scheduler",
}

#: Modules below `headrace.compat` that may name it, as text: they answer for public names and paths.
NAMES_COMPAT = ("headrace", "headrace.alias")

PURE = (
    "headrace.scheduler.state",
    "headrace.worker.state",
    "headrace.client.state",
    "headrace.messages",
    "headrace.common",
    "headrace.extensions.leases.core",
    "headrace.extensions.multi_locks.core",
    "headrace.extensions.queues.core",
    "headrace.extensions.semaphores.core",
)

#: What a pure package may not import anywhere, lazily included.
IMPURE = (
    "asyncio",
    "concurrent",
    "dask.config",
    "multiprocessing",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uuid",
    "uvloop",
)

RANK = {part: rank for rank, row in enumerate(LAYERS) for part in row}
OURS = ("headrace", "distributed")


def part_of(dotted: str) -> str | None:
    """The part of the table that a dotted path belongs to: its longest prefix there."""
    if dotted.split(".")[0] not in OURS:
        return None
    pieces = dotted.split(".")
    for length in range(len(pieces), 0, -1):
        candidate = ".".join(pieces[:length])
        if candidate in RANK:
            # a name straight under `headrace` that is no part is a public name of the facade, or a part to be added
            return candidate
    return None


def begins_with(dotted: str, prefixes: tuple[str, ...]) -> bool:
    return any(dotted == prefix or dotted.startswith(prefix + ".") for prefix in prefixes)


def all_modules() -> dict[str, Path]:
    return {name: path for package in OURS for name, path in modules(package).items()}


def all_imports() -> list[Import]:
    found = []
    for name, path in all_modules().items():
        found += imports_of(name, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    return found


def goes_down(importer: str, target: str) -> bool:
    source, destination = part_of(importer), part_of(target)
    assert source is not None
    return destination is None or source == destination or RANK[destination] > RANK[source]


def test_every_module_has_a_layer() -> None:
    strays = [name for name in all_modules() if part_of(name) == "headrace" and name != "headrace"]
    assert not strays, f"give these a row in LAYERS (and in docs/design.md): {strays}"


def test_imports_go_down() -> None:
    wrong = [
        f"{found.importer}:{found.line} imports {found.target}: "
        f"{part_of(found.importer)} may not import {part_of(found.target)}"
        for found in all_imports()
        if not goes_down(found.importer, found.target)
        and not (found.lazy and (found.importer, part_of(found.target)) in ALLOWED_LAZY)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_exception_is_listed_in_vain() -> None:
    used = {
        (found.importer, part_of(found.target))
        for found in all_imports()
        if found.lazy and not goes_down(found.importer, found.target)
    }
    stale = sorted(set(ALLOWED_LAZY) - used)
    assert not stale, f"these imports are gone: take them off the list: {stale}"


def test_nothing_else_names_compat() -> None:
    """What exists for the peer's names stands above: an arrow to it hidden in a string is one all the same."""
    wrong = [
        f"{name} names {text!r}"
        for name, path in all_modules().items()
        if name not in NAMES_COMPAT and not begins_with(name, ("headrace.compat", "distributed"))
        for text in dotted_strings(path.read_text(encoding="utf-8"))
        if begins_with(text, ("headrace.compat",))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", PURE)
def test_pure_packages_import_nothing_impure(package: str) -> None:
    wrong = [
        f"{found.importer}:{found.line} imports {found.target}"
        for found in all_imports()
        if begins_with(found.importer, (package,))
        and (begins_with(found.target, IMPURE) or begins_with(found.module, IMPURE))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


class TestTheCheckItself:
    """The reader of imports sees what it should."""

    SOURCE = """
import asyncio
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from headrace.client import Client
else:
    import random
try:
    from .state import tasks
except ImportError:
    from ..worker import Worker
class A:
    def method(self):
        from headrace.deploy import local
"""

    def found(self) -> dict[str, bool]:
        return {i.target: i.lazy for i in imports_of("headrace.scheduler.server", self.SOURCE, is_package=False)}

    def test_relative_conditional_and_lazy_imports_are_resolved(self) -> None:
        assert self.found() == {
            "asyncio": False,
            "typing.TYPE_CHECKING": False,
            "random": False,
            "headrace.scheduler.state.tasks": False,
            "headrace.worker.Worker": False,
            "headrace.deploy.local": True,
        }

    def test_names_of_modules_in_strings_are_seen(self) -> None:
        source = 'LAZY = {"A": "headrace.compat.client", "B": "headrace.compat.x:Class", "C": f"headrace.{1}"}'
        assert dotted_strings(source) == ["headrace.compat.client", "headrace.compat.x"]

    def test_up_and_sideways_are_refused(self) -> None:
        assert goes_down("headrace.scheduler.server", "headrace.scheduler.state.records.tasks")
        assert goes_down("headrace.scheduler.server", "headrace.comm.tcp")
        assert not goes_down("headrace.scheduler.server", "headrace.worker.Worker")
        assert not goes_down("headrace.scheduler.state.records.tasks", "headrace.scheduler.server")
        assert not goes_down("headrace.comm.tcp", "headrace.rpc")
        assert not goes_down("headrace.client.client", "headrace.Scheduler")
