"""What becomes of a model's matrices when devices share them out (tensor parallelism).

Read from vLLM 0.33.0. It refuses attention heads that do not divide
(``ModelConfig.verify_with_parallel_config``), key-value heads of which neither number divides the
other (``QKVParallelLinear``), widths of dense layers that do not divide (``ColumnParallelLinear``,
``RowParallelLinear``) and, of dense layers, groups of weights that would lie on two devices
(``verify_group_size_divides_partition``, ``validate_fp8_block_shape``; NVFP4 in ``modelopt``). It
copies key-value heads where devices are more, pads the vocabulary, and pads experts: MXFP4 to 128
(``mxfp4_round_up_hidden_size_and_intermediate_size``), blocks of FP8 to whole ones
(``pad_tp_shard_to_weight_blocks``). Experts that cannot be cut are shared out whole, by
``--enable-expert-parallel``. None of the other engines whose runs were looked at (SGLang,
TensorRT-LLM) does what it refuses.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.planning.formats import Format
from runner.planning.model_shape import Shape

_PADDED_TO = 128
"""Rows and columns that kernels for experts in blocks of floats work in."""


@dataclass(frozen=True)
class Sharing:
    """Whether devices can share a model, and what they do to it."""

    obstacle: str | None = None
    """Why no engine shares it out so."""
    warnings: tuple[str, ...] = ()
    """What is copied or padded, or has to be asked for."""


def share_out(shape: Shape, fmt: Format, degree: int) -> Sharing:
    """How ``degree`` devices that compute at once share a model in a format."""
    if degree == 1:
        return Sharing()
    if (problem := next(_obstacles(shape, fmt, degree), None)) is not None:
        fewer = (n for n in range(degree - 1, 1, -1) if not any(_obstacles(shape, fmt, n)))
        fits = next(fewer, 1)
        hint = f" ({fits} devices can)" if degree > 1 and fits > 1 else ""
        return Sharing(f"{problem}{hint}")
    return Sharing(warnings=tuple(_warnings(shape, fmt, degree)))


def _obstacles(shape: Shape, fmt: Format, degree: int) -> Iterator[str]:
    if degree < 1 or shape.heads % degree:
        yield f"{shape.heads} attention heads do not divide by {degree}"
        return
    latent = shape.architecture.kv_lora_rank
    if not latent and shape.kv_heads % degree and degree % shape.kv_heads:
        yield f"{shape.kv_heads} key-value heads do not divide by {degree}, nor the reverse"
    for part, width in _inputs_cut(shape):
        if width % degree:
            yield f"a layer of {width} inputs does not divide by {degree}"
        elif (block := _block(fmt, part)) and (width // degree) % block:
            yield f"{width} inputs over {degree} devices leave no whole groups of {block}"
    if not latent and (side := fmt.block if fmt.covers_part("attention") else None):
        for heads in (shape.heads, shape.kv_heads):
            outputs = max(1, heads // degree) * shape.head_dim
            if outputs % side:
                yield f"{outputs} outputs of attention a device are no whole blocks of {side}"


def _inputs_cut(shape: Shape) -> Iterator[tuple[str, int]]:
    """Parts with the width of their matrices that are cut by inputs."""
    architecture = shape.architecture
    latent = architecture.kv_lora_rank
    yield "attention", shape.heads * ((latent and architecture.value_head_dim) or shape.head_dim)
    if _has_dense_layers(shape):
        yield "mlp", architecture.intermediate or 0
    if shape.experts and architecture.shared_experts:
        yield "shared_experts", _expert_width(shape) * architecture.shared_experts


def _has_dense_layers(shape: Shape) -> bool:
    return not shape.experts or bool(shape.architecture.dense_layers)


def _expert_width(shape: Shape) -> int:
    return shape.architecture.expert_intermediate or shape.architecture.intermediate or 0


def _block(fmt: Format, part: str) -> int | None:
    """Inputs of a part that must stay together."""
    return (fmt.block or fmt.group) if fmt.covers_part(part) else None


def _warnings(shape: Shape, fmt: Format, degree: int) -> Iterator[str]:
    if shape.architecture.kv_lora_rank:
        yield f"each of {degree} devices holds the whole latent KV cache"
    elif degree > shape.kv_heads:
        yield (
            f"{shape.kv_heads} key-value heads are copied to {degree} devices: "
            f"{degree / shape.kv_heads:g} times the KV cache"
        )
    if shape.experts:
        yield from _of_experts(shape, fmt, degree)


def _of_experts(shape: Shape, fmt: Format, degree: int) -> Iterator[str]:
    width = _expert_width(shape)
    if width % degree:
        yield (
            f"experts of {width} do not divide by {degree}: they are shared out whole, with "
            "--enable-expert-parallel"
        )
        return
    each, block = width // degree, _block(fmt, "experts")
    if not block or each % block == 0:
        return
    if fmt.has_float_blocks:
        padded = -(-each // _PADDED_TO) * _PADDED_TO
        yield (
            f"{width} inputs of experts over {degree} devices leave no whole groups of {block}: "
            f"engines pad {each} to {padded}, {padded / each - 1:.0%} more than predicted"
        )
    else:
        yield (
            f"{width} inputs of experts over {degree} devices leave no whole groups of {block}: "
            "engines share experts out whole (--enable-expert-parallel)"
        )
