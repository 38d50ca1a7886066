"""Keyword options and `dask.annotate` to the `TaskOptions` that travel with tasks. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from dask.base import is_dask_collection
from dask.utils import parse_timedelta

from headrace.common.keys import Key, to_wire
from headrace.messages.base import ANNOTATED, NO_OPTIONS, TaskOptions

from .retry_options import Retry, time_limit

#: Annotations that have fields of their own.
_FIELDS = ("priority", "retries", "workers", "allow_other_workers", "resources", "actor", "fifo_timeout")
_DEFAULTS = {
    "priority": 0,
    "retries": 0,
    "workers": None,
    "allow_other_workers": False,
    "resources": None,
    "actor": False,
}


class AtAddress(Protocol):
    """A worker or nanny, as an object."""

    @property
    def worker_address(self) -> str:
        """The address at which the worker is reached."""


#: Workers as users name them: by address, name or host, one or several; None for all.
Workers: TypeAlias = str | int | AtAddress | Iterable[object] | None


def normalize_workers(workers: object) -> list[str]:
    """Addresses, names or hosts as texts; one alone, a tuple `(host, port)` and sets are accepted.

    Raises:
        TypeError: neither text nor number nor an iterable of these.
    """
    if workers is None:
        return []
    if isinstance(workers, (str, int)):
        return [str(workers)]
    if isinstance(workers, tuple) and len(workers) == 2 and isinstance(workers[0], str) and type(workers[1]) is int:
        return [f"{workers[0]}:{workers[1]}"]
    if not isinstance(workers, Mapping) and not is_dask_collection(workers):  # which may have any attribute, and no end
        if hasattr(workers, "worker_address"):
            return [str(workers.worker_address)]
        if isinstance(workers, Iterable):
            return [name for worker in workers for name in normalize_workers(worker)]
    raise TypeError(f"workers must be addresses, names or hosts, or an iterable of these, not {workers!r}")


def chosen_workers(workers: Workers) -> list[str] | None:
    """Workers as texts, see `normalize_workers`, or None for all: an empty list means nobody."""
    return None if workers is None else normalize_workers(workers)


def make_options(
    annotations: Mapping[str, Any] | None = None,
    *,
    fifo_timeout: float | str | None = None,
    actor: bool = False,
    **keywords: Any,
) -> TaskOptions:
    """Options of a task, out of a call's keywords and the annotations around it; keywords win when they are given.

    Args:
        annotations: values of `dask.get_annotations()`, without callables.
        fifo_timeout: seconds, or a text like "100 ms".
        keywords: priority, retries (a number or a policy), workers, allow_other_workers, resources, timeout.

    Raises:
        ValueError: `allow_other_workers` without `workers`; a retry policy or a timeout is out of range.
        TypeError: an option has the wrong type; names it.
    """
    others = keywords.get("allow_other_workers")
    if others not in (True, False, None):
        raise TypeError(f"allow_other_workers= must be True or False, not {others!r}")
    values: dict[str, Any] = {name: value for name, value in keywords.items() if value != _DEFAULTS.get(name)}
    values = {name: value for name, value in values.items() if value is not None}
    if not values and not annotations and not actor and fifo_timeout in (None, 0.1, "100 ms"):
        return NO_OPTIONS
    merged = {**(annotations or {}), **values}
    rest = {name: _plain(value) for name, value in merged.items() if name not in _FIELDS and value is not None}
    retries = merged.get("retries") or 0
    if isinstance(retries, (Retry, Mapping)):
        policy = Retry.of(retries)
        retries, rest["retries"] = policy.count, policy.to_dict()
    if "timeout" in rest:
        rest["timeout"] = time_limit(merged["timeout"])
    try:
        options = TaskOptions(
            priority=float(merged.get("priority") or 0),
            retries=int(retries),
            workers=normalize_workers(merged.get("workers")),
            allow_other_workers=bool(merged.get("allow_other_workers")),
            resources={str(name): float(amount) for name, amount in (merged.get("resources") or {}).items()},
            fifo_timeout=float(parse_timedelta(0.1 if fifo_timeout is None else fifo_timeout, default="s")),
            actor=bool(actor or merged.get("actor")),
            annotations=rest,
            stated=[name for name in ANNOTATED if merged.get(name) is not None and not merged[name]],
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"an option of a task is not of the right type: {error} (in {merged})") from error
    if options.allow_other_workers and not options.workers:
        raise ValueError("allow_other_workers=True has no meaning without workers=: name some, or leave it out")
    return options


def _graph_options(annotations: Mapping[str, Any], common: Mapping[str, Any]) -> TaskOptions:
    """`make_options` for a graph. Where no workers are named, allowing others says nothing; dask-ml does so always."""
    if not (common.get("workers") or annotations.get("workers")):
        annotations = {name: value for name, value in annotations.items() if name != "allow_other_workers"}
        common = {name: value for name, value in common.items() if name != "allow_other_workers"}
    return make_options(annotations, **common)


def resolve_callables(annotations: Mapping[str, Any], key: object) -> dict[str, Any]:
    """Annotations for one key: values that are callables are called with it."""
    return {name: value(key) if _varies(value) else value for name, value in annotations.items()}


def has_callables(annotations: Mapping[str, Any]) -> bool:
    """Whether the annotations differ by key."""
    return any(_varies(value) for value in annotations.values())


def _varies(value: object) -> bool:
    return callable(value) and not isinstance(value, Retry)


class OptionTable:
    """The distinct options of a graph, and each key's position among them.

    Args:
        common: keywords of the call (`make_options`'s).
        around: annotations around the call; callables are resolved by key.
        by_type: annotations by layer, as `Expr.__dask_annotations__` returns them: `{name: {key: value}}`; these win.
    """

    def __init__(
        self, common: Mapping[str, Any], around: Mapping[str, Any], by_type: Mapping[str, Mapping[Key, Any]]
    ) -> None:
        self._common, self._around = common, around
        self._by_key: dict[Any, dict[str, Any]] = {}
        for name, values in by_type.items():
            for key, value in values.items():
                self._by_key.setdefault(key, {})[name] = value
        self._vary = has_callables(around)
        call = {name: value for name, value in around.items() if not _varies(value)} if self._vary else around
        self.options: list[TaskOptions] = [_graph_options(call, common)]
        self._positions: dict[str, int] = {}

    @property
    def uniform(self) -> bool:
        """Whether all tasks have the same options."""
        return not self._by_key and not self._vary

    @property
    def is_default(self) -> bool:
        """Whether no task asks for anything."""
        return self.uniform and self.options == [NO_OPTIONS]

    def position(self, key: object) -> int:
        """The position in `options` of the ones for this key (in its user's form)."""
        own = self._by_key.get(key)
        if own is None and not self._vary:
            return 0
        around = resolve_callables(self._around, key) if self._vary else dict(self._around)
        common = dict(self._common)
        for name in own or ():
            common.pop(name, None)
        options = _graph_options({**around, **(own or {})}, common)
        text = repr(options)  # its lists and dictionaries cannot be hashed
        position = self._positions.get(text)
        if position is None:
            position = self._positions[text] = len(self.options)
            self.options.append(options)
        return position


def _plain(value: object) -> Any:
    """An annotation as msgpack can hold it."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)


def wire_keys(keys: Iterable[Any]) -> list[Key]:
    """Keys as they travel."""
    return [to_wire(key) for key in keys]
