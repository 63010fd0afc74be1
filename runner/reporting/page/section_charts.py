"""Vega-Lite specifications of the sections' own charts: predictions and layers."""

from runner.reporting.page.charts import VEGA_LITE, Spec, colours


def predicted_by_measured() -> Spec:
    """Predicted over measured decode time a step; on the line a prediction is right."""
    scale = {"type": "log", "nice": False, "padding": 12}
    return {
        "$schema": VEGA_LITE,
        "data": {"name": "points"},
        "width": "container",
        "height": 320,
        "encoding": {
            "x": {
                "field": "measured",
                "type": "quantitative",
                "title": "measured ms per step",
                "scale": scale,
            },
            "y": {"type": "quantitative", "title": "predicted ms per step", "scale": scale},
        },
        "layer": [
            {
                "mark": {"type": "line", "strokeDash": [4, 3], "color": "#8A8D91"},
                "encoding": {"y": {"field": "measured"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.8},
                "encoding": {
                    "y": {"field": "predicted"},
                    **colours("prediction from"),
                    "tooltip": [
                        {"field": "recipe", "title": "recipe"},
                        {"field": "engine"},
                        {"field": "model"},
                        {"field": "batch"},
                        {"field": "measured", "title": "measured ms", "format": ".1f"},
                        {"field": "predicted", "title": "predicted ms", "format": ".1f"},
                        {"field": "error", "title": "error, %", "format": "+.0f"},
                    ],
                },
            },
        ],
    }


def sensitivity_map() -> Spec:
    """Divergence from rounding one unit alone, over the layers' numbers and their parts."""
    return {
        "$schema": VEGA_LITE,
        "data": {"name": "points"},
        "facet": {"row": {"field": "rounding", "title": None, "header": {"labelAngle": 0}}},
        "spec": {
            "height": {"step": 20},
            "mark": {"type": "rect"},
            "encoding": {
                "x": {"field": "layer", "type": "ordinal", "title": "layer"},
                "y": {"field": "part", "type": "nominal", "title": None},
                "color": {
                    "field": "kl",
                    "type": "quantitative",
                    "title": "KL divergence, nats per token",
                    "scale": {"type": "log", "scheme": "viridis"},
                },
                "tooltip": [
                    {"field": "unit"},
                    {"field": "rounding"},
                    {"field": "kl", "title": "KL, nats per token", "format": ".3~g"},
                    {"field": "low", "title": "95% from", "format": ".3~g"},
                    {"field": "high", "title": "to", "format": ".3~g"},
                    {"field": "perplexity", "format": ".4~g"},
                ],
            },
        },
    }
