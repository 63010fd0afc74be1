"""Stage ``check``: reload a checkpoint right after it was written and see that it still speaks.

Some libraries write broken checkpoints without a word: AutoAWQ on a CPU, bitsandbytes after a
forward pass. Such a checkpoint must never become a result.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.bits import Bits
from runner.config.engine import Engine
from runner.config.group_size import Granularity, GroupSize
from runner.engines.loading import LoadRequest, load
from runner.errors import StageError
from runner.serialise import from_json, to_json
from runner.texts.windows import leading_windows
from runner.worker.job import StageContext

WINDOWS = 2
TOKENS = 128
_MOST_RATIO = 10.0
"""Perplexity against the unquantized model beyond which no sound 4-bit recipe goes: the worst
measured on a 135M model is 2.0 (round to nearest, one scale a channel)."""


@dataclass
class CheckRequest:
    """A fresh checkpoint and the model it was made from."""

    subject: LoadRequest
    model_directory: Path
    text_directory: Path
    bits: dict[str, Any]
    group_size: dict[str, Any]


@dataclass
class CheckResult:
    """Perplexity on a few hundred tokens: a sign of life, not a measurement."""

    perplexity: float
    unquantized_perplexity: float
    ratio: float
    tokens: int


class CheckStage:
    """Reloads checkpoints."""

    name = "check"
    schema_version = 1
    request = CheckRequest
    result = CheckResult

    def run(self, request: CheckRequest, context: StageContext) -> CheckResult:
        """Score the same tokens with both, one after the other.

        Raises:
            StageError: The checkpoint is broken.
        """
        windows = leading_windows(
            request.text_directory,
            request.model_directory,
            TOKENS,
            WINDOWS,
            request.subject.trust_remote_code,
        )
        model = LoadRequest(
            checkpoint=request.model_directory,
            checkpoint_format="float",
            engine=to_json(Engine(name="hf")),
            device=request.subject.device,
            dtype=request.subject.dtype,
            trust_remote_code=request.subject.trust_remote_code,
        )
        context.progress(0, 2, "scoring the unquantized model")
        dense = _mean_loss(model, windows, context.threads)
        context.progress(1, 2, "reloading the checkpoint")
        found = _mean_loss(request.subject, windows, context.threads)
        ratio = math.exp(min(found - dense, 700.0)) if math.isfinite(found) else math.inf
        bits, group_size = from_json(Bits, request.bits), from_json(GroupSize, request.group_size)
        if not math.isfinite(ratio) or ratio > most_ratio(bits, group_size):
            shown = "not a number" if math.isnan(found) else f"{math.exp(min(found, 700)):.4g}"
            raise StageError(
                f"the checkpoint is broken: reloaded, its perplexity is {shown}, the unquantized "
                f"model's on the same {WINDOWS * TOKENS} tokens is {math.exp(dense):.4g}"
            )
        return CheckResult(
            perplexity=math.exp(found),
            unquantized_perplexity=math.exp(dense),
            ratio=ratio,
            tokens=WINDOWS * TOKENS,
        )


def most_ratio(bits: Bits, group_size: GroupSize) -> float:
    """Perplexity ratio beyond which a checkpoint is broken rather than coarse.

    Fewer than 4 bits, or 4 with one scale for a whole matrix, destroy a model rightly:
    nothing but numbers that are none then tells a broken checkpoint.
    """
    width = bits.weight.num_bits
    if bits.is_auto:
        width = min(bits.candidates)
    coarse = width < 4 or (width == 4 and group_size.granularity is Granularity.tensor)
    return math.inf if coarse else _MOST_RATIO


def _mean_loss(request: LoadRequest, windows: list[list[int]], threads: int) -> float:
    import numpy as np

    model = load(request, threads)
    losses = [model.token_losses(window) for window in windows]
    model.close()
    return float(np.concatenate(losses).astype(np.float64).mean())


STAGE = CheckStage()
