"""The drop-in name: makes `distributed` and `dask.distributed` mean headrace in this process.

A finder, first on `sys.meta_path`, answers for `distributed.X` with the headrace module of the same public role: the
same module object, so that classes are identical by whichever name they were imported. Imported with `headrace` itself:
nothing heavy.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from headrace.common.facade import PackageModule
from headrace.common.interface_version import API_VERSION

if TYPE_CHECKING:
    from importlib.metadata import Distribution, DistributionFinder

#: Public names that `headrace` cannot offer by the same name, because that is a package or module of its own.
ELSEWHERE = {"config": "headrace.compat.config", "rpc": "headrace.rpc"}

#: Set in the environment once the warning was shown, so that worker processes do not repeat it.
_WARNED = "HEADRACE_ALIAS_WARNED"
_MARK = "__headrace__"
_PREFIXES = ("distributed.", "dask.distributed.")


def install() -> None:
    """Make `distributed` mean headrace from now on; idempotent and cheap.

    Warns once when the peer of that name is installed as well, or was imported already (it then stays).
    """
    if any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        return
    present = sys.modules.get("distributed")
    if present is not None and not getattr(present, _MARK, False):
        warnings.warn(
            "'distributed' was imported before 'headrace' and stays what it is in this process; "
            "import 'headrace' first to use it under that name",
            stacklevel=3,
        )
        return
    sys.meta_path.insert(0, AliasFinder())
    location = _peer_location()
    if location and _WARNED not in os.environ:
        os.environ[_WARNED] = "1"
        warnings.warn(
            f"the package 'distributed' is also installed ({location}): because 'headrace' was imported first, "
            "'distributed' means headrace in this process; uninstall one of the two to be sure of what you get",
            stacklevel=3,
        )


def populate(module: ModuleType) -> None:
    """Turn a module into the facade `distributed`: headrace's public names, resolved when they are used."""
    headrace = importlib.import_module("headrace")

    def __getattr__(name: str) -> Any:
        if name in ELSEWHERE:
            return getattr(importlib.import_module(ELSEWHERE[name]), name)
        if name in headrace.__all__:
            return getattr(headrace, name)
        if not name.startswith("__"):
            try:
                return importlib.import_module(f"distributed.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"distributed.{name}":
                    raise
        raise AttributeError(f"module 'distributed' has no attribute {name!r}")

    namespace = module.__dict__
    namespace.update(
        {
            _MARK: True,
            "__all__": [name for name in headrace.__all__ if not name.startswith("__")],
            "__version__": API_VERSION,
            "__git_revision__": f"headrace-{headrace.__version__}",
            "__path__": [],  # submodules come from the finder alone, never from the peer's files beside ours
            "__getattr__": __getattr__,
            "__dir__": lambda: sorted({"__all__", "__doc__", "__name__", "__version__", *namespace["__all__"]}),
        }
    )
    module.__class__ = Facade
    headrace.on_import()


class Facade(PackageModule):
    """Keeps a public name when a submodule of that name is imported, as of `distributed.worker_client`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self.__dict__["__all__"]):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:  # a function that is sent by value may use it
        return importlib.import_module, (self.__name__,)


def _peer_location() -> str | None:
    """The place where the peer is installed, if it is: ours is one file, the peer has a scheduler of its own."""
    for entry in sys.path:
        candidate = os.path.join(entry or os.curdir, "distributed")
        if os.path.isfile(os.path.join(candidate, "scheduler.py")):
            return candidate
    return None


def _role(name: str) -> str | None:
    """The public path below `distributed.`, if the name has one."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return None


def _target(role: str) -> str | None:
    """The headrace module of a public role, or None when there is none: `headrace.compat.X`, else `headrace.X`."""
    for candidate in (f"headrace.compat.{role}", f"headrace.{role}"):
        try:
            if find_spec(candidate) is not None:
                return candidate
        except ModuleNotFoundError:  # a parent that is missing, or is no package
            continue
    return None


class AliasFinder(MetaPathFinder):
    """Answers for `distributed` and everything below it."""

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        """What `importlib.metadata.version("distributed")` asks for; a list of all has what is installed alone."""
        from headrace.common.named_distribution import found_distributions

        return found_distributions(context, "distributed", API_VERSION)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "distributed":
            return spec_from_loader(fullname, FacadeLoader(), is_package=True)
        role = _role(fullname)
        name = _target(role) if role else None
        if name is None:
            return None
        original = find_spec(name)
        if original is None:
            return None
        is_package = original.submodule_search_locations is not None
        return spec_from_loader(fullname, AliasLoader(name), origin=original.origin, is_package=is_package)


class FacadeLoader(InspectLoader):
    """Makes the module `distributed` without a file: it must not matter whose `distributed/__init__.py` is there."""

    def exec_module(self, module: ModuleType) -> None:
        populate(module)

    def get_source(self, fullname: str) -> str:
        return "import sys\n\nfrom headrace.alias import populate\n\npopulate(sys.modules[__name__])\n"

    def is_package(self, fullname: str) -> bool:
        return True


class AliasLoader(InspectLoader):
    """Hands out a headrace module under a second name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # the import machinery has just put the alias's spec on the module, which would break reload() and pickling
        module.__spec__ = self._spec

    def get_source(self, fullname: str) -> str | None:
        return self._original().get_source(self.name)

    def get_code(self, fullname: str) -> CodeType | None:  # for `python -m distributed.cli.dask_worker`
        return self._original().get_code(self.name)

    def is_package(self, fullname: str) -> bool:
        return self._original().is_package(self.name)

    def _original(self) -> InspectLoader:
        spec = find_spec(self.name)
        if spec is None or not isinstance(spec.loader, InspectLoader):
            raise ImportError(f"{self.name} has no code to show", name=self.name)
        return spec.loader
