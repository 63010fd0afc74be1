"""Quality of one run against another's, paired on the tokens that both scored."""

import math
from collections.abc import Iterator
from dataclasses import replace

from runner.pipeline.stages.eval import STAGE as EVAL
from runner.reporting.compare.figure import NOT_PAIRED, Figure, judged
from runner.reporting.quality.answered import Answered, accuracy_difference, answered, only
from runner.reporting.quality.evaluated import Evaluated, evaluations
from runner.reporting.quality.floors import Floor, floor_of
from runner.reporting.quality.paired import (
    agreement_difference,
    divergence,
    divergence_difference,
    ratio,
    same_reference,
    why_not,
)
from runner.store.records import RunRecord


def quality(
    a: RunRecord, b: RunRecord, *, allow_different_dtypes: bool = False
) -> Iterator[Figure]:
    """Perplexities by every protocol that both have, then KL divergence and top-1 agreement.

    A ratio is that of the perplexities as they were recorded: a token, a word or a byte, as the
    figure's name says. Where the two did not read the same tokens of the same model there is none,
    nor where they computed in different types, unless ``allow_different_dtypes`` says so.
    """
    one, other = _own(a), _own(b)
    opposite = {found.metric: found for found in other}
    shared = [(found, opposite[found.metric]) for found in one if found.metric in opposite]
    floor = floor_of(a).or_more(floor_of(b))
    for x, y in shared:
        yield _above(_perplexity(x, y, allow_different_dtypes), floor.log_ratio)
    if shared and shared[0][0] is one[0] and shared[0][1] is other[0]:
        yield from _divergence(
            a, b, *shared[0], floor=floor, allow_different_dtypes=allow_different_dtypes
        )


def answers(
    a: RunRecord, b: RunRecord, *, allow_different_dtypes: bool = False
) -> Iterator[Figure]:
    """Shares of right answers by task and over all, paired on the items both were asked."""
    one, other = (answered(record) or answered(record, "baseline") for record in (a, b))
    if one is None or other is None:
        return
    shared = [name for name in one.tasks if name in other.tasks]
    asked = [(name, [name]) for name in shared]
    if len(shared) > 1:
        asked.append((f"accuracy/mean of {len(shared)} tasks", shared))
    for name, names in asked:
        floor = floor_of(a, tasks=names).or_more(floor_of(b, tasks=names))
        figure = _accuracy(name, only(one, names), only(other, names), allow_different_dtypes)
        yield _above(figure, floor.task_accuracy)


def nothing_in_common(a: RunRecord, b: RunRecord) -> str | None:
    """What to say where both were evaluated and no perplexity is of the same kind."""
    sides = [[found.metric for found in _own(record)] for record in (a, b)]
    if not all(sides) or set(sides[0]) & set(sides[1]):
        return None
    return f"quality: {', '.join(sides[0])} in a and {', '.join(sides[1])} in b are not comparable"


def _why_not(one: Evaluated, other: Evaluated, allow_different_dtypes: bool) -> str | None:
    """Why two are not paired, and what would pair them if only the arithmetic differs."""
    reason = why_not(one, other, allow_different_dtypes=allow_different_dtypes)
    if reason is None or why_not(one, other, allow_different_dtypes=True):
        return reason
    return f"{reason}; compare.allow_different_dtypes=true compares them anyway"


def _accuracy(name: str, a: Answered, b: Answered, allow_different_dtypes: bool) -> Figure:
    found = accuracy_difference(b, a, allow_different_dtypes=allow_different_dtypes)
    if found is None:
        reason = "the items or the unquantized models may differ"
        if a.arithmetic and b.arithmetic and a.arithmetic != b.arithmetic:
            reason = f"computed in {a.arithmetic} and in {b.arithmetic}"
        return Figure(name, a.value, b.value, False, None, NOT_PAIRED, reason=reason)
    figure = judged(name, a.value, b.value, False, found.interval)
    if figure.verdict in ("better", "worse") and not found.shown:
        return replace(figure, verdict="within noise")
    return figure


def _own(record: RunRecord) -> list[Evaluated]:
    return evaluations(record) or evaluations(record, "baseline")


def _perplexity(a: Evaluated, b: Evaluated, allow_different_dtypes: bool) -> Figure:
    if reason := _why_not(b, a, allow_different_dtypes):
        return Figure(a.metric, a.value, b.value, True, None, NOT_PAIRED, reason=reason)
    found = ratio(b, a)
    if not math.isfinite(found.high) or found.low == 0:
        verdict = "equal" if a.value == b.value else "unknown"
        return Figure(a.metric, a.value, b.value, True, None, verdict)
    if a.losses == b.losses:
        verdict = "equal"
    elif found.low <= 1 <= found.high:
        verdict = "within noise"
    else:
        verdict = "better" if found.estimate < 1 else "worse"
    return Figure(a.metric, a.value, b.value, True, found, verdict)


def _divergence(
    a: RunRecord,
    b: RunRecord,
    x: Evaluated,
    y: Evaluated,
    *,
    floor: Floor,
    allow_different_dtypes: bool,
) -> Iterator[Figure]:
    if x.divergences and y.divergences and x.divergence_metric == y.divergence_metric:
        values = divergence(x).estimate, divergence(y).estimate
        if same_reference(x, y, allow_different_dtypes=allow_different_dtypes):
            found = divergence_difference(y, x)
            if math.isfinite(found.high):
                figure = judged(x.divergence_metric, *values, True, found)
                yield _above(figure, floor.kl_divergence)
        else:
            reason = (
                _why_not(y, x, allow_different_dtypes)
                or "the unquantized models' own distributions differ"
            )
            yield Figure(x.divergence_metric, *values, True, None, NOT_PAIRED, reason=reason)
    told = [_top_1(record) for record in (a, b)]
    if told[0] is None or told[1] is None or x.divergence_metric != y.divergence_metric:
        return
    name = f"top_1_agreement/{x.divergence_metric.partition('/')[2]}"
    paired = same_reference(x, y, allow_different_dtypes=allow_different_dtypes)
    if paired and x.agreements and y.agreements:
        found = agreement_difference(y, x)
        if math.isfinite(found.high):
            yield _above(judged(name, told[0], told[1], False, found), floor.flips)
            return
    verdict = "equal" if told[0] == told[1] else "unknown"
    yield Figure(name, told[0], told[1], False, None, verdict)


def _above(figure: Figure, least: float | None) -> Figure:
    """What differs by no more than arithmetic makes by itself is noise."""
    if figure.verdict not in ("better", "worse") or least is None:
        return figure
    difference = abs(figure.difference.estimate) if figure.difference is not None else 0.0
    if figure.ratio is not None:
        difference = abs(math.log(figure.ratio.estimate))
    return replace(figure, verdict="within noise") if difference <= least else figure


def _top_1(record: RunRecord) -> float | None:
    evaluated = record.result(EVAL)
    if evaluated is None or evaluated.divergence is None:
        return None
    return evaluated.divergence.top_1_agreement.mean.estimate
