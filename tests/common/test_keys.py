"""Keys: the wire form, groups and prefixes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.common.keys import MAX_DEPTH, from_wire, key_group, key_prefix, to_wire

atoms = st.one_of(st.text(), st.binary(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False))
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


@pytest.mark.slow
@given(keys)
def test_wire_form_comes_back_with_types(key: Any) -> None:
    try:
        wire = to_wire(key)
    except TypeError:
        assert isinstance(key, tuple)
        return
    back = from_wire(wire)
    assert back == key
    assert repr(back) == repr(key)


@pytest.mark.parametrize("bad", [None, object(), ["x", 1], {"x"}, ("x", None)])
def test_what_may_not_be_a_key_is_named(bad: Any) -> None:
    with pytest.raises(TypeError, match="key must be"):
        to_wire(bad)


def test_too_deep_keys_are_refused() -> None:
    key: Any = "x"
    for _ in range(MAX_DEPTH):
        key = (key,)
    assert from_wire(to_wire(key)) == key
    with pytest.raises(TypeError, match="nested"):
        to_wire((key,))


@pytest.mark.parametrize(
    ("key", "group"),
    [
        (("x-123", 0), "x-123"),
        ((("nested", 1), 2), "nested"),
        ("inc-0123456789abcdef", "inc"),
        ("inc", "inc"),
        ("read-parquet-1", "read-parquet"),
        ("hello-world", "hello-world"),
        ((1, 2), "int"),
        ((), "tuple"),
    ],
)
def test_group(key: Any, group: str) -> None:
    assert key_group(key) == group


@pytest.mark.parametrize(
    ("group", "prefix"),
    [
        ("x-123", "x"),
        ("x-abcdefab", "x"),
        ("x", "x"),
        ("hello-world", "hello-world"),
        ("hello-world-1", "hello-world"),
        ("ae05086432ca935f6eba409a8ecd4896", "data"),
        ("<module.submodule.myclass object at 0xdaf372", "myclass"),
    ],
)
def test_prefix(group: str, prefix: str) -> None:
    assert key_prefix(group) == prefix
