"""The answer: the verdict on each model and text."""

from typing import Any

from runner.reporting.page.subject import Subject
from runner.reporting.verdict.show import figures_of, ruled_out_of
from runner.reporting.verdict.verdict import Verdict

TITLE = "The answer"


def gather(subject: Subject) -> dict[str, Any] | None:
    """The verdicts, as they stand in the other outputs; ``None`` where there is none."""
    if not subject.verdicts:
        return None
    several = len(subject.verdicts) > 1
    return {"verdicts": [_shown(one, several) for one in subject.verdicts]}


def _shown(verdict: Verdict, several: bool) -> dict[str, Any]:
    second = verdict.runner_up
    return {
        "scope": verdict.scope if several else None,
        "outcome": verdict.outcome.value,
        "headline": verdict.headline,
        "reasons": verdict.reasons,
        "take": verdict.take,
        "runner_up": None
        if second is None
        else {"row": second.row, "recipe": second.recipe, "figures": figures_of(second)},
        "ruled_out": ruled_out_of(verdict),
    }
