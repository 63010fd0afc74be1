"""The chart of servers: tokens per second of a user over those of a device, user by user more."""

from typing import Any

from runner.reporting.capacity import Served
from runner.reporting.page.charts import PALETTE, SHAPES, VEGA_LITE, Spec

_ASKED = "#8A8D91"


def serving_points(found: Served) -> list[dict[str, Any]]:
    """One a server and concurrency, of all curves."""
    several = len({curve.model for curve in found.curves}) > 1
    return [
        {
            "served": f"{curve.recipe} ({curve.model})" if several else curve.recipe,
            "engine": curve.engine,
            "line": f"{curve.recipe} {curve.engine} {curve.model} {curve.sweep} {curve.run}",
            "users": point.concurrency,
            "user": point.tokens_per_second_per_user,
            "device": point.tokens_per_second_per_device,
            "first": point.time_to_first_token_seconds * 1e3,
            "dollars": point.dollars_per_million_tokens,
            "good": None if point.attainment is None else 100 * point.attainment,
            "largest": point is curve.largest,
            "asked": curve.tokens_per_second_per_user_asked,
        }
        for curve in found.curves
        for point in curve.points
    ]


def serving_chart(found: Served) -> Spec:
    """A line a server, from one user on the left; the most users within the objective stand out."""
    points = serving_points(found)
    names = list(dict.fromkeys(point["served"] for point in points))
    engines = list(dict.fromkeys(point["engine"] for point in points))
    scale = {"type": "linear", "zero": False, "nice": True, "padding": 10}
    colour = {
        "field": "served", "type": "nominal", "title": "Served",
        "scale": {"domain": names, "range": [PALETTE[n % len(PALETTE)] for n in range(len(names))]},
    }  # fmt: skip
    shape = {
        "field": "engine", "type": "nominal", "title": "Engine",
        "scale": {"domain": engines,
                  "range": [SHAPES[n % len(SHAPES)] for n in range(len(engines))]},
    }  # fmt: skip
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.8},
            "encoding": {
                "color": colour,
                "detail": {"field": "line"},
                "order": {"field": "users", "type": "quantitative"},
            },
        },
        {
            "name": "dots",
            "mark": {"type": "point", "filled": True, "opacity": 0.9},
            "encoding": {
                "color": colour,
                "shape": shape,
                "size": {"condition": {"test": "datum.largest", "value": 200}, "value": 45},
                "tooltip": _tooltip(),
            },
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "dy": -6, "color": _ASKED},
            "encoding": {"text": {"field": "users"}},
        },
    ]
    if any(point["asked"] is not None for point in points):
        layers.insert(0, {
            "transform": [{"filter": "isValid(datum.asked)"}],
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": _ASKED},
            "encoding": {"x": None, "y": {"field": "asked", "aggregate": "max"}},
        })  # fmt: skip
    return {
        "$schema": VEGA_LITE,
        "data": {"name": "points"},
        "width": "container",
        "height": 300,
        "encoding": {
            "x": {"field": "device", "type": "quantitative", "title": "tokens/s of a device",
                  "scale": scale},
            "y": {"field": "user", "type": "quantitative", "title": "tokens/s of a user",
                  "scale": scale},
        },
        "layer": layers,
    }  # fmt: skip


def _tooltip() -> list[dict[str, str]]:
    return [
        {"field": "served"},
        {"field": "engine"},
        {"field": "users", "title": "users at once"},
        {"field": "user", "title": "tokens/s of a user", "format": ".1f"},
        {"field": "device", "title": "tokens/s of a device", "format": ".1f"},
        {"field": "first", "title": "TTFT ms, median", "format": ".0f"},
        {"field": "good", "title": "% within the objective", "format": ".0f"},
        {"field": "dollars", "title": "$ per million tokens", "format": ".3~g"},
    ]
