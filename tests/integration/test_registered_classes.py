"""Classes with serialization of their own between real processes, and clients that choose families."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.deploy import LocalCluster
from headrace.exceptions import DeserializationError
from headrace.protocol import dumps
from headrace.protocol.families import families, register_serialization_family
from headrace.protocol.registered import dask_deserialize, dask_serialize

MODULE = '''
from distributed.protocol import dask_deserialize, dask_serialize

class Human:
    """Nothing that pickle could carry."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        raise TypeError("humans are not pickled")

class Child(Human):
    pass

class House:
    def __init__(self, inside):
        self.inside = inside

@dask_serialize.register(Human)
def dump(human):
    return {"name": human.name}, [human.name.encode() * 50_000]

@dask_deserialize.register(Human)
def load(header, frames):
    assert bytes(frames[0]) == header["name"].encode() * 50_000
    return Human("~" + header["name"])

def name_of(thing):
    while not isinstance(thing, Human):
        thing = thing.inside if isinstance(thing, House) else thing["it"] if isinstance(thing, dict) else thing[0]
    return thing.name

def make(name):
    return Human(name)
'''


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module that clients and workers have."""
    folder: Path = tmp_path_factory.mktemp("modules")
    (folder / "registered_people.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    kept = sys.modules.copy()
    yield importlib.import_module("registered_people")
    sys.path.remove(str(folder))
    for name in set(sys.modules) - set(kept):
        if name == "registered_people":
            del sys.modules[name]


@pytest.fixture(scope="module")
def client(people: Any) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.upload_file(people.__file__)
        yield client


def test_arguments_and_results(client: Client, people: Any) -> None:
    ada = people.Human("Ada")
    for argument in (ada, people.Child("Ada"), [ada], {"it": (ada,)}, people.House([ada])):
        assert client.submit(people.name_of, argument).result(timeout=30) == "~Ada"
    assert client.submit(people.make, "Bo").result(timeout=30).name == "~Bo"
    named = client.map(people.name_of, [people.Human(name) for name in ("a", "b")])
    assert client.gather(named) == ["~a", "~b"]


def test_scatter_and_between_workers(client: Client, people: Any) -> None:
    first, second = sorted(client.scheduler_info()["workers"])
    kept = client.scatter(people.House(people.Human("Cy")), workers=[first], hash=False)
    assert client.submit(people.name_of, kept, workers=[second]).result(timeout=30) == "~~Cy"
    assert client.gather(kept).inside.name.endswith("~Cy")
    made = client.submit(people.make, "Di", workers=[first])
    assert client.submit(people.name_of, made, workers=[second]).result(timeout=30) == "~Di"
    through_scheduler = client.scatter(people.Human("Ed"), direct=False, hash=False)
    assert client.gather(through_scheduler, direct=False).name == "~~Ed"


class Part:
    """Cannot be pickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("parts are not pickled")


@pytest.fixture
def contexts() -> Iterator[list[Any]]:
    """A family for parts; what its function was told."""
    seen: list[Any] = []

    def dump(value: Any, context: Any = None) -> Any:
        if type(value) is not Part:
            raise NotImplementedError
        seen.append(context)
        return {"number": value.number}, []

    register_serialization_family("parts", dump, lambda header, frames: Part(header["number"]))
    yield seen
    del families["parts"]


async def test_a_client_chooses_families(contexts: list[Any]) -> None:
    async with (
        Scheduler(dashboard_address=":0", host="127.0.0.1") as scheduler,
        Worker(scheduler.address, host="127.0.0.1") as worker,
        Client(scheduler.address, asynchronous=True, serializers=["parts", "pickle"]) as client,
    ):
        assert (await client.submit(lambda number: Part(number), 1)).number == 1
        assert contexts[-1]["sender"]["address"] == worker.address
        assert contexts[-1]["recipient"]["address"]
        for direct in (True, False):
            future = await client.scatter([Part(2)], direct=direct, hash=False)
            assert all(context["sender"] and context["recipient"] for context in contexts)
            (back,) = await client.gather(future, direct=direct)
            assert back.number == 2
        parts = await client.gather(client.map(lambda number: {"part": [Part(number)]}, range(3)))
        assert [part["part"][0].number for part in parts] == [0, 1, 2]
        assert await client.submit(sum, [1, 2]) == 3
        assert (await client.run(lambda: Part(4)))[worker.address].number == 4


async def test_a_client_refuses_pickles() -> None:
    async with (
        Scheduler(dashboard_address=":0", host="127.0.0.1") as scheduler,
        Worker(scheduler.address, host="127.0.0.1"),
        Client(scheduler.address, asynchronous=True, deserializers=["msgpack"]) as client,
    ):
        assert await client.submit(pow, 2, 5) == 32
        with pytest.raises((TypeError, DeserializationError), match="serialized with pickle but only able"):
            await client.submit(lambda: object())


async def test_workers_choose_families_for_what_comes_from_others(contexts: list[Any]) -> None:
    chosen: dict[str, Any] = {"host": "127.0.0.1", "serializers": ["parts", "pickle"]}
    async with (
        Scheduler(dashboard_address=":0", host="127.0.0.1") as scheduler,
        Worker(scheduler.address, name="a", **chosen) as a,
        Worker(scheduler.address, name="b", **chosen) as b,
        Worker(scheduler.address, name="c", **chosen, deserializers=["msgpack"]),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        part = client.submit(lambda: Part(3), workers="a")
        assert await client.submit(lambda part: part.number, part, workers="b") == 3
        assert contexts[-1]["sender"]["address"] == a.address
        assert contexts[-1]["recipient"]["address"] != a.address
        assert b.address in (await client.who_has(part))[part.key]
        with pytest.raises(TypeError, match="serialized with parts but only able"):
            await client.submit(lambda part: part.number, part, workers="c")
        with pytest.raises(TypeError, match=r"cannot be sent|Could not serialize"):  # the client's answer is a pickle
            await part


class Told:
    """Has functions of its own, one of which asks for whom it works."""

    context: Any = None


async def test_registered_functions_learn_for_whom_they_work() -> None:
    seen: list[Any] = []

    @dask_serialize.register(Told)
    def dump(told: Told, context: Any = None) -> Any:
        seen.append(context)
        return {}, []

    dask_deserialize.register(Told, lambda header, frames: Told())
    async with (
        Scheduler(dashboard_address=":0", host="127.0.0.1") as scheduler,
        Worker(scheduler.address, host="127.0.0.1", name="a") as a,
        Worker(scheduler.address, host="127.0.0.1", name="b"),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        told = await client.scatter(Told(), workers=["a"])
        assert seen[-1]["recipient"]["address"] == a.address
        seen.clear()
        assert await client.submit(lambda told: 1, told, workers="b") == 1
        assert seen[-1]["sender"]["address"] == a.address
        assert seen[-1]["recipient"]["address"]
        large = client.submit(lambda told: [told, bytes(20_000)], told, workers="a")
        assert type((await large)[0]) is Told
        assert seen[-1]["sender"]["address"] == a.address


@pytest.mark.parametrize("kind", [Client, Worker])
def test_unknown_families_are_refused(kind: Any) -> None:
    for keyword in ("serializers", "deserializers"):
        with pytest.raises(ValueError, match="no family of serializers is called 'nonsense'"):
            kind("tcp://127.0.0.1:1", **{keyword: ["nonsense"]})


def test_what_is_registered_elsewhere_does_not_matter_to_plain_values() -> None:
    assert dumps((1, "a")) == dumps((1, "a"))
