"""Every test of clusters leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.testing.leaks import clean


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with clean():
        yield
