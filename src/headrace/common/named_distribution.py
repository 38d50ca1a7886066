"""A distribution that is known by name and version, without files: what `importlib.metadata` says of `distributed`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any


class NamedDistribution(Distribution):
    """The metadata of a distribution that is not installed under its name."""

    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        """The text of METADATA; there are no other files."""
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Any:
        """A place for a file; there is none."""
        return Path(str(path))


def found_distributions(context: DistributionFinder.Context | None, name: str, version: str) -> Iterable[Distribution]:
    """The distribution, if it is what is looked for, by its name."""
    wanted = getattr(context, "name", None)
    return [NamedDistribution(name, version)] if isinstance(wanted, str) and wanted.lower() == name else []
