"""Tensors that together form one quantized weight, in every supported format."""

import re
from collections.abc import Mapping

from runner.data.models.header import Header

PARTS = re.compile(
    r"(?P<layer>.+)\.(?P<part>"
    # compressed-tensors, and native 8-bit floats
    r"weight_packed|weight_scale|weight_scale_inv|weight_shape|weight_zero_point|weight_g_idx"
    r"|weight_global_scale|input_scale|input_zero_point|input_global_scale|output_scale"
    r"|[qkv]_scale|activation_scale"
    # ModelOpt
    r"|weight_scale_2|pre_quant_scale"
    # GPTQ and AWQ
    r"|qweight|qzeros|scales|g_idx"
    # bitsandbytes
    r"|SCB|weight_format|weight\.absmax|weight\.quant_map|weight\.nested_\w+"
    r"|weight\.quant_state\.\w+)"
)
"""Names of what belongs to a quantized weight besides ``weight`` itself."""
_NEEDED = (
    (("weight_packed", "weight_shape"), ("weight_packed", "weight_scale")),
    (("qweight", "qzeros"), ("qweight", "qzeros", "scales")),
    (("SCB",), ("weight",)),
    (("weight.absmax", "weight.quant_map"), ("weight", "weight.absmax", "weight.quant_map")),
)
"""Where one of the first is there, all of the second must be."""


def incomplete(headers: Mapping[str, Header]) -> list[str]:
    """Names of tensors without which others of the same quantized weight mean nothing."""
    layers: dict[str, set[str]] = {}
    for name in headers:
        if match := PARTS.fullmatch(name):
            layers.setdefault(match["layer"], set()).add(match["part"])
    for name in headers:
        layer, _, last = name.rpartition(".")
        if last == "weight":
            layers.setdefault(layer, set()).add(last)
    missing = []
    for layer, parts in layers.items():
        wanted = {part for some, needed in _NEEDED if parts.intersection(some) for part in needed}
        wanted |= _wanted_by_type(layer, parts, headers)
        missing += [f"{layer}.{part}" for part in wanted - parts]
    return sorted(missing)


def _wanted_by_type(layer: str, parts: set[str], headers: Mapping[str, Header]) -> set[str]:
    """Parts that follow from how a weight, or its scale, is stored."""

    def kind(part: str) -> str:
        header = headers.get(f"{layer}.{part}")
        return "" if header is None else header.dtype

    wanted = set()
    if kind("weight_packed") == "I32":
        wanted.add("weight_shape")
    # 4-bit floats in pairs: with 8-bit float scales (NVFP4), those have a scale of their own.
    if kind("weight_packed") == "U8" and kind("weight_scale") == "F8_E4M3":
        wanted.add("weight_global_scale")
    if kind("weight")[:2] in ("F8", "I8") and not _is_scaled(layer, headers):
        by_rows = any(name.endswith(".SCB") for name in headers)
        wanted.add("SCB" if by_rows and kind("weight") == "I8" else "weight_scale")
    scales = ("weight_scale", "weight_scale_inv", "weight_global_scale")
    if parts.intersection(scales) and "weight_shape" not in parts:
        wanted |= set() if parts.intersection(("weight", "weight_packed")) else {"weight"}
    if "weight.absmax" in parts and not any("quant_state" in part for part in parts):
        wanted.add("weight.quant_state")
    return wanted


def _is_scaled(layer: str, headers: Mapping[str, Header]) -> bool:
    """Whether a weight has a scale, by any of the names that formats give it."""
    names = ("weight_scale", "weight_scale_inv", "SCB", "scale", "scales", "weight_scales")
    return any(f"{layer}.{name}" in headers for name in (*names, "qscale_weight"))
