"""Colour and shape of a method: the same in every report, whatever else is in it.

A method's class says its place in the palette (``mark``), another for each; what does not, such as
a plug-in's, or is no method that is known here, gets one from a digest of its name.
"""

import zlib
from collections.abc import Iterable

from runner.methods import all_methods
from runner.reporting.page.charts import PALETTE, SHAPES


def marks_of(methods: Iterable[str]) -> dict[str, dict[str, str]]:
    """``color`` and ``shape`` by method."""
    known = all_methods()
    found = {}
    for name in sorted(set(methods)):
        declared = getattr(known.get(name), "mark", None)
        place = zlib.crc32(name.encode()) if declared is None else declared
        found[name] = {
            "color": PALETTE[place % len(PALETTE)],
            "shape": SHAPES[place % len(SHAPES)],
        }
    return found
