"""How much memory an engine leaves for the KV cache, and what takes the rest.

Written after vLLM 0.33.0 (``determine_available_memory`` and ``profile_run``) and held against the
logs in ``benchmarks/points/kv_room.csv``; constants by engine and version are in
``runner/data/kv_room.yaml``.
"""

import functools
import math
from dataclasses import dataclass, replace

from runner.config.schema.architecture import Mlp
from runner.planning.formats import Format
from runner.planning.linears import leads_to_latent
from runner.planning.model_shape import Shape
from runner.planning.option import Range
from runner.planning.room_rules import GIB, Rules, default_step, rules_of, spread

_HELD_IN_A_LAYER = 1.08
"""Of the tensors that a layer's MLP needs at once: positions, masks and rounding to blocks are the
rest (20,000 and 29,000 tokens of Llama-3.1-8B: vLLM issue 10517)."""
_ACTIVATION_BYTES = 2
_MIXERS = ("attention", "linear_attention", "mamba")
_BLOCK_TOKENS = 16
_PADDED_GROUP = 32
_LARGEST_CAPTURE = 512
_WEIGHTS_ERROR = 0.005


@dataclass(frozen=True)
class Room:
    """What is left for the KV cache on one device, and what takes the rest; sizes in bytes.

    Of a step's two stages, the layers and the drawing of tokens, the larger alone counts: either
    ``activations`` and ``experts`` or ``logits`` are the peak, and the others 0.
    """

    usable: float
    """The engine's share of the device."""
    weights: float
    activations: float
    """Of the largest step's layers."""
    experts: float
    """Workspace of a mixture's kernels."""
    logits: float
    """Of the largest number of sequences, with what the sampler makes of them."""
    graphs: float
    communication: float
    """Buffers of collective operations."""
    context: float
    """What else is in use, outside PyTorch."""
    kv_bytes: Range
    """Left for the cache; negative: the weights do not fit."""
    kv_tokens: Range
    """As the engine logs it: ``kv_bytes`` by ``token_bytes``."""
    token_bytes: float
    """Of a token in the cache of one device, as the engine counts.

    vLLM since 0.21: a part of ``sequence_bytes``. Before, and elsewhere: what a token would take if
    every layer kept it, those with a window or a state too, in groups of equally many layers.
    """
    sequence_bytes: float
    """Of a sequence of the context length in the cache of one device, with its recurrent state. In
    layers with a sliding window it holds, while it is prefilled, the window and a step's tokens."""
    rules: str
    """Whose rules these are."""

    @property
    def parts(self) -> dict[str, float]:
        """What takes memory, by name, the largest first."""
        names = (
            "weights", "activations", "experts", "logits", "graphs", "communication", "context",
        )  # fmt: skip
        sizes = {name: float(getattr(self, name)) for name in names}
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class Step:
    """The largest step that an engine makes ready for."""

    tokens: int | None = None
    """Prompt tokens (``max_num_batched_tokens``); ``None``: the engine's default on the device."""
    sequences: int | None = None
    """Sequences (``max_num_seqs``); ``None``: likewise."""


@dataclass(frozen=True)
class Devices:
    """What shares a model out."""

    memory: float
    """That programs see on each, in bytes."""
    degree: int = 1
    switched: bool = False
    """Whether a switch joins them, as on an HGX board or over a network."""
    compute_capability: str | None = None


def kv_room(
    shape: Shape,
    fmt: Format,
    devices: Devices,
    context: int,
    *,
    utilization: float,
    number_bytes: float = 2.0,
    step: Step = Step(),
    rules: Rules | None = None,
) -> Room:
    """What an engine leaves for the KV cache.

    Args:
        shape: Of the model.
        fmt: How the engine holds it.
        devices: That share it out.
        context: Longest sequence, in tokens.
        utilization: Share of a device that the engine may use (``gpu_memory_utilization``,
            SGLang's ``mem_fraction_static``).
        number_bytes: Of a number in the cache.
        step: The largest step.
        rules: Of the engine; ``None``: those of the default, its newest version.
    """
    rules = rules or rules_of()
    tokens, sequences = default_step(rules, devices.memory, context, devices.compute_capability)
    tokens = step.tokens or tokens
    sequences = min(step.sequences or sequences, tokens)
    degree = devices.degree
    weights = weights_per_device(shape, fmt, degree)
    activations, experts = _layers(shape, tokens, degree)
    rows = tokens if rules.logits_of_every_token else sequences
    logits = rows * shape.vocab * rules.logit_bytes
    logits += tokens * shape.hidden * _ACTIVATION_BYTES
    if rules.reserves_the_rest:
        activations = experts = logits = 0.0
    elif activations + experts > logits:
        logits = 0.0
    else:
        activations = experts = 0.0
    graphs = _captured(sequences) * shape.layers * rules.graph_mebibytes * 2**20
    link = "switched" if devices.switched else "direct"
    peers = rules.communication_gibibytes.get(link, 0.0) * GIB if degree > 1 else 0.0
    used = rules.context_gibibytes * GIB
    usable = devices.memory * utilization
    if rules.reserves_the_rest:
        usable, used = (devices.memory - used) * utilization, 0.0
    overhead = activations + experts + logits + graphs + peers + used
    left = _range(usable, weights, overhead)
    sequence = _held(shape, tokens).kv_bytes(context, number_bytes, degree)
    sequence += shape.state_bytes_per_sequence(_ACTIVATION_BYTES, degree)
    token = sequence / context
    if rules.counts_blocks:
        token = _grouped_layers(shape) * _layer_bytes(shape, number_bytes, degree)
    return Room(
        usable, weights, activations, experts, logits, graphs, peers, used, left,
        Range(*(max(0.0, size / token) for size in (left.low, left.expected, left.high))),
        token, sequence, rules.label,
    )  # fmt: skip


def _layer_bytes(shape: Shape, number_bytes: float, degree: int) -> float:
    """Bytes of a token in one attention layer."""
    return shape.kv_bytes(1, number_bytes, degree) / max(shape.attention_layers, 1)


def _grouped_layers(shape: Shape) -> int:
    """Layers that have a block for a token, groups being filled up to one size.

    In vLLM groups are as large as the smallest kind of layers, or as the largest where that is not
    half as large again.
    """
    kinds = [
        shape.attention_layers - shape.windowed_layers,
        shape.windowed_layers,
        shape.linear_attention_layers,
    ]
    counts = [count for count in kinds if count]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    return sum(-(-count // size) for count in counts) * size


def _range(usable: float, weights: float, overhead: float) -> Range:
    around = spread()
    return Range(
        usable - weights * (1 + _WEIGHTS_ERROR) - overhead * around.high,
        usable - weights - overhead,
        usable - weights * (1 - _WEIGHTS_ERROR) - overhead * around.low,
    )


def weights_per_device(shape: Shape, fmt: Format, degree: int) -> float:
    """Bytes of weights on one device.

    Linear layers are split, embeddings and the head by the vocabulary. Every device holds the norms
    and routers, the projections into a latent cache, and where it has a key-value head of another
    device, that head's projections. Experts in blocks of 32 floats are padded for their kernels.
    """
    copied = sum(
        fmt.bits_of(linear) * (1 - 1 / degree)
        for linear in shape.linears
        if leads_to_latent(shape.architecture, linear)
    )
    if not shape.architecture.kv_lora_rank:
        heads = -(-shape.kv_heads // degree) - shape.kv_heads / degree
        bits = fmt.linear_bits(shape) / shape.linear_weights
        copied += bits * shape.attention_layers * 2 * shape.hidden * shape.head_dim * heads
    small = sum(linear.weights for linear in shape.linears if linear.kept)
    small = min(small + shape.hidden * (4 * shape.layers + 1), shape.other_weights)
    copied += 16 * small * (1 - 1 / degree)
    padded = sum(
        fmt.bits_of(linear) / degree * (_padding(shape, fmt, degree) - 1)
        for linear in shape.linears
        if linear.routed
    )
    return fmt.stored_bytes(shape) / degree + (copied + padded) / 8


def _padding(shape: Shape, fmt: Format, degree: int) -> float:
    """Weights of experts as kernels hold them, in multiples of their own.

    vLLM 0.33, ``mxfp4_round_up_hidden_size_and_intermediate_size``: gpt-oss-120b takes 65.97 GiB.
    """
    if not (fmt.has_float_blocks and fmt.group == _PADDED_GROUP and fmt.covers_part("experts")):
        return 1.0
    outer = shape.architecture.expert_hidden or shape.hidden
    inner = shape.expert_intermediate / degree
    return _rounded(outer, 256) / outer * (_rounded(inner, 128) / inner)


def _rounded(size: float, multiple: int) -> float:
    return math.ceil(size / multiple) * multiple


def _layers(shape: Shape, tokens: int, degree: int) -> tuple[float, float]:
    """Activations of the widest layer for a step's tokens, and the workspace of experts.

    A layer holds its input and the residual, and the halves of a gated MLP with their product. The
    kernels of a mixture keep both halves or the result (in one buffer) and the product of every
    token's every expert.
    """
    architecture = shape.architecture
    halves = 2 if architecture.has_gate else 1
    dense = [layer.intermediate for layer in shape.kinds if layer.mlp is Mlp.dense]
    mixers = [linear.outputs for linear in shape.linears if linear.part in _MIXERS]
    inner = max((halves + 1) * max(dense, default=0), 2 * max(mixers, default=0))
    width = 2 * shape.hidden + inner / degree
    experts = 0.0
    if shape.experts:
        each = shape.expert_intermediate / degree
        outer = architecture.expert_hidden or shape.hidden
        experts = shape.experts_per_token * (max(halves * each, outer) + each)
    size = tokens * _ACTIVATION_BYTES * _HELD_IN_A_LAYER
    return size * width, size * experts


def _captured(sequences: int) -> int:
    """CUDA graphs of a layer: vLLM captures pieces for mixed steps and whole decode steps."""
    pieces = _captures(min(2 * sequences, _LARGEST_CAPTURE))
    return pieces + _captures(min(sequences, _LARGEST_CAPTURE))


def _captures(largest: int) -> int:
    """Batch sizes up to the largest: 1, 2, 4, every eighth to 256, every sixteenth from there."""
    few = sum(size <= largest for size in (1, 2, 4))
    return few + min(largest, 256) // 8 + max(0, largest - 256) // 16


@functools.lru_cache(maxsize=256)
def _held(shape: Shape, tokens: int) -> Shape:
    """The shape with the window that a sequence holds while it is prefilled."""
    window = shape.architecture.sliding_window
    if not window:
        return shape
    longest = window - 1 + tokens
    rounded = -(-longest // _BLOCK_TOKENS) * _BLOCK_TOKENS + _BLOCK_TOKENS
    return Shape(replace(shape.architecture, sliding_window=rounded))
