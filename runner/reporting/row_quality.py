"""Fills a row's quality: what stages ``eval`` and ``tasks`` found, a recipe's or a floor's."""

from runner.pipeline.stages.eval import EvalResult
from runner.pipeline.stages.tasks import TasksResult
from runner.reporting.quality.answered import Answered, accuracy_difference
from runner.reporting.row import Row


def add_evaluation(row: Row, found: EvalResult) -> None:
    """Perplexity, divergences and what intervals rest on."""
    row.arithmetic = found.arithmetic or None
    row.perplexity_protocol = found.perplexity.protocol
    row.perplexity = found.perplexity.value
    row.icc = found.perplexity.icc
    row.effective_windows = found.perplexity.effective_windows
    row.sample = found.perplexity.sample
    if (divergence := found.divergence) is not None:
        kl = divergence.kl_divergence.mean
        row.kl_divergence = kl.estimate
        row.kl_divergence_low, row.kl_divergence_high = kl.low, kl.high
        row.kl_divergence_metric = divergence.metric("kl_divergence")
        row.top_1_agreement = divergence.top_1_agreement.mean.estimate
    if (change := found.change) is not None:
        row.perplexity_delta = change.delta.estimate
        row.perplexity_delta_low, row.perplexity_delta_high = change.delta.low, change.delta.high
        row.perplexity_ratio = change.ratio.estimate
        row.perplexity_ratio_low, row.perplexity_ratio_high = change.ratio.low, change.ratio.high


def add_answers(row: Row, found: TasksResult, own: Answered | None, base: Answered | None) -> None:
    """Accuracy over tasks, its difference from the unquantized model's, and how answers changed.

    Args:
        row: To be filled.
        found: What was answered.
        own: The same, ready to be held against others.
        base: The unquantized model's.
    """
    if found.overall is not None:
        row.tasks = found.overall.tasks
        row.task_accuracy = found.overall.mean
        row.task_recovery_percent = found.overall.recovery_percent
    _add_changed(row, found)
    row.answered = own
    if own is None or base is None:
        return
    row.task_accuracy_baseline = base.value
    # A floor may be of another type: that is what it tells.
    difference = (
        None
        if row.is_baseline
        else accuracy_difference(own, base, allow_different_dtypes=row.is_floor)
    )
    if difference is not None:
        interval = difference.interval
        row.task_accuracy_delta = interval.estimate
        row.task_accuracy_delta_low = interval.low
        row.task_accuracy_delta_high = interval.high


def _add_changed(row: Row, found: TasksResult) -> None:
    """Counts over the tasks that were named, by their main metric."""
    main = [(task, task.main) for task in found.tasks if task.asked_for]
    changes = [(task.items, score.change) for task, score in main if score and score.change]
    counted = [
        (items, change.answers_changed, change.mcnemar.lost, change.mcnemar.gained)
        for items, change in changes
        if change.mcnemar is not None and change.answers_changed is not None
    ]
    if not counted:
        return
    names = ("task_answers", "task_answers_changed", "task_answers_lost", "task_answers_gained")
    for name, counts in zip(names, zip(*counted, strict=True), strict=True):
        setattr(row, name, sum(counts))
