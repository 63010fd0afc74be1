"""Heat map of sensitivities by block and kind of layer."""

import math
from typing import Any

from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.reporting.page.charts import VEGA_LITE, Spec

_CELL = 20
"""Points of 1/72 inch."""
_PIXELS_PER_POINT = 110 / 72
_FLOOR = 1e-9
"""Divergences below it are rounding noise of the arithmetic."""


def draw_heat_map(found: SensitivityResult) -> bytes:
    """A PNG: a panel for each rounding, one row a kind, one column a block.

    The embedding stands before the first block, the head after the last. Colours are logarithmic
    and the same in all panels.
    """
    import vl_convert

    drawn: bytes = vl_convert.vegalite_to_png(_spec(found), scale=_PIXELS_PER_POINT)
    return drawn


def _spec(found: SensitivityResult) -> Spec:
    cells = _cells(found)
    values = [cell["kl"] for cell in cells]
    low, high = min(values), max(*values, min(values) * 10)
    kinds = list(dict.fromkeys(unit.kind for unit in found.units))
    return {
        "$schema": VEGA_LITE,
        "data": {"values": cells},
        "facet": {
            "row": {
                "field": "panel",
                "title": None,
                "sort": list(dict.fromkeys(cell["panel"] for cell in cells)),
                "header": {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start",
                           "labelPadding": 2},
            }
        },
        "spec": {
            "width": {"step": _CELL},
            "height": {"step": _CELL},
            "mark": "rect",
            "encoding": {
                "x": {"field": "block", "type": "ordinal", "sort": None,
                      "scale": {"domain": _columns(found)}, "axis": {"labelAngle": -90}},
                "y": {"field": "kind", "type": "nominal", "sort": None, "title": None,
                      "scale": {"domain": kinds}},
                "color": {
                    "field": "kl",
                    "type": "quantitative",
                    "title": ["KL divergence,", "nats per token"],
                    "scale": {"type": "log", "scheme": "viridis", "nice": False,
                              "domain": [low, high]},
                    "legend": {"format": "~e", "values": _powers_of_ten(low, high),
                               "titleLimit": 0},
                },
            },
        },
        "resolve": {"axis": {"x": "shared"}},
        "config": {
            "background": "white",
            "font": "DejaVu Sans, Liberation Sans, Helvetica, Arial, sans-serif",
            "axis": {"grid": False, "ticks": True, "titleFontWeight": "normal"},
            "legend": {"titleFontWeight": "normal"},
            "view": {"stroke": "#444"},
            "facet": {"spacing": 12},
        },
    }  # fmt: skip


def _powers_of_ten(low: float, high: float) -> list[float]:
    """Those between two values, which are at least a factor of ten apart."""
    return [
        10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    ]


def _columns(found: SensitivityResult) -> list[str]:
    blocks = sorted({unit.block for unit in found.units if unit.block is not None})
    inside = [*map(str, blocks)] if blocks else ["all"]
    ends = [*_ends(found).values()]
    return [*(end for end in ends if end == "in"), *inside, *(end for end in ends if end == "out")]


def _ends(found: SensitivityResult) -> dict[str, str]:
    """Columns of the embedding and the head; a head that is the embedding has none of its own."""
    # A unit of a whole kind has no block either, but more layers than itself.
    ends = [u.name for u in found.units if u.block is None and u.layers == [u.name]]
    return dict(zip(ends, ("in", "out"), strict=False))


def _cells(found: SensitivityResult) -> list[dict[str, Any]]:
    units = {unit.name: unit for unit in found.units}
    ends = _ends(found)
    cells = []
    for row in found.rows:
        unit = units[row.unit]
        block = "all" if unit.block is None else str(unit.block)
        cells.append(
            {
                "panel": f"{row.rounding}, one at a time",
                "kind": unit.kind,
                "block": ends.get(unit.name, block),
                "kl": max(row.kl_divergence.estimate, _FLOOR),
            }
        )
    return cells
