"""A recipe's quality as records have it: losses by window, and what they were measured on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.data.texts.sample import DOCUMENTS, Sample
from runner.evaluation.metrics.perplexity import metric_name
from runner.store.records import RunRecord, StageRecord
from runner.util.serialise import from_json

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
        found = np.zeros((len(rows), max(self.clusters[:windows]) + 1))
        np.add.at(found.T, np.asarray(self.clusters[:windows]), (np.asarray(rows) * sizes).T)
        return found


def evaluations(record: RunRecord, subject: str = "recipe") -> list[Evaluated]:
    """Every perplexity of a run's subject, the first protocol's first; none where it has no eval.

    Those whose windows cannot be told (older records of protocols with windows of different
    length) are left out.
    """
    entry = _entry(record, subject)
    if entry is None:
        return []
    dense = _entry(record, "baseline")
    found = []
    for place, content in enumerate(_contents(entry.result)):
        divergence = (entry.result.get("divergence") if place == 0 else None) or {}
        reference = _contents(dense.result)[place : place + 1] if dense is not None else []
        one = _evaluated(record, entry.result, content, divergence, reference)
        if one is not None:
            found.append(one)
    return found


def first_evaluation(record: RunRecord, subject: str = "recipe") -> Evaluated | None:
    """By the first protocol: what rows show."""
    entry = _entry(record, subject)
    if entry is None:
        return None
    wanted = _metric(entry.result["perplexity"])
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


def _entry(record: RunRecord, subject: str) -> StageRecord | None:
    for entry in record.stages:
        if (entry.stage, entry.subject) == ("eval", subject):
            return entry
    return None


def _contents(result: dict[str, Any]) -> list[dict[str, Any]]:
    further = [one["perplexity"] for one in result.get("further") or []]
    return [result["perplexity"], *further]


def _metric(content: dict[str, Any]) -> str:
    return metric_name(content["protocol"], content.get("unit", "token"))


def _evaluated(
    record: RunRecord,
    result: dict[str, Any],
    content: dict[str, Any],
    divergence: dict[str, Any],
    reference: list[dict[str, Any]],
) -> Evaluated | None:
    losses = content.get("window_losses") or []
    sizes = _window_tokens(content, len(losses))
    value = float(content["value"])
    if not losses or sizes is None or value <= 0:
        return None
    sample = from_json(Sample, content.get("sample") or {})
    mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
    # Older records do not tell the units: the value does.
    units = content.get("units_scored") or _units(mean, sum(sizes), value)
    text = record.config.get("eval", {}).get("text")
    k = divergence.get("top_k")
    name = "kl_divergence" if k is None else f"kl_divergence_top_{k}"
    return Evaluated(
        metric=_metric(content),
        value=value,
        circumstances=Circumstances(
            base=record.model_fingerprint,
            model=record.model,
            text=(record.text_sha256, text),
            arithmetic=result.get("arithmetic") or "",
            tokens=sample.tokens_sha256,
            reference=tuple(reference[0].get("window_losses") or ()) if reference else (),
            window_tokens=tuple(sizes),
        ),
        draws=(seed_of(record),),
        losses=(tuple(losses),),
        divergences=(tuple(shown),) if (shown := divergence.get("window_kl_divergence")) else (),
        agreements=(tuple(same),) if (same := divergence.get("window_top_1_agreement")) else (),
        divergence_metric=f"{name}/{divergence.get('protocol')}",
        clusters=_clusters(sample, len(losses)),
        units=float(units),
    )


def _units(mean: float, tokens: int, value: float) -> float:
    logarithm = math.log(value) if value != 1 else 0.0
    return tokens * mean / logarithm if logarithm else float(tokens)


def _window_tokens(content: dict[str, Any], windows: int) -> list[int] | None:
    """Scored tokens of each window; older records tell them only where all are equal."""
    told: list[int] = content.get("window_tokens") or []
    if told:
        return told if len(told) == windows else None
    if not windows or content.get("unit", "token") != "token":
        return None
    scored = content.get("tokens_scored")
    if scored is None:
        return [1] * windows
    each, rest = divmod(scored, windows)
    return None if rest else [each] * windows


def _clusters(sample: Sample, windows: int) -> tuple[int, ...]:
    """Documents, numbered from 0 as they appear; else windows."""
    told = sample.window_documents
    if sample.clusters != DOCUMENTS or len(told) != windows:
        return tuple(range(windows))
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(document, len(numbers)) for document in told)
