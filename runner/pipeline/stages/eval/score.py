"""Scores windows of text with a checkpoint, alone and against the unquantized model."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.texts.protocols import ProtocolText, Window, protocol_text
from runner.engines.base import BatchingModel
from runner.engines.distributions import Distributions
from runner.engines.loading import load
from runner.engines.overflow import not_finite
from runner.errors import StageError
from runner.evaluation.metrics.divergence import (
    FIELDS,
    Divergence,
    probability_change,
    summarise_divergence,
)
from runner.evaluation.metrics.perplexity import perplexity, perplexity_change
from runner.evaluation.metrics.reference import DIRECTORY as REFERENCE_DIRECTORY
from runner.evaluation.metrics.reference import Reference, ReferenceWriter, losses_of
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.eval import EvalRequest, EvalResult, FurtherPerplexity
from runner.store.partial_results import PartialResults

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def score(request: EvalRequest, context: StageContext) -> EvalResult:
    """Cut the text, load, score window by window, compare with the unquantized model.

    Raises:
        StageError: The text is too short, or the checkpoint is broken.
    """
    texts = [protocol_text(protocol, request.excerpt) for protocol in request.protocols]
    total = sum(len(text.windows) for text in texts)
    context.progress(0, total, "loading the checkpoint")
    scorer = _Scorer(request, context, total)
    rows = [scorer.score(text, compare=text is texts[0]) for text in texts]
    measured: list[FurtherPerplexity] = []
    for text, windows in zip(texts, rows, strict=True):
        losses = [window[0] for window in windows]
        measured += _perplexities(text, losses, request.baseline_directory)
        _save(context.output, f"losses_{text.name}", losses)
    divergence = None
    if scorer.reference is not None:
        compared = rows[0][: scorer.reference.windows]
        divergence = _divergence(request, context.output, texts[0], compared)
        divergence.top_k = request.top_k if scorer.reference.is_top else None
    writer = scorer.writer
    return EvalResult(
        perplexity=measured[0].perplexity,
        change=measured[0].change,
        further=measured[1:],
        divergence=divergence,
        reference=None if writer is None else writer.finish(context.output),
        tokens_per_second=scorer.tokens_per_second,
        windows_resumed=scorer.resumed,
        arithmetic=scorer.model.arithmetic,
    )


class _Scorer:
    """Scores windows with one model and remembers what was scored before."""

    def __init__(self, request: EvalRequest, context: StageContext, total: int) -> None:
        self.model = context.loaded(lambda: load(request.load, context.threads))
        self.resumed = 0
        self.reference: Reference | None = None
        self.writer: ReferenceWriter | None = None
        baseline = request.baseline_directory
        if request.divergence and baseline is None:
            self.writer = ReferenceWriter(
                context.partial / REFERENCE_DIRECTORY, request.reference_max_bytes
            )
        elif request.divergence and baseline is not None:
            self.reference = Reference(
                baseline, request.excerpt.tokenizer_directory, request.load.device
            )
        self._load = request.load
        self._top_k = request.top_k
        self._batch_size = request.batch_size
        self._units = PartialResults(context.partial)
        self._progress = context.progress
        self._total = total
        self._done = 0
        self._scored_tokens = 0
        self._seconds = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of the windows scored by this attempt."""
        return self._scored_tokens / self._seconds if self._seconds else 0.0

    def score(self, text: ProtocolText, compare: bool) -> list["NDArray[np.float32]"]:
        """Each window's losses as its first row; then its divergence where it is compared."""
        import numpy as np

        found = []
        for number, window in enumerate(text.windows):
            # Attempts of a version that kept other rows are not continued.
            name = f"window-{text.name}-{len(FIELDS)}-{number:05d}"
            found.append(self._window(name, number, window, compare))
            if not np.isfinite(found[-1][0]).all():
                what = "the model gives losses"
                raise not_finite(self._load.checkpoint, self._load.dtype, what, "eval.dtype")
            self._done += 1
            self._progress(self._done, self._total, "scoring windows")
        return found

    def _window(
        self, name: str, number: int, window: Window, compare: bool
    ) -> "NDArray[np.float32]":
        def compute() -> "NDArray[np.float32]":
            start = time.perf_counter()
            found = self._compute(number, window, compare)
            self._seconds += time.perf_counter() - start
            self._scored_tokens += len(window.tokens) - 1
            return found

        if compare and self.writer is not None and self.writer.has_lost(number):
            self._units.drop(name)
        if name in self._units:
            self.resumed += 1
            if compare and self.writer is not None:
                self.writer.resume(number)
        return self._units.array(name, compute)

    def _compute(self, number: int, window: Window, compare: bool) -> "NDArray[np.float32]":
        targets = window.tokens[-window.scored :]
        writer = self.writer if compare else None
        reference = self.reference if compare else None
        if writer is not None and not writer.full:
            return writer.keep(number, self._distributions(window), targets)[None]
        if reference is not None and number < reference.windows:
            return reference.compare(number, self._distributions(window), targets)
        if self._batch_size > 1:
            return losses_of(self._distributions(window), targets)[None]
        return self.model.token_losses(window.tokens)[None, -window.scored :]

    def _distributions(self, window: Window) -> Distributions:
        asked = window.tokens, window.scored, self._top_k
        if self._batch_size == 1:
            return self.model.distributions(*asked)
        if not isinstance(self.model, BatchingModel):
            raise StageError("this engine computes one window at a time")
        return self.model.distributions_in_batch(*asked, self._batch_size)


def _perplexities(
    text: ProtocolText, losses: list["NDArray[np.float32]"], baseline: Path | None
) -> list[FurtherPerplexity]:
    """Per token, or per word and per byte where the protocol counts those."""
    units: list[tuple[str, int | None]] = [("token", None)]
    if text.words is not None:
        units = [("word", text.words), ("byte", text.bytes)]
    base = None if baseline is None else load_losses(baseline, text)
    return [
        FurtherPerplexity(
            perplexity(losses, text.name, unit, count, sample=text.sample, baseline_losses=base),
            None
            if base is None
            else perplexity_change(losses, base, count, text.sample.independent()),
        )
        for unit, count in units
    ]


def _divergence(
    request: EvalRequest,
    output: Path,
    text: ProtocolText,
    compared: list["NDArray[np.float32]"],
) -> Divergence:
    assert request.baseline_directory is not None
    losses = [window[0] for window in compared]
    base = load_losses(request.baseline_directory, text)[: len(compared)]
    for row, name in enumerate(FIELDS, start=1):
        _save(output, name, [window[row] for window in compared])
    changes = [probability_change(*pair) for pair in zip(losses, base, strict=True)]
    _save(output, "probability_change", changes)
    return summarise_divergence(
        text.name,
        [window[1:] for window in compared],
        losses,
        base,
        text.sample.independent(len(compared)),
    )


def load_losses(directory: Path, text: ProtocolText) -> list["NDArray[np.float32]"]:
    """Token losses of another evaluation of the same windows."""
    import numpy as np

    losses = np.load(directory / f"token_losses_{text.name}.npy", allow_pickle=False)
    ends = np.cumsum([window.scored for window in text.windows])
    return np.split(losses, ends[:-1])


def _save(output: Path, name: str, windows: Sequence["NDArray[Any]"]) -> None:
    import numpy as np

    whole = np.concatenate(windows).astype(np.float32)
    np.save(output / f"token_{name}.npy", whole, allow_pickle=False)
