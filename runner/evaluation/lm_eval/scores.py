"""Task scores from the results of lm-evaluation-harness, compared item by item."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.errors import StageError
from runner.evaluation.lm_eval.levels import LevelScore
from runner.evaluation.metrics.generation import Generation
from runner.evaluation.metrics.paired import (
    Change,
    is_right_or_wrong,
    mcnemar,
    paired_difference,
    recovery_percent,
)
from runner.store.files import sha256_of_json

Sample = dict[str, Any]

MAIN = ("acc_norm", "exact_match", "acc", "prompt_level_strict_acc")
"""The metric that stands for a task in a mean over tasks: the first of these that it has. For tasks
that score each context length apart (RULER) it is the longest length."""
_OF_ANOTHER_LENGTH = -1.0
"""What RULER's tasks say of an item under all lengths but its own."""
ACCURACY = "acc"
"""The metric by which levels are scored."""
NO_METRIC = "bypass"
"""What the harness calls a task's metric where it scores nothing; its value is made up."""
_ASKED = ("task", "item", "item_sha256", "prompt_sha256")
"""What must be the same of an item for two answers to it to be paired."""


@dataclass
class Score:
    """A metric of a task, as lm-evaluation-harness computes it."""

    metric: str
    """Its name there: ``acc``, ``acc_norm``, ``word_perplexity``."""
    filter: str
    """How answers were read: ``none`` as they are, else a name such as ``strict-match``."""
    value: float
    standard_error: float | None
    higher_is_better: bool
    change: Change | None
    """``None`` for the unquantized model itself."""
    outcomes: str | None = None
    """``1`` (right) or ``0`` of each item, so that two recipes can be compared item by item;
    ``None`` in older results, and where items are not simply right or wrong."""
    items_sha256: str | None = None
    """Digest of those items and of how they were asked, in their order."""

    @property
    def name(self) -> str:
        """Metric, and filter if there is one."""
        return self.metric if self.filter == "none" else f"{self.metric}_{self.filter}"


@dataclass
class TaskScores:
    """A task's scores, or a group's over its tasks."""

    task: str
    items: int
    num_fewshot: int
    version: str
    scores: list[Score]
    asked_for: bool
    """Whether it was named, or is part of a group that was."""
    levels: list[LevelScore] = field(default_factory=list)
    """By level, where the task has levels: of those that were asked."""
    pilot: list[LevelScore] = field(default_factory=list)
    """What the unquantized model answered to other items, by which those levels were chosen."""
    prompts_cut: int = 0
    """Prompts of which the model saw the end only, as they are longer than its context."""
    generation: Generation | None = None
    """Of answers that are generated; ``None`` for other tasks, and in older results."""

    @property
    def main(self) -> Score | None:
        """The share of right answers that stands for the task; ``None`` if it has none."""
        for metric in MAIN:
            for score in self.scores:
                if score.metric == metric:
                    return score
        lengths = [score for score in self.scores if score.metric.isdecimal()]
        return max(lengths, key=lambda score: int(score.metric), default=None)


@dataclass
class Overall:
    """All tasks that were named and have a share of right answers, together."""

    tasks: int
    mean: float
    """Mean of the tasks' main metrics: every task counts the same."""
    baseline_mean: float | None
    recovery_percent: float | None
    """Of the unquantized model's mean."""


def samples_of(task: str, output_type: str, logged: Sequence[dict[str, Any]]) -> Iterator[Sample]:
    """What is kept of each item: its identity, the answer, whether it is right.

    Args:
        task: Name of the task.
        output_type: How it asks: ``multiple_choice``, ``loglikelihood``, ``generate_until`` …
        logged: The harness's samples.
    """
    for sample in logged:
        answers = sample["filtered_resps"]
        likelihoods = None
        answer: Any = None
        if output_type == "multiple_choice":
            likelihoods = [float(pair[0]) for pair in answers]
            answer = likelihoods.index(max(likelihoods))
        elif output_type == "loglikelihood":
            likelihoods = [float(pair[0]) for pair in answers]
            answer = bool(answers[0][1])
        elif output_type == "loglikelihood_rolling":
            likelihoods = [float(answers[0])]
        else:
            answer = answers[0] if len(answers) == 1 else answers
        yield {
            "task": task,
            "item": sample["doc_id"],
            "filter": sample["filter"],
            "log_likelihoods": likelihoods,
            "answer": answer,
            "target": sample["target"],
            "scores": {name: sample[name] for name in sample["metrics"] if name != NO_METRIC},
            "item_sha256": sample["doc_hash"],
            "prompt_sha256": sample["prompt_hash"],
            "level": sample["doc"].get("level"),
        }


def scores_of(
    task: str,
    found: dict[str, Any],
    asked_for: bool,
    samples: list[Sample],
    before: tuple[TaskScores, list[Sample]] | None,
) -> TaskScores:
    """Scores of one task or group.

    Args:
        task: Its name.
        found: What ``lm_eval.simple_evaluate`` returned.
        asked_for: Whether it was named itself.
        samples: Its items, or those of all its tasks.
        before: The same of the unquantized model.

    Raises:
        StageError: The two models were not asked the same.
    """
    scores = []
    metrics = found["results"][task]
    for key, value in metrics.items():
        metric, comma, filter_ = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        if metric == NO_METRIC or (metric.isdecimal() and value == _OF_ANOTHER_LENGTH):
            continue
        error = metrics.get(f"{metric}_stderr,{filter_}")
        better = found["higher_is_better"].get(task, {}).get(metric)
        score = Score(
            metric=metric,
            filter=filter_,
            value=float(value),
            standard_error=float(error) if isinstance(error, int | float) else None,
            higher_is_better=better is not False,
            change=None,
        )
        _keep_outcomes(score, samples)
        if before is not None:
            score.change = _change(score, samples, *before)
        scores.append(score)
    sizes = found["n-samples"].get(task)
    return TaskScores(
        task=task,
        items=sizes["effective"] if sizes else len(samples),
        num_fewshot=int(found["n-shot"].get(task) or 0),
        version=str(found["versions"].get(task)),
        scores=scores,
        asked_for=asked_for,
        levels=level_scores(samples, ACCURACY),
    )


def level_scores(samples: Sequence[Sample], metric: str) -> list[LevelScore]:
    """Right answers by level; nothing where items have none.

    Args:
        samples: A task's.
        metric: 1 for a right answer, 0 for a wrong one.
    """
    found: dict[int, LevelScore] = {}
    for sample in samples:
        if (level := sample.get("level")) is not None and metric in sample["scores"]:
            score = found.setdefault(level, LevelScore(level, 0, 0))
            score.items += 1
            score.right += int(sample["scores"][metric])
    return [found[level] for level in sorted(found)]


def overall(tasks: Sequence[TaskScores]) -> Overall | None:
    """The mean over the tasks that were named; ``None`` if none has a share of right answers."""
    main = [task.main for task in tasks if task.asked_for]
    scores = [score for score in main if score is not None]
    if not scores:
        return None
    mean = sum(score.value for score in scores) / len(scores)
    baselines = [score.change.baseline for score in scores if score.change is not None]
    if len(baselines) < len(scores):
        return Overall(len(scores), mean, None, None)
    baseline = sum(baselines) / len(baselines)
    return Overall(len(scores), mean, baseline, recovery_percent(mean, baseline, True))


def _change(
    score: Score, samples: list[Sample], baseline: TaskScores, baseline_samples: list[Sample]
) -> Change | None:
    """A metric against the baseline's; the test where every item is right or wrong."""
    same = (old for old in baseline.scores if old.name == score.name)
    old = next(same, None)
    if old is None:
        return None
    change = Change(
        baseline=old.value,
        delta=score.value - old.value,
        delta_interval=None,
        recovery_percent=recovery_percent(score.value, old.value, score.higher_is_better),
        mcnemar=None,
        answers_changed=None,
    )
    pairs = _pairs(score, baseline_samples, samples)
    before = [old["scores"][score.metric] for old, _ in pairs]
    after = [new["scores"][score.metric] for _, new in pairs]
    means = _is_mean(before, old.value) and _is_mean(after, score.value)
    if len(pairs) > 1 and (means or is_right_or_wrong([*before, *after])):
        change.delta_interval = paired_difference(before, after)
    if len(pairs) > 1 and is_right_or_wrong([*before, *after]):
        change.mcnemar = mcnemar(before, after)
        change.answers_changed = sum(old["answer"] != new["answer"] for old, new in pairs)
    return change


def _is_mean(values: list[Any], value: float) -> bool:
    """Whether a score is the mean of what its items got."""
    if not all(isinstance(one, int | float) for one in values):
        return False
    return math.isclose(sum(values) / len(values), value, rel_tol=1e-9, abs_tol=1e-12)


def _keep_outcomes(score: Score, samples: list[Sample]) -> None:
    chosen = _chosen(score, samples)
    values = [sample["scores"][score.metric] for sample in chosen]
    if values and is_right_or_wrong(values):
        score.outcomes = "".join("1" if value else "0" for value in values)
        score.items_sha256 = sha256_of_json([[s[key] for key in _ASKED] for s in chosen])


def _chosen(score: Score, samples: list[Sample]) -> list[Sample]:
    """The items that a metric is about, read as its filter reads them."""
    found = [s for s in samples if s["filter"] == score.filter and score.metric in s["scores"]]
    if score.metric.isdecimal():
        return [s for s in found if s["scores"][score.metric] != _OF_ANOTHER_LENGTH]
    return found


def _pairs(score: Score, before: list[Sample], after: list[Sample]) -> list[tuple[Sample, Sample]]:
    """Items of both, side by side."""
    pairs = list(zip(_chosen(score, before), _chosen(score, after), strict=False))
    for old, new in pairs:
        if any(old[key] != new[key] for key in _ASKED):
            raise StageError(
                f"item {new['item']} of {new['task']} is not the one the unquantized model was "
                "asked: force=[tasks] asks both again"
            )
    return pairs
