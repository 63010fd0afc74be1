"""Stage ``task_data``: check that tasks exist and download their data, before heavy work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.evaluation.lm_eval.evaluate import load_tasks, task_manager
from runner.pipeline.stages.base import Cost, Stage, StageContext

if TYPE_CHECKING:
    from runner.config.schema.root import Config


@dataclass
class TaskDataRequest:
    """Tasks that are not our own."""

    names: list[str]
    include: list[Path]
    """Folders with task files of the user's."""
    run_code: bool = False
    """Whether programs that the model writes may run."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What tasks that are made to measure are told."""


@dataclass
class TaskDataResult:
    """What the names stand for."""

    items: dict[str, int]
    """Items by task; groups and tags are resolved."""


class TaskDataStage(Stage[TaskDataRequest, TaskDataResult]):
    """Loads tasks."""

    name = "task_data"
    schema_version = 1
    request = TaskDataRequest
    result = TaskDataResult
    runs_beside = True

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Files are read, or fetched."""
        return Cost(seconds=20.0)

    def run(self, request: TaskDataRequest, context: StageContext) -> TaskDataResult:
        """Read the harness's files, load every task once; data goes into the hub's own cache.

        Raises:
            UsageError: There is no such task, or it runs programs and may not.
            StageError: Data cannot be had.
        """
        context.progress(0, 1, "looking up tasks and their data")
        loaded = load_tasks(
            task_manager(request.include, True, request.metadata),
            request.names,
            True,
            run_code=request.run_code,
        )
        return TaskDataResult(
            {
                name: len(task.eval_docs)
                for found in loaded.values()
                for name, task in found["tasks"].items()
            }
        )


STAGE = TaskDataStage()
