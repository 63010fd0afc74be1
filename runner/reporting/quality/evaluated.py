"""A recipe's quality as recorded: losses by window, and what they were measured on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.data.texts.sample import DOCUMENTS, Sample
from runner.evaluation.metrics.divergence import Divergence
from runner.evaluation.metrics.perplexity import Perplexity
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.eval import EvalResult
from runner.store.records import BASELINE, RECIPE, RunRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Circumstances:
    """What must be the same of two evaluations for their losses to be paired."""

    base: str | None
    """Fingerprint of the unquantized model; ``None`` in older records."""
    model: str
    text: tuple[str | None, Any]
    """Digest of the text's documents, where recorded, and its configuration."""
    arithmetic: str
    """Type of the forward passes; empty in older records."""
    tokens: str
    """Digest of the windows' tokens; empty in older records."""
    reference: tuple[float, ...]
    """The unquantized model's own losses by window, of the same run; empty where not measured."""
    window_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Evaluated:
    """Perplexity by one protocol and unit, of one draw of a recipe or of several."""

    metric: str
    """Such as ``perplexity/spread_512`` or ``word_perplexity/lm_eval_512``."""
    value: float
    """As recorded; over several draws the exponential of the mean loss."""
    circumstances: Circumstances
    draws: tuple[str, ...]
    """What tells the draws apart: seeds. Equal ones of two recipes belong together."""
    losses: tuple[tuple[float, ...], ...]
    """Of each draw, the mean loss of every window's tokens in nats."""
    divergences: tuple[tuple[float, ...], ...]
    """Of each draw, every window's mean KL divergence; empty where that is not recorded."""
    agreements: tuple[tuple[float, ...], ...]
    """Of each draw, every window's share of tokens where the unquantized model finds the same one
    the most likely; empty where that is not recorded."""
    divergence_metric: str
    clusters: tuple[int, ...]
    """Of each window, the number of the cluster that is taken as independent."""
    units: float
    """Tokens, words or bytes that losses are divided by."""

    @property
    def scale(self) -> float:
        """Tokens in a unit: what makes of a mean loss a token one a unit."""
        return sum(self.circumstances.window_tokens) / self.units

    @cached_property
    def loss_sums(self) -> "NDArray[np.float64]":
        """Shape (draws, clusters): summed losses of each cluster's tokens in nats."""
        return self._by_cluster(self.losses)

    @cached_property
    def divergence_sums(self) -> "NDArray[np.float64]":
        """The same of KL divergences."""
        return self._by_cluster(self.divergences)

    @cached_property
    def agreement_sums(self) -> "NDArray[np.float64]":
        """The same of tokens where both models find the same one the most likely."""
        return self._by_cluster(self.agreements)

    @cached_property
    def sizes(self) -> "NDArray[np.float64]":
        """Scored tokens of each cluster."""
        return self._sizes(len(self.losses[0]))

    @cached_property
    def divergence_sizes(self) -> "NDArray[np.float64]":
        """The same, of the windows whose distributions were compared."""
        return self._sizes(len(self.divergences[0]))

    def _sizes(self, windows: int) -> "NDArray[np.float64]":
        import numpy as np

        sizes = self._by_cluster([[1.0] * windows])
        return np.asarray(sizes[0], np.float64)

    def _by_cluster(self, rows: Sequence[Sequence[float]]) -> "NDArray[np.float64]":
        import numpy as np

        windows = len(rows[0])
        sizes = np.asarray(self.circumstances.window_tokens[:windows], np.float64)
        sums = np.zeros((len(rows), max(self.clusters[:windows]) + 1))
        np.add.at(sums.T, np.asarray(self.clusters[:windows]), (np.asarray(rows) * sizes).T)
        return sums


def evaluations(record: RunRecord, subject: str = RECIPE) -> list[Evaluated]:
    """Every perplexity of a run's subject, the first protocol's first; none where it has no eval.

    Those whose windows cannot be told (older records of protocols with windows of different
    length) are left out.
    """
    result, dense = record.result(EVAL, subject), record.result(EVAL, BASELINE)
    if result is None:
        return []
    references = _perplexities(dense) if dense is not None else []
    evaluations = []
    for place, perplexity in enumerate(_perplexities(result)):
        divergence = result.divergence if place == 0 else None
        reference = references[place].window_losses if place < len(references) else []
        one = _evaluated(record, result.arithmetic, perplexity, divergence, reference)
        if one is not None:
            evaluations.append(one)
    return evaluations


def first_evaluation(record: RunRecord, subject: str = RECIPE) -> Evaluated | None:
    """By the first protocol: what rows show."""
    result = record.result(EVAL, subject)
    if result is None:
        return None
    wanted = result.perplexity.metric
    return next((one for one in evaluations(record, subject) if one.metric == wanted), None)


def joined(several: Sequence[Evaluated]) -> Evaluated:
    """Draws of one recipe as one: all of the same metric, on the same tokens."""
    first = several[0]
    losses = tuple(row for one in several for row in one.losses)
    sizes = first.circumstances.window_tokens
    tokens = sum(sizes)
    mean = sum(
        sum(loss * size for loss, size in zip(row, sizes, strict=True)) / tokens for row in losses
    ) / len(losses)
    with_divergence = all(one.divergences for one in several)
    with_agreement = all(one.agreements for one in several)
    return Evaluated(
        metric=first.metric,
        value=exponential(mean * first.scale) if len(several) > 1 else first.value,
        circumstances=first.circumstances,
        draws=tuple(draw for one in several for draw in one.draws),
        losses=losses,
        divergences=tuple(row for one in several for row in one.divergences)
        if with_divergence
        else (),
        agreements=tuple(row for one in several for row in one.agreements)
        if with_agreement
        else (),
        divergence_metric=first.divergence_metric,
        clusters=first.clusters,
        units=first.units,
    )


def exponential(value: float) -> float:
    """Of a loss, infinite where it is beyond a float."""
    return math.exp(value) if value < 700 else math.inf


def seed_of(record: RunRecord) -> str:
    """What a run's recipe drew its calibration windows by."""
    return str(record.config.get("calibration", {}).get("seed"))


def _perplexities(result: EvalResult) -> list[Perplexity]:
    return [result.perplexity, *(one.perplexity for one in result.further)]


def _evaluated(
    record: RunRecord,
    arithmetic: str,
    perplexity: Perplexity,
    divergence: Divergence | None,
    reference: list[float],
) -> Evaluated | None:
    losses, value, sample = perplexity.window_losses, perplexity.value, perplexity.sample
    sizes = _window_tokens(perplexity)
    if not losses or sizes is None or value <= 0:
        return None
    mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
    # Older records do not tell the units: the value does.
    units = perplexity.units_scored or _units(mean, sum(sizes), value)
    by_window = [] if divergence is None else divergence.window_kl_divergence
    agreements = [] if divergence is None else divergence.window_top_1_agreement
    return Evaluated(
        metric=perplexity.metric,
        value=value,
        circumstances=Circumstances(
            base=record.model_fingerprint,
            model=record.model,
            text=(record.text_sha256, record.config.get("eval", {}).get("text")),
            arithmetic=arithmetic,
            tokens=sample.tokens_sha256,
            reference=tuple(reference),
            window_tokens=tuple(sizes),
        ),
        draws=(seed_of(record),),
        losses=(tuple(losses),),
        divergences=(tuple(by_window),) if by_window else (),
        agreements=(tuple(agreements),) if agreements else (),
        divergence_metric="kl_divergence/None"
        if divergence is None
        else divergence.metric("kl_divergence"),
        clusters=_clusters(sample, len(losses)),
        units=float(units),
    )


def _units(mean: float, tokens: int, value: float) -> float:
    logarithm = math.log(value) if value != 1 else 0.0
    return tokens * mean / logarithm if logarithm else float(tokens)


def _window_tokens(found: Perplexity) -> list[int] | None:
    """Scored tokens of each window; older records tell them only where all are equal."""
    windows = len(found.window_losses)
    if found.window_tokens:
        return found.window_tokens if len(found.window_tokens) == windows else None
    if not windows or found.unit != "token":
        return None
    each, rest = divmod(found.tokens_scored, windows)
    return None if rest or not each else [each] * windows


def _clusters(sample: Sample, windows: int) -> tuple[int, ...]:
    """Documents, numbered from 0 as they appear; else windows."""
    documents = sample.window_documents
    if sample.clusters != DOCUMENTS or len(documents) != windows:
        return tuple(range(windows))
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(document, len(numbers)) for document in documents)
