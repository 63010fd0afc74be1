"""The tasks for a checkpoint, and what its scores depend on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import StageError
from runner.evaluation.lm_eval.environment import harness_need
from runner.evaluation.lm_eval.levels import choose_levels
from runner.evaluation.lm_eval.task_files import OwnTask, scorer_file
from runner.pipeline.inputs import file_state
from runner.pipeline.retry import at_half_without_memory
from runner.pipeline.stages.base import TRANSFORMERS
from runner.pipeline.stages.jobs.items import STAGE as ITEMS
from runner.pipeline.stages.jobs.items import ItemsRequest, ItemsResult
from runner.pipeline.stages.jobs.levels import STAGE as LEVELS
from runner.pipeline.stages.jobs.levels import LevelsRequest, LevelsResult
from runner.pipeline.stages.jobs.task_data import STAGE as TASK_DATA
from runner.pipeline.stages.jobs.task_data import TaskDataRequest
from runner.pipeline.stages.tasks import STAGE, TasksRequest, TasksResult
from runner.pipeline.stages.tasks.asking import (
    PACKAGES,
    asking_of,
    determinants_of,
    folders_of,
    harness_environment,
    measured_with,
    metadata_of,
    num_fewshot_of,
    shared_model,
)
from runner.store.files import sha256_of_file
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult
    from runner.pipeline.varied import Varied


@dataclass(frozen=True)
class Questions:
    """Tasks whose names and data have been seen to."""

    own: dict[str, OwnTask]
    items: dict[str, ItemsResult]
    """Of our own tasks."""


def prepare(inputs: "Inputs", model: "Checkpoint") -> Questions:
    """Make the items of our own tasks, and see that the others exist and their data can be had.

    Before anything heavy: a mistyped name or a missing hub ends the run here.
    """
    tasks, engine = inputs.config.tasks, inputs.config.engine
    foreign = [name for name in tasks.names if name not in tasks.own]
    if foreign:
        environment = inputs.environment(harness_need(engine.name))
        metadata = metadata_of(inputs, model)
        request = TaskDataRequest(foreign, folders_of(inputs), tasks.run_code, metadata)
        determinants = {
            "names": foreign,
            "include": [file_state(folder) for folder in folders_of(inputs)],
            "versions": environment.versions(PACKAGES),
            # Results from before it existed still count.
            **({"run_code": True} if tasks.run_code else {}),
            **measured_with(inputs, model),
        }
        inputs.obtain(TASK_DATA, request, environment, title="task data", determinants=determinants)
    own, made = {}, {}
    for name in tasks.names:
        if name not in tasks.own:
            continue
        task = tasks.own[name]
        items = task.items
        determinants = {
            "items": to_json(items),
            "file": None if items.path is None else file_state(Path(items.path).expanduser()),
        }
        items_result = inputs.obtain(
            ITEMS, ItemsRequest(name, items), inputs.environment(TRANSFORMERS),
            title=f"items of {name}", determinants=determinants,
        )  # fmt: skip
        made[name] = items_result.result
        own[name] = OwnTask(
            task.harness,
            items_result.directory,
            task.scorer,
            items_result.result.levels,
            answer_room=task.answer_room if tasks.apply_chat_template is False else None,
        )
    return Questions(own, made)


def at_levels(inputs: "Inputs", questions: Questions, model: "Checkpoint") -> Questions:
    """The same tasks, each at the levels at which the unquantized model can lose something.

    Raises:
        StageError: A task has no level that fits the model's context.
    """
    levels = inputs.config.tasks.levels
    of_levels = {name: one for name, one in questions.own.items() if one.levels}
    if not levels.adaptive or not of_levels:
        return questions
    subject = inputs.for_engine(model, for_quality=True)
    own = dict(questions.own)
    for name in of_levels:
        # Each by itself, so that a task's levels do not hang on which others are asked.

        def ask(size: int, name: str = name) -> "StageResult[LevelsResult]":
            return _pilot(inputs, questions, name, subject, model, batch_size=size)

        size = inputs.config.tasks.batch_size
        pilot = at_half_without_memory(f"levels of {name}", size, ask, inputs.warn).result.levels
        if not pilot:  # a dry run
            continue
        chosen = choose_levels(pilot, levels.least, levels.most)
        if not chosen.levels:
            raise StageError(f"task {name}: {chosen.why_not}; lower tasks.own.{name}.items.levels")
        if chosen.why_not:
            inputs.warn(f"task {name}: {chosen.why_not}")
        own[name] = replace(own[name], levels=chosen.levels, pilot=pilot)
    return replace(questions, own=own)


def _pilot(
    inputs: "Inputs",
    questions: Questions,
    name: str,
    subject: "Checkpoint",
    model: "Checkpoint",
    *,
    batch_size: int,
) -> "StageResult[LevelsResult]":
    asking = asking_of(inputs, subject, model, batch_size)
    task, num_fewshot = questions.own[name], num_fewshot_of(inputs, name)
    least = inputs.config.tasks.levels.least
    determinants = {
        "task": name,
        "own": _own_determinants(questions, [name]),
        "num_fewshot": num_fewshot,
        "least": least,
        **determinants_of(inputs, asking, subject, model),
    }
    return inputs.obtain(
        LEVELS, LevelsRequest(asking, name, task, num_fewshot, least), harness_environment(inputs),
        title=f"levels of {name}", determinants=determinants, shared=shared_model(inputs, subject),
    )  # fmt: skip


def answers_of(
    inputs: "Inputs",
    questions: Questions,
    subject: "Checkpoint",
    model: "Checkpoint",
    baseline: "StageResult[TasksResult] | None",
    *,
    varied: "Varied | None" = None,
) -> "StageResult[TasksResult]":
    """Scores of a subject, against the baseline's where there is one.

    If memory runs out they are asked once more at half the batch size.
    """
    inputs = inputs if varied is None else varied.inputs(inputs)
    presented = inputs.for_engine(subject, for_quality=True)
    found = at_half_without_memory(
        f"tasks {subject.label}",
        inputs.config.tasks.batch_size,
        lambda size: _ask(
            inputs, questions, presented, model, baseline, varied=varied, batch_size=size
        ),
        inputs.warn,
    )
    for task in found.result.tasks if found.content is not None else ():
        if task.prompts_cut:
            inputs.warn(
                f"task {task.task}: {task.prompts_cut} prompts are longer than the model's "
                "context, and it saw their ends only; ask with fewer examples (tasks.num_fewshot)"
            )
    return found


def _ask(
    inputs: "Inputs",
    questions: Questions,
    subject: "Checkpoint",
    model: "Checkpoint",
    baseline: "StageResult[TasksResult] | None",
    *,
    varied: "Varied | None",
    batch_size: int,
) -> "StageResult[TasksResult]":
    tasks = inputs.config.tasks
    request = TasksRequest(
        asking=asking_of(inputs, subject, model, batch_size),
        names=tasks.names,
        own=questions.own,
        include=folders_of(inputs),
        num_fewshot={name: num_fewshot_of(inputs, name) for name in tasks.names},
        limit=tasks.limit,
        baseline_directory=baseline.directory if baseline else None,
    )
    determinants = {
        "names": request.names,
        **_own_determinants(questions, list(questions.own)),
        "include": [file_state(folder) for folder in request.include],
        "num_fewshot": request.num_fewshot,
        "limit": request.limit,
        "baseline": baseline.address.key if baseline else None,
        **determinants_of(inputs, request.asking, subject, model),
        **(varied.determinants if varied else {}),
    }
    title = f"tasks {subject.label}" + (f" {varied.title}" if varied else "")
    return inputs.obtain(
        STAGE, request, harness_environment(inputs),
        title=title, determinants=determinants, shared=shared_model(inputs, subject),
    )  # fmt: skip


def _own_determinants(questions: Questions, names: list[str]) -> dict[str, Any]:
    """What decides the scores of tasks of our own; results of those without levels still count."""
    own = {name: questions.own[name] for name in names}
    scorers = {one.scorer for one in own.values() if one.scorer is not None}
    levels = {name: one.levels for name, one in own.items() if one.levels}
    found = {
        "harness": {name: one.harness for name, one in own.items()},
        "items": {name: questions.items[name].sha256 for name in own},
    }
    if scorers:
        found["scorers"] = {name: sha256_of_file(scorer_file(name)) for name in sorted(scorers)}
    rooms = {name: one.answer_room for name, one in own.items() if one.answer_room is not None}
    return found | ({"levels": levels} if levels else {}) | ({"rooms": rooms} if rooms else {})
