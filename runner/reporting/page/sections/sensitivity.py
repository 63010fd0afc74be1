"""Sensitive layers: a heat map of the cost of rounding each layer alone."""

import re
from typing import Any

from runner.pipeline.stages.sensitivity import STAGE as SENSITIVITY
from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.reporting.page.section_charts import sensitivity_map
from runner.reporting.page.subject import Subject
from runner.store.records import BASELINE, RunRecord

TITLE = "Sensitivity of layers"

_LAYER = re.compile(r"^(?:.*?\.)?(?:layers|h|blocks)\.(\d+)(?:\.(.*))?$")
_WORST = 8


def gather(subject: Subject) -> dict[str, Any] | None:
    """One map a model and protocol, newest result; the worst layers as a table beside it."""
    maps: dict[tuple[str, str], dict[str, Any]] = {}
    for record in subject.records:
        result = _result(record)
        if result is not None and result.rows:
            maps[record.model, result.protocol] = _map(record.model, result)
    return {"maps": list(maps.values()), "spec": sensitivity_map()} if maps else None


def _result(record: RunRecord) -> SensitivityResult | None:
    return record.result(SENSITIVITY) or record.result(SENSITIVITY, BASELINE)


def _map(model: str, result: SensitivityResult) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    for row in result.rows:
        layer, part = place_of(row.unit)
        divergence = row.kl_divergence
        cells.append(
            {
                "unit": row.unit,
                "layer": layer,
                "part": part,
                "rounding": row.rounding,
                "kl": divergence.estimate,
                "low": divergence.low,
                "high": divergence.high,
                "perplexity": row.perplexity,
            }
        )
    worst = sorted(cells, key=lambda cell: cell["kl"], reverse=True)[:_WORST]
    return {"model": model, "protocol": result.protocol, "cells": cells, "worst": worst}


def place_of(unit: str) -> tuple[int | None, str]:
    """Number of the layer a unit belongs to, and what of that layer it is.

    Example:
        >>> place_of("model.layers.3.self_attn.q_proj")
        (3, 'self_attn.q_proj')
    """
    match = _LAYER.match(unit)
    if match is None:
        return None, unit
    return int(match[1]), match[2] or "block"
