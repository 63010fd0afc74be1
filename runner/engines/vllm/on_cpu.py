"""What vLLM reads on CPUs, by hand for 0.32: its loaders and kernels, as tried and as written."""

import platform
from collections.abc import Collection, Mapping
from typing import Any

from runner.engines.base import CheckpointFacts
from runner.engines.vllm.layouts import ALGORITHMS
from runner.engines.vllm.schemes import quantizes_experts, reason_against_scheme
from runner.util.instructions import reported, usable

READS: dict[str, dict[str, tuple[str, ...]]] = {
    "compressed-tensors": {
        "w4a16": ("per_channel", "g*"),
        "w8a8": ("per_channel", "per_tensor"),
        # Of one scale a matrix it makes one of those that it fuses, by an operation
        # (static_scaled_fp8_quant) that its build for CPUs only names.
        "fp8_e4m3": ("per_channel",),
    },
    "gptq": {"w4a16": ("per_channel", "g32", "g64", "g128")},
    "awq": {"w4a16": ("per_channel", "g*")},
    # Zero points included, which are packed as AWQ's.
    "auto-round": {"w4a16": ("per_channel", "g32", "g64", "g128")},
    "modelopt": {"fp8_e4m3": ("per_channel",)},
}
"""Labels of bits and of group sizes by format; ``g*`` is any."""
PACKED = ("gptq", "awq", "auto-round")
"""Formats of packed integers alone."""
IN_SIXTEEN_BITS = ("modelopt",)
"""Formats of floats that it refuses to compute with in float32."""
_NEEDS = {
    "w4a16": (
        frozenset({"avx512f"}),
        "vLLM's kernel for 4-bit weights needs AVX-512, which this CPU lacks",
    ),
    # Measured: without them sums of two products saturate at 16 bits, without a word.
    "w8a8": (
        frozenset({"avx512_vnni", "avx_vnni", "amx_int8"}),
        "vLLM multiplies 8-bit integers wrongly on a CPU without VNNI instructions, as this one is",
    ),
}
"""Instruction sets of x86 CPUs, one of which a kernel needs, and what to say without."""
STORED_AS = {
    "pack-quantized": "w4a16", "int-quantized": "w8a8", "float-quantized": "fp8_e4m3",
}  # fmt: skip
"""What compressed-tensors calls the layouts that only one of a CPU's kernels reads."""
_EXPERTS = {
    "w4a16": (
        "vLLM's kernel for experts of 4 bits on CPUs is for AMX alone and rounds what experts are "
        "given to 8 bits, so its quality would not be the checkpoint's"
    ),
    "fp8_e4m3": (
        "vLLM's kernels for experts of 8-bit floats on CPUs are for AMX and blocks of 128 x 128 "
        "weights alone"
    ),
}
_ALGORITHMS = tuple(
    ALGORITHMS[bits, group] for bits, groups in READS["modelopt"].items() for group in groups
)
_AMX = frozenset({"amx_int8"})
_EXPERTS_OF_8_BITS = "vLLM's kernel for experts of 8-bit integers needs AMX, which this CPU lacks"
_X86 = ("x86_64", "AMD64")


def reason_against_layout(checkpoint: CheckpointFacts) -> str | None:
    """Why it cannot read a quantized checkpoint on this machine's CPU."""
    bits = "w4a16" if checkpoint.format in PACKED else None
    reason = None
    if checkpoint.bits is not None and checkpoint.group_size is not None:
        bits = checkpoint.bits.label
        reason = reason_against_scheme(checkpoint, READS[checkpoint.format], bits, "on a CPU")
    return reason or reason_against_experts(checkpoint, bits) or reason_against_cpu(bits)


def reason_against_file(checkpoint: CheckpointFacts, stored: Collection[str]) -> str | None:
    """Why it cannot read a checkpoint at hand on this CPU, of which the files alone are known.

    Args:
        checkpoint: With the content of its config.json.
        stored: What compressed-tensors calls its layouts, as far as it has some.
    """
    quantization = checkpoint.config.get("quantization_config") or {}
    algorithm = quantization.get("quant_algo")
    if checkpoint.format == "modelopt" and algorithm not in _ALGORITHMS:
        return f"vLLM reads ModelOpt's {', '.join(_ALGORITHMS)} on a CPU, not {algorithm}"
    weights = [group.get("weights") or {} for group in _groups(quantization)]
    if any(one.get("type") == "float" and one.get("strategy") == "tensor" for one in weights):
        return "vLLM reads 8-bit floats with one scale a matrix not on a CPU, but one a channel"
    labels = {STORED_AS.get(one) for one in stored}
    for bits in sorted(one for one in labels if one is not None):
        if reason := reason_against_experts(checkpoint, bits) or reason_against_cpu(bits):
            return reason
    return None


def _groups(quantization: Mapping[str, Any]) -> Collection[Mapping[str, Any]]:
    return (quantization.get("config_groups") or {}).values()


def reason_against_experts(checkpoint: CheckpointFacts, bits: str | None) -> str | None:
    """Why it has no kernel for a checkpoint's experts, unless they are left as they were.

    Args:
        checkpoint: With its model's config.json.
        bits: Label of the bits that experts are stored in; ``None`` if unknown.
    """
    if bits is None or not quantizes_experts(checkpoint):
        return None
    if bits in _EXPERTS:
        return _EXPERTS[bits]
    lacks = platform.machine() in _X86 and _AMX.isdisjoint(_instruction_sets())
    return _EXPERTS_OF_8_BITS if bits == "w8a8" and lacks else None


def reason_against_cpu(bits: str | None) -> str | None:
    """Why this CPU lacks what a kernel needs; ``None`` where it does not, or bits are unknown."""
    if bits not in _NEEDS or platform.machine() not in _X86:
        return None
    needed, reason = _NEEDS[bits]
    return reason if needed.isdisjoint(_instruction_sets()) else None


def _instruction_sets() -> frozenset[str]:
    return frozenset(usable(reported()))
