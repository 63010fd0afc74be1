"""Runs lm-evaluation-harness on a checkpoint, item by item with the baseline."""

import json
import time
from pathlib import Path
from typing import Any

from runner.data.texts.conversations import require_template
from runner.data.texts.windows import tokenizer_of
from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.lm_eval.evaluate import (
    evaluate,
    load_tasks,
    task_manager,
    telling,
    write_task,
)
from runner.evaluation.lm_eval.models import keep_answers, open_model
from runner.evaluation.lm_eval.scores import Sample, TaskScores, overall, samples_of, scores_of
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.tasks import (
    SAMPLES_FILE,
    STAGE,
    TASKS_DIRECTORY,
    TasksRequest,
    TasksResult,
)
from runner.store.objects import RESULT_FILE
from runner.util.names import path_part


def ask(request: TasksRequest, context: StageContext) -> TasksResult:
    """Load, ask task by task, compare."""
    if request.apply_chat_template:
        tokenizer = tokenizer_of(request.tokenizer_directory, request.load.trust_remote_code)
        require_template(tokenizer, "tasks.apply_chat_template")
    folder = context.output / TASKS_DIRECTORY
    for name, own in request.own.items():
        write_task(folder, name, own.harness, own.items_directory)
    include = [folder, *request.include] if request.own else request.include
    manager = task_manager(include, any(name not in request.own for name in request.names))
    before = _Baseline(request.baseline_directory)
    context.progress(0, 1, "loading the checkpoint")
    model = open_model(request.load, request.tokenizer_directory, request.batch_size, context)
    start = time.perf_counter()
    scores: list[TaskScores] = []
    resumed = 0
    with (context.output / SAMPLES_FILE).open("w", encoding="utf-8") as stream:
        for name in request.names:
            answers = Answers(
                context.partial / f"{path_part(name)}.jsonl", telling(context.progress, name)
            )
            resumed += answers.found
            keep_answers(model, answers)
            loaded = load_tasks(manager, [name], needs_hub=name not in request.own)
            results = evaluate(
                model,
                loaded[name],
                num_fewshot=request.num_fewshot[name],
                limit=request.limit,
                apply_chat_template=request.apply_chat_template,
                seed=request.seed,
            )
            answers.close()
            samples = _samples(results)
            for sample in (sample for of_task in samples.values() for sample in of_task):
                stream.write(json.dumps(sample, default=_plain) + "\n")
            scores += [
                scores_of(
                    task,
                    results,
                    asked_for=task == name,
                    samples=_below(task, results, samples),
                    before=before.of(task, results),
                )
                for task in results["results"]
            ]
    return TasksResult(
        tasks=scores,
        overall=overall(scores),
        requests_resumed=resumed,
        seconds=time.perf_counter() - start,
        leading_bos=model.leading_bos is not None,
        arithmetic=model.arithmetic,
    )


class _Baseline:
    """The unquantized model's scores and answers."""

    def __init__(self, directory: Path | None) -> None:
        self._scores: dict[str, TaskScores] = {}
        self._samples: dict[str, list[Sample]] = {}
        if directory is None:
            return
        content = json.loads((directory / RESULT_FILE).read_text("utf-8"))
        for task in STAGE.read(content["result"], content["schema_version"]).tasks:
            self._scores[task.task] = task
        with (directory / SAMPLES_FILE).open(encoding="utf-8") as stream:
            for line in stream:
                sample = json.loads(line)
                self._samples.setdefault(sample["task"], []).append(sample)

    def of(self, task: str, found: dict[str, Any]) -> tuple[TaskScores, list[Sample]] | None:
        """Scores and answers of a task or group, if it was asked."""
        if task not in self._scores:
            return None
        return self._scores[task], _below(task, found, self._samples)


def _samples(found: dict[str, Any]) -> dict[str, list[Sample]]:
    """What is kept of each item, by task, as it reads back from JSON."""
    samples = {
        task: list(samples_of(task, str(found["configs"][task].get("output_type")), logged))
        for task, logged in found["samples"].items()
    }
    again: dict[str, list[Sample]] = json.loads(json.dumps(samples, default=_plain))
    return again


def _below(task: str, found: dict[str, Any], samples: dict[str, list[Sample]]) -> list[Sample]:
    """Items of a task, or of all tasks below a group."""
    children = found["group_subtasks"].get(task)
    if not children:
        return samples.get(task, [])
    return [sample for child in children for sample in _below(child, found, samples)]


def _plain(value: Any) -> Any:
    """Numbers of numpy, and whatever else a task's own code puts into a sample."""
    return value.item() if hasattr(value, "item") else str(value)
