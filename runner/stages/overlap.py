"""Stage ``overlap``: how much of the evaluated text the calibration windows already hold."""

from dataclasses import dataclass
from pathlib import Path

from runner.metrics.overlap import Overlap, overlap
from runner.stages.windows import load_windows
from runner.texts.windows import leading_windows, tokenizer_of
from runner.worker.job import StageContext


@dataclass
class OverlapRequest:
    """Calibration windows and the text that is evaluated."""

    windows_directory: Path
    """Result of stage ``windows``."""
    text_directory: Path
    tokenizer_directory: Path
    context_length: int
    windows: int
    trust_remote_code: bool


@dataclass
class OverlapResult:
    """Shared sequences of words, by their length."""

    overlaps: list[Overlap]


class OverlapStage:
    """Compares texts word by word."""

    name = "overlap"
    schema_version = 1
    request = OverlapRequest
    result = OverlapResult

    def run(self, request: OverlapRequest, context: StageContext) -> OverlapResult:
        """Turn both sides' tokens back into words, look for common sequences."""
        context.progress(0, 1, "comparing calibration and evaluation text")
        tokenizer = tokenizer_of(request.tokenizer_directory, request.trust_remote_code)
        evaluated = leading_windows(
            request.text_directory,
            request.tokenizer_directory,
            request.context_length,
            request.windows,
            request.trust_remote_code,
        )
        # The windows that are evaluated follow each other in the text.
        text = tokenizer.decode([token for window in evaluated for token in window])
        seen = [tokenizer.decode(window) for window in load_windows(request.windows_directory)[0]]
        return OverlapResult([overlap(text, seen, words) for words in (8, 13)])


STAGE = OverlapStage()
