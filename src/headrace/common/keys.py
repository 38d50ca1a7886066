"""Task keys: the types that they may have, their form on the wire, and the group and prefix that they belong to.

A key is a `str`, `bytes`, `int`, `float` or a tuple of keys (nested at most `MAX_DEPTH` deep). On the wire and in
the state machines a `bytes` key is a string with a reserved prefix, because msgpack unions hold one text type only;
the client and the code that runs inside tasks translate at their edge with `to_wire` and `from_wire`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias, cast

_Atom: TypeAlias = str | int | float
_Depth1: TypeAlias = _Atom | tuple[_Atom, ...]
_Depth2: TypeAlias = _Atom | tuple[_Depth1, ...]
_Depth3: TypeAlias = _Atom | tuple[_Depth2, ...]
_Depth4: TypeAlias = _Atom | tuple[_Depth3, ...]
_Depth5: TypeAlias = _Atom | tuple[_Depth4, ...]
#: A key as messages and state machines hold it; unrolled because msgspec checks types at decoding.
Key: TypeAlias = _Atom | tuple[_Depth5, ...]

MAX_DEPTH = 6
#: The integers that msgpack can carry.
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
_BYTES_PREFIX = "\x00bytes:"
_HEX_LETTERS = re.compile("[a-f]+")
_HEX_TOKEN = re.compile("[a-f0-9]+")


def to_wire(key: Any, depth: int = MAX_DEPTH) -> Key:
    """The wire form of a user's key.

    Raises:
        TypeError: the key, or a part of it, has a type that keys may not have, or is nested too deep.
        ValueError: no message could carry the key, or nobody could find it again (nan, which equals nothing).
    """
    kind = type(key)
    if kind is str:
        return key if key.isascii() else _text(key)
    if kind is int:
        if MIN_INTEGER <= key <= MAX_INTEGER:
            return key  # type: ignore[no-any-return]
        raise ValueError(f"a task's key must be an integer of 64 bits or less, not {_short(key)}: use a str instead")
    if kind is float:
        if key == key:
            return key  # type: ignore[no-any-return]
        raise ValueError("a task's key must not be nan, which is not equal to itself: use a str instead")
    if kind is tuple:
        if not depth:
            raise TypeError(f"a task's key must not be nested more than {MAX_DEPTH} tuples deep: …{_short(key)}")
        return cast(Key, tuple([to_wire(part, depth - 1) for part in key]))
    if isinstance(key, bytes):
        return _BYTES_PREFIX + key.decode("latin-1")
    if isinstance(key, bool):
        return int(key)
    for base in (str, int, float):
        if isinstance(key, base):
            return to_wire(base(key))
    if isinstance(key, tuple):
        return to_wire(tuple(key), depth)
    if hasattr(key, "__index__"):  # numpy integers
        return to_wire(int(key.__index__()))
    raise TypeError(
        f"a task's key must be a str, bytes, int, float or a tuple of these, not {kind.__qualname__}: {_short(key)}"
    )


def _text(key: str) -> str:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a task's key must be valid text: {ascii(key)[:100]} cannot be encoded as UTF-8") from error
    return key


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"{value:#x}"
    return text if len(text) <= 200 else text[:200] + "…"


def from_wire(key: Any) -> Any:
    """The user's form of a wire key (inverse of `to_wire` for the five documented types)."""
    if type(key) is str:
        return key[len(_BYTES_PREFIX) :].encode("latin-1") if key.startswith(_BYTES_PREFIX) else key
    if type(key) is tuple:
        return tuple([from_wire(part) for part in key])
    return key


def key_group(x: Key) -> str:
    """The group of a key: the first part of a tuple, or the text before the token.

    >>> key_group(("x-123", 0))
    'x-123'
    >>> key_group("inc-0123abcd")
    'inc'
    """
    if type(x) is str:
        # Keys of one function differ in their tokens only, so that one cached answer serves all of them.
        head, dash, token = x.rpartition("-")
        if dash and not token.isalpha():
            return key_prefix(head + "-0")
        return key_prefix(x)
    while type(x) is tuple:
        if not x:
            return "tuple"
        x = x[0]
    return x if type(x) is str else type(x).__name__


@lru_cache(10_000)
def key_prefix(group: str) -> str:
    """The prefix of a group: its name without the token at the end.

    Words of letters are kept up to the first that looks like a token: one with digits, or eight hexadecimal letters.

    >>> key_prefix("read-parquet-0123456789abcdef0123456789abcdef")
    'read-parquet'
    >>> key_prefix("inc-1")
    'inc'
    """
    if group.startswith("<"):
        return group.strip("<>").split()[0].split(".")[-1] or group
    if len(group) == 32 and _HEX_TOKEN.fullmatch(group):
        return "data"
    head, *words = group.split("-")
    kept = head.lstrip("'(\"")
    for word in words:
        if not word.isalpha() or (len(word) == 8 and _HEX_LETTERS.fullmatch(word)):
            break
        kept += "-" + word
    return kept or group
