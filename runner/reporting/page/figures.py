"""Figures for a paper: the page's charts as SVG and PNG, one column wide."""

import copy
from pathlib import Path
from typing import Any

from runner.reporting.capacity import Served
from runner.reporting.page.charts import (
    PALETTE,
    SHAPES,
    Spec,
    batch_points,
    points,
    quality_intervals,
    speed_by_batch,
    tradeoff,
)
from runner.reporting.page.marks import marks_of
from runner.reporting.page.serving_chart import serving_chart, serving_points
from runner.reporting.page.subject import GROUPS

_WIDTH, _HEIGHT = 240, 170
"""In points of 1/72 inch: with axes about a column of 3.4 inch."""
_PIXELS_PER_POINT = 300 / 72
_MOST_LINES = 24
_MOST_DOTS = 1000
_CONFIG = {
    "background": "white",
    "font": "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif",
    "axis": {"labelFontSize": 8, "titleFontSize": 9, "titleFontWeight": "normal",
             "gridOpacity": 0.35, "domainColor": "#444", "tickColor": "#444"},
    "legend": {"labelFontSize": 8, "titleFontSize": 8, "symbolSize": 40},
    "view": {"stroke": None},
    "text": {"fontSize": 7, "fill": "#333"},
}  # fmt: skip


def write_figures(
    rows: list[dict[str, Any]], folder: Path, found: Served | None = None
) -> list[Path]:
    """Write every figure that there are data for; returns their paths.

    Args:
        rows: Of the answer.
        folder: Where to.
        found: What servers did.
    """
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    serving = {} if found is None or not found.curves else {"serving": _of_servers(found)}
    for name, spec in (_figures(rows) | serving).items():
        svg, png = folder / f"{name}.svg", folder / f"{name}.png"
        svg.write_text(vl_convert.vegalite_to_svg(spec), "utf-8")
        png.write_bytes(vl_convert.vegalite_to_png(spec, scale=_PIXELS_PER_POINT))
        written += [svg, png]
    return written


def _figures(rows: list[dict[str, Any]]) -> dict[str, Spec]:
    measured = [row for row in rows if row["perplexity"] is not None and not row["is_floor"]]
    apart = ("model", "text", "perplexity_protocol", "arithmetic")
    scopes = {tuple(row[name] for name in apart) for row in measured}
    quality = "perplexity" if len(scopes) <= 1 else "perplexity_ratio"
    protocol = next((r["perplexity_protocol"] for r in rows if r["perplexity_protocol"]), "")
    title = f"{quality.replace('_', ' ')} ({protocol})"
    group = "method"
    data = points(_fewer(rows), quality, group)
    few = [row for row in rows if row["best_tradeoff"] or row["is_baseline"]]
    kind = "engine" if len({row["engine"] for row in rows}) > 1 else group
    lines = batch_points(rows if len(rows) <= _MOST_LINES else few, kind)
    changes = points(rows, "perplexity_delta", group)
    wanted = {
        "quality_vs_size": (
            tradeoff("size", "checkpoint (MB)", title, GROUPS[group], False), data, "size"),
        "quality_vs_speed": (
            tradeoff("speed", "decode tokens/s", title, GROUPS[group], True), data, "speed"),
        "speed_vs_batch": (speed_by_batch(GROUPS[kind]), lines, "speed"),
        "quality_change": (
            quality_intervals(f"change of perplexity ({protocol})", GROUPS[group]),
            changes if len(changes) <= 60 else [p for p in changes if p["star"]], "quality"),
    }  # fmt: skip
    return {
        name: _for_paper(spec, values, name != "speed_vs_batch" or kind == group)
        for name, (spec, values, needed) in wanted.items()
        if any(value[needed] is not None for value in values)
    }


def _of_servers(found: Served) -> Spec:
    spec = serving_chart(found) | {"config": _CONFIG, "width": _WIDTH, "height": _HEIGHT}
    return spec | {"data": {"values": serving_points(found)}}


def _fewer(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of very many rows the best trade-offs, the unquantized model's and others evenly.

    A column holds no more dots, and the chart library takes half a gigabyte to draw them.
    """
    others = [row["id"] for row in rows if not (row["best_tradeoff"] or row["is_baseline"])]
    step = -(-len(others) // _MOST_DOTS)
    left_out = {*others} - {*others[:: step or 1]}
    return [row for row in rows if row["id"] not in left_out]


def _for_paper(spec: Spec, values: list[dict[str, Any]], by_method: bool = True) -> Spec:
    spec = copy.deepcopy(spec) | {"config": _CONFIG, "width": _WIDTH}
    if spec["height"] == 300:
        spec["height"] = _HEIGHT
    spec["data"] = {"values": values}
    for axis in ("x", "y"):
        encoding = spec["encoding"][axis]
        numbers = [value[encoding["field"]] for value in values if value.get(encoding["field"])]
        if encoding.get("scale", {}).get("type") == "linear" and wants_log_scale(numbers):
            encoding["scale"] |= {"type": "log", "nice": False}
    front = next((layer for layer in spec["layer"] if layer.get("name") == "front"), None)
    if front is not None:
        spec["layer"].append(_names_of(front))
    groups = sorted({value["group"] for value in values})
    marks = marks_of(groups) if by_method else {}
    for layer in spec["layer"]:
        layer.pop("params", None)
        if layer.get("encoding", {}).get("size", {}).get("condition"):
            layer["encoding"]["size"] = {"value": 40}
        for channel, choices in (("color", PALETTE), ("shape", SHAPES)):
            if channel in layer.get("encoding", {}):
                in_turn = [choices[i % len(choices)] for i in range(len(groups))]
                layer["encoding"][channel]["scale"] = {
                    "domain": groups,
                    "range": [marks[one][channel] for one in groups] if by_method else in_turn,
                }
    return spec


def _names_of(front: Spec) -> Spec:
    return {
        "transform": [*front["transform"], {"filter": "!datum.baseline"}],
        "mark": {"type": "text", "align": "left", "dx": 5, "dy": -5},
        "encoding": {"text": {"field": "recipe"}},
    }


def wants_log_scale(values: list[float]) -> bool:
    """True where the values span more than a factor of ten, as 2-bit perplexities do."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 10
