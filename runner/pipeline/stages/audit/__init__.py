"""Stage ``audit``: what a quantized checkpoint holds that exists already, whoever made it.

The stages that follow then measure it beside the base model, as if a recipe had just made it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.coverage import Coverage
from runner.data.models.tensors import TensorReport
from runner.pipeline.stages.base import Cost, Stage, StageContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.config.schema.root import Config
    from runner.pipeline.context import Expected, RunContext
    from runner.validation.context import Facts
    from runner.validation.verdict import Verdict


@dataclass
class AuditRequest:
    """A checkpoint and its base model."""

    checkpoint: Path
    """Directory of safetensors files or of one GGUF file."""
    format: str
    """See ``runner.engines.base.CheckpointFacts``."""
    base: Path
    """The base model's directory."""


@dataclass
class Scheme:
    """Matrices that are stored alike."""

    numbers: str
    """``int4``, ``nf4``, ``float8``, a type of GGUF such as ``Q4_K``, or ``16 bits``."""
    scales: str
    """What shares a scale; empty where that is not told, or nothing is scaled."""
    layers: int
    parameters: int
    bits_per_parameter: float
    """Scales and zero points included."""
    parts: list[str]
    """Of the model: ``attention``, ``mlp``, …"""


@dataclass
class AuditResult:
    """What is in the files, whatever is said of them."""

    checkpoint_format: str
    stated: dict[str, Any]
    """``quantization_config`` of its config.json: what it says of itself."""
    bits_per_weight: float
    """Stored bits, scales and zero points included, per weight of attention, MLP and experts."""
    bits_per_parameter: float
    """The same over every parameter of the base model."""
    checkpoint_bytes: int
    tensors: TensorReport
    coverage: Coverage
    schemes: list[Scheme]
    """The one of most parameters first."""
    contradictions: list[str] = field(default_factory=list)
    """Where the tensors are not what config.json says."""


class AuditStage(Stage[AuditRequest, AuditResult]):
    """Looks into checkpoints."""

    name = "audit"
    schema_version = 1
    request = AuditRequest
    result = AuditResult
    asks_engine = False
    runs_beside = True
    follows = ()

    def run(self, request: AuditRequest, context: StageContext) -> AuditResult:
        """Read the headers of its files."""
        from runner.pipeline.stages.audit.look import look

        return look(request, context)

    def carry_out(self, run: "RunContext") -> None:
        """File what is in the checkpoint, and have the stages that follow measure it."""
        from runner.pipeline.stages.audit.order import audit

        audit(run)

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """One result, of the checkpoint."""
        return [(self.name, label) for label in run.own]

    def check(self, config: "Config", facts: "Facts") -> "Sequence[Verdict]":
        """Whether there is a checkpoint, and of this model."""
        from runner.pipeline.stages.audit.check import check

        return list(check(config, facts))

    def metrics(self, result: AuditResult) -> dict[str, float | None]:
        """Sizes, under the names that those of a recipe's checkpoint have."""
        return {
            "quantize/bits_per_weight": result.bits_per_weight,
            "quantize/bits_per_parameter": result.bits_per_parameter,
            "quantize/checkpoint_bytes": result.checkpoint_bytes,
        }

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """The files are read once, for their digest."""
        return Cost(tokens=0.0, converted_bits=8.0)


STAGE = AuditStage()
