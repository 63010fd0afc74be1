"""Which checkpoints vLLM 0.32 has kernels for, as a table."""

import json
import platform
from collections.abc import Mapping
from typing import Any

from runner.config.schema.group_size import GroupSize
from runner.engines.base import CheckpointFacts, LoadSpec
from runner.util.instructions import reported, usable

_CHANNELS = ("per_channel", "per_tensor")
_GROUPS = ("per_channel", "g32", "g64", "g128")
_READS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("compressed-tensors", "cpu"): {
        "w4a16": ("per_channel", "g*"),
        "w8a8": _CHANNELS,
        "fp8_e4m3": _CHANNELS,
    },
    ("compressed-tensors", "cuda"): {
        "w4a16": _GROUPS,
        "w8a16": _GROUPS,
        "w8a8": _CHANNELS,
        "fp8_e4m3": _CHANNELS,
        "fp8_e4m3_a16": _CHANNELS,
        "fp4": ("g16", "g32"),
        "fp4_a4": ("g16",),
    },
    ("gptq", "cpu"): {"w4a16": _GROUPS},
    ("gptq", "cuda"): {"w4a16": _GROUPS, "w8a16": _GROUPS},
    ("awq", "cpu"): {"w4a16": ("per_channel", "g*")},
    ("awq", "cuda"): {"w4a16": _GROUPS},
}
"""Labels of bits and of group sizes; ``g*`` is any."""
_LATENT_WIDTHS = (320, 512, 576)
"""Of a token's compressed keys and values and their rotary part, as MLA caches them."""
_CPU_NEEDS = {
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
_STORED_AS = {"pack-quantized": "w4a16", "int-quantized": "w8a8"}
"""What compressed-tensors calls the layouts that only one of a CPU's kernels reads."""
_SIXTEEN_ONLY = "vLLM computes with packed integer weights in 16 bits only"
_FORMATS = ("float", *dict.fromkeys(name for name, _ in _READS))


def reason_against(checkpoint: CheckpointFacts) -> str | None:
    """Why vLLM cannot read a checkpoint, with what it reads instead; ``None`` when it can."""
    if reason := _reason_against_attention(checkpoint.config):
        return reason
    if checkpoint.format == "float":
        return None
    table = _READS.get((checkpoint.format, checkpoint.device))
    if table is None:
        return f"vLLM reads {_either(_FORMATS)} checkpoints, not {checkpoint.format}"
    bits = "w4a16" if checkpoint.format in ("gptq", "awq") else None
    if checkpoint.bits is not None and checkpoint.group_size is not None:
        bits = checkpoint.bits.label
        for label in _labels(checkpoint):
            bits, group_size = label, checkpoint.group_size
            reason = reason or _reason_against_scheme(checkpoint, table, label, group_size)
    if reason is None and checkpoint.device == "cpu":
        reason = _reason_against_cpu(bits)
    if reason is None and checkpoint.dtype == "float32" and _is_packed(checkpoint):
        return _SIXTEEN_ONLY
    return reason


def _reason_against_attention(config: Mapping[str, Any]) -> str | None:
    """Why it has no kernel for a model's latent attention."""
    latent, rotary = config.get("kv_lora_rank"), config.get("qk_rope_head_dim")
    if latent is None or rotary is None or latent + rotary in _LATENT_WIDTHS:
        return None
    return (
        "vLLM has latent attention for kv_lora_rank + qk_rope_head_dim of "
        f"{_either(tuple(map(str, _LATENT_WIDTHS)))}, not of {latent + rotary}"
    )


def reason_against_loading(spec: LoadSpec) -> str | None:
    """Why vLLM cannot compute with a checkpoint at hand, as its own config describes it.

    Said beforehand, in the names used here, because vLLM says it late and at length.
    """
    if spec.device == "cpu":
        for name, reason in spec.settings.needs_gpu().items():
            return (
                f"{reason}: engine.{name}={getattr(spec.settings, name)} needs engine.device=cuda"
            )
    stored = "pack-quantized" if spec.checkpoint_format in ("gptq", "awq") else None
    if spec.checkpoint_format == "compressed-tensors":
        config = json.loads((spec.checkpoint / "config.json").read_text("utf-8"))
        stored = config["quantization_config"].get("format")
    if stored == "pack-quantized" and spec.dtype == "float32":
        return f"{_SIXTEEN_ONLY}: engine.dtype=bfloat16, eval.dtype=bfloat16"
    return _reason_against_cpu(_STORED_AS.get(stored or "")) if spec.device == "cpu" else None


def _is_packed(checkpoint: CheckpointFacts) -> bool:
    """Whether weights lie several to a word, as far as is known beforehand."""
    if checkpoint.format in ("gptq", "awq"):
        return True
    if checkpoint.bits is None:
        stored = checkpoint.config.get("quantization_config") or {}
        return str(stored.get("format")).startswith("pack-quantized")
    return checkpoint.format == "compressed-tensors" and not checkpoint.bits.quantizes_activations


def _labels(checkpoint: CheckpointFacts) -> list[str]:
    """Of every width that the checkpoint's layers may have."""
    bits, method = checkpoint.bits, checkpoint.method
    assert bits is not None
    widths = bits.candidates if bits.is_auto else [bits.weight.num_bits]
    keep_bits = method.keep_bits if method is not None and method.keeps_layers else None
    of_others = [width for width in [*widths, *([keep_bits] if keep_bits else [])] if width < 16]
    if not bits.is_auto and not keep_bits:
        return [bits.label]
    return [bits.of_width(width).label for width in of_others]


def _reason_against_scheme(
    checkpoint: CheckpointFacts, table: dict[str, tuple[str, ...]], bits: str, group_size: GroupSize
) -> str | None:
    where = "on a CPU" if checkpoint.device == "cpu" else "on a GPU"
    if bits not in table:
        return (
            f"vLLM reads {checkpoint.format} checkpoints of bits={_either(tuple(table))} {where}, "
            f"not of {bits}"
        )
    readable = table[bits]
    if not group_size.is_among(readable):
        return (
            f"vLLM reads {checkpoint.format} checkpoints of bits={bits} with "
            f"group_size={_either(readable)} {where}, not with {group_size.label}"
        )
    return _reason_against_knobs(checkpoint, bits)


def _reason_against_knobs(checkpoint: CheckpointFacts, bits: str) -> str | None:
    symmetric_only = checkpoint.format == "gptq" or bits == "w8a8"
    method = checkpoint.method
    if symmetric_only and method is not None and method.has_zero_points:
        return (
            f"vLLM reads {checkpoint.format} checkpoints of bits={bits} on a symmetric grid only: "
            "method.sym=true"
        )
    version = getattr(checkpoint.method, "version", None)
    if checkpoint.format == "awq" and version is not None and version.value != "GEMM":
        return f"vLLM reads AWQ checkpoints of method.version=GEMM, not of {version.value}"
    return None


def _either(names: tuple[str, ...]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _reason_against_cpu(bits: str | None) -> str | None:
    if bits not in _CPU_NEEDS or platform.machine() not in ("x86_64", "AMD64"):
        return None
    needed, reason = _CPU_NEEDS[bits]
    return reason if needed.isdisjoint(_instruction_sets()) else None


def _instruction_sets() -> frozenset[str]:
    return frozenset(usable(reported()))
