"""Stage ``eval``: quality of a checkpoint, alone and against the unquantized model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.schema.eval import PerplexityProtocol
from runner.data.texts.protocols import Excerpt
from runner.engines.loading import LoadRequest
from runner.evaluation.metrics.divergence import Divergence
from runner.evaluation.metrics.perplexity import Perplexity, PerplexityChange
from runner.evaluation.metrics.reference import ReferenceForm
from runner.pipeline.stages.base import Cells, Cost, Stage, StageContext
from runner.pipeline.stages.eval.metrics import metrics_of, tables_of
from runner.store.records import BASELINE, RECIPE

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult
    from runner.pipeline.varied import Varied


@dataclass
class EvalRequest:
    """A checkpoint, a text, and the baseline to compare with."""

    load: LoadRequest
    excerpt: Excerpt
    """In the unquantized model's tokens: every recipe is scored on the same."""
    protocols: list[PerplexityProtocol]
    divergence: bool
    reference_max_bytes: int
    top_k: int
    baseline_directory: Path | None
    """Result of the unquantized model's evaluation; ``None`` for that one itself."""
    batch_size: int = 1
    """Windows computed together: copies of each, as only a floor varies it."""


@dataclass
class FurtherPerplexity:
    """Perplexity by another protocol or per another unit."""

    perplexity: Perplexity
    change: PerplexityChange | None


@dataclass
class EvalResult:
    """Quality of a checkpoint.

    Samples lie beside it, one value a token, window after window: ``token_losses_<protocol>.npy``
    in nats, and where distributions were compared ``token_kl_divergence.npy``,
    ``token_reverse_kl_divergence.npy``, ``token_same_top_1.npy``,
    ``token_reference_top_probability.npy`` and ``token_probability_change.npy``.
    """

    perplexity: Perplexity
    """By the first protocol."""
    change: PerplexityChange | None
    tokens_per_second: float
    """Of the scoring; 0 when all windows had been scored before."""
    windows_resumed: int
    """Windows that an attempt which was killed had scored."""
    further: list[FurtherPerplexity] = field(default_factory=list)
    divergence: Divergence | None = None
    """From the unquantized model, on the first protocol's tokens."""
    reference: ReferenceForm | None = None
    """What is kept of the unquantized model's distributions (its own evaluation alone)."""
    arithmetic: str = ""
    """Type of the forward passes, as the loaded model tells it: ``float32``, ``bfloat16``, … or the
    name of an engine's own; empty in older records."""


class EvalStage(Stage[EvalRequest, EvalResult]):
    """Measures quality."""

    name = "eval"
    schema_version = 4
    request = EvalRequest
    result = EvalResult

    def run(self, request: EvalRequest, context: StageContext) -> EvalResult:
        """Score the text, compare with the unquantized model.

        Raises:
            StageError: The text is too short, or the checkpoint is broken.
        """
        from runner.pipeline.stages.eval.score import score

        return score(request, context)

    def prepare(self, run: "RunContext") -> None:
        """See that the text suffices.

        Raises:
            WorkerFailed: It is too short.
        """
        from runner.pipeline.stages.jobs.tokens import require_tokens

        require_tokens(run.inputs, run.model)

    def carry_out(self, run: "RunContext") -> None:
        """The unquantized model's quality, what arithmetic alone does to it, then the recipe's."""
        from runner.pipeline.stages.jobs.floor import STAGE as FLOOR

        baseline = None
        if run.has_baseline:
            baseline = self.evaluate(run, run.model, None)
            run.keep(self.name, BASELINE, baseline)
            for whose, floor in FLOOR.found(run, baseline):
                run.keep(FLOOR.name, whose, floor)
        if baseline is None or run.has_recipe:
            run.keep(self.name, RECIPE, self.evaluate(run, run.checkpoint, baseline))

    def evaluate(
        self,
        run: "RunContext",
        checkpoint: "Checkpoint",
        baseline: "StageResult[EvalResult] | None",
        varied: "Varied | None" = None,
    ) -> "StageResult[EvalResult]":
        """Quality of a checkpoint, against the baseline's evaluation where there is one.

        Args:
            run: Whose text and engine.
            checkpoint: What to evaluate.
            baseline: The evaluation of the unquantized model, whose tokens are scored.
            varied: Another arithmetic than the run's.
        """
        from runner.pipeline.inputs import engine_determinants, engine_versions
        from runner.pipeline.stages.jobs.tokens import cut_determinants, excerpt_of

        inputs = run.inputs if varied is None else varied.inputs(run.inputs)
        eval_, engine = run.config.eval, inputs.config.engine
        checkpoint = inputs.for_engine(checkpoint, for_quality=True)
        text = inputs.text(eval_.text)
        environment = inputs.environment(engine.name, engine.environment)
        load = inputs.load(checkpoint, engine, inputs.arithmetic.dtype)
        request = EvalRequest(
            load=load,
            excerpt=excerpt_of(inputs, run.model, text),
            protocols=eval_.protocols,
            divergence=eval_.divergence,
            reference_max_bytes=eval_.reference_max_bytes,
            top_k=eval_.top_k,
            baseline_directory=baseline.directory if baseline else None,
            batch_size=(varied and varied.batch_size) or 1,
        )
        determinants = {
            "subject": checkpoint.identity,
            "tokenizer": run.model.identity,
            "text": text.address.key,
            **cut_determinants(eval_),
            "divergence": [eval_.reference_max_bytes, eval_.top_k] if eval_.divergence else None,
            **engine_determinants(load),
            "baseline": baseline.address.key if baseline else None,
            "versions": engine_versions(environment, engine.name),
            **(varied.determinants if varied else {}),
            **({"batch_size": request.batch_size} if request.batch_size > 1 else {}),
        }
        title = f"eval {checkpoint.label}" + (f" {varied.title}" if varied else "")
        return inputs.obtain(
            STAGE, request, environment, title=title, determinants=determinants, shared=checkpoint
        )

    def metrics(self, result: EvalResult) -> dict[str, float | None]:
        """Perplexity by every protocol and unit, its change, and divergences."""
        return metrics_of(result, self.name)

    def tables(self, result: EvalResult) -> dict[str, Cells]:
        """Quantiles over tokens of the divergences."""
        return tables_of(result, self.name)

    def words(self, result: EvalResult) -> dict[str, str]:
        """The arithmetic, which figures of other runs have to share."""
        return {"arithmetic": result.arithmetic}

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Each window goes through the model once."""
        return Cost(tokens=1.0 * config.eval.windows * config.eval.context_length)


STAGE = EvalStage()
