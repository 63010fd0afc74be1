"""Predicted and measured decode times: the error of the plan's model of a device."""

from typing import Any

from runner.reporting.page.section_charts import predicted_by_measured
from runner.reporting.page.subject import Subject
from runner.reporting.predictions import accuracies
from runner.util.serialise import to_json

TITLE = "Predicted and measured"
_MOST = 1000
"""Points drawn; ``predictions.csv`` has all."""


def gather(subject: Subject) -> dict[str, Any] | None:
    """One point a case and prediction, and the median error of each engine."""
    points = [
        {
            "engine": found.case.engine,
            "model": found.case.model,
            "recipe": found.case.recipe,
            "batch": found.case.batch,
            "measured": found.case.measured_seconds * 1e3,
            "predicted": predicted * 1e3,
            "error": 100 * (predicted / found.case.measured_seconds - 1),
            "group": kind,
        }
        for found in subject.comparisons
        for kind, predicted in (
            ("published kernels", found.uncalibrated),
            ("calibrated on other models", found.calibrated),
        )
        if predicted is not None
    ]
    if not points:
        return None
    # Evenly over all: a chart of more is a blot that takes seconds to draw.
    step = -(-len(points) // _MOST)
    return {
        "points": points[::step],
        "left_out": len(points) - len(points[::step]),
        "accuracies": to_json(accuracies(subject.comparisons)),
        "spec": predicted_by_measured(),
    }
