"""What was written: the quantized share of each part of the model."""

from typing import Any

from runner.pipeline.stages.audit import STAGE as AUDIT
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.reporting.page.subject import Subject

TITLE = "What was quantized"
_ORDER = ("attention", "mlp", "experts", "other", "router", "convolution", "head", "embedding")
_MOST = 200
"""Lines shown; the records have all."""


def gather(subject: Subject) -> dict[str, Any] | None:
    """One line a recipe, one column a part of the model."""
    rows = {(row.sweep, row.run): (number, row) for number, row in enumerate(subject.rows)}
    lines: list[dict[str, Any]] = []
    for record in subject.records:
        checkpoint = record.result(QUANTIZE) or record.result(AUDIT)
        place = rows.get((record.sweep, record.run))
        if checkpoint is None or not checkpoint.coverage.parts or place is None:
            continue
        number, row = place
        parts = {
            name: {"share": part.quantized_share, "bits": part.bits_per_parameter}
            for name, part in checkpoint.coverage.parts.items()
        }
        lines.append({"id": number, "recipe": row.recipe, "parts": parts, "caveat": row.caveat})
    if not lines:
        return None
    names = [name for name in _ORDER if any(name in line["parts"] for line in lines)]
    left_out = len(lines) - _MOST
    told = {"names": names, "lines": lines[:_MOST], "left_out": left_out}
    return {**told, "audits": subject.audits}
