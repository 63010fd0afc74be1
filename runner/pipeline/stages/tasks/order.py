"""The tasks for a checkpoint, and what its scores depend on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engines import find_engine
from runner.engines.traits import HarnessModel
from runner.evaluation.lm_eval.environment import harness_need
from runner.pipeline.inputs import engine_determinants, engine_versions, file_state
from runner.pipeline.retry import at_half_without_memory
from runner.pipeline.stages.base import TRANSFORMERS
from runner.pipeline.stages.jobs.items import STAGE as ITEMS
from runner.pipeline.stages.jobs.items import ItemsRequest
from runner.pipeline.stages.jobs.task_data import STAGE as TASK_DATA
from runner.pipeline.stages.jobs.task_data import TaskDataRequest
from runner.pipeline.stages.tasks import STAGE, OwnTask, TasksRequest, TasksResult
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult

_PACKAGES = ("lm-eval", "datasets", "jinja2", "tokenizers")


@dataclass(frozen=True)
class Questions:
    """Tasks whose names and data have been seen to."""

    own: dict[str, OwnTask]
    items_sha256: dict[str, str]
    """Of our own tasks."""


def prepare(inputs: "Inputs") -> Questions:
    """Make the items of our own tasks, and see that the others exist and their data can be had.

    Before anything heavy: a mistyped name or a missing hub ends the run here.
    """
    tasks, engine = inputs.config.tasks, inputs.config.engine
    foreign = [name for name in tasks.names if name not in tasks.own]
    if foreign:
        environment = inputs.environment(harness_need(engine.name))
        request = TaskDataRequest(foreign, _folders(inputs))
        determinants = {
            "names": foreign,
            "include": [file_state(folder) for folder in _folders(inputs)],
            "versions": environment.versions(_PACKAGES),
        }
        inputs.obtain(TASK_DATA, request, environment, title="task data", determinants=determinants)
    own, digests = {}, {}
    for name in tasks.names:
        if name not in tasks.own:
            continue
        items = tasks.own[name].items
        determinants = {
            "items": to_json(items),
            "file": None if items.path is None else file_state(Path(items.path).expanduser()),
        }
        items_result = inputs.obtain(
            ITEMS, ItemsRequest(name, items), inputs.environment(TRANSFORMERS),
            title=f"items of {name}", determinants=determinants,
        )  # fmt: skip
        own[name] = OwnTask(tasks.own[name].harness, items_result.directory)
        digests[name] = items_result.result.sha256
    return Questions(own, digests)


def answers_of(
    inputs: "Inputs",
    questions: Questions,
    subject: "Checkpoint",
    model: "Checkpoint",
    baseline: "StageResult[TasksResult] | None",
) -> "StageResult[TasksResult]":
    """Scores of a subject, against the baseline's where there is one.

    If memory runs out they are asked once more at half the batch size.
    """
    presented = inputs.for_engine(subject, for_quality=True)
    return at_half_without_memory(
        f"tasks {subject.label}",
        inputs.config.tasks.batch_size,
        lambda size: _ask(inputs, questions, presented, model, baseline, batch_size=size),
        inputs.warn,
    )


def _ask(
    inputs: "Inputs",
    questions: Questions,
    subject: "Checkpoint",
    model: "Checkpoint",
    baseline: "StageResult[TasksResult] | None",
    *,
    batch_size: int,
) -> "StageResult[TasksResult]":
    tasks, engine = inputs.config.tasks, inputs.config.engine
    environment = inputs.environment(harness_need(engine.name))
    load = inputs.load(subject, engine, inputs.arithmetic.dtype)
    request = TasksRequest(
        load=load,
        tokenizer_directory=model.directory,
        names=tasks.names,
        own=questions.own,
        include=_folders(inputs),
        num_fewshot={name: tasks.fewshot.get(name, tasks.num_fewshot) for name in tasks.names},
        limit=tasks.limit,
        apply_chat_template=tasks.apply_chat_template,
        batch_size=batch_size,
        seed=tasks.seed,
        baseline_directory=baseline.directory if baseline else None,
    )
    determinants = {
        "subject": subject.identity,
        "tokenizer": model.identity,
        "names": request.names,
        "harness": {name: own.harness for name, own in questions.own.items()},
        "items": questions.items_sha256,
        "include": [file_state(folder) for folder in request.include],
        "num_fewshot": request.num_fewshot,
        "limit": request.limit,
        "apply_chat_template": request.apply_chat_template,
        "batch_size": request.batch_size,
        "seed": request.seed,
        **engine_determinants(load),
        "baseline": baseline.address.key if baseline else None,
        "versions": engine_versions(environment, engine.name, *_PACKAGES),
    }
    # For other engines the harness loads a model of its own.
    asked_by = find_engine(engine.name).traits.harness_model
    return inputs.obtain(
        STAGE, request, environment,
        title=f"tasks {subject.label}", determinants=determinants,
        shared=subject if asked_by is HarnessModel.hf else None,
    )  # fmt: skip


def _folders(inputs: "Inputs") -> list[Path]:
    return [Path(folder).expanduser().resolve() for folder in inputs.config.tasks.include]
