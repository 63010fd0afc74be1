"""What a quantization method is: its knobs, its abilities as a table, and one function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.recipe import Recipe

ModelConfig = Mapping[str, Any]
"""Content of a model's config.json, of its text part where it has several; empty where unknown."""


def takes_every_model(config: ModelConfig) -> str | None:
    """No reason against any model."""
    return None


Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


class ActivationScales(Enum):
    """When the scales of quantized activations are found."""

    dynamic = "dynamic"
    """Afresh for every token; needs no calibration."""
    static = "static"
    """Once, from calibration text; one scale a tensor."""


class Holder(Enum):
    """What a model keeps a matrix in."""

    linear = "nn.Linear"
    linear_subclass = "a class derived from nn.Linear"
    conv1d = "transformers' Conv1D, a linear layer the other way round"
    experts = "one parameter of three dimensions for all experts of a layer"


@dataclass(frozen=True)
class Abilities:
    """What a method can do through one backend: rows of the legality table."""

    bits: tuple[str, ...]
    """Labels of the bits schemes it can carry out, best known first."""
    group_sizes: tuple[str, ...]
    """Granularities it can carry out: ``per_tensor``, ``per_channel``, ``g64``; ``g*`` is any."""
    checkpoint_format: str
    """``quantization_config.quant_method`` of what it writes."""
    packages: tuple[str, ...]
    """Distributions whose version determines the checkpoint."""
    mixes: bool = False
    """Whether layers of one checkpoint may have different widths."""
    holders: tuple[Holder, ...] | None = (Holder.linear, Holder.linear_subclass)
    """Where it finds matrices; ``None`` where it reads files, not a model's layers."""
    keeps_scales: bool = True
    """Whether rounded weights are near the model's own: not so where factors move from one layer
    into another."""
    model_refusal: Callable[[ModelConfig], str | None] = takes_every_model
    """Why the backend cannot do a model of such a config; ``None`` when it can, or may."""
    mixes_by_itself: bool = False
    """It gives layers that suffer most more bits of its own accord."""
    plain_rounding: bool = False
    """It rounds what comes, activations too: only their static scales are found on text."""
    rounds_in: str | None = None
    """Torch dtype name that weights are held in when they are rounded, where the recipe's
    ``rounding_dtype`` decides only in what calibration text goes through the model."""
    emulated_on_cpus: str | None = None
    """What of its checkpoints' arithmetic CPUs only emulate, in words."""
    cannot: tuple[tuple[str, Any, str], ...] = ()
    """Options of the method with a value that it cannot carry out, and the reason."""
    against_unequal_windows: str | None = None
    """Why calibration windows of different lengths cannot be had, if so."""


@dataclass
class QuantizeJob:
    """One piece of work for a method."""

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
    """Downloads that are kept."""
    threads: int
    progress: Progress


class QuantizationMethod(Protocol):
    """A method: one module of ``runner.methods`` exposes one of these as ``METHOD``."""

    @property
    def config(self) -> type[Method]:
        """Dataclass of the method's knobs."""

    @property
    def backends(self) -> Mapping[str, Abilities]:
        """What the method can do, by the backend that does it; the default one first."""

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """The calibration the recipe really uses, or ``None`` when no text is looked at."""

    def quantize(self, job: QuantizeJob) -> None:
        """Write the checkpoint, through the backend that the recipe names.

        Runs in the environment that provides the backend, and imports its libraries itself.
        """


def group_size_fits(abilities: Abilities, group_size: GroupSize) -> bool:
    """Whether the granularity is one the method can carry out."""
    return group_size.is_among(abilities.group_sizes)


def bits_fit(abilities: Abilities, bits: Bits) -> bool:
    """Whether the bits scheme is one the method can carry out; with a budget, all its widths."""
    if bits.is_auto:
        widths = (width for width in bits.candidates if width < 16)
        return all(bits.of_width(width).label in abilities.bits for width in widths)
    return bits.label in abilities.bits
