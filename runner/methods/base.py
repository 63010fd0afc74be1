"""The interface of a quantization method: options, capabilities as a table, one function."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.layer_format import is_unquantized, scheme_of
from runner.config.schema.method import Method
from runner.methods.recipe import Recipe

ModelConfig = Mapping[str, Any]
"""Content of a model's config.json, of its text part where it has several; empty where unknown."""


def takes_every_model(config: ModelConfig) -> str | None:
    """Default of ``model_refusal``: every model is supported."""
    return None


Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


class ActivationScales(Enum):
    """When the scales of quantized activations are computed."""

    dynamic = "dynamic"
    """Per token, at run time; needs no calibration."""
    static = "static"
    """Once, from calibration text; one scale per tensor."""


class Holder(Enum):
    """Kind of module that contains a matrix."""

    linear = "nn.Linear"
    linear_subclass = "a class derived from nn.Linear"
    conv1d = "transformers' Conv1D, a linear layer the other way round"
    experts = "one parameter of three dimensions for all experts of a layer"


@dataclass(frozen=True)
class Onloading:
    """What lies on the GPU where a backend takes a model there one block at a time.

    The model itself then lies in the machine's memory, and so does the calibration text's way
    through it, unless said otherwise.
    """

    activations: bool = False
    """Outputs of a block for all of the calibration text."""


@dataclass(frozen=True)
class Capabilities:
    """What a method can do through one backend: rows of the legality table."""

    bits: tuple[str, ...]
    """Labels of the supported bits schemes, best known first."""
    group_sizes: tuple[str, ...]
    """Supported granularities: ``per_tensor``, ``per_channel``, ``g64``, ``b128``; ``g*`` is any
    group, ``b*`` any block."""
    checkpoint_format: str
    """``quantization_config.quant_method`` of the checkpoints it writes."""
    packages: tuple[str, ...]
    """Distributions whose version determines the checkpoint."""
    group_sizes_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The granularities of those bits schemes that have others than ``group_sizes``."""
    mixes: bool = False
    """Whether layers of one checkpoint may have different widths."""
    holders: tuple[Holder, ...] | None = (Holder.linear, Holder.linear_subclass)
    """Modules whose matrices it quantizes; ``None`` if it reads files, not a model's layers."""
    keeps_scales: bool = True
    """Whether rounded weights stay close to the model's own; false if the method moves scales from
    one layer into another."""
    model_refusal: Callable[[ModelConfig], str | None] = takes_every_model
    """Why the backend cannot quantize a model with this config; ``None`` if it can, or may."""
    starts_from_gguf: bool = False
    """Whether it rounds a GGUF file of the model, which its recipes share."""
    layer_types: Callable[[Method, Bits, Collection[int], bool], list[str]] | None = None
    """Names of types that tensors get under a budget, where the backend's files have types of their
    own and no bits schemes; given the method, the budget, the inputs of the model's matrices (none
    where they are not known), and whether it is a mixture of experts."""
    mixes_by_itself: bool = False
    """Whether it gives the most sensitive layers more bits by itself."""
    plain_rounding: bool = False
    """Whether it only rounds to nearest: text is needed for static activation scales alone."""
    rounds_in: str | None = None
    """Torch dtype name that weights are held in when they are rounded, where the recipe's
    ``rounding_dtype`` decides only in what calibration text goes through the model."""
    only_on_cpus: bool = False
    """Whether the backend computes on the CPU whatever the engine's device is: it then runs in an
    environment for CPUs, and what it makes is looked at there."""
    onloading: Onloading | None = None
    """How it takes a model's blocks to the GPU one at a time; ``None``: the whole model has to lie
    there."""
    rounds_on_load: bool = False
    """Whether only rounded weights reach the GPU: what is read is rounded tensor by tensor."""
    emulated_on_cpus: str | None = None
    """The part of its checkpoints' arithmetic that CPUs only emulate, in words."""
    cannot: tuple[tuple[str, Any, str], ...] = ()
    """Unsupported values of the method's options: option, value, reason."""
    against_unequal_windows: str | None = None
    """Why calibration windows of different lengths are not supported, if so."""
    variants: Mapping[tuple[str, str], "Capabilities"] = field(default_factory=dict)
    """Other capabilities where an option of the method has some value: by ``Method.variant``."""

    def of(self, method: Method) -> "Capabilities":
        """Those of a configured method, whose options may make another kind of checkpoint."""
        variant = method.variant
        return self if variant is None else self.variants.get(variant, self)

    def groups_for(self, bits: Bits) -> tuple[str, ...]:
        """The granularities that a bits scheme can have."""
        return self.group_sizes_of.get(bits.label, self.group_sizes)


@dataclass
class QuantizeJob:
    """The inputs of one call of a method."""

    model_directory: Path
    checkpoint_directory: Path
    """An existing empty directory to write the checkpoint into."""
    scratch: Path
    """An existing empty directory for files that are not kept."""
    recipe: Recipe
    windows: list[list[int]]
    """Calibration windows of token ids; empty without calibration. Of one length, unless they
    were cut per sample with a smaller minimum."""
    device: str
    compute_dtype: str
    """Torch dtype name in which forward passes run, and weights are rounded where the backend can
    be told: the recipe's ``rounding_dtype``, resolved."""
    trust_remote_code: bool
    cache: Path
    """Directory for downloads, kept between runs."""
    threads: int
    progress: Progress
    gguf: Path | None = None
    """The model as a GGUF file, for backends that start from one."""


class QuantizationMethod(Protocol):
    """A method: one module of ``runner.methods`` exposes one of these as ``METHOD``."""

    @property
    def config(self) -> type[Method]:
        """Dataclass of the method's options."""

    @property
    def backends(self) -> Mapping[str, Capabilities]:
        """Capabilities of the method by backend; the default backend first."""

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """The calibration that the recipe uses; ``None`` if it reads no text."""

    def quantize(self, job: QuantizeJob) -> None:
        """Write the checkpoint with the backend that the recipe names.

        Runs in the environment that provides the backend, and imports its libraries itself.
        """


def group_size_fits(capabilities: Capabilities, bits: Bits, group_size: GroupSize) -> bool:
    """Whether the method supports the granularity with the bits scheme."""
    return group_size.is_among(capabilities.groups_for(bits))


def bits_fit(capabilities: Capabilities, bits: Bits) -> bool:
    """Whether the method supports the bits scheme; with a budget, those of all candidates."""
    if bits.is_auto:
        names = (name for name in bits.candidates if not is_unquantized(name))
        schemes = (scheme_of(name) for name in names)
        return all(one is not None and one.label in capabilities.bits for one in schemes)
    return bits.label in capabilities.bits
