"""Which layers hurt: a heat map of what rounding each layer alone costs."""

import re
from typing import Any

from runner.reporting.page.section_charts import sensitivity_map
from runner.reporting.page.subject import Subject
from runner.store.records import RunRecord

TITLE = "Sensitivity of layers"

_LAYER = re.compile(r"^(?:.*?\.)?(?:layers|h|blocks)\.(\d+)(?:\.(.*))?$")
_WORST = 8


def gather(subject: Subject) -> dict[str, Any] | None:
    """One map a model and protocol, newest result; the worst layers as a table beside it."""
    maps: dict[tuple[str, str], dict[str, Any]] = {}
    for record in subject.records:
        result = _result(record)
        if result is not None and result.get("rows"):
            maps[record.model, str(result.get("protocol"))] = _map(record.model, result)
    return {"maps": list(maps.values()), "spec": sensitivity_map()} if maps else None


def _result(record: RunRecord) -> dict[str, Any] | None:
    return record.stage("sensitivity") or record.stage("sensitivity", "baseline")


def _map(model: str, result: dict[str, Any]) -> dict[str, Any]:
    cells = []
    for row in result["rows"]:
        layer, part = place_of(row["unit"])
        divergence = row["kl_divergence"]
        cells.append(
            {
                "unit": row["unit"],
                "layer": layer,
                "part": part,
                "rounding": row["rounding"],
                "kl": divergence["estimate"],
                "low": divergence["low"],
                "high": divergence["high"],
                "perplexity": row["perplexity"],
            }
        )
    worst = sorted(cells, key=lambda cell: cell["kl"], reverse=True)[:_WORST]
    return {"model": model, "protocol": result.get("protocol"), "cells": cells, "worst": worst}


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
