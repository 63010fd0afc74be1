"""Judging bits and groups of a checkpoint by a table of what is read, of CPUs and of GPUs alike."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.engines.base import CheckpointFacts

_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
"""Fields of config.json that tell of a mixture of experts."""
_LEFT_OUT = ("ignore", "modules_to_not_convert", "exclude_modules")
"""Fields of ``quantization_config`` that name layers which stay dense."""
_NAMES_EXPERTS = re.compile(r"(?<![a-z_])experts")
"""Of routed ones, not ``shared_experts``."""
_NVFP4_ALGORITHMS = ("max",)
"""ModelOpt's ways to choose scales after which NVFP4 has no factors of a layer's inputs."""


def reason_against_scheme(
    checkpoint: CheckpointFacts, table: Mapping[str, tuple[str, ...]], bits: str, where: str
) -> str | None:
    """Why a checkpoint of these bits is not read; ``None`` where it is.

    Args:
        checkpoint: With a group size.
        table: Labels of group sizes that are read by label of the bits.
        bits: Label of the checkpoint's.
        where: The device, in words.
    """
    group_size = checkpoint.group_size
    assert group_size is not None
    if bits not in table or not table[bits]:
        if not table:
            return f"vLLM reads no {checkpoint.format} checkpoints {where}"
        return (
            f"vLLM reads {checkpoint.format} checkpoints of bits={either(tuple(table))} {where}, "
            f"not of {bits}"
        )
    readable = table[bits]
    if not group_size.is_among(readable):
        return (
            f"vLLM reads {checkpoint.format} checkpoints of bits={bits} with "
            f"group_size={either(readable)} {where}, not with {group_size.label}"
        )
    return _reason_against_knobs(checkpoint, bits)


def _reason_against_knobs(checkpoint: CheckpointFacts, bits: str) -> str | None:
    symmetric_only = checkpoint.format == "gptq" or bits == "w8a8"
    if symmetric_only and has_zero_points(checkpoint):
        return reason_against_zero_points(checkpoint, bits)
    version = getattr(checkpoint.method, "version", None)
    if checkpoint.format == "awq" and version is not None and version.value != "GEMM":
        return f"vLLM reads AWQ checkpoints of method.version=GEMM, not of {version.value}"
    algorithm = getattr(checkpoint.method, "algorithm", None)
    searched = algorithm is not None and algorithm.value not in _NVFP4_ALGORITHMS
    if checkpoint.format == "modelopt" and bits.startswith("fp4") and searched:
        return (
            "vLLM reads none of ModelOpt's 4-bit floats with factors of a layer's inputs "
            f"(NVFP4_AWQ): method.algorithm={either(_NVFP4_ALGORITHMS)}"
        )
    return None


def has_zero_points(checkpoint: CheckpointFacts) -> bool:
    """Whether its recipe rounds so, as far as is known."""
    method, bits = checkpoint.method, checkpoint.bits
    return method is not None and bits is not None and method.rounds_with_zero_points(bits)


def reason_against_zero_points(checkpoint: CheckpointFacts, bits: str) -> str:
    """With the option that leaves them out."""
    return (
        f"vLLM reads {checkpoint.format} checkpoints of bits={bits} on a symmetric grid only: "
        f"method.{'zero_point=false' if hasattr(checkpoint.method, 'zero_point') else 'sym=true'}"
    )


def has_experts(config: Mapping[str, Any]) -> bool:
    """Whether a model is a mixture of experts, by its config.json."""
    return any((config.get(name) or 0) > 1 for name in _EXPERTS)


def quantizes_experts(checkpoint: CheckpointFacts) -> bool:
    """Whether it has routed experts that are not among the layers that stay dense."""
    named = any(_NAMES_EXPERTS.search(str(name)) for name in _left_out(checkpoint))
    return has_experts(checkpoint.config) and not named


def _left_out(checkpoint: CheckpointFacts) -> Iterator[Any]:
    yield from checkpoint.method.ignore if checkpoint.method is not None else ()
    stored = checkpoint.config.get("quantization_config") or {}
    for field in _LEFT_OUT:
        yield from stored.get(field) or ()


def either(names: tuple[str, ...]) -> str:
    """``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
