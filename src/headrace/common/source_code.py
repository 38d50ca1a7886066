"""The source text of a frame of the user's code, as it travels from clients to `Computation.code`."""

from __future__ import annotations

from typing import NamedTuple


class SourceCode(NamedTuple):
    """A frame of the user's code from which work was submitted.

    Attributes:
        code: source text of the frame's function or module; the function's name where there is no source.
        lineno_frame: the frame's line in the file, counted from 1.
        lineno_relative: the same line, counted from 0 at the first line of `code`.
        filename: the file.
    """

    code: str
    lineno_frame: int
    lineno_relative: int
    filename: str
