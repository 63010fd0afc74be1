"""Vega-Lite specifications of the charts, for the page and for figures.

They draw data named ``points``: see ``points`` for its fields.
"""

from typing import Any

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6BB3", "#8A8D91")
"""Okabe and Ito's colours (jfly.uni-koeln.de/color), without yellow and black, which vanish
on a light or a dark ground. Shapes repeat what colours say."""
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
)  # fmt: skip
"""One fewer than colours, so that pairs repeat late."""
VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"

_PLACES = ("model", "text", "engine", "sweep")
"""Fields that tell rows of one recipe apart, where there are several."""
_COMPARABLE = ["model", "text", "protocol", "arithmetic"]
"""Fields that points share when their quality compares."""

Spec = dict[str, Any]


def points(rows: list[dict[str, Any]], quality: str, group: str) -> list[dict[str, Any]]:
    """Rows as points: quality, size in MB, decode tokens/s, and the group that colours them."""
    places = [place for place in _PLACES if len({row[place] for row in rows}) > 1]
    return [
        {
            "id": row["id"],
            "recipe": row["recipe"],
            "name": "  ".join([row["recipe"], *(str(row[place]) for place in places)]),
            "engine": row["engine"],
            "model": row["model"],
            "text": row["text"],
            "protocol": row["perplexity_protocol"],
            "arithmetic": row["arithmetic"],
            "quality": row[quality],
            "low": row.get(f"{quality}_low"),
            "high": row.get(f"{quality}_high"),
            "size": None if row["checkpoint_bytes"] is None else row["checkpoint_bytes"] / 1e6,
            "speed": row["decode_tokens_per_second"],
            "group": str(row.get(group)),
            "baseline": row["is_baseline"],
            "star": row["best_tradeoff"],
            "change": _change(row),
        }
        for row in rows
        if row["status"] == "ok" and not row["is_floor"]
    ]


def _change(row: dict[str, Any]) -> str:
    """Change of perplexity with its interval, as tooltips show it."""
    bounds = [row[f"perplexity_delta{end}"] for end in ("", "_low", "_high")]
    if None in bounds:
        return "-" if bounds[0] is None else f"{bounds[0]:+.3g}"
    return "{:+.3g} [{:+.3g}, {:+.3g}]".format(*bounds)


def batch_points(rows: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
    """One point a row and batch size."""
    return [
        {
            "id": row["id"],
            "recipe": row["recipe"],
            "engine": row["engine"],
            "line": f"{row['recipe']} {row['engine']} {row['model']} {row['sweep']}",
            "group": str(row.get(group)),
            "baseline": row["is_baseline"],
            **batch,
            "low": batch["speed"] - batch["sd"],
            "high": batch["speed"] + batch["sd"],
        }
        for row in rows
        if row["status"] == "ok"
        for batch in row.get("batches", [])
    ]


def tradeoff(
    cost: str, cost_title: str, quality_title: str, group_title: str, more_is_better: bool
) -> Spec:
    """Quality (less is better) over a cost, with the Pareto front of what is shown.

    Args:
        cost: ``size`` or ``speed``.
        cost_title: Title of its axis.
        quality_title: Title of the other axis.
        group_title: Title of the legend.
        more_is_better: Whether a larger cost is the better one.
    """
    order = "descending" if more_is_better else "ascending"
    sort = [{"field": cost, "order": order}, {"field": "quality", "order": "ascending"}]
    front = [
        {"filter": f"isValid(datum.{cost}) && isValid(datum.quality)"},
        {
            "window": [{"op": "min", "field": "quality", "as": "least"}],
            "groupby": _COMPARABLE,
            "sort": sort,
        },
        {
            "window": [{"op": "lag", "field": "least", "as": "best"}],
            "groupby": _COMPARABLE,
            "sort": sort,
        },
        {"filter": "!isValid(datum.best) || datum.quality < datum.best"},
    ]
    x = {"field": cost, "type": "quantitative", "title": cost_title, "scale": _scale()}
    y = {"field": "quality", "type": "quantitative", "title": quality_title, "scale": _scale()}
    return {
        "$schema": VEGA_LITE,
        "data": {"name": "points"},
        "width": "container",
        "height": 300,
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "name": "front",
                "transform": front,
                "mark": {
                    "type": "line",
                    "interpolate": "step-before" if more_is_better else "step-after",
                    "strokeDash": [4, 3],
                    "strokeWidth": 1.5,
                    "color": "#8A8D91",
                    "clip": True,
                },
                "encoding": {"detail": [{"field": field} for field in _COMPARABLE]},
            },
            {
                "name": "dots",
                "transform": [{"filter": f"isValid(datum.{cost}) && isValid(datum.quality)"}],
                "params": [
                    {"name": "hover", "select": {"type": "point", "on": "pointerover"}},
                ],
                "mark": {"type": "point", "filled": True, "cursor": "pointer"},
                "encoding": {
                    **colours(group_title),
                    "size": {
                        "condition": [
                            {"param": "hover", "empty": False, "value": 300},
                            {"test": "datum.star", "value": 150},
                        ],
                        "value": 90,
                    },
                    "opacity": {"condition": {"test": "datum.star", "value": 1}, "value": 0.75},
                    "tooltip": _tooltip(quality_title),
                },
            },
        ],
    }


def speed_by_batch(group_title: str) -> Spec:
    """Decode tokens/s over the batch size, with the spread of repetitions."""
    x = {
        "field": "batch",
        "type": "quantitative",
        "title": "batch size",
        "scale": {"type": "log", "base": 2, "nice": False, "padding": 12},
        "axis": {"format": "d", "grid": False},
    }
    y = {"field": "speed", "type": "quantitative", "title": "decode tokens/s"}
    tooltip = [
        {"field": "recipe", "title": "recipe"},
        {"field": "text", "title": "evaluated on"},
        {"field": "engine"},
        {"field": "batch"},
        {"field": "speed", "title": "tokens/s", "format": ".1f"},
        {"field": "sd", "title": "± sd", "format": ".2f"},
    ]
    channels = colours(group_title)
    return {
        "$schema": VEGA_LITE,
        "data": {"name": "points"},
        "width": "container",
        "height": 300,
        "encoding": {"x": x, "y": y, "detail": {"field": "line"}},
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.8},
                "encoding": {"color": channels["color"]},
            },
            {
                "mark": {"type": "rule", "opacity": 0.7},
                "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}, **_colour(channels)},
            },
            {
                "name": "dots",
                "mark": {"type": "point", "filled": True, "size": 60, "cursor": "pointer"},
                "encoding": {**channels, "tooltip": tooltip},
            },
        ],
    }


def quality_intervals(quality_title: str, group_title: str) -> Spec:
    """Every recipe's quality with its 95% interval, the best on top."""
    channels = colours(group_title)
    return {
        "$schema": VEGA_LITE,
        "data": {"name": "points"},
        "transform": [
            {"filter": "isValid(datum.quality)"},
        ],
        "width": "container",
        "height": {"step": 18},
        "encoding": {
            "y": {
                "field": "name",
                "type": "nominal",
                "sort": {"field": "quality", "op": "min"},
                "title": None,
                "axis": {"labelLimit": 230, "grid": False, "ticks": False, "domain": False},
            },
            # Losses span magnitudes and intervals reach below zero.
            "x": {
                "field": "quality",
                "type": "quantitative",
                "scale": {"type": "symlog", "constant": 1},
            },
        },
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.75},
                "encoding": {
                    "x": {"field": "low", "title": quality_title},
                    "x2": {"field": "high"},
                    **_colour(channels),
                },
            },
            {
                "name": "dots",
                "mark": {"type": "point", "filled": True, "size": 60, "cursor": "pointer"},
                "encoding": {
                    "x": {"field": "quality", "title": quality_title},
                    **channels,
                    "tooltip": _tooltip(quality_title),
                },
            },
        ],
    }


def _scale() -> Spec:
    return {"type": "linear", "zero": False, "nice": True, "padding": 10}


def colours(title: str) -> Spec:
    """Colour and shape of a point, by its group."""
    shared = {"field": "group", "type": "nominal", "title": title}
    return {
        "color": {**shared, "scale": {"range": list(PALETTE)}},
        "shape": {**shared, "scale": {"range": list(SHAPES)}},
    }


def _colour(channels: Spec) -> Spec:
    return {"color": channels["color"]}


def _tooltip(quality_title: str) -> list[Spec]:
    return [
        {"field": "recipe", "title": "recipe"},
        {"field": "text", "title": "evaluated on"},
        {"field": "engine"},
        {"field": "model"},
        {"field": "quality", "title": quality_title, "format": ".4~g"},
        {"field": "change", "title": "change [95%]"},
        {"field": "size", "title": "checkpoint MB", "format": ".1f"},
        {"field": "speed", "title": "decode tokens/s", "format": ".1f"},
    ]
