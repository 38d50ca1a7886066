"""Families of metrics: what each is called and means, as tables, and the values of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["gauge", "counter"]
#: Values by the values of the labels.
Row: TypeAlias = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Described:
    """A family as it is documented.

    Attributes:
        name: as its samples have it, without the namespace; that of a counter ends with `_total`.
        kind: "counter" for what never falls, else "gauge".
        text: what it counts or measures, and in which unit, in one line.
        labels: names of the labels of its samples.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A family with its values.

    Attributes:
        name: in full, as its samples have it.
        kind, text, labels: see `Described`.
        rows: the values.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...]
    rows: Iterable[Row]


class Catalogue:
    """Tables of families of one kind of server.

    Args:
        namespace: the first part of all names.
        tables: the families.

    Attributes:
        names: of all families, in full.
    """

    def __init__(self, namespace: str, *tables: Iterable[Described]) -> None:
        self._prefix = f"{namespace}_" if namespace else ""
        self.described: Mapping[str, Described] = {entry.name: entry for table in tables for entry in table}
        self.names = frozenset(self._prefix + name for name in self.described)

    def family(self, name: str, rows: Iterable[Row]) -> Family:
        """A family of the tables with the values of now.

        Raises:
            KeyError: the tables do not have it.
        """
        entry = self.described[name]
        return Family(self._prefix + name, entry.kind, entry.text, entry.labels, rows)
