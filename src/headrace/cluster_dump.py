"""Files of `Client.dump_cluster_state`: their paths, writing them, and reading them back.

The formats are `msgpack` (gzipped) and `yaml`; a path is any that fsspec opens. Writing is slow: call it from a thread.
A file of this machine is for this user alone: there are names and values of users' programs in it, and settings.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any, cast

from headrace.private_directories import make_above, open_named, path_of_url

SUFFIXES = {"msgpack": ".msgpack.gz", "yaml": ".yaml"}


def path_of(filename: str | os.PathLike[str], format: str) -> str:
    """The path or URL that a dump goes to: `filename`, with the format's suffix.

    Raises:
        ValueError: there is no such format.
    """
    suffix = SUFFIXES.get(format)
    if suffix is None:
        raise ValueError(f"Unsupported format {format!r}. Possible values are 'msgpack' or 'yaml'.")
    path = os.fspath(filename)
    return path if path.endswith(suffix) else path + suffix


def write_state(
    state: dict[str, Any], filename: str | os.PathLike[str], format: str = "msgpack", **storage_options: object
) -> None:
    """Write a dump.

    Args:
        state: plain data.
        filename: path or URL, with or without the suffix.
        storage_options: for `fsspec.open`.

    Raises:
        ValueError: there is no such format.
        OSError: the file cannot be written.
    """
    path = path_of(filename, format)
    if format == "yaml":
        write_yaml(state, path, **storage_options)
    else:
        import gzip

        import msgspec

        with _opened(path, storage_options) as file, gzip.open(file, "wb") as packed:
            packed.write(msgspec.msgpack.encode(state))


def write_yaml(state: Any, path: str | os.PathLike[str], **storage_options: object) -> None:
    """Write plain data as YAML.

    Args:
        path: path or URL, whole.
        storage_options: for `fsspec.open`.

    Raises:
        OSError: the file cannot be written.
    """
    import io

    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with _opened(os.fspath(path), storage_options) as file, io.TextIOWrapper(file, "utf-8") as text:
        yaml.dump(state, text, Dumper=dumper, allow_unicode=True, sort_keys=False)


def _opened(path: str, storage_options: dict[str, Any]) -> AbstractContextManager[Any]:
    """A file to write bytes to."""
    local = path_of_url(path, storage_options)
    if local is None:
        import fsspec

        return cast("AbstractContextManager[Any]", fsspec.open(path, "wb", **storage_options))
    make_above(os.path.abspath(local))
    return open_named(local)


def load_cluster_dump(url: str | os.PathLike[str], **storage_options: object) -> dict[str, Any]:
    """Read a dump back.

    Args:
        url: path or URL, with its suffix.
        storage_options: for `fsspec.open`.

    Raises:
        ValueError: the name does not end in a suffix of dumps.
        OSError: the file cannot be read.
    """
    import fsspec

    url = os.fspath(url)
    if url.endswith(SUFFIXES["msgpack"]):
        import msgspec

        with fsspec.open(url, "rb", compression="gzip", **storage_options) as file:
            return dict(msgspec.msgpack.decode(file.read()))
    if url.endswith(SUFFIXES["yaml"]):
        import yaml

        with fsspec.open(url, "rt", encoding="utf-8", **storage_options) as file:
            return dict(yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    raise ValueError(f"{url!r} is no dump: it must have a {' or '.join(SUFFIXES.values())} suffix")
