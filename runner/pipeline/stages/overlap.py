"""Stage ``overlap``: how much of the evaluated text the calibration windows already hold."""

from dataclasses import dataclass
from pathlib import Path

from runner.config.schema.eval import PerplexityProtocol
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.data.texts.windows import tokenizer_of
from runner.evaluation.metrics.overlap import Overlap, overlap
from runner.pipeline.stages.windows import load_windows
from runner.pipeline.worker.job import StageContext


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


class OverlapStage:
    """Compares texts word by word."""

    name = "overlap"
    schema_version = 2
    request = OverlapRequest
    result = OverlapResult

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
