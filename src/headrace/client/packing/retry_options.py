"""Users' options for how long a task may run, and how often, when and after which errors it is tried again.

Sends nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from dask.utils import parse_timedelta

from headrace.common.retry_policy import LONGEST


@dataclass(frozen=True, init=False)
class Retry:
    """A retry policy, for `retries=` of `Client.submit` and its like, and `dask.annotate(retries=...)`.

    Before its n-th retry a task waits for `delay * backoff ** (n - 1)`, at most `maximum_delay`. It takes no worker
    meanwhile.

    Args:
        count: how many times the task may fail before it counts as failed.
        delay: seconds, or text such as "500ms", before the first retry.
        backoff: what the delay is multiplied by from one retry to the next.
        maximum_delay: seconds, or text; None for no maximum.
        jitter: by what share of itself, at most, a delay is made longer or shorter, so that tasks that failed together
            are not tried again together; from 0 to 1.
        on: exception classes (or their qualified names, such as "builtins.OSError"), one or several, after which the
            task is tried again, subclasses included; after all others it has failed at once. By default all are.

    Raises:
        TypeError: a value has the wrong type; names it.
        ValueError: a value is out of range; names it.

    Examples:
        >>> client.submit(load, url, retries=Retry(5, delay="1s", maximum_delay="1m", on=(ConnectionError,)))
    """

    count: int
    delay: float
    backoff: float
    maximum_delay: float | None
    jitter: float
    on: tuple[str, ...]

    def __init__(
        self,
        count: int,
        delay: float | str = "1s",
        backoff: float = 2.0,
        maximum_delay: float | str | None = "1 minute",
        jitter: float = 0.1,
        on: type[BaseException] | str | Iterable[type[BaseException] | str] = (),
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise TypeError(f"Retry: count must be a whole number, not {count!r}")
        put = object.__setattr__
        put(self, "count", int(_in_range("count", int(count))))
        put(self, "delay", _seconds("delay", delay))
        put(self, "backoff", _in_range("backoff", _number("backoff", backoff)))
        put(self, "maximum_delay", None if maximum_delay is None else _seconds("maximum_delay", maximum_delay))
        put(self, "jitter", _in_range("jitter", _number("jitter", jitter), 1.0))
        put(self, "on", _names(on))

    @classmethod
    def of(cls, value: Retry | Mapping[str, Any]) -> Retry:
        """A policy, from one or from a mapping with the arguments of one.

        Raises:
            TypeError: the mapping has other keys.
        """
        if isinstance(value, Retry):
            return value
        try:
            return cls(**value)
        except TypeError as error:
            raise TypeError(f"retries={value!r} is no retry policy: {error}") from error

    def __call__(self, key: object) -> Retry:
        """The policy for a task, whichever: what `dask.annotate` takes beside numbers is functions of the key."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The policy as it travels: plain values only. `Retry.of` takes it back."""
        return {
            "count": self.count,
            "delay": self.delay,
            "backoff": self.backoff,
            "maximum_delay": self.maximum_delay,
            "jitter": self.jitter,
            "on": list(self.on),
        }

    def __repr__(self) -> str:
        return f"Retry({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


def time_limit(value: object) -> float:
    """Seconds that a task may run, from a number or a text.

    Raises:
        TypeError: neither of these.
        ValueError: not a time that is longer than nothing.
    """
    seconds = _seconds("timeout", value, "a task's ")
    if not seconds > 0:
        raise ValueError(f"a task's timeout must be longer than nothing, not {value!r}")
    return seconds


def takes_timeout(function: Callable[..., Any]) -> bool:
    """Whether a call of a function with a keyword `timeout` means something to that function.

    Then `submit(function, timeout=...)` passes it on, as it always has; else that would only fail, and the keyword is
    free to mean the task's limit. Builtins that do not tell their parameters are asked for their documentation.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return "timeout" in (getattr(function, "__doc__", None) or "")
    named = parameters.get("timeout")
    if named is not None and named.kind is not inspect.Parameter.POSITIONAL_ONLY:
        return True
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def _seconds(name: str, value: object, of: str = "Retry: ") -> float:
    if isinstance(value, bool) or not (isinstance(value, (Real, str)) or hasattr(value, "total_seconds")):
        raise TypeError(f"{of}{name} must be seconds, or a text such as '30s', not {value!r}")
    try:
        seconds = float(parse_timedelta(value, default="s"))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{of}{name} must be seconds, or a text such as '30s', not {value!r}") from error
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"{of}{name} must not be negative, nor beyond ten years, and is {value!r}")
    return seconds


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Retry: {name} must be a number, not {value!r}")
    return float(value)


def _in_range(name: str, value: float, most: float = float("inf")) -> float:
    if not 0 <= value <= most or value == float("inf"):
        raise ValueError(f"Retry: {name} must be between 0 and {most:g}, not {value!r}")
    return value


def _names(kinds: object) -> tuple[str, ...]:
    if isinstance(kinds, (str, type)):
        return (_name(kinds),)
    if not isinstance(kinds, Iterable):
        raise TypeError(f"Retry: on must be exception classes, or their names, not {kinds!r}")
    return tuple(map(_name, kinds))


def _name(kind: object) -> str:
    if isinstance(kind, str):
        return kind if "." in kind else f"builtins.{kind}"
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return f"{kind.__module__}.{kind.__qualname__}"
    raise TypeError(f"Retry: on must hold exception classes, or their names, not {kind!r}")
