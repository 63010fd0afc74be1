"""Stage ``overlap``: how much of the evaluated text occurs in the calibration windows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.schema.eval import PerplexityProtocol
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.data.texts.windows import tokenizer_of
from runner.evaluation.metrics.overlap import LARGE_LONG_SHARE, LARGE_SHARE, Overlap, overlap
from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext
from runner.pipeline.stages.jobs.tokens import cut_determinants, excerpt_of
from runner.pipeline.stages.jobs.windows import WindowsResult, load_windows
from runner.validation.verdict import Verdict, warning

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult


@dataclass
class OverlapRequest:
    """Calibration windows and what is evaluated."""

    windows_directory: Path
    """Result of stage ``windows``."""
    excerpt: Excerpt
    protocols: list[PerplexityProtocol]


@dataclass
class OverlapResult:
    """Shared sequences of words, by their length."""

    overlaps: list[Overlap]


class OverlapStage(Stage[OverlapRequest, OverlapResult]):
    """Compares texts word by word."""

    name = "overlap"
    schema_version = 2
    request = OverlapRequest
    result = OverlapResult
    runs_beside = True

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Texts are compared word by word."""
        return Cost(seconds=3.0)

    def stand_in(self) -> OverlapResult:
        """A dry run cannot tell; it warns of nothing."""
        return OverlapResult([Overlap(words, 0.0, 0, 0, None) for words in (8, 13)])

    def metrics(self, result: OverlapResult) -> dict[str, float | None]:
        """The shares of sequences shared."""
        return {
            f"{self.name}/calibration_{found.words}_word_share": found.share
            for found in result.overlaps
        }

    def run(self, request: OverlapRequest, context: StageContext) -> OverlapResult:
        """Turn both sides' tokens back into words, look for common sequences."""
        context.progress(0, 1, "comparing calibration and evaluation text")
        excerpt = request.excerpt
        tokenizer = tokenizer_of(excerpt.tokenizer_directory, excerpt.trust_remote_code)
        # Protocols that differ in a window's first token alone evaluate the same text.
        evaluated = {
            tuple(window.tokens[1:]): window.tokens
            for protocol in request.protocols
            for window in protocol_text(protocol, excerpt).windows
        }
        sides = (list(evaluated.values()), load_windows(request.windows_directory)[0])
        said, seen = (
            [tokenizer.decode(window, skip_special_tokens=True) for window in side]
            for side in sides
        )
        return OverlapResult([overlap(said, seen, words) for words in (8, 13)])


STAGE = OverlapStage()


def find_overlap(
    inputs: "Inputs", model: "Checkpoint", windows: "StageResult[WindowsResult]"
) -> "StageResult[OverlapResult]":
    """How much of the evaluated windows of text occurs in the calibration windows."""
    eval_ = inputs.config.eval
    text = inputs.text(eval_.text)
    environment = inputs.environment(TRANSFORMERS)
    request = OverlapRequest(
        windows_directory=windows.directory,
        excerpt=excerpt_of(inputs, model, text),
        protocols=eval_.protocols,
    )
    determinants = {
        "windows": windows.address.key,
        "text": text.address.key,
        "evaluated": cut_determinants(eval_),
    }
    return inputs.obtain(STAGE, request, environment, title="overlap", determinants=determinants)


def overlap_verdicts(found: OverlapResult, evaluated: str) -> list[Verdict]:
    """A warning when calibration and evaluation share more than idioms."""
    short, long = found.overlaps
    if short.share < LARGE_SHARE and long.share < LARGE_LONG_SHARE:
        return []
    return [
        warning(
            f"{short.share:.1%} of the 8-word and {long.share:.1%} of the 13-word sequences "
            f"evaluated ({evaluated}) occur in the calibration windows (such as "
            f"“{short.example}”); the recipe will look better than it is",
            "another calibration or eval text, or eval.text.documents=N with "
            "calibration.skip_documents=N",
        )
    ]
