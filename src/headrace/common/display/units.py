"""Quantities for people."""

from __future__ import annotations


def bytes_in_words(nbytes: float) -> str:
    """Bytes with a unit that suits them: "381.5 MiB"."""
    for unit in ("B", "kiB", "MiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"
