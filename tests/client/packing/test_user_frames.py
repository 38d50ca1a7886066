"""`Computation.code`: the user's frames from which work was submitted, off by default."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import dask
import pytest

from headrace import Client
from headrace.client import SourceCode
from headrace.client.packing.user_frames import calling_code, frames_wanted

SECTION = "distributed.diagnostics.computations"

MODULE = """
def submit(client, number):
    return client.submit(abs, number)

def outer(client, number):
    return submit(client, number)

def map_them(client, numbers):
    return client.map(abs, numbers)

def compute(value):
    return value.compute()

def call(function):
    return function()
"""


@pytest.fixture
def library(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user's, in a file that inspect can read."""
    path = tmp_path / "library.py"
    path.write_text(MODULE)
    module = types.ModuleType("library")
    exec(compile(MODULE, str(path), "exec"), module.__dict__)
    return module


@pytest.fixture
def two_frames() -> Iterator[None]:
    # the tests' own files are pytest's, and ignored by default
    with dask.config.set({f"{SECTION}.nframes": 2, f"{SECTION}.ignore-files": ["test_user_frames", "_pytest"]}):
        yield


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=1, processes=False) as connected:
        yield connected


def computations(client: Client) -> list[Any]:
    return list(client.cluster.scheduler.computations)


def test_off_by_default(client: Client, library: Any) -> None:
    assert frames_wanted() == 0
    library.submit(client, -1).result()
    (computation,) = computations(client)
    assert computation.code == []


def test_frames_of_a_single_call(two_frames: None, library: Any) -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=False) as client:
        library.outer(client, -1).result()
        (computation,) = computations(client)
    ((outer, inner),) = computation.code
    assert inner == SourceCode(
        "def submit(client, number):\n    return client.submit(abs, number)\n",
        3,
        1,
        library.submit.__code__.co_filename,
    )
    assert outer.code.startswith("def outer")
    assert outer.lineno_frame == 6
    assert outer.lineno_relative == 1


def test_graphs_and_maps_follow_the_configuration_of_the_moment(client: Client, library: Any) -> None:
    with dask.config.set({f"{SECTION}.nframes": 1, f"{SECTION}.ignore-files": ["test_user_frames"]}):
        assert client.gather(library.map_them(client, range(3))) == [0, 1, 2]
        assert library.compute(dask.delayed(abs)(-4)) == 4
    codes = {frame.code.split("(")[0] for computation in computations(client) for (frame,) in computation.code}
    assert codes == {"def map_them", "def compute"}


def test_a_long_map_sends_its_code_once(client: Client, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    post = client.outbox.post
    monkeypatch.setattr(client.outbox, "post", lambda message: (sent.append(message), post(message)))
    with dask.config.set({f"{SECTION}.nframes": 1, f"{SECTION}.ignore-files": ["test_user_frames"]}):
        client.gather(library.map_them(client, range(5000)))
    codes = [message.code for message in sent if hasattr(message, "code")]
    assert len(codes) > 1
    assert [len(code) for code in codes] == [1] + [0] * (len(codes) - 1)


def test_same_place_counts_once(two_frames: None, library: Any) -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=False) as client:
        futures = [library.submit(client, -number) for number in range(3)]
        client.gather(futures)
        assert {len(computation.code) for computation in computations(client)} == {1}


@pytest.mark.parametrize(
    ("name", "entries", "expected"),
    [
        ("ignore-modules", ["libr"], 1),  # not a whole name
        ("ignore-modules", ["library"], 0),
        ("ignore-modules", ["lib.*"], 0),
        ("ignore-files", ["library.py"], 0),
        ("ignore-files", ["elsewhere"], 1),
    ],
)
def test_ignored_modules_and_files(library: Any, name: str, entries: list[str], expected: int) -> None:
    settings = {
        f"{SECTION}.ignore-modules": ["_pytest", "pluggy", ".*test_user_frames"],
        f"{SECTION}.ignore-files": [],
    }
    settings[f"{SECTION}.{name}"] = [*settings[f"{SECTION}.{name}"], *entries]
    with dask.config.set(settings):
        found = library.call(lambda: calling_code(1))
    names = [frame.code.split("(")[0] for frames in found for frame in frames]
    assert ("def call" in names) == bool(expected)


def test_frames_without_a_source_are_named() -> None:
    namespace: dict[str, Any] = {"__name__": "typed", "calling_code": calling_code}
    exec("def typed_in(): return calling_code(1)", namespace)
    ((frame,),) = namespace["typed_in"]()
    assert frame == SourceCode("typed_in", 1, 0, "<string>")


@pytest.mark.parametrize("number", [0, -1])
def test_no_frames(number: int) -> None:
    assert calling_code(number) == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("nframes", "many", TypeError),
        ("nframes", True, TypeError),
        ("ignore-modules", "dask", TypeError),
        ("ignore-files", 5, TypeError),
        ("ignore-files", ["("], ValueError),
    ],
)
def test_bad_configuration_names_the_key(name: str, value: Any, error: type[Exception]) -> None:
    with dask.config.set({f"{SECTION}.{name}": value}), pytest.raises(error, match=name):
        calling_code(max(1, frames_wanted()))


def test_history_is_bounded(library: Any) -> None:
    with dask.config.set({f"{SECTION}.max-history": 2}):
        client = Client(n_workers=1, threads_per_worker=1, processes=False)
    with client:
        for number in range(4):
            assert client.submit(abs, -number).result() == number
        kept = computations(client)
    assert 1 <= len(kept) <= 2
    assert kept == sorted(kept, key=lambda computation: computation.start)
