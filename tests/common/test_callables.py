"""Questions about callables."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from headrace.common.callables import has_arg, has_keyword, import_term, iscoroutinefunction


async def asynchronous(x: int) -> int:
    return x


def plain(x: int, *, y: int = 0) -> int:
    return x


def open_ended(**kwargs: Any) -> None: ...


def test_coroutine_functions_are_known_through_partial() -> None:
    assert iscoroutinefunction(asynchronous)
    assert iscoroutinefunction(partial(partial(asynchronous), 1))
    assert not iscoroutinefunction(partial(plain, 1))
    assert not iscoroutinefunction(1)


def test_names_are_imported() -> None:
    assert import_term("os.path.join").__name__ == "join"
    with pytest.raises(ImportError):
        import_term("no_such_module_here.x")


def test_parameters() -> None:
    assert has_arg(plain, "y")
    assert not has_arg(plain, "z")
    assert has_keyword(plain, "y")
    assert has_keyword(open_ended, "anything")
    assert not has_keyword(plain, "z")
