"""Classes with serialization of their own, wherever pickling meets them; families; the public functions."""

from __future__ import annotations

import copyreg
import enum
import gc
import importlib
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

from headrace.compat import protocol
from headrace.compat.protocol import (
    dask_deserialize,
    dask_serialize,
    deserialize,
    deserialize_bytes,
    register_generic,
    register_serialization,
    register_serialization_family,
    register_serialization_lazy,
    serialize,
    serialize_bytelist,
    serialize_bytes,
)
from headrace.exceptions import SerializationError
from headrace.protocol import (
    Frames,
    Pickled,
    Serialize,
    Serialized,
    ToPickle,
    decode,
    dumps,
    dumps_function,
    encode,
    loads,
)
from headrace.protocol import pickling as plain
from headrace.protocol.families import dumps_by_family, families, loads_by_family
from headrace.protocol.functions import by_value
from headrace.protocol.pieces import dumps_in_pieces
from headrace.protocol.registered import RegisteredPickler
from headrace.protocol.serialization_context import serialization_context
from headrace.protocol.unpickling import unpickle

public = importlib.import_module("headrace.compat.protocol.serialize")


class Human:
    """Cannot be pickled; has functions of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        raise TypeError("humans are not pickled")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


class Child(Human):
    """Inherits the functions."""


class House:
    """Is pickled as usual, with what it holds."""

    def __init__(self, *inside: Any) -> None:
        self.inside = inside


def dump_human(human: Human) -> tuple[dict[str, Any], list[Any]]:
    return {"kind": type(human).__name__}, [human.name.encode()]


def load_human(header: dict[str, Any], frames: list[Any]) -> Human:
    return {"Human": Human, "Child": Child}[header["kind"]](bytes(frames[0]).decode())


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Everything as before afterwards, also that nothing is registered."""
    kept = [(registry, dict(registry._lookup), dict(registry._lazy)) for registry in (dask_serialize, dask_deserialize)]
    names, pickler, function = dict(families), plain.Pickler, plain._pickle_dumps
    reduce = by_value.registered
    yield
    for registry, lookup, lazy in kept:
        registry._lookup, registry._lazy = lookup, lazy
        registry._changed()
    families.clear()
    families.update(names)
    plain.Pickler, plain._pickle_dumps, by_value.registered = pickler, function, reduce


@pytest.fixture
def humans() -> None:
    register_serialization(Human, dump_human, load_human)


def through_pieces(value: Any) -> Any:
    pieces, buffers = dumps_in_pieces(value)
    return unpickle(b"".join(pieces), buffers)


def through_message(value: Any) -> Any:
    return decode(encode({"value": Serialize(value)}))["value"]


ROADS: list[Callable[[Any], Any]] = [
    lambda value: loads(dumps(value)),
    lambda value: loads(dumps((value, lambda: 1)))[0],  # by value, with cloudpickle
    lambda value: deserialize(*serialize(value)),
    lambda value: deserialize_bytes(serialize_bytes(value)),
    lambda value: deserialize_bytes(b"".join(serialize_bytelist(value))),
    through_pieces,
    through_message,
]


@pytest.mark.usefixtures("humans")
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("make", [lambda human: human, lambda human: [1, {"a": (human, 2)}]])
def test_a_registered_class_travels_by_its_functions(road: Any, make: Any) -> None:
    for human in (Human("Ada"), Child("Bo")):
        assert road(make(human)) == make(human)


@pytest.mark.usefixtures("humans")
def test_it_is_found_in_attributes_keys_of_modules_and_closures() -> None:
    assert loads(dumps(House(Human("Ada"), 1))).inside == (Human("Ada"), 1)
    ada = Human("Ada")
    assert loads(dumps_function(lambda: ada))() == ada
    assert loads(dumps([Human, numpy.arange(3).tolist(), ValueError("x")]))[0] is Human


def test_nothing_is_in_the_way_until_something_is_registered() -> None:
    code = """
import sys, pickle
from headrace.protocol import dumps, pickling as plain
dumps([object()])
assert plain.Pickler is pickle.Pickler
assert "dask.utils" not in sys.modules
from distributed.protocol import dask_serialize
assert plain.Pickler is pickle.Pickler
dask_serialize.register(Ellipsis.__class__, lambda value: ({}, []))
assert plain.Pickler is not pickle.Pickler
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_arrays_may_turn_up_once_numpy_is_imported() -> None:
    code = """
import sys, pickle
from headrace.protocol import dumps, pickling as plain
dumps([object()])
assert plain.Pickler is pickle.Pickler
import numpy
assert len(dumps([numpy.broadcast_to(1.0, (1000, 1000))])) < 1000
assert "scipy" not in sys.modules and "pyarrow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class Reduced:
    """What pickles as somebody else says."""


def test_what_is_registered_with_copyreg_later_counts() -> None:
    dumps([Reduced()])
    copyreg.pickle(Reduced, lambda _: (str, ("reduced",)))  # type: ignore[arg-type, return-value]
    try:
        assert loads(dumps([Reduced()])) == ["reduced"]
    finally:
        del copyreg.dispatch_table[Reduced]
    assert type(loads(dumps([Reduced()]))[0]) is Reduced


def test_what_users_register_for_classes_of_numpy_counts() -> None:
    dumps([numpy.ones(3)])
    before = dask_serialize.dispatch(numpy.ndarray), dask_deserialize.dispatch(numpy.ndarray)
    register_serialization(numpy.ndarray, lambda _: ({"mine": True}, []), lambda header, _: header["mine"])
    try:
        assert loads(dumps([numpy.ones(3)])) == [True]
    finally:
        register_serialization(numpy.ndarray, *before)
    assert loads(dumps([numpy.ones(3)]))[0].tolist() == [1, 1, 1]


def test_large_frames_stay_out_of_band_and_are_not_copied() -> None:
    data = bytearray(b"x" * 200_000)
    register_serialization(House, lambda house: ({}, [data]), lambda header, frames: frames)
    payload = dumps(House())
    assert isinstance(payload, Frames)
    assert len(payload.frames) == 2
    data[0] = ord("y")
    assert bytes(payload.frames[1][:2]) == b"yx"
    assert loads(payload)[0].nbytes == 200_000


def test_a_function_may_leave_an_instance_to_pickle() -> None:
    def dump(house: House) -> Any:
        if not house.inside:
            raise NotImplementedError
        return {"n": len(house.inside)}, []

    register_serialization(House, dump, lambda header, frames: header["n"])
    assert loads(dumps([House(1, 2), House()]))[0] == 2
    assert loads(dumps(House())).inside == ()


def test_a_function_may_pickle_its_instance() -> None:
    register_serialization(House, lambda house: ({}, [dumps(house)]), lambda header, frames: loads(frames[0]))
    assert loads(dumps(House(3))).inside == (3,)


def test_wrong_registrations_and_results_are_refused() -> None:
    with pytest.raises(TypeError, match="Strings are no longer accepted"):
        register_serialization("package.module.Class", dump_human, load_human)
    with pytest.raises(TypeError, match="register_lazy"):
        register_serialization_lazy("package", lambda: None)
    dask_serialize.register(Human, lambda human: 3)
    with pytest.raises(SerializationError, match="must return a header and a list of frames, not 3"):
        dumps(Human("Ada"))
    dask_serialize.register(Child, dump_human)
    with pytest.raises(TypeError, match=r"Child has come, but no function is registered here"):
        loads(dumps(Child("Bo")))


def test_lazy_registration_runs_once_an_instance_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("rare_package")
    kind = type("Rare", (Human,), {"__module__": "rare_package.inner"})
    inner = types.ModuleType("rare_package.inner")
    inner.Rare = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rare_package", package)
    monkeypatch.setitem(sys.modules, "rare_package.inner", inner)
    calls = []

    @dask_serialize.register_lazy("rare_package")
    @dask_deserialize.register_lazy("rare_package")
    def register() -> None:
        calls.append(1)
        dask_serialize.register(kind, lambda rare: ({}, [rare.name.encode()]))
        dask_deserialize.register(kind, lambda header, frames: kind(bytes(frames[0]).decode()))

    dumps(House(1))
    assert not calls
    assert loads(dumps([kind("Cy")]))[0].name == "Cy"
    assert calls


def test_functions_that_want_it_learn_for_whom_they_work() -> None:
    seen: list[Any] = []

    def dump(human: Human, context: Any = None) -> Any:
        seen.append(context)
        return dump_human(human)

    register_serialization(Human, dump, load_human)
    with serialization_context("tcp://a:1", "tcp://b:2"):
        dumps(Human("Ada"))
    dumps(Human("Ada"))
    serialize(Human("Ada"), context={"mine": 1})
    assert seen[0]["recipient"]["address"] == "tcp://b:2"
    assert "recipient" not in seen[1]
    assert seen[2] == {"mine": 1}


@pytest.mark.usefixtures("humans")
def test_register_generic_goes_through_attributes() -> None:
    class Flat:
        def __init__(self) -> None:
            self.name, self.human, self.array = "flat", Human("Ada"), numpy.arange(10)

    register_generic(Flat)
    header, frames = serialize(Flat())
    assert header["serializer"] == "dask"
    assert header["sub-header"]["simple"] == {"name": "flat"}
    again = deserialize(header, frames)
    assert (again.name, again.human) == ("flat", Human("Ada"))
    assert again.array.tolist() == list(range(10))
    assert type(loads(dumps([Flat()]))[0]).__name__ == "Flat"


class TestFamilies:
    def test_the_first_that_can_is_taken(self) -> None:
        def only_houses(value: Any) -> Any:
            if type(value) is not House:
                raise NotImplementedError
            return {"count": len(value.inside)}, [b"frame"]

        register_serialization_family(
            "mine", only_houses, lambda header, frames: ("mine", header["count"], bytes(frames[0]))
        )
        assert deserialize(*serialize(House(1, 2), serializers=["mine", "pickle"])) == ("mine", 2, b"frame")
        assert deserialize(*serialize([House(), {"a": House(1)}], serializers=["mine", "pickle"])) == [
            ("mine", 0, b"frame"),
            {"a": ("mine", 1, b"frame")},
        ]
        header, _ = serialize(5, serializers=["mine", "pickle"])
        assert header["serializer"] == "pickle"
        payload = dumps_by_family(House(), ["mine"])
        assert loads(payload) == ("mine", 0, b"frame")
        assert loads_by_family(payload, ["mine"]) == ("mine", 0, b"frame")
        with pytest.raises(TypeError, match=r"serialized with mine but only able to deserialize data with \['dask'\]"):
            loads_by_family(payload, ["dask"])

    @pytest.mark.usefixtures("humans")
    def test_receivers_admit_families(self) -> None:
        plain_data = dumps({"a": [1, "b", b"c", (None, 2.5)]})
        assert loads_by_family(plain_data, ["msgpack"]) == {"a": [1, "b", b"c", (None, 2.5)]}
        assert loads_by_family(dumps(Human("Ada")), ["dask"]) == Human("Ada")
        for admitted in (["msgpack"], ["dask", "msgpack"], []):
            with pytest.raises(TypeError, match="serialized with pickle but only able"):
                loads_by_family(dumps(House()), admitted)
        with pytest.raises(TypeError, match="serialized with pickle"):
            loads_by_family(dumps(Human("Ada")), ["msgpack"])
        assert loads_by_family(dumps(House(4)), ["pickle"]).inside == (4,)

    def test_msgpack_holds_plain_values_only(self) -> None:
        assert deserialize(*serialize({"a": [1, (2,)]}, serializers=["msgpack"])) == {"a": [1, (2,)]}
        for value in (House(), 2**100, numpy.arange(2), [object()]):
            assert serialize(value, serializers=["msgpack"])[0] == {"serializer": "error"}

    def test_errors_are_raised_or_sent(self) -> None:
        header, frames = serialize(Human("Ada"), serializers=["dask", "msgpack"])
        with pytest.raises(TypeError, match="Could not serialize object of type Human"):
            deserialize(header, frames)
        with pytest.raises(TypeError, match="Could not serialize object of type Human"):
            serialize(Human("Ada"), on_error="raise")
        with pytest.raises(SerializationError, match="Human with the serializers"):
            dumps_by_family(Human("Ada"), ["dask"])
        with pytest.raises(KeyError, match="nonsense"):
            serialize(1, serializers=["nonsense"])
        with pytest.raises(ValueError, match="on_error"):
            serialize(1, on_error="ignore")
        with pytest.raises(TypeError, match="family that is not known in this process"):
            deserialize({"serializer": "nonsense"}, [])

    def test_arrays_come_back_as_writable_as_they_were(self) -> None:
        array = numpy.arange(100_000)
        again = deserialize(*serialize(array))
        assert again.tolist() == array.tolist()
        again[0] = 7
        header, frames = serialize(array)
        again = deserialize(header, [bytes(frame) for frame in frames])
        again[0] = 7
        array.flags.writeable = False
        assert not deserialize(*serialize(array)).flags.writeable


class TestMarks:
    def test_a_serialized_value_is_forwarded_and_opened(self) -> None:
        mark = Serialized(*serialize([1, 2]))
        assert decode(encode({"x": mark})) == {"x": [1, 2]}
        kept = decode(encode({"x": mark}), deserialize=False)["x"]
        assert kept == mark
        assert kept.load() == deserialize(kept.header, kept.frames) == [1, 2]
        plain_mark = decode(encode(Serialize("text")), deserialize=False)
        assert plain_mark.header["serializer"] == "pickle"
        assert deserialize(plain_mark.header, plain_mark.frames) == "text"
        assert deserialize(*serialize(plain_mark)) == "text"

    @pytest.mark.parametrize("large", [b"", b"x" * 100_000])
    def test_what_is_to_be_pickled_is_opened_by_everybody(self, large: bytes) -> None:
        value = ["text", large]
        for mark in (ToPickle(value), Pickled(*serialize(value))):
            assert decode(encode({"x": mark}), deserialize=False) == {"x": value}
            assert decode(encode({"x": mark})) == {"x": value}

    def test_marks_compare_by_what_they_hold(self) -> None:
        assert Serialize(3) == Serialize(3) != ToPickle(3)
        assert hash(Serialize(3)) == hash(3)
        assert repr(ToPickle(3)) == "<ToPickle: 3>"
        assert protocol.to_serialize is Serialize is public.to_serialize
        assert Serialize(data=3).data == 3


class Color(enum.Enum):
    RED = 1


class TestPublicModule:
    def test_the_packages_name_stays_the_function(self) -> None:
        import distributed.protocol.serialize  # noqa: F401
        from distributed.protocol import serialize as function

        assert function is serialize is public.serialize

    def test_hooks_for_msgpack(self) -> None:
        for value in ({1, 2}, importlib.import_module("headrace.common.status").Status.running):
            assert public.msgpack_decode_default(public.msgpack_encode_default(value)) == value
        mark = public.msgpack_decode_default(public.msgpack_encode_default(Serialize([1])))
        assert mark.load() == [1]
        assert public.msgpack_encode_default(3.5) == 3.5
        assert public.msgpack_decode_default({"a": 1}) == {"a": 1}
        with pytest.raises(RuntimeError, match="not allowed"):
            public.msgpack_decode_default({"__Enum__": True, "name": "RED", "__module__": "os", "__name__": "x"})

    def test_allowed_imports(self) -> None:
        assert public.import_allowed_module("dask.utils").__name__ == "dask.utils"
        with pytest.raises(RuntimeError, match="'numpy' is not allowed"):
            public.import_allowed_module("numpy")

    @pytest.mark.usefixtures("humans")
    def test_what_has_functions(self) -> None:
        check = public.check_dask_serializable
        assert all(map(check, [Human("Ada"), [Human("Ada")], {"a": [Child("Bo")]}]))
        assert not any(map(check, [3, [House()]]))

    def test_split_frames_are_merged(self) -> None:
        array = numpy.arange(100_000)
        header, frames = public.serialize_and_split(array, size=300_000)
        assert len(frames) == 3
        assert public.merge_and_deserialize(header, frames).tolist() == array.tolist()

    def test_sizes_and_tokens(self) -> None:
        mark = Serialized(*serialize(b"x" * 1000))
        assert public.sizeof_serialized(mark) > 1000
        assert public.sizeof_serialize(Serialize(b"x" * 1000)) >= 1000
        assert public.normalize_Serialized(mark)[0] == mark.header

    def test_cut_bytes_are_refused(self) -> None:
        whole = serialize_bytes([1, 2])
        for length in (0, 4, 9, len(whole) - 1):
            with pytest.raises(ValueError, match="cut short"):
                deserialize_bytes(whole[:length])


class TestFrameCompression:
    module = importlib.import_module("headrace.compat.protocol.compression")

    @pytest.mark.parametrize("name", ["auto", "lz4", "zstd", "zlib"])
    def test_a_frame_comes_back(self, name: str) -> None:
        data = b"0123456789" * 10_000
        used, packed = self.module.maybe_compress(data, compression=name)
        assert name in ("auto", used)
        assert len(packed) < len(data) / 2
        (again,) = self.module.decompress({"compression": (used,)}, [packed])
        assert bytes(again) == data

    def test_what_does_not_shrink_goes_as_it_is(self) -> None:
        noise = numpy.random.default_rng(0).bytes(100_000)
        for payload, name in ((noise, "auto"), (b"x" * 100, "auto"), (b"x" * 100_000, None), (b"x" * 100_000, False)):
            assert self.module.maybe_compress(payload, compression=name) == (None, payload)
        with pytest.raises(ValueError, match="nonsense"):
            self.module.maybe_compress(b"x", compression="nonsense")

    def test_samples(self) -> None:
        view = memoryview(bytes(range(200)))
        assert self.module.byte_sample(view, 1000, 5) is view
        assert bytes(self.module.byte_sample(view, 2, 2)) == bytes([0, 1, 198, 199])

    def test_settings(self) -> None:
        import dask.config

        with dask.config.set({"distributed.comm.compression": "zlib"}):
            assert self.module.get_compression_settings("distributed.comm.compression") == "zlib"
        with dask.config.set({"distributed.comm.compression": None}):
            assert self.module.get_compression_settings("distributed.comm.compression") is None
        with (
            dask.config.set({"distributed.comm.compression": "nonsense"}),
            pytest.raises(ValueError, match=r"distributed.comm.compression=nonsense"),
        ):
            self.module.get_compression_settings("distributed.comm.compression")


def test_the_pickler_keeps_what_copyreg_knows() -> None:
    import copyreg

    class Odd:
        pass

    dask_serialize.register(Human, dump_human)
    assert plain.Pickler is RegisteredPickler
    copyreg.pickle(Odd, lambda odd: "Ellipsis" and (int, (3,)))  # type: ignore[arg-type]
    try:
        assert loads(dumps([Odd(), Human]))[0] == 3
    finally:
        del copyreg.dispatch_table[Odd]


def test_nothing_is_kept_of_a_value_that_cannot_be_pickled() -> None:
    class Open:
        """Stands for a connection: part of the value is seen before the lock ends it."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

    plain.dumps(numpy.zeros(3))  # the thread's pickler is there, and is used again
    value = Open()
    reference = weakref.ref(value)
    with pytest.raises(SerializationError):
        plain.dumps([value])
    del value
    gc.collect()
    assert reference() is None
    assert plain.loads(plain.dumps([1, numpy.ones(2)]))[0] == 1
