"""Stage ``check``: reload a checkpoint right after it is written and test its output.

Some libraries write broken checkpoints without a word: AutoAWQ on a CPU, bitsandbytes after a
forward pass. Such a checkpoint must never become a result.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.bits import Bits
from runner.config.schema.eval import PerplexityProtocol
from runner.config.schema.group_size import GroupSize
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.engines import reader_of
from runner.engines.distributions import Distributions, FullDistributions
from runner.engines.loading import LoadRequest, load
from runner.engines.overflow import not_finite
from runner.engines.responses import RespondingModel
from runner.errors import StageError
from runner.evaluation.metrics.divergence import token_divergence
from runner.evaluation.metrics.soundness import (
    broken_layers,
    most_kl_divergence,
    most_ratio,
    weight_width,
)
from runner.pipeline.stages.base import Stage, StageContext
from runner.pipeline.stages.dense_looks import DenseLooks, Look

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOWS = 2
TOKENS = 128
_TOP_K = 20


@dataclass
class CheckRequest:
    """A fresh checkpoint and the model it was made from."""

    subject: LoadRequest
    model_directory: Path
    text_directory: Path
    bits: Bits
    group_size: GroupSize
    stored_bits: float | None = None
    """Of the checkpoint's coarsest part, scales included."""
    compares_layers: bool = True
    """Whether its weights are the model's, rounded, layer by layer."""


@dataclass
class CheckResult:
    """Agreement on a few hundred tokens: a sign of life, not a measurement."""

    perplexity: float
    unquantized_perplexity: float
    ratio: float
    tokens: int
    kl_divergence_nats: float | None = None
    """Mean over tokens of KL(unquantized || recipe); ``None`` in older records."""
    kl_divergence_limit_nats: float | None = None
    """What no sound recipe of these bits comes near; ``None`` where there is no such limit."""


class CheckStage(Stage[CheckRequest, CheckResult]):
    """Reloads checkpoints."""

    name = "check"
    schema_version = 3
    request = CheckRequest
    result = CheckResult

    def run(self, request: CheckRequest, context: StageContext) -> CheckResult:
        """Score the same tokens with both, one after the other.

        Raises:
            StageError: The checkpoint is broken.
        """
        excerpt = Excerpt(
            request.text_directory,
            request.model_directory,
            TOKENS,
            WINDOWS,
            request.subject.trust_remote_code,
        )
        text = protocol_text(PerplexityProtocol.spread, excerpt)
        windows = [window.tokens for window in text.windows]
        model = LoadRequest(
            checkpoint=request.model_directory,
            checkpoint_format="float",
            engine=reader_of("float"),
            device=request.subject.device,
            dtype=request.subject.dtype,
            trust_remote_code=request.subject.trust_remote_code,
            wide_logits=request.subject.wide_logits,
        )
        looks = DenseLooks(context.cache)
        place = looks.place(model, windows)
        dense = looks.read(place)
        if dense is None:
            context.progress(0, 2, "scoring the unquantized model")
            dense = _look(model, windows, context.threads, "the unquantized model")
            looks.keep(place, dense)
        context.progress(1, 2, "reloading the checkpoint")
        found = _look(request.subject, windows, context.threads, "the checkpoint, reloaded,")
        bits, group_size = request.bits, request.group_size
        width = weight_width(bits, request.stored_bits)
        perplexities = [_perplexity(losses) for losses in (found.losses, dense.losses)]
        ratio = perplexities[0] / perplexities[1]
        if not math.isfinite(ratio) or ratio > most_ratio(width, bits, group_size):
            raise StageError(
                f"the checkpoint is broken: reloaded, its perplexity is {perplexities[0]:.4g}, the "
                f"unquantized model's on the same {WINDOWS * TOKENS} tokens is "
                f"{perplexities[1]:.4g}"
            )
        if request.compares_layers and (
            broken := broken_layers(dense.responses, found.responses, width, group_size)
        ):
            more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
            raise StageError(
                "the checkpoint is broken: reloaded, these layers do not match the model's: "
                f"{', '.join(broken[:5])}{more}"
            )
        divergence = mean_divergence(dense.log_probabilities, found.log_probabilities)
        limit = most_kl_divergence(width, bits, group_size)
        if divergence is not None and math.isfinite(limit) and not divergence <= limit:
            raise StageError(
                "the checkpoint is broken: reloaded, its KL divergence from the unquantized model "
                f"is {divergence:.3g} nats per token; {width}-bit weights should stay below "
                f"{limit:g}"
            )
        return CheckResult(
            perplexity=perplexities[0],
            unquantized_perplexity=perplexities[1],
            ratio=ratio,
            tokens=WINDOWS * TOKENS,
            kl_divergence_nats=divergence,
            kl_divergence_limit_nats=limit if math.isfinite(limit) else None,
        )


def _look(request: LoadRequest, windows: list[list[int]], threads: int, what: str) -> Look:
    import numpy as np

    model = load(request, threads)
    losses, told = [], []
    for window in windows:
        found = model.distributions(window, len(window) - 1, _TOP_K)
        told.append(_kept(found))
        if isinstance(found, FullDistributions):
            # One pass tells both.
            right = np.array(window[1:])[:, None]
            losses.append(-np.take_along_axis(told[-1], right, axis=1)[:, 0])
        else:
            losses.append(model.token_losses(window))
        if not np.isfinite(losses[-1]).all():
            setting = "method.rounding_dtype"
            raise not_finite(request.checkpoint, request.dtype, f"{what} gives losses", setting)
    responses = model.responses() if isinstance(model, RespondingModel) else {}
    model.close()
    return Look(np.concatenate(losses).astype(np.float64), told, responses)


def _kept(found: Distributions) -> Any:
    """Chunks put together; each may be overwritten when the next is asked for."""
    import numpy as np

    if isinstance(found, FullDistributions):
        return np.concatenate([chunk.copy() for chunk in found.chunks])
    return found.top


def mean_divergence(dense: list[Any], own: list[Any]) -> float | None:
    """Mean over tokens of KL(dense || own) in nats; ``None`` where the two tell too little.

    Args:
        dense: Each window's log-probabilities of shape (tokens, vocabulary).
        own: The same. A vocabulary that is padded differently is cut to the smaller one.
    """
    import numpy as np

    rows = []
    for base, other in zip(dense, own, strict=True):
        if base.ndim != 2 or other.ndim != 2:
            return None
        size = min(base.shape[1], other.shape[1])
        rows.append(token_divergence(base[:, :size], other[:, :size])[0])
    return float(np.concatenate(rows).astype(np.float64).mean())


def _perplexity(losses: "NDArray[np.float64]") -> float:
    mean = float(losses.mean())
    return math.exp(min(mean, 700.0)) if math.isfinite(mean) else math.nan


STAGE = CheckStage()
