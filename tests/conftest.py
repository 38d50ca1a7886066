"""A test module that leaves a thread, child process, listening socket or file behind fails at its last test.

The look is taken per module and not per test, since fixtures of a module may keep a cluster from one test to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.left_behind import Lookout

_LOOKOUT: pytest.StashKey[Lookout] = pytest.StashKey()
_MODULE: pytest.StashKey[Path] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LOOKOUT] = Lookout()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if item.config.stash.get(_MODULE, None) != item.path:
        item.config.stash[_MODULE] = item.path
        item.config.stash[_LOOKOUT].start()
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    yield
    lookout = item.config.stash[_LOOKOUT]
    lookout.note(item.name)
    if (nextitem is None or nextitem.path != item.path) and (remains := lookout.remains()):
        pytest.fail(f"{item.path.name} left behind:\n  " + "\n  ".join(remains), pytrace=False)
