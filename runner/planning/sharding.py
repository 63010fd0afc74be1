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
from runner.planning.layers import ATTENTION
from runner.planning.linears import Linear
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
    at_once: int = 1
    """How many of the devices compute at the same time."""


def share_out(shape: Shape, fmt: Format, degree: int, together: bool = True) -> Sharing:
    """How devices share a model in a format.

    Args:
        shape: Of the model.
        fmt: As it is stored.
        degree: How many devices.
        together: Whether they compute at once, each with a part of every layer. Else they take
            turns, each with some of the layers.
    """
    if (problem := fmt.problem_with(shape)) is not None:
        return Sharing(problem)
    if degree == 1:
        return Sharing(warnings=tuple(_torn(shape, fmt)))
    if not together:
        return _by_layers(shape, degree)
    if (problem := next(_obstacles(shape, fmt, degree), None)) is not None:
        fewer = (n for n in range(degree - 1, 1, -1) if not any(_obstacles(shape, fmt, n)))
        fits = next(fewer, 1)
        hint = f" ({fits} devices can)" if degree > 1 and fits > 1 else ""
        return Sharing(f"{problem}{hint}")
    warnings = (*_torn(shape, fmt), *_warnings(shape, fmt, degree))
    return Sharing(warnings=warnings, at_once=degree)


def _torn(shape: Shape, fmt: Format) -> Iterator[str]:
    """Layers whose inputs are no whole groups, however many devices there are."""
    widths = {
        linear.inputs
        for linear in shape.linears
        if fmt.group and not fmt.has_float_blocks and fmt.of(linear) is fmt
    }
    for width in sorted(width for width in widths if width % (fmt.group or 1)):
        yield f"{width} inputs are no whole groups of {fmt.group}: few quantizers round such layers"


def _by_layers(shape: Shape, degree: int) -> Sharing:
    if not 0 < degree <= shape.layers:
        return Sharing(f"{shape.layers} layers are too few for {degree} devices")
    turns = f"{degree} devices take turns, layer after layer: they hold more, and are no faster"
    return Sharing(warnings=(turns,))


def _obstacles(shape: Shape, fmt: Format, degree: int) -> Iterator[str]:
    if degree < 1 or shape.heads % degree:
        yield f"{shape.heads} attention heads do not divide by {degree}"
        return
    for heads in _kv_heads(shape):
        if heads % degree and degree % heads:
            yield f"{heads} key-value heads do not divide by {degree}, nor the reverse"
    for linear in _cut_by_inputs(shape):
        width, block = linear.inputs, _block(fmt, linear.part)
        if linear.routed:
            continue
        if width % degree:
            yield f"a layer of {width} inputs does not divide by {degree}"
        elif block and (width // degree) % block:
            yield f"{width} inputs over {degree} devices leave no whole groups of {block}"
    if (side := fmt.block) and fmt.covers_part("attention"):
        for heads in _kv_heads(shape):
            outputs = max(1, heads // degree) * shape.head_dim
            if outputs % side:
                yield f"{outputs} outputs of attention a device are no whole blocks of {side}"


def _cut_by_inputs(shape: Shape) -> Iterator[Linear]:
    """Matrices whose inputs devices share out; of the others they share out outputs."""
    return (linear for linear in shape.linears if linear.reduces)


def _kv_heads(shape: Shape) -> list[int]:
    """Key-value heads of layers that have some; latent attention has none to share out."""
    if shape.architecture.kv_lora_rank or shape.architecture.output_lora_rank:
        return []
    return sorted({layer.kv_heads for layer in shape.kinds if layer.mixer in ATTENTION})


def _block(fmt: Format, part: str) -> int | None:
    """Inputs of a part that must stay together."""
    return (fmt.block or fmt.group) if fmt.covers_part(part) else None


def _warnings(shape: Shape, fmt: Format, degree: int) -> Iterator[str]:
    if shape.architecture.kv_lora_rank or shape.architecture.output_lora_rank:
        yield f"each of {degree} devices holds the whole latent KV cache"
    for heads in _kv_heads(shape):
        if degree > heads:
            yield (
                f"{heads} key-value heads are copied to {degree} devices: "
                f"{degree / heads:g} times the KV cache"
            )
    for linear in _cut_by_inputs(shape):
        if linear.routed:
            yield from _of_experts(linear.inputs, _block(fmt, linear.part), fmt, degree)


def _of_experts(width: int, block: int | None, fmt: Format, degree: int) -> Iterator[str]:
    if width % degree:
        yield (
            f"experts of {width} do not divide by {degree}: they are shared out whole, with "
            "--enable-expert-parallel"
        )
        return
    each = width // degree
    if not block or each % block == 0 or (width % block and not fmt.has_float_blocks):
        return
    torn = f"{width} inputs of experts over {degree} devices leave no whole groups of {block}"
    if fmt.has_float_blocks:
        padded = -(-each // _PADDED_TO) * _PADDED_TO
        yield f"{torn}: engines pad {each} to {padded}, {padded / each - 1:.0%} more than predicted"
    else:
        yield f"{torn}: engines share experts out whole (--enable-expert-parallel)"
