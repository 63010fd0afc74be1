"""Stage ``tasks_floor``: the effect of the arithmetic alone on answers, filed by ``tasks``.

The unquantized model, asked once more with one thing varied (``tasks.floor``), against its own
answers. Its work and its place in the store are those of ``tasks``; in a record it has a name of
its own, and the variation's for a subject.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.pipeline.stages.base import Cells
from runner.pipeline.stages.tasks import TasksResult, TasksStage

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult
    from runner.pipeline.stages.tasks.order import Questions


class TasksFloorStage(TasksStage):
    """Tells numerical noise from what a recipe does to answers."""

    name = "tasks_floor"

    def found(
        self, run: "RunContext", questions: "Questions", baseline: "StageResult[TasksResult]"
    ) -> "Iterator[tuple[str, StageResult[TasksResult]]]":
        """The effect of each variation that changes something, under its subject.

        Args:
            run: Whose ``tasks.floor`` says what to vary.
            questions: What is asked.
            baseline: The unquantized model's answers in the run's arithmetic.
        """
        from runner.pipeline.stages.tasks.order import answers_of
        from runner.pipeline.varied import variations

        inputs, model, tasks = run.inputs, run.model, run.config.tasks
        for variation, varied in variations(inputs, model, tasks.floor, tasks.batch_size).items():
            found = answers_of(inputs, questions, model, model, baseline, varied=varied)
            yield variation.value, found

    def metrics(self, result: TasksResult) -> dict[str, float | None]:
        """As those of ``tasks``, in a section of their own."""
        return {self._own(name): value for name, value in super().metrics(result).items()}

    def tables(self, result: TasksResult) -> dict[str, Cells]:
        """As those of ``tasks``."""
        return {self._own(name): cells for name, cells in super().tables(result).items()}

    def _own(self, name: str) -> str:
        return f"{self.name}/{name.partition('/')[2]}"


STAGE = TasksFloorStage()
