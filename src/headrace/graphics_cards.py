"""What NVIDIA's management library says of this machine's graphics cards; without it or them there are simply none.

The library is the package `nvidia-ml-py` (module `pynvml`). It is loaded when something asks for the first time, unless
`distributed.diagnostics.nvml` is off. A card may be split into instances (MIG), which have numbers within it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from headrace import config

#: (process, library or None): a process that was forked must load it anew.
_loaded: tuple[int, Any] | None = None


class CudaDeviceInfo(NamedTuple):
    """A card, or an instance of a card.

    Attributes:
        uuid: name that is unique in the world.
        device_index: number of the card on this machine.
        mig_index: number of the instance on the card; None for a whole card.
    """

    uuid: str | bytes | None = None
    device_index: int | None = None
    mig_index: int | None = None


class CudaContext(NamedTuple):
    """Whether this process uses a card, and which."""

    has_context: bool
    device_info: CudaDeviceInfo | None = None


def _library() -> Any:
    """The module `pynvml`, ready for questions; None if there is no such module, driver or permission."""
    global _loaded
    here = os.getpid()
    if not config.truth("distributed.diagnostics.nvml"):
        return None
    if _loaded is None or _loaded[0] != here:
        _loaded = (here, _load())
    return _loaded[1]


def _load() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, or no card
        return None
    return pynvml


def _needed() -> Any:
    library = _library()
    if library is None:
        raise RuntimeError(
            "nothing is known of graphics cards here: that takes the package nvidia-ml-py, NVIDIA's driver, and the "
            "setting distributed.diagnostics.nvml"
        )
    return library


def init_once() -> None:
    """Load the library now, if that is possible and has not been done."""
    _library()


def is_initialized() -> bool:
    """Whether the library is loaded in this process."""
    return _loaded is not None and _loaded[0] == os.getpid() and _loaded[1] is not None


def device_get_count() -> int:
    """Number of cards; 0 where nothing is known of them."""
    library = _library()
    return 0 if library is None else int(library.nvmlDeviceGetCount())


def get_device_mig_mode(device: int | str | bytes) -> int:
    """Whether a card is split into instances: 1, or 0 if it is not or cannot be.

    Raises:
        RuntimeError: nothing is known of cards here.
    """
    library = _needed()
    return _mig_mode(library, _handle(library, device))


def _mig_mode(library: Any, handle: Any) -> int:
    try:
        return int(library.nvmlDeviceGetMigMode(handle)[0])
    except library.NVMLError:  # the card does not know such instances
        return 0


def get_device_index_and_uuid(device: int | str | bytes) -> CudaDeviceInfo:
    """A card or an instance, by its number (also as text) or its UUID.

    Raises:
        RuntimeError: nothing is known of cards here.
    """
    library = _needed()
    handle = _handle(library, device)
    uuid = library.nvmlDeviceGetUUID(handle)
    if isinstance(device, (str, bytes)) and _text(device).startswith("MIG"):
        for number, instances in enumerate(_cards(library)):
            for index, instance in instances:
                if library.nvmlDeviceGetUUID(instance) == uuid:
                    return CudaDeviceInfo(uuid, number, index)
    return CudaDeviceInfo(uuid, int(library.nvmlDeviceGetIndex(handle)))


def has_cuda_context() -> CudaContext:
    """Whether this process has a CUDA context on some card, or instance of a card, and on which."""
    library = _library()
    if library is None:
        return CudaContext(False)
    here = os.getpid()
    for number, instances in enumerate(_cards(library)):
        for index, handle in instances:
            processes = getattr(
                library, "nvmlDeviceGetComputeRunningProcesses_v2", library.nvmlDeviceGetComputeRunningProcesses
            )
            if any(process.pid == here for process in processes(handle)):
                return CudaContext(True, CudaDeviceInfo(library.nvmlDeviceGetUUID(handle), number, index))
    return CudaContext(False)


def _cards(library: Any) -> Iterator[list[tuple[int | None, Any]]]:
    """For each card its instances as (number, handle), or the card itself as (None, handle)."""
    for number in range(library.nvmlDeviceGetCount()):
        card = library.nvmlDeviceGetHandleByIndex(number)
        if not _mig_mode(library, card):
            yield [(None, card)]
            continue
        instances: list[tuple[int | None, Any]] = []
        for index in range(library.nvmlDeviceGetMaxMigDeviceCount(card)):
            try:
                instances.append((index, library.nvmlDeviceGetMigDeviceHandleByIndex(card, index)))
            except library.NVMLError:  # no instance has that number
                continue
        yield instances


def _text(device: str | bytes) -> str:
    return device.decode() if isinstance(device, bytes) else device


def _handle(library: Any, device: int | str | bytes) -> Any:
    if isinstance(device, int) or _text(device).isdigit():
        return library.nvmlDeviceGetHandleByIndex(int(device))
    return library.nvmlDeviceGetHandleByUUID(device.encode() if isinstance(device, str) else device)


def _own_handle() -> tuple[Any, Any]:
    """The library and the card that this process uses: the first of `CUDA_VISIBLE_DEVICES`, else the first of all."""
    library = _needed()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    return library, _handle(library, visible or 0)


def _asked(library: Any, question: str, handle: Any, attribute: str | None = None) -> Any:
    """The answer to a question that not every card has one to; None if this one has none."""
    try:
        answer = getattr(library, question)(handle)
    except library.NVMLError:
        return None
    return getattr(answer, attribute) if attribute else answer


def real_time() -> dict[str, int | None]:
    """How busy this process's card is: `utilization` in percent, `memory-used` in bytes.

    Raises:
        RuntimeError: nothing is known of cards here.
    """
    library, handle = _own_handle()
    return {
        "utilization": _asked(library, "nvmlDeviceGetUtilizationRates", handle, "gpu"),
        "memory-used": _asked(library, "nvmlDeviceGetMemoryInfo", handle, "used"),
    }


def one_time() -> dict[str, Any]:
    """What stays as it is of this process's card: `memory-total` in bytes, and its `name`.

    Raises:
        RuntimeError: nothing is known of cards here.
    """
    library, handle = _own_handle()
    name = _asked(library, "nvmlDeviceGetName", handle)
    return {
        "memory-total": _asked(library, "nvmlDeviceGetMemoryInfo", handle, "total"),
        "name": name.decode() if isinstance(name, bytes) else name,
    }
