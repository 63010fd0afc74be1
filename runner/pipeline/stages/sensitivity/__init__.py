"""Stage ``sensitivity``: the cost of rounding each layer alone, on a fixed text."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.group_size import GroupSize
from runner.config.schema.root import Config
from runner.config.schema.sensitivity import LayerGranularity, Sensitivity
from runner.data.models.expert_names import expert_layers
from runner.data.models.tensors import matrix_shapes
from runner.data.texts.sample import Sample
from runner.evaluation.metrics.statistics import Interval
from runner.methods.mixed_precision.layer_groups import Unit
from runner.methods.mixed_precision.rounding import Rounding, rounding_of
from runner.pipeline.stages.base import TRANSFORMERS, Cells, Stage, StageContext
from runner.pipeline.stages.jobs.gguf import STAGE as GGUF
from runner.pipeline.stages.jobs.uniform import FILE as UNIFORM
from runner.store.records import BASELINE

if TYPE_CHECKING:
    from runner.pipeline.context import Expected, RunContext
    from runner.pipeline.stage_job import StageResult
    from runner.pipeline.stages.jobs.uniform import UniformResult

PACKAGES = ("torch", "transformers", "compressed-tensors")


@dataclass
class SensitivityRequest:
    """An unquantized model, what to round at a time and how, and the text to score."""

    model_directory: Path
    text_directory: Path
    grain: LayerGranularity
    roundings: list[Rounding]
    context_length: int
    windows: int
    device: str
    compute_dtype: str
    """Torch dtype name of forward passes."""
    scale_dtype: str
    """Torch dtype name that checkpoints store scales in: the model's own."""
    trust_remote_code: bool
    uniform: dict[str, Path] = field(default_factory=dict)
    """GGUF files of one type each, by the type: then units get the weights that those hold, and
    ``roundings`` is empty."""
    lossless: Path | None = None
    """What those are made of; ``None`` without them."""


@dataclass
class SensitivityRow:
    """One unit rounded alone, all else unquantized.

    Intervals are at 95%, with the windows' documents as the independent units.
    """

    unit: str
    rounding: str
    """Named as recipes are: ``w4a16-g64``."""
    kl_divergence: Interval
    """Of the next-token distribution from the unquantized model's, in nats a token."""
    perplexity: float
    perplexity_delta: Interval
    stored_bytes: int | None = None
    """Of the unit's tensors, where its format was read from a file."""


@dataclass
class SensitivityResult:
    """A row for every unit and rounding."""

    protocol: str
    """``spread_second_half_<context length>``, or ``spread_bos_…``: windows of protocol spread,
    of each its second half is scored."""
    grain: LayerGranularity
    tokens_scored: int
    perplexity: float
    """Of the unquantized model."""
    units: list[Unit]
    rows: list[SensitivityRow] = field(default_factory=list)
    sample: Sample = field(default_factory=Sample)
    tensors: dict[str, str] = field(default_factory=dict)
    """Where formats were read from files: names there, by layer."""
    other_bytes: int | None = None
    """Likewise: of the tensors that belong to no unit."""


class SensitivityStage(Stage[SensitivityRequest, SensitivityResult]):
    """Measures layers' sensitivities."""

    name = "sensitivity"
    schema_version = 3
    request = SensitivityRequest
    result = SensitivityResult
    asks_engine = False
    follows = ()

    def run(self, request: SensitivityRequest, context: StageContext) -> SensitivityResult:
        """Load, take the model apart, score each unit under each rounding."""
        from runner.pipeline.stages.sensitivity.measure import measure

        return measure(request, context)

    def carry_out(self, run: "RunContext") -> None:
        """The model's, as the configuration's section says."""
        run.keep(self.name, BASELINE, self.of_model(run, *_of_section(run.config.sensitivity)))

    def of_model(
        self,
        run: "RunContext",
        wanted: Sensitivity,
        roundings: list[Rounding],
        uniform: "dict[str, StageResult[UniformResult]] | None" = None,
    ) -> "StageResult[SensitivityResult]":
        """Sensitivities of the model's layers, from the store where they were measured before.

        Args:
            run: Whose model.
            wanted: How they are measured.
            roundings: Of each unit.
            uniform: Instead of roundings, GGUF files of one type each, by the type.
        """
        request, determinants = asked(run, wanted, roundings)
        if uniform:
            request.uniform = {kind: made.directory / UNIFORM for kind, made in uniform.items()}
            request.lossless = GGUF.lossless(run.inputs, run.model)
            determinants["uniform"] = {kind: made.address.key for kind, made in uniform.items()}
        environment = run.inputs.environment(TRANSFORMERS)
        determinants["versions"] = environment.versions(PACKAGES)
        title = f"sensitivity by {wanted.granularity.value}"
        return run.inputs.obtain(self, request, environment, title=title, determinants=determinants)

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """Of the unquantized model alone."""
        return [(self.name, label) for label in run.model]

    def metrics(self, result: SensitivityResult) -> dict[str, float | None]:
        """The unquantized model's perplexity, and how many rows there are."""
        return {
            f"sensitivity/perplexity/{result.protocol}": result.perplexity,
            "sensitivity/rows": len(result.rows),
        }

    def tables(self, result: SensitivityResult) -> dict[str, Cells]:
        """One line for each layer and rounding."""
        lines: list[list[Any]] = [
            [
                row.unit,
                row.rounding,
                row.kl_divergence.estimate,
                row.perplexity,
                row.perplexity_delta.estimate,
            ]
            for row in result.rows
        ]
        columns = ["unit", "rounding", "kl_divergence", "perplexity", "perplexity_delta"]
        return {f"sensitivity/{result.grain.value}": (columns, lines)}


STAGE = SensitivityStage()


def asked(
    run: "RunContext", wanted: Sensitivity, roundings: list[Rounding]
) -> tuple[SensitivityRequest, dict[str, Any]]:
    """How a model's units are rounded and scored, and what of it determines the result."""
    inputs, model = run.inputs, run.model
    text = inputs.text(wanted.text)
    request = SensitivityRequest(
        model_directory=model.directory,
        text_directory=text.directory,
        grain=wanted.granularity,
        roundings=roundings,
        context_length=wanted.context_length,
        windows=wanted.windows,
        device=inputs.compute.device,
        compute_dtype=inputs.rounding_dtype(model, whole=True),
        scale_dtype=model.dtype,
        trust_remote_code=inputs.config.model.trust_remote_code,
    )
    # Results of dense models are as before experts were units.
    experts = {"experts": "units"} if expert_layers(matrix_shapes(model.directory)) else {}
    return request, {
        **experts,
        **model.identity,
        "text": text.address.key,
        "grain": wanted.granularity.value,
        "roundings": [rounding.label for rounding in request.roundings],
        "context_length": wanted.context_length,
        "windows": wanted.windows,
        "device": request.device,
        "compute_dtype": request.compute_dtype,
    }


def _of_section(section: Sensitivity) -> tuple[Sensitivity, list[Rounding]]:
    """What the section says, and the grid that it names; legality has refused other names."""
    named = (GroupSize.named(name) for name in section.group_sizes)
    return section, _grid(section.bits, [one for one in named if one is not None], section.sym)


def _grid(widths: list[int], group_sizes: list[GroupSize], sym: bool) -> list[Rounding]:
    return [
        Rounding.integers(bits, one, sym) for bits in sorted(set(widths)) for one in group_sizes
    ]


def needed_sensitivity(config: Config) -> tuple[Sensitivity, list[Rounding]] | None:
    """What a recipe must know of layers' sensitivities before it is carried out, if anything.

    They are those of rounding to nearest, whatever the method: measuring its own for every layer
    would take as many calibrations.
    """
    from runner.methods import chooses_types
    from runner.methods.recipe import Recipe

    recipe = Recipe(config.method, config.bits, config.group_size, None)
    if chooses_types(config):
        # Nothing fuses them, and what is not asked to be coarser may differ.
        grains = (LayerGranularity.fused, LayerGranularity.block)
        wanted = config.sensitivity.granularity
        grain = wanted if wanted in grains else LayerGranularity.linear
        return replace(config.sensitivity, granularity=grain), []
    if config.bits.is_auto:
        formats = recipe.formats
    elif config.method.keep_most_sensitive:
        formats = [recipe.own_format]
    else:
        return None
    section = replace(config.sensitivity, granularity=LayerGranularity.fused)
    roundings = {one.label: one for one in (rounding_of(recipe, found) for found in formats)}
    return section, list(roundings.values())
