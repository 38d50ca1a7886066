"""Colors of tasks: the same name has the same color on every page and every day. Imports nothing heavy."""

from __future__ import annotations

import zlib
from functools import lru_cache

#: Hues that differ well from each other and from the red of transfers, with saturation and lightness in percent.
_HUES = (205, 145, 42, 270, 178, 95, 320, 228, 62, 24, 250, 165, 120, 296, 190, 78)
_TONES = ((62, 46), (55, 58), (68, 38))


@lru_cache(maxsize=4096)
def color_of_task(name: str) -> str:
    """The color of all tasks with a prefix, as `#rrggbb`.

    >>> color_of_task("inc") == color_of_task("inc")
    True
    """
    seed = zlib.crc32(name.encode("utf-8", "replace"))
    hue = _HUES[seed % len(_HUES)]
    saturation, lightness = _TONES[seed // len(_HUES) % len(_TONES)]
    return _hex(hue / 360, saturation / 100, lightness / 100)


def _hex(hue: float, saturation: float, lightness: float) -> str:
    from colorsys import hls_to_rgb

    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, lightness, saturation))
