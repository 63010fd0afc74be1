"""Facts about a model from its config.json and its option, before it is loaded or downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.model import Model, architecture_of
from runner.data.models.gguf_config import architecture_of_gguf
from runner.data.models.gguf_source import source_header
from runner.data.models.locate import light_config
from runner.errors import UsageError
from runner.planning.model_shape import Shape


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model, all had without torch."""

    architecture: Architecture
    """Its dimensions, as far as they are known."""
    quantized_as: str | None
    """``quant_method`` of a model that is quantized already."""
    hf_config: Mapping[str, Any]
    """Content of its config.json; empty where there is none yet."""

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


def model_facts(model: Model) -> ModelFacts:
    """Read what there is.

    Raises:
        UsageError: A local model's directory is not one.
    """
    source = source_header(model)
    hf_config = {} if source else light_config(model) or {}
    read = architecture_of(hf_config) if hf_config else Architecture()
    if source:
        read = architecture_of_gguf(source)
    known = {name: value for name, value in vars(read).items() if value is not None}
    quantization = hf_config.get("quantization_config") or {}
    return ModelFacts(
        architecture=replace(model.architecture, **known),
        quantized_as=quantization.get("quant_method"),
        hf_config=hf_config,
    )
