"""Stage ``quantize``: apply a recipe and write a standard checkpoint with its manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.coverage import Coverage
from runner.data.models.tensors import TensorReport
from runner.data.texts.calibration import Part
from runner.methods import chooses_types, used_recipe
from runner.methods.mixed_precision.verify import Widths
from runner.methods.recipe import Recipe
from runner.pipeline.stages.base import Cost, Stage, StageContext
from runner.pipeline.stages.jobs.check import CheckResult

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.context import Expected, RunContext

DIRECTORY = "checkpoint"


@dataclass
class QuantizeRequest:
    """A model, a recipe and how to compute."""

    model_directory: Path
    recipe: Recipe
    windows_directory: Path | None
    """Result of stage ``windows``, for recipes that look at text."""
    device: str
    compute_dtype: str
    trust_remote_code: bool
    versions: dict[str, str]
    """Versions of the packages that determine the checkpoint."""
    expert_tokens: dict[str, list[int]] | None = None
    """Result of stage ``experts``, for the manifest."""
    gguf: Path | None = None
    """The model as a GGUF file, for backends that start from one."""


@dataclass
class QuantizeResult:
    """Manifest of the checkpoint in ``checkpoint/`` beside it."""

    recipe: dict[str, Any]
    checkpoint_format: str
    versions: dict[str, str]
    device: str
    compute_dtype: str
    """Torch dtype name in which calibration text went through the model."""
    calibration_windows: int
    calibration_tokens: int
    calibration_sha256: str | None
    """Digest of the exact token windows."""
    calibration_parts: list[Part]
    """What each text gave; empty without calibration."""
    bits_per_weight: float
    """Stored bits, scales and zero points included, per weight of the layers that the recipe
    promises to quantize, those among them that stayed dense too. See ``coverage``."""
    bits_per_parameter: float
    """The same over every parameter of the model."""
    checkpoint_bytes: int
    """Size of the safetensors or GGUF files."""
    tensors: TensorReport
    coverage: Coverage
    """What of the model's matrices is quantized, read from the files."""
    expert_tokens: dict[str, list[int]] | None = None
    """Calibration tokens that each expert of a mixture was sent, by layer."""
    widths: Widths | None = None
    """Where layers differ in width: what was written."""
    rounded_in: str | None = None
    """Torch dtype name that weights were held in when they were rounded; ``None`` where none were,
    and in older records."""
    check: CheckResult | None = None
    """What reloading it gave; added once the checkpoint has been inspected."""


class QuantizeStage(Stage[QuantizeRequest, QuantizeResult]):
    """Makes checkpoints."""

    name = "quantize"
    schema_version = 5
    request = QuantizeRequest
    result = QuantizeResult
    asks_engine = False
    follows = ("sensitivity", "audit")

    def run(self, request: QuantizeRequest, context: StageContext) -> QuantizeResult:
        """Quantize on the calibration windows, account for what was written."""
        from runner.pipeline.stages.quantize.make import make

        return make(request, context)

    def carry_out(self, run: "RunContext") -> None:
        """Make the recipe's checkpoint, and hand it on."""
        from runner.pipeline.stages.quantize.order import make_checkpoint
        from runner.pipeline.stages.sensitivity import STAGE as SENSITIVITY
        from runner.pipeline.stages.sensitivity import needed_sensitivity
        from runner.pipeline.stages.sensitivity.layers import require_experts_apart
        from runner.pipeline.stages.sensitivity.types import types_of_run
        from runner.store.records import BASELINE

        sensitivities = None
        if (needed := needed_sensitivity(run.config)) is not None:
            require_experts_apart(run)
            sensitivities = SENSITIVITY.of_model(run, *needed, types_of_run(run))
            run.keep(SENSITIVITY.name, BASELINE, sensitivities)
        make_checkpoint(run, sensitivities)

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """The layers' sensitivities before, where the recipe chooses by them."""
        from runner.pipeline.stages.sensitivity import needed_sensitivity

        own = run.own if run.config.makes_checkpoint else []
        # Of its own: what is asked for may be another grain, or other widths.
        needed = run.model if needed_sensitivity(run.config) is not None else []
        whole = run.config.bits.is_auto and not chooses_types(run.config)
        together = own if whole else []
        return [
            *(("sensitivity", label) for label in needed),
            *(("together", label) for label in together),
            *((self.name, label) for label in own),
        ]

    def metrics(self, result: QuantizeResult) -> dict[str, float | None]:
        """Sizes, and how much text was looked at."""
        return {
            "quantize/bits_per_weight": result.bits_per_weight,
            "quantize/bits_per_parameter": result.bits_per_parameter,
            "quantize/checkpoint_bytes": result.checkpoint_bytes,
            "quantize/calibration_tokens": result.calibration_tokens,
        }

    def words(self, result: QuantizeResult) -> dict[str, str]:
        """The type that weights were held in."""
        return {"rounded_in": result.rounded_in or ""}

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Calibration text goes through each layer thrice, say; every weight is rounded."""
        calibration = used_recipe(config).calibration
        weight: Any = config.bits.weight
        return Cost(
            tokens=3.0 * calibration.tokens if calibration is not None else 0.0,
            converted_bits=16.0 if on_gpu else 32.0,
            stored_bits=float(weight.num_bits) + 0.5 if weight is not None else 16.0,
        )


STAGE = QuantizeStage()
