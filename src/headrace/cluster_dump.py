"""Files of `Client.dump_cluster_state`: their paths, writing them, and reading them back.

The formats are `msgpack` (gzipped) and `yaml`; a path is any that fsspec opens. Writing is slow: call it from a thread.
"""

from __future__ import annotations

import os
from typing import Any

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
    import fsspec

    path = path_of(filename, format)
    if format == "yaml":
        write_yaml(state, path, **storage_options)
    else:
        import msgspec

        with fsspec.open(path, "wb", compression="gzip", **storage_options) as file:
            file.write(msgspec.msgpack.encode(state))


def write_yaml(state: Any, path: str | os.PathLike[str], **storage_options: object) -> None:
    """Write plain data as YAML.

    Args:
        path: path or URL, whole.
        storage_options: for `fsspec.open`.

    Raises:
        OSError: the file cannot be written.
    """
    import fsspec
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with fsspec.open(os.fspath(path), "wt", encoding="utf-8", **storage_options) as file:
        yaml.dump(state, file, Dumper=dumper, allow_unicode=True, sort_keys=False)


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
