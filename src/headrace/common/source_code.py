"""The source text of a frame of the user's code, as it travels from clients to `Computation.code`."""

from __future__ import annotations

from typing import NamedTuple


class SourceCode(NamedTuple):
    """One frame from which work was submitted.

    Attributes:
        code: source text of its function or module; the function's name where there is no source.
        lineno_frame: line of the file, counted from 1, in which the frame was.
        lineno_relative: the same, counted from 0 at the first line of `code`.
        filename: the file.
    """

    code: str
    lineno_frame: int
    lineno_relative: int
    filename: str
