"""Stage ``eval``: perplexity of a checkpoint, alone and against the unquantized model."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engines.loading import LoadRequest, load
from runner.errors import StageError
from runner.metrics.perplexity import (
    Perplexity,
    PerplexityChange,
    gptq_protocol,
    perplexity,
    perplexity_change,
)
from runner.store.units import Units
from runner.texts.windows import leading_windows
from runner.worker.job import StageContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOSSES_FILE = "token_losses.npy"


@dataclass
class EvalRequest:
    """A checkpoint, a text, and the baseline to compare with."""

    load: LoadRequest
    tokenizer_directory: Path
    """The unquantized model's: every recipe is scored on the same tokens."""
    text_directory: Path
    context_length: int
    windows: int
    baseline_directory: Path | None
    """Result of the unquantized model's evaluation; ``None`` for that one itself."""


@dataclass
class EvalResult:
    """Quality of a checkpoint. Token losses lie in ``token_losses.npy`` beside it."""

    perplexity: Perplexity
    change: PerplexityChange | None
    tokens_per_second: float
    windows_resumed: int
    """Windows that an attempt which was killed had scored."""


class EvalStage:
    """Measures quality."""

    name = "eval"
    schema_version = 2
    request = EvalRequest
    result = EvalResult

    def run(self, request: EvalRequest, context: StageContext) -> EvalResult:
        """Load, score window by window, compare."""
        import time

        import numpy as np

        windows = leading_windows(
            request.text_directory,
            request.tokenizer_directory,
            request.context_length,
            request.windows,
            request.load.trust_remote_code,
        )
        context.progress(0, len(windows), "loading the checkpoint")
        model = load(request.load, context.threads)
        start = time.perf_counter()
        units = Units(context.partial)
        losses: list[NDArray[np.float32]] = []
        resumed = 0
        for number, window in enumerate(windows):
            name = f"window-{number:05d}"
            resumed += name in units
            losses.append(units.array(name, functools.partial(model.token_losses, window)))
            context.progress(len(losses), len(windows), "scoring windows")
        seconds = time.perf_counter() - start
        model.close()
        token_losses = np.stack(losses).astype(np.float32)
        if not np.isfinite(token_losses).all():
            raise StageError("the checkpoint is broken: it gives losses that are not finite")
        np.save(context.output / LOSSES_FILE, token_losses, allow_pickle=False)
        return EvalResult(
            perplexity=perplexity(token_losses, gptq_protocol(request.context_length)),
            change=_change(token_losses, request.baseline_directory),
            tokens_per_second=(len(windows) - resumed) * request.context_length / seconds,
            windows_resumed=resumed,
        )


def _change(token_losses: "NDArray[np.float32]", baseline: Path | None) -> PerplexityChange | None:
    import numpy as np

    if baseline is None:
        return None
    return perplexity_change(token_losses, np.load(baseline / LOSSES_FILE, allow_pickle=False))


STAGE = EvalStage()
