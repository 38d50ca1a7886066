"""Modules of a few names that libraries import: sizes, loggers, the default client."""

from __future__ import annotations

import logging
from importlib import import_module

import pytest

import distributed
from distributed.sizeof import safe_sizeof, sizeof


def test_the_size_of_what_cannot_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __sizeof__(self) -> int:
            raise KeyError(1)

    assert safe_sizeof([1, 2]) == sizeof([1, 2])
    assert safe_sizeof(Broken()) == 1_000_000
    assert safe_sizeof(Broken(), default_size=5.0) == 5
    assert "Broken" in caplog.text


@pytest.mark.parametrize("module", ["scheduler", "worker", "nanny", "client"])
def test_modules_have_the_logger_of_their_name(module: str) -> None:
    assert import_module(f"distributed.{module}").logger is logging.getLogger(f"distributed.{module}")


def test_the_default_client_is_found_without_an_error() -> None:
    from distributed.client import _get_global_client

    assert _get_global_client() is None
    with distributed.Client(processes=False, n_workers=0, dashboard_address=None) as client:
        assert _get_global_client() is client
