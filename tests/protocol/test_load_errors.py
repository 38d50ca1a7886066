"""An error of loading is of two classes: ours, and that of what loading raised."""

from __future__ import annotations

import pickle

import pytest

from headrace.exceptions import DeserializationError
from headrace.protocol.load_errors import loading_error


class FinalMeta(type):
    """Makes classes that cannot be extended."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> FinalMeta:
        if any(isinstance(base, cls) for base in bases):
            raise TypeError("cannot be extended")
        return super().__new__(cls, name, bases, namespace)


class Final(Exception, metaclass=FinalMeta):
    """Cannot be extended."""


class Demanding(ValueError):
    """Has a constructor that takes other things than a text."""

    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(one, two)
        self.one, self.two = one, two

    def __str__(self) -> str:
        return f"{self.one} and {self.two}"


CAUSES = [
    Demanding(1, two=2),
    KeyError("absent"),
    ModuleNotFoundError("No module named 'nowhere'", name="nowhere"),
    OSError(2, "no such file", "name"),
    UnicodeDecodeError("utf-8", b"abc", 0, 1, "wrong"),
    RuntimeError("wrong"),
    StopIteration(3),
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_an_error_of_loading_is_also_what_was_raised(cause: Exception) -> None:
    made = loading_error("cannot be loaded", cause)
    for error in (made, pickle.loads(pickle.dumps(made))):
        assert isinstance(error, DeserializationError)
        assert isinstance(error, type(cause))
        assert type(error).__name__ == type(cause).__name__
        assert str(error) == "cannot be loaded"
    assert type(loading_error("again", cause)) is type(made)


def test_attributes_of_the_cause_are_taken_over() -> None:
    error = pickle.loads(pickle.dumps(loading_error("cannot be loaded", Demanding(1, two=2))))
    assert (error.one, error.two) == (1, 2)
    missing = loading_error("cannot be loaded", ModuleNotFoundError("No module", name="nowhere"))
    assert isinstance(missing, ModuleNotFoundError)
    assert missing.name == "nowhere"
    unread = loading_error("cannot be loaded", OSError(2, "no such file"))
    assert isinstance(unread, OSError)
    assert unread.errno == 2


def test_a_class_that_cannot_be_extended_leaves_ours() -> None:
    error = loading_error("cannot be loaded", Final())
    assert type(error) is DeserializationError
    assert str(error) == "cannot be loaded"
    assert type(loading_error("cannot be loaded", DeserializationError("within"))) is DeserializationError
