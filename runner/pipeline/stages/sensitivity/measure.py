"""Rounds each layer alone and scores a fixed text."""

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runner.config.schema.eval import PerplexityProtocol
from runner.data.models.load import load_model
from runner.data.texts.protocols import Excerpt, ProtocolText, protocol_text
from runner.engines.overflow import not_finite
from runner.errors import StageError
from runner.evaluation.metrics.perplexity import perplexity_change
from runner.evaluation.metrics.statistics import cluster_interval
from runner.evaluation.sensitivity.score import Score
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.sensitivity import SensitivityRequest, SensitivityResult, SensitivityRow
from runner.store.partial_results import PartialResults

if TYPE_CHECKING:
    from runner.evaluation.sensitivity.probe import Probe
    from runner.evaluation.sensitivity.trials import Trial
    from runner.methods.mixed_precision.experts import HeldMatrix


def measure(request: SensitivityRequest, context: StageContext) -> SensitivityResult:
    """Load, take the model apart, score each unit under each rounding."""
    import numpy as np

    from runner.evaluation.sensitivity.trials import of_roundings, of_types
    from runner.evaluation.sensitivity.typed_layers import typed_layers

    probe, text = taken_apart(request, context)
    partial = PartialResults(context.partial)
    typed = []
    if request.lossless is not None:
        typed = typed_layers(request.uniform, request.lossless, probe.stored_units)
    trials = of_types(probe, typed) if typed else of_roundings(probe, request.roundings)
    scores: list[Score] = []
    for number, trial in enumerate(trials):
        context.progress(number, len(trials), "rounding one layer at a time")
        compute = functools.partial(_score, trial)
        scores.append(Score(**partial.value(f"{number}", compute)))
    reference = np.array(probe.reference_loss)
    return SensitivityResult(
        protocol=protocol_of(request, text),
        grain=request.grain,
        tokens_scored=request.windows * ((request.context_length - 1) // 2),
        perplexity=math.exp(reference.mean()),
        units=probe.stored_units if typed else probe.units,
        rows=[
            _row(trial, score, probe.reference_loss, text.sample.independent())
            for trial, score in zip(trials, scores, strict=True)
        ],
        sample=text.sample,
        tensors=typed[0].names if typed else {},
        other_bytes=typed[0].all_bytes - typed[0].stored_bytes(probe.stored_units)
        if typed
        else None,
    )


def taken_apart(request: SensitivityRequest, context: StageContext) -> tuple["Probe", ProtocolText]:
    """The model, ready for its units to be rounded, and the text that is scored."""
    import torch

    from runner.evaluation.sensitivity.probe import Probe
    from runner.methods.mixed_precision.experts import expert_matrices, matrices_of_files

    excerpt = Excerpt(
        request.text_directory,
        request.model_directory,
        request.context_length,
        request.windows,
        request.trust_remote_code,
    )
    text = protocol_text(PerplexityProtocol.spread, excerpt)
    windows = [window.tokens for window in text.windows]
    context.progress(0, 1, "loading the model")
    model = _load(request)
    _require_numbers(request, model, windows[0])
    held: Mapping[str, HeldMatrix] = (
        matrices_of_files(model)
        if request.lossless is not None
        else expert_matrices(model, request.model_directory)
    )
    scale_dtype = getattr(torch, request.scale_dtype)
    return Probe(model, windows, request.grain, scale_dtype, held), text


def protocol_of(request: SensitivityRequest, text: ProtocolText) -> str:
    """Names the windows, and that their second halves are scored."""
    return f"{text.name.rpartition('_')[0]}_second_half_{request.context_length}"


def _load(request: SensitivityRequest) -> Any:
    import torch

    return (
        load_model(
            request.model_directory,
            dtype=getattr(torch, request.compute_dtype),
            trust_remote_code=request.trust_remote_code,
        )
        .to(request.device)
        .eval()
    )


def _require_numbers(request: SensitivityRequest, model: Any, window: list[int]) -> None:
    """See that the model gives numbers before it is taken apart, which compares them."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([window], device=model.device)).logits
    if logits.isnan().any():
        what = "the unquantized model gives logits"
        setting = "method.rounding_dtype"
        raise not_finite(request.model_directory, request.compute_dtype, what, setting)


def _score(trial: "Trial") -> dict[str, list[float]]:
    score = trial.score()
    if not all(map(math.isfinite, score.loss + score.kl_divergence)):
        raise StageError(
            f"{trial.unit.name} rounded as {trial.format} gives losses that are not finite: "
            "compute in a wider type (method.rounding_dtype=float32)"
        )
    return asdict(score)


def _row(
    trial: "Trial",
    score: Score,
    reference: list[float],
    clusters: list[int] | None,
) -> SensitivityRow:
    import numpy as np

    # A window's mean stands for its tokens, of which each has as many.
    losses = np.array(score.loss, np.float32)[:, None]
    change = perplexity_change(losses, np.array(reference, np.float32)[:, None], clusters=clusters)
    divergence = np.array(score.kl_divergence)
    return SensitivityRow(
        unit=trial.unit.name,
        rounding=trial.format,
        stored_bytes=trial.stored_bytes,
        kl_divergence=cluster_interval(divergence, np.ones(len(divergence)), clusters),
        perplexity=float(change.baseline + change.delta.estimate),
        perplexity_delta=change.delta,
    )
