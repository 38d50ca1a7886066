"""Quantities in words for people: bytes, durations, counts."""

from __future__ import annotations


def bytes_in_words(nbytes: float) -> str:
    """A number of bytes with a fitting unit, such as "381.5 MiB"."""
    for unit in ("B", "kiB", "MiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"


def ago(seconds: float) -> str:
    """The time that has passed since something, in words.

    >>> ago(0.5), ago(75), ago(7300), ago(200_000)
    ('just now', '1 min ago', '2 h ago', '2 days ago')
    """
    if seconds < 2:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 2 * 86400:
        return f"{seconds // 3600:.0f} h ago"
    return f"{seconds // 86400:.0f} days ago"


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the plural unless the count is 1.

    >>> counted(1, "worker"), counted(2000, "thread")
    ('1 worker', '2,000 threads')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
