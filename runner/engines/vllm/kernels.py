"""Which checkpoints vLLM has kernels for: on CPUs by ``on_cpu``, on GPUs as vLLM itself says."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.config.schema.layer_format import formats_of
from runner.engines.base import CheckpointFacts, LoadSpec
from runner.engines.vllm import on_cpu
from runner.engines.vllm.layouts import row_of
from runner.engines.vllm.rotations import reason_against_rotations, rotates
from runner.engines.vllm.schemes import (
    either,
    has_experts,
    has_zero_points,
    reason_against_scheme,
    reason_against_zero_points,
)
from runner.engines.vllm.tables import PINNED, is_of_weights_alone, table_for

_LATENT_WIDTHS = (320, 512, 576)
"""Of a token's compressed keys and values and their rotary part, as MLA caches them."""
_SIXTEEN_ON_GPUS = "vLLM's kernels for quantized models compute in 16 bits only on GPUs"
_WIDENED_ON_CPUS = (
    "vLLM on a CPU reads packed integers and leaves the activations that are to meet them in 16 "
    "bits, so its quality would not be the checkpoint's"
)
_SIXTEEN_ONLY = "vLLM computes with packed integer weights in 16 bits only"
_FORMATS = ("float", *on_cpu.READS)
_NEEDS_A_PACKAGE = {
    "torchao": (
        "vLLM reads torchao checkpoints by the package torchao, which its environments do not have"
    ),
}
"""Of formats that its own code alone does not read."""


def reason_against(checkpoint: CheckpointFacts) -> str | None:
    """Why vLLM cannot read a checkpoint, with what it reads instead; ``None`` when it can."""
    if reason := _reason_against_attention(checkpoint.config):
        return reason
    if checkpoint.format == "float":
        return None
    if reason := _NEEDS_A_PACKAGE.get(checkpoint.format):
        return reason
    if checkpoint.format not in _FORMATS:
        return f"vLLM reads {either(_FORMATS)} checkpoints, not {checkpoint.format}"
    if reason := reason_against_rotations(checkpoint):
        return reason
    reasons = map(_reason_against_quantized, _by_format(checkpoint))
    return next((reason for reason in reasons if reason is not None), None)


def _reason_against_quantized(checkpoint: CheckpointFacts) -> str | None:
    is_cpu = checkpoint.device == "cpu"
    reason = on_cpu.reason_against_layout(checkpoint) if is_cpu else _reason_on_gpu(checkpoint)
    if reason is None and checkpoint.dtype == "float32":
        if not is_cpu:
            return _SIXTEEN_ON_GPUS
        if _is_packed(checkpoint):
            return _SIXTEEN_ONLY
        if checkpoint.format in on_cpu.IN_SIXTEEN_BITS:
            return _sixteen_of(checkpoint.format)
    return reason


def caution(checkpoint: CheckpointFacts) -> str | None:
    """Why it is not known whether vLLM reads a checkpoint on a GPU, or that it widens activations.

    ``None`` where neither is so.
    """
    cautions = map(_caution, _by_format(checkpoint))
    return next((one for one in cautions if one is not None), None)


def _caution(checkpoint: CheckpointFacts) -> str | None:
    bits, group_size = checkpoint.bits, checkpoint.group_size
    if checkpoint.device == "cpu" or checkpoint.format == "float" or not bits or not group_size:
        return None
    if rotates(checkpoint):
        return "vLLM's rotation of layers' inputs has not run on a GPU here: compare with engine=hf"
    software, capability = checkpoint.software, checkpoint.compute_capability
    table = table_for(software, capability)
    place = f"GPUs of compute capability {capability}" if capability else "this GPU"
    if table is None:
        version = PINNED if software is None else software.version
        absent = "" if software is None or software.python else "; its environment is not made yet"
        return (
            f"it is not known what vLLM {version} reads on {place}, so it says so when it loads"
            f"{absent}"
        )
    if capability is None or not bits.quantizes_activations:
        return None
    kernel = table.groups("dense", checkpoint.format, bits.label, capability).get(group_size.label)
    if kernel is None or not is_of_weights_alone(kernel, bits.label):
        return None
    return (
        f"vLLM has no {bits.label} kernel for {place}: it reads the weights and leaves activations "
        "in 16 bits, so neither quality nor speed are those of the recipe"
    )


def _reason_on_gpu(checkpoint: CheckpointFacts) -> str | None:
    """Why it cannot read a quantized checkpoint on the GPU, as far as is known."""
    capability = checkpoint.compute_capability
    table = table_for(checkpoint.software, capability)
    if table is None or checkpoint.bits is None or checkpoint.group_size is None:
        return None
    method = checkpoint.method
    zero_points = has_zero_points(checkpoint) or checkpoint.format == "awq"  # it has no other grid
    caches = bool(getattr(method, "kv_cache", False))
    where = f"on GPUs of compute capability {capability}" if capability else "on GPUs"
    for shape in ("dense", "experts") if has_experts(checkpoint.config) else ("dense",):
        at = f"{where} for experts" if shape == "experts" else where
        known = table.bits(shape, checkpoint.format, capability)
        bits = checkpoint.bits.label
        groups = table.groups(shape, checkpoint.format, row_of(bits, zero_points), capability)
        plain = table.groups(shape, checkpoint.format, bits, capability)
        if zero_points and not groups and plain:
            return reason_against_zero_points(checkpoint, bits)
        readable = {bits: tuple(groups)} if groups else dict.fromkeys(known, ())
        if reason := reason_against_scheme(checkpoint, readable, bits, at):
            return reason
        cached = table.groups(shape, checkpoint.format, row_of(bits, False, True), capability)
        if caches and not cached:
            return f"vLLM keeps keys and values in 8 bits not {at}: method.kv_cache=false"
    return None


def _reason_against_attention(config: Mapping[str, Any]) -> str | None:
    """Why it has no kernel for a model's latent attention."""
    latent, rotary = config.get("kv_lora_rank"), config.get("qk_rope_head_dim")
    if latent is None or rotary is None or latent + rotary in _LATENT_WIDTHS:
        return None
    return (
        "vLLM has latent attention for kv_lora_rank + qk_rope_head_dim of "
        f"{either(tuple(map(str, _LATENT_WIDTHS)))}, not of {latent + rotary}"
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
    if spec.checkpoint_format not in on_cpu.READS:
        return None
    config = json.loads((spec.checkpoint / "config.json").read_text("utf-8"))
    facts = CheckpointFacts(
        spec.checkpoint_format, None, None, None, spec.device, config=config, dtype=spec.dtype
    )
    if against := reason_against_rotations(facts):
        return against
    stored = {"pack-quantized"} if spec.checkpoint_format in on_cpu.PACKED else set()
    if spec.checkpoint_format == "compressed-tensors":
        quantization = config["quantization_config"]
        whole = quantization.get("format")
        groups = (quantization.get("config_groups") or {}).values()
        # Of a mix the format of the whole says nothing: each group has its own.
        stored = {str(group.get("format") or whole) for group in groups} or {str(whole)}
        if spec.device == "cpu" and any(_is_widened(group, whole) for group in groups):
            return _WIDENED_ON_CPUS
    if spec.device == "cpu" and (against := on_cpu.reason_against_file(facts, stored)):
        return against
    return _reason_against_arithmetic(stored, spec)


def _reason_against_arithmetic(stored: set[str], spec: LoadSpec) -> str | None:
    """Why it does not compute in float32 with a checkpoint of these layouts."""
    if spec.dtype != "float32":
        return None
    if spec.device != "cpu":
        why = _SIXTEEN_ON_GPUS
    elif "pack-quantized" in stored:
        why = _SIXTEEN_ONLY
    elif spec.checkpoint_format in on_cpu.IN_SIXTEEN_BITS:
        why = _sixteen_of(spec.checkpoint_format)
    else:
        return None
    return f"{why}: engine.dtype=bfloat16, eval.dtype=bfloat16"


def _sixteen_of(form: str) -> str:
    return f"vLLM computes with {form} checkpoints in 16 bits only"


def _is_widened(group: Mapping[str, Any], whole: str | None) -> bool:
    """Whether a group's integers are packed although its activations are rounded."""
    packed = (group.get("format") or whole) == "pack-quantized"
    return packed and bool(group.get("input_activations"))


def _is_packed(checkpoint: CheckpointFacts) -> bool:
    """Whether weights lie several to a word, as far as is known beforehand."""
    if checkpoint.format in on_cpu.PACKED:
        return True
    if checkpoint.bits is None:
        stored = checkpoint.config.get("quantization_config") or {}
        return str(stored.get("format")).startswith("pack-quantized")
    return checkpoint.format == "compressed-tensors" and not checkpoint.bits.quantizes_activations


def _by_format(checkpoint: CheckpointFacts) -> list[CheckpointFacts]:
    """The checkpoint as if all of its layers had the same format, for each that they may have."""
    bits, group_size = checkpoint.bits, checkpoint.group_size
    if bits is None or group_size is None:
        return [checkpoint]
    formats = formats_of(bits, group_size, checkpoint.method)
    return [replace(checkpoint, bits=one.bits, group_size=one.group_size) for one in formats]
