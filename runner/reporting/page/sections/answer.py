"""The answer: which recipe to take for quality, for size and for speed."""

from typing import Any

from runner.reporting.comparable import comparable_rows
from runner.reporting.notes import alike
from runner.reporting.page.subject import Subject
from runner.reporting.recommend import TOLERANCES, USUAL_TOLERANCE, Picks, picks
from runner.reporting.rows import Row

TITLE = "The answer"

_FIGURES = {
    "quality": "perplexity",
    "size": "checkpoint_bytes",
    "speed": "decode_tokens_per_second",
}


def gather(subject: Subject) -> dict[str, Any] | None:
    """For each model, text and tolerated loss of quality, the rows to take."""
    numbers = {id(row): number for number, row in enumerate(subject.rows)}

    def shown(row: Row | None) -> dict[str, Any] | None:
        return None if row is None else {"id": numbers[id(row)], "row": row}

    scopes = []
    for scope, rows in comparable_rows(subject.rows).items():
        baselines = [r for r in rows if r.is_baseline]
        by_tolerance = []
        for tolerance in TOLERANCES:
            chosen = picks(rows, tolerance)
            by_tolerance.append(
                {
                    "tolerance": tolerance,
                    "quality": _best(shown(chosen.quality), chosen),
                    "size": shown(chosen.size),
                    "speed": shown(chosen.speed),
                }
            )
        if any(r.perplexity or r.decode_tokens_per_second for r in subject.rows):
            scopes.append(
                {
                    "scope": scope,
                    "baseline_bytes": next(
                        (r.checkpoint_bytes for r in baselines if r.checkpoint_bytes), None
                    ),
                    "picks": by_tolerance,
                    "measured": [
                        name
                        for name, figure in _FIGURES.items()
                        if any(getattr(row, figure) is not None for row in rows)
                    ],
                    "stars": sum(r.best_tradeoff for r in rows),
                }
            )
    if not scopes:
        return None
    measured = any(row.perplexity is not None for row in subject.rows)
    answered = any(row.task_accuracy is not None for row in subject.rows)
    loss = "Maximum perplexity increase" if measured or not answered else "Maximum loss of accuracy"
    return {"scopes": scopes, "usual": _first_useful(scopes), "loss": loss}


def _best(shown: dict[str, Any] | None, chosen: Picks) -> dict[str, Any] | None:
    """The best for quality, with how it stands among those that it is not told apart from."""
    about = "lowest loss among quantized recipes"
    if chosen.alike:
        about = f"smallest without a significant difference to: {alike(chosen.alike)}"
    return None if shown is None else {**shown, "about": about}


def _first_useful(scopes: list[dict[str, Any]]) -> float | None:
    """The usual tolerance, or the next larger one that leaves every scope a quantized model."""
    for number, tolerance in enumerate(TOLERANCES):
        usual = tolerance is None or tolerance >= USUAL_TOLERANCE
        if usual and all(scope["picks"][number]["quality"] for scope in scopes):
            return tolerance
    return USUAL_TOLERANCE
