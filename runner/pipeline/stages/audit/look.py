"""Reads a checkpoint's headers: what is stored how, and whether config.json says the same."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.data.models.config_json import read_config
from runner.data.models.coverage import measure_coverage
from runner.data.models.layers import StoredLayer, stored_layers
from runner.data.models.tensors import report_tensors
from runner.data.models.weights import weight_file_bytes
from runner.pipeline.stages.audit import AuditRequest, AuditResult, Scheme
from runner.pipeline.stages.base import StageContext

_DENSE = "16 bits"


def look(request: AuditRequest, context: StageContext) -> AuditResult:
    """Account for every matrix of a checkpoint."""
    context.progress(0, 1, "reading headers")
    directory = request.checkpoint
    layers = stored_layers(directory)
    coverage, bits = measure_coverage(directory, rounds=True, ignore=(), kept=())
    tensors, original = report_tensors(directory), report_tensors(request.base)
    stated: dict[str, Any] = {}
    if (config := directory / "config.json").is_file():
        stated = dict(read_config(config).get("quantization_config") or {})
    schemes = _schemes(layers)
    return AuditResult(
        checkpoint_format=request.format,
        stated=stated,
        bits_per_weight=bits,
        bits_per_parameter=8 * tensors.bytes / original.parameters,
        checkpoint_bytes=weight_file_bytes(directory),
        tensors=tensors,
        coverage=coverage,
        schemes=schemes,
        contradictions=[*contradictions(stated, schemes)],
    )


def _schemes(layers: list[StoredLayer]) -> list[Scheme]:
    alike: dict[tuple[str, str], list[StoredLayer]] = {}
    for layer in layers:
        key = (layer.numbers, layer.scales) if layer.is_quantized else (_DENSE, "")
        alike.setdefault(key, []).append(layer)
    found = []
    for (numbers, scales), own in alike.items():
        elements = sum(layer.elements for layer in own)
        stored = 8 * sum(layer.bytes for layer in own) / elements
        parts = sorted({layer.part for layer in own})
        found.append(Scheme(numbers, scales, len(own), elements, stored, parts))
    return sorted(found, key=lambda one: -one.parameters)


def contradictions(stated: Mapping[str, Any], schemes: list[Scheme]) -> Iterator[str]:
    """Where tensors are not what ``quantization_config`` says, of what any format says of them."""
    quantized = [one for one in schemes if one.numbers != _DENSE]
    if not stated:
        return
    if not quantized:
        yield "config.json says that it is quantized, and no matrix is"
        return
    bits = stated.get("bits", stated.get("w_bit"))
    widths = {int(found[0]) for one in quantized if (found := re.findall(r"\d+$", one.numbers))}
    if isinstance(bits, int) and widths and widths != {bits}:
        told = " and ".join(str(width) for width in sorted(widths))
        yield f"config.json says {bits} bits, and the tensors have {told}"
    group = stated.get("group_size", stated.get("q_group_size"))
    groups = {one.scales for one in quantized if one.scales}
    if isinstance(group, int) and groups:
        wanted = "per channel" if group < 0 else f"groups of {group}"
        if groups != {wanted}:
            yield f"config.json says {wanted}, and the tensors have {' and '.join(sorted(groups))}"
