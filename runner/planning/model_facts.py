"""Facts about a model from its config.json and its option, before it is loaded or downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.model import Model
from runner.data.models.architecture.reading import read_architecture
from runner.data.models.architecture.says import as_family, families
from runner.data.models.gguf_config import architecture_of_gguf
from runner.data.models.gguf_source import source_header
from runner.data.models.locate import fetched_config, light_config
from runner.errors import UsageError
from runner.planning.model_shape import Shape
from runner.planning.published_format import published_format


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model, all had without torch."""

    architecture: Architecture
    """Its dimensions, as far as they are known."""
    quantized_as: str | None
    """``quant_method`` of a model that is quantized already."""
    hf_config: Mapping[str, Any]
    """Content of its config.json; empty where there is none yet."""
    unreadable: str | None = None
    """Why its layers cannot be counted, by its config.json."""
    family_known: bool = True
    """Whether the family of its config.json is known; else it was read as most families are."""
    not_counted: tuple[str, ...] = ()
    """What of the model its parameters leave out."""
    published_as: str | None = None
    """Recipe of a plan in which its weights are; ``None``: in 16 bits, or in none that is known."""

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The text part's; of models without a config.json ``model_type`` at most."""
        config: Mapping[str, Any] = self.hf_config.get("text_config") or self.hf_config
        return config or {"model_type": self.architecture.family}

    @property
    def parameters(self) -> int | None:
        """As said, else counted from the dimensions; ``None`` where they are not known."""
        if self.architecture.parameters is not None:
            return self.architecture.parameters
        try:
            return Shape(self.architecture).parameters
        except UsageError:
            return None


def model_facts(model: Model, *, fetch: bool = False) -> ModelFacts:
    """Read what there is; of a local model without its weights.

    Args:
        model: Of any kind.
        fetch: Download a hub model's config.json where its dimensions are not known otherwise.

    Raises:
        UsageError: A local model's directory is not one, or the file cannot be had.
    """
    source = source_header(model)
    hf_config = {} if source else light_config(model, bare=True) or {}
    if fetch and not source and not hf_config and model.architecture.hidden is None:
        hf_config = fetched_config(model)
    quantization = hf_config.get("quantization_config") or {}
    quantized_as = quantization.get("quant_method")
    if source:
        return ModelFacts(_known(model, architecture_of_gguf(source)), quantized_as, hf_config)
    if not hf_config:
        return ModelFacts(
            model.architecture, quantized_as, hf_config, published_as=model.published_as
        )
    reading = read_architecture(hf_config)
    if not reading.known_family and (family := model.architecture.family) in families():
        # The user says whose layers these are.
        reading = read_architecture(as_family(hf_config, str(family)))
    return ModelFacts(
        architecture=_known(model, reading.architecture),
        quantized_as=quantized_as,
        hf_config=hf_config,
        unreadable=reading.problem,
        family_known=reading.known_family,
        not_counted=reading.notes,
        published_as=published_format(hf_config),
    )


def _known(model: Model, read: Architecture) -> Architecture:
    """What is said of a model, and over it what was read of it."""
    nothing = Architecture()
    known = {
        name: value
        for name, value in vars(read).items()
        if value is not None and value != getattr(nothing, name)
    }
    return replace(model.architecture, **known)
