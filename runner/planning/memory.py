"""What stages take of a machine's memory and of its GPUs', told before any of it is taken.

Weights are counted exactly; what is computed beside them is bounded from the model's dimensions,
where those are known, and else left out.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from runner.config.schema.architecture import Architecture
from runner.config.schema.root import Config, StageName
from runner.data.models.directory import SHARD_BYTES
from runner.engines import find_engine
from runner.errors import UsageError
from runner.methods import capabilities_of, used_recipe
from runner.methods.base import Capabilities
from runner.planning.arithmetic import Arithmetic
from runner.planning.compute import DTYPE_BITS, Compute
from runner.planning.model_shape import Shape

PROCESS_BYTES = 1.5e9
"""Of a worker that has loaded torch, transformers and CUDA's libraries."""
CONTEXT_BYTES = 1e9
"""On a GPU: CUDA's context and libraries, and what torch's allocator cannot use."""
_LOGITS_AT_ONCE = 256
"""Rows of float32 logits that a computation holds, twice."""
_HALF_BITS, _FLOAT32_BYTES = 16.0, 4


@dataclass(frozen=True)
class Need:
    """What a stage takes at its highest."""

    stage: str
    host_bytes: float
    """Of the machine's memory."""
    gpu_bytes: float = 0.0
    """Of each GPU's that shares the work."""
    gpus: int = 0
    loads: float = 0.0
    """The model's weights among them, whole."""


@dataclass(frozen=True)
class Subject:
    """A run's model and recipe, and where they are computed with."""

    config: Config
    compute: Compute
    arithmetic: Arithmetic
    parameters: int
    architecture: Architecture
    stored: str = "auto"
    """Torch dtype name of the model's tensors; ``auto`` where it is not known: 16 bits."""

    def width(self, dtype: str) -> float:
        """Bytes of a number of a torch dtype; ``auto`` is the model's own."""
        return DTYPE_BITS.get(self.stored if dtype == "auto" else dtype, _HALF_BITS) / 8

    @cached_property
    def shape(self) -> Shape | None:
        """``None`` where dimensions are not known."""
        try:
            return Shape(self.architecture)
        except UsageError:
            return None

    @cached_property
    def capabilities(self) -> Capabilities | None:
        """Of the recipe's backend; ``None`` without a recipe, or such a backend."""
        with contextlib.suppress(UsageError):  # legality speaks about an unknown one
            return capabilities_of(self.config.method)
        return None

    @property
    def rounding_bytes(self) -> float:
        """Of a weight while the recipe is made."""
        can, compute = self.capabilities, self.compute
        if can is not None and can.only_on_cpus:
            compute = replace(compute, device="cpu")
        return self._rounding(compute, by_blocks=can is not None and can.onloading is not None)

    def _rounding(self, compute: Compute, *, by_blocks: bool) -> float:
        asked = self.config.method.rounding_dtype
        dtype = compute.rounding_dtype(asked, self.stored, self.parameters, by_blocks=by_blocks)
        return self.width(dtype)

    @cached_property
    def block_weights(self) -> float:
        """Of the largest part of the model that stays in one piece."""
        if self.shape is None:
            return self.parameters / 16
        block = self.shape.linear_weights / self.shape.layers
        return max(block, self.shape.embedding_weights)

    @property
    def onloaded_weights(self) -> float:
        """Of a block, with the embedding that the first comes with."""
        if self.shape is None:
            return self.block_weights
        return self.shape.linear_weights / self.shape.layers + self.shape.embedding_weights

    @property
    def sensitivity_bytes(self) -> float:
        """Of a weight while sensitivities are measured."""
        return self._rounding(self.compute, by_blocks=False)

    def activation_bytes(self, tokens: int, number_bytes: float) -> float:
        """What a block computes with for so many tokens at once, and their logits."""
        if self.shape is None:
            return 0.0
        inner = self.architecture.expert_intermediate or self.architecture.intermediate or 0
        inner *= max(1, self.shape.experts_per_token)
        logits = 2 * min(tokens, _LOGITS_AT_ONCE) * self.shape.vocab * _FLOAT32_BYTES
        return tokens * (6 * self.shape.hidden + 3 * inner) * number_bytes + logits

    def hidden_bytes(self, tokens: int, number_bytes: float) -> float:
        """Of a block's outputs for so many tokens."""
        return tokens * (self.shape.hidden if self.shape else 0) * number_bytes

    def hessian_bytes(self) -> float:
        """Of one block's Hessians in float32, and of solving for its largest layer."""
        if self.shape is None or not self.config.method.solves_with_hessians:
            return 0.0
        held, solving = 0.0, 0.0
        for linear in (one for one in self.shape.linears if not one.kept):
            square = float(linear.inputs**2)
            held += square * linear.count / self.shape.layers
            # Its Hessian reordered, or its inverse; working copies of the weights.
            solving = max(solving, 2 * square + 3 * linear.inputs * linear.outputs)
        return (held + solving) * _FLOAT32_BYTES


def need(stage: str, subject: Subject) -> Need | None:
    """What a stage takes on a machine with a GPU in use; ``None`` of others, which load no model.

    Args:
        stage: Its name.
        subject: What it is about.
    """
    match stage:
        case StageName.quantize:
            return _to_quantize(subject)
        case StageName.sensitivity:
            return _to_measure_layers(subject)
        case StageName.eval | StageName.tasks | StageName.bench | StageName.serving:
            return _to_compute(stage, subject)
    return None


def needs(subject: Subject) -> Iterator[Need]:
    """Of every stage that a run asks for, in the order in which they were asked for."""
    for stage in subject.config.stages:
        if (found := need(stage, subject)) is not None:
            yield found


def gpus_that_hold(subject: Subject, memory_bytes: list[int]) -> int | None:
    """How many of these GPUs, the first ones, hold what the run's engine loads; ``None``: too few.

    A fresh checkpoint is looked at on as many, where it can be: see ``checks_on_gpus``.

    Args:
        subject: What is loaded.
        memory_bytes: Of each GPU there is.
    """
    stages = [name for name in subject.config.stages if _is_of_the_engine(name)]
    looks = subject.config.makes_checkpoint and subject.config.engine.keeps_blocks_whole
    enough = None
    for number in range(1, len(memory_bytes) + 1):
        # GPUs of several sizes: as accelerate does, each is filled up to what it has.
        share = sum(memory_bytes[:number]) / number
        found = [_to_compute(name, subject, number) for name in stages]
        if any(one.gpu_bytes > share for one in found):
            continue
        enough = enough or number
        looked = _shared_out(subject, StageName.quantize, subject.width("auto"), number)
        if not looks or looked.gpu_bytes <= share:
            return number
    return enough


def checks_on_gpus(subject: Subject, dtype: str = "auto") -> bool:
    """Whether the GPUs in use hold the unquantized model, to look at a recipe beside it.

    Args:
        subject: Whose recipe.
        dtype: Torch dtype name that weights are held in; ``auto`` is the model's own.
    """
    memories = [gpu.memory_bytes for gpu in subject.compute.gpus if gpu.memory_bytes is not None]
    if not memories:
        return True
    number = len(memories)
    found = _shared_out(
        subject, StageName.quantize, subject.width(dtype), number, whole_blocks=True
    )
    return found.gpu_bytes <= sum(memories) / number


def _is_of_the_engine(stage: str) -> bool:
    return stage in (StageName.eval, StageName.tasks, StageName.bench, StageName.serving)


def _to_compute(stage: str, subject: Subject, number: int | None = None) -> Need:
    """The engine with the unquantized model, the largest that it is given."""
    config, compute = subject.config, subject.compute
    timed = stage in (StageName.bench, StageName.serving)
    dtype = compute.dtype if timed else subject.arithmetic.dtype
    width = subject.width(dtype)
    tokens, cache = (config.eval.context_length, 0.0)
    if timed:
        bench = config.bench
        batch = max(bench.batch_sizes, default=1)
        tokens = batch * bench.prompt_tokens
        if subject.shape is not None:
            whole = bench.prompt_tokens + bench.new_tokens
            cache = batch * subject.shape.kv_bytes(whole, width)
    loaded = width
    if not config.makes_checkpoint and (bits := config.engine.loaded_bits) is not None:
        loaded = bits / 8  # rounded by the engine while it loads
    work = subject.activation_bytes(tokens, width)
    number = number or max(1, len(compute.gpus))
    return _shared_out(subject, stage, loaded, number, work=work, cache=cache)


def _shared_out(
    subject: Subject,
    stage: str,
    weight_bytes: float,
    number: int,
    *,
    work: float = 0.0,
    cache: float = 0.0,
    whole_blocks: bool | None = None,
) -> Need:
    weights = subject.parameters * weight_bytes
    engine = subject.config.engine
    if whole_blocks is None:
        whole_blocks = engine.keeps_blocks_whole
    each = (weights + cache) / number + work
    if number > 1 and whole_blocks:
        each += subject.block_weights * weight_bytes
    # An engine that takes a part of a GPU puts all of this into that part.
    each = each / engine.memory_share + CONTEXT_BYTES
    host = PROCESS_BYTES
    recipe = subject.capabilities if subject.config.makes_checkpoint else None
    unpacks = find_engine(engine.name).traits.unpacks_in_memory
    if recipe is not None and number >= unpacks.get(recipe.checkpoint_format, number + 1):
        host += weights
    return Need(stage, host, each, number, weights)


def _to_quantize(subject: Subject) -> Need | None:
    """Making the checkpoint, saving it, and looking at it."""
    config, can = subject.config, subject.capabilities
    if can is None or not config.makes_checkpoint:
        return None
    width = subject.rounding_bytes
    whole = subject.parameters * width
    bits = config.bits.weight.num_bits if config.bits.weight is not None else _HALF_BITS
    stored = subject.parameters * (min(float(bits), _HALF_BITS) + 0.5) / 8
    calibration = used_recipe(config).calibration
    tokens = calibration.tokens if calibration is not None else 0
    window = calibration.sequence_length if calibration is not None else 0
    # Inputs of a block and its outputs, all of the text's.
    states = 2 * subject.hidden_bytes(tokens, width)
    saving = stored + min(stored, SHARD_BYTES)
    host, device, loads = whole + states, CONTEXT_BYTES, 0.0
    if can.only_on_cpus:
        device = 0.0
    elif can.onloading is not None:
        device += subject.onloaded_weights * width + subject.hessian_bytes()
        device += subject.activation_bytes(window, width)
        if can.onloading.activations:
            # What a block's parts are given lies beside the GPU, what they make of it there.
            host += states
            device += states
    elif can.rounds_on_load:
        host, device = 0.0, device + stored + subject.block_weights * _HALF_BITS / 8
    else:
        device, loads = device + whole + subject.activation_bytes(window, width), whole
    looking = 0.0
    if not checks_on_gpus(subject):
        looking = subject.parameters * subject.width("auto")
    host = PROCESS_BYTES + max(host, saving, looking)
    return Need(StageName.quantize, host, device, 1 if device else 0, loads)


def _to_measure_layers(subject: Subject) -> Need:
    """All of the model on one GPU, with what each block was given for the text."""
    section, width = subject.config.sensitivity, subject.sensitivity_bytes
    whole = subject.parameters * width
    tokens = section.windows * section.context_length
    layers = subject.architecture.layers or 0
    device = CONTEXT_BYTES + whole + subject.activation_bytes(tokens, width)
    device += (layers + 1) * subject.hidden_bytes(tokens, width)
    return Need(StageName.sensitivity, PROCESS_BYTES + whole, device, 1, whole)
