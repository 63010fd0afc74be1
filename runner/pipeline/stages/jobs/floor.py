"""Stage ``floor``: the effect of the arithmetic alone on quality, filed by ``eval``.

The unquantized model against itself, with one thing varied (``eval.floor``). Its work and its place
in the store are ``eval``'s; in a record it has a name of its own, and the variation's for a
subject. Older records know the comparison with float32 alone, as the unquantized model's.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.config.schema.floor import Variation
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.eval import EvalResult, EvalStage
from runner.store.records import BASELINE

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult

_REFERENCES = (Variation.float32, Variation.engine)
"""What the run's own arithmetic is held against; others are held against the run's own."""


class FloorStage(EvalStage):
    """Tells numerical noise from what a recipe does."""

    name = "floor"

    def found(
        self, run: "RunContext", baseline: "StageResult[EvalResult]"
    ) -> "Iterator[tuple[str, StageResult[EvalResult]]]":
        """The effect of each variation that changes something, under its subject.

        Args:
            run: Whose ``eval.floor`` says what to vary.
            baseline: The unquantized model's evaluation in the run's arithmetic.
        """
        from runner.pipeline.varied import variations

        model = run.model
        for variation, varied in variations(run.inputs, model, run.config.eval.floor, 1).items():
            if variation in _REFERENCES:
                other = EVAL.evaluate(run, model, None, varied)
                found = EVAL.evaluate(run, model, other)
            else:
                found = EVAL.evaluate(run, model, baseline, varied)
            yield subject_of(variation), found


def subject_of(variation: Variation) -> str:
    """Under which subject a variation's effect is filed."""
    return BASELINE if variation is Variation.float32 else variation.value


def variation_of(subject: str) -> Variation | None:
    """The variation that a subject stands for; ``None`` for one that this version does not know."""
    if subject == BASELINE:
        return Variation.float32
    return next((one for one in Variation if one.value == subject), None)


STAGE = FloorStage()
