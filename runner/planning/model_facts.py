"""Facts about a model from its config.json and its option, before it is loaded or downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.audit import Audit
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.root import Config, StageName
from runner.data.models.architecture.reading import read_architecture
from runner.data.models.architecture.says import as_family, families
from runner.data.models.gguf_config import architecture_of_gguf
from runner.data.models.gguf_source import gguf_file, source_header
from runner.data.models.hub import fetch_file
from runner.data.models.locate import fetched_config, light_config
from runner.errors import StageError, UsageError
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
    is_gguf: bool = False
    """Whether it is a GGUF file."""
    published_as: str | None = None
    """Recipe of a plan in which its weights are; ``None``: in 16 bits, or in none that is known."""

    @property
    def format(self) -> str:
        """How its weights are stored: see ``runner.engines.base.CheckpointFacts``."""
        return "gguf" if self.is_gguf else self.quantized_as or "float"

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
        known = _known(model, architecture_of_gguf(source))
        return ModelFacts(known, quantized_as, hf_config, is_gguf=True)
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


def audited_facts(config: Config) -> ModelFacts | None:
    """Facts about the checkpoint that a run audits; ``None`` where it audits none.

    Raises:
        UsageError: It is no checkpoint, or what tells of it cannot be had.
    """
    if StageName.audit not in config.stages or config.audit.checkpoint is None:
        return None
    model = config.audit.model
    try:
        if model.kind is ModelKind.hub and model.file is None:
            fetch_file(model, "config.json")
        elif model.kind is ModelKind.hub:
            gguf_file(model)
        return model_facts(model)
    except StageError as error:
        told = str(error).replace("model=local model.path=", "audit.checkpoint=")
        raise UsageError(f"audit.checkpoint={config.audit.checkpoint}: {told}") from None
    except UsageError as error:
        raise UsageError(_renamed(str(error), config.audit)) from None


def _renamed(message: str, audit: Audit) -> str:
    """What is wrong, under the names that the fields have here."""
    for ours, theirs in (("checkpoint", "path"), ("checkpoint", "hub_id"), ("file", "file")):
        message = message.replace(f"model.{theirs}=", f"audit.{ours}=")
    return message


def _known(model: Model, read: Architecture) -> Architecture:
    """What is said of a model, and over it what was read of it."""
    nothing = Architecture()
    known = {
        name: value
        for name, value in vars(read).items()
        if value is not None and value != getattr(nothing, name)
    }
    return replace(model.architecture, **known)
