"""Stage ``floor``: the effect of the arithmetic alone on quality, filed by ``eval``.

The unquantized model in the run's arithmetic against itself in float32. Its work and its place in
the store are ``eval``'s; in a record it has a name of its own.
"""

from typing import TYPE_CHECKING

from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.eval import EvalResult, EvalStage

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult


class FloorStage(EvalStage):
    """Tells numerical noise from what a recipe does."""

    name = "floor"

    def find(self, run: "RunContext") -> "StageResult[EvalResult] | None":
        """``None`` where the arithmetic is float32, the engine's own, or float32 cannot be had."""
        from runner.pipeline.inputs import AUTO
        from runner.planning.arithmetic import FLOAT32, can_measure_floor
        from runner.planning.model_facts import model_facts

        inputs, model = run.inputs, run.model
        asked = inputs.arithmetic.dtype
        dtype = model.dtype if asked == AUTO else asked
        parameters = model_facts(run.config.model).parameters
        if dtype == FLOAT32 or not can_measure_floor(run.config, inputs.compute, parameters):
            return None
        wide = EVAL.evaluate(run, model, None, FLOAT32)
        return EVAL.evaluate(run, model, wide, dtype)


STAGE = FloorStage()
