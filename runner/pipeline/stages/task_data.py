"""Stage ``task_data``: see that tasks exist and fetch their data, before anything heavy."""

from dataclasses import dataclass
from pathlib import Path

from runner.evaluation.lm_eval.evaluate import load_tasks, task_manager
from runner.pipeline.worker.job import StageContext


@dataclass
class TaskDataRequest:
    """Tasks that are not our own."""

    names: list[str]
    include: list[Path]
    """Folders with task files of the user's."""


@dataclass
class TaskDataResult:
    """What the names stand for."""

    items: dict[str, int]
    """Items by task; groups and tags are resolved."""


class TaskDataStage:
    """Loads tasks."""

    name = "task_data"
    schema_version = 1
    request = TaskDataRequest
    result = TaskDataResult

    def run(self, request: TaskDataRequest, context: StageContext) -> TaskDataResult:
        """Read the harness's files, load every task once; data goes into the hub's own cache.

        Raises:
            UsageError: There is no such task.
            StageError: Data cannot be had.
        """
        context.progress(0, 1, "looking up tasks and their data")
        loaded = load_tasks(task_manager(request.include, True), request.names, True)
        return TaskDataResult(
            {
                name: len(task.eval_docs)
                for found in loaded.values()
                for name, task in found["tasks"].items()
            }
        )


STAGE = TaskDataStage()
