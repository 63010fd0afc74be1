"""The unquantized model's own change between two runs.

A recipe's loss is relative to it: where its weights, the software or the arithmetic changed it, a
recipe changes with it and is not to blame.
"""

import math
from collections.abc import Iterator

from runner.reporting.compare.figure import Figure
from runner.reporting.quality.answered import answered
from runner.reporting.quality.evaluated import Evaluated, evaluations
from runner.reporting.quality.paired import ratio
from runner.store.records import BASELINE, RunRecord

PREFIX = "unquantized "
"""Of these figures' names."""
CHANGED = "changed"


def base_figures(a: RunRecord, b: RunRecord) -> Iterator[Figure]:
    """Perplexity and accuracy of the unquantized model in both runs.

    A model is neither better nor worse than itself: it is ``equal``, it ``changed`` by more than
    the text's noise, or it did not.
    """
    opposite = {found.metric: found for found in evaluations(b, BASELINE)}
    for x in evaluations(a, BASELINE):
        if (y := opposite.get(x.metric)) is not None:
            yield _perplexity(x, y)
    one, other = answered(a, BASELINE), answered(b, BASELINE)
    if one is not None and other is not None and one.tasks.keys() == other.tasks.keys():
        name = f"{PREFIX}accuracy/mean of {len(one.tasks)} tasks"
        verdict = "equal" if one.value == other.value else CHANGED
        yield Figure(name, one.value, other.value, False, None, verdict)


def base_note(a: RunRecord, b: RunRecord, figures: list[Figure]) -> str | None:
    """One sentence on it; ``None`` where neither run measured it, or one has no fingerprint."""
    if not figures:
        return None
    one, other = a.model_fingerprint, b.model_fingerprint
    moved = [figure for figure in figures if figure.verdict != "equal"]
    if one and other and one != other:
        told = "; ".join(map(_told, moved or figures[:1]))
        return f"the weights of the base changed: {told}"
    if moved:
        return (
            f"the base has the same weights, and other figures: {'; '.join(map(_told, moved))}"
            if one and other
            else f"the base's own figures changed: {'; '.join(map(_told, moved))}"
        )
    return f"the base is the same: {_told(figures[0])}"


def _perplexity(x: Evaluated, y: Evaluated) -> Figure:
    name = f"{PREFIX}{x.metric}"
    a, b = x.circumstances, y.circumstances
    if x.losses == y.losses:
        return Figure(name, x.value, y.value, True, None, "equal")
    reason = None
    if not (a.tokens and b.tokens):
        reason = "on which tokens is not recorded"
    elif a.tokens != b.tokens or a.window_tokens != b.window_tokens:
        reason = "on other tokens"
    elif a.arithmetic != b.arithmetic:
        reason = f"in {a.arithmetic} and in {b.arithmetic}"
    paired = a.tokens == b.tokens and a.window_tokens == b.window_tokens
    found = ratio(y, x) if a.tokens and paired else None
    if found is None or not math.isfinite(found.high) or found.low == 0:
        return Figure(name, x.value, y.value, True, None, CHANGED, reason=reason)
    verdict = "within noise" if found.low <= 1 <= found.high else CHANGED
    return Figure(name, x.value, y.value, True, found, verdict, reason=reason)


def _told(figure: Figure) -> str:
    name = figure.name.removeprefix(PREFIX).partition("/")[0].replace("_", " ")
    if figure.verdict == "equal":
        return f"{name} {figure.a:.5g} in both"
    text = f"{name} {figure.a:.5g} → {figure.b:.5g}"
    if figure.ratio is not None:
        text += f" ({figure.ratio.low:.3f} to {figure.ratio.high:.3f} times)"
    if figure.reason is not None:
        text += f" ({figure.reason})"
    return text
