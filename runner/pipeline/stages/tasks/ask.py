"""Runs lm-evaluation-harness on a checkpoint, item by item with the baseline."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.data.texts.conversations import require_template
from runner.data.texts.windows import tokenizer_of
from runner.engines.server.client import EngineProcess
from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.lm_eval.evaluate import (
    evaluate,
    load_tasks,
    task_manager,
    telling,
)
from runner.evaluation.lm_eval.generated import GENERATE, add_generated, generation
from runner.evaluation.lm_eval.levels import LevelScore
from runner.evaluation.lm_eval.models import keep_answers, open_model
from runner.evaluation.lm_eval.scores import (
    ACCURACY,
    Sample,
    TaskScores,
    level_scores,
    overall,
    samples_of,
    scores_of,
)
from runner.evaluation.lm_eval.task_files import write_task
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.tasks import (
    SAMPLES_FILE,
    STAGE,
    TASKS_DIRECTORY,
    Asking,
    TasksRequest,
    TasksResult,
)
from runner.pipeline.worker.importable import importable
from runner.store.objects import RESULT_FILE
from runner.util.names import path_part


class Questioner:
    """A model of lm-evaluation-harness, and the tasks it can be asked."""

    def __init__(
        self,
        asking: Asking,
        include: Sequence[Path],
        *,
        with_harness_tasks: bool,
        context: StageContext,
    ) -> None:
        """Load the checkpoint.

        Args:
            asking: Which, and how.
            include: Folders with task files.
            with_harness_tasks: Whether the harness's own files are needed too.
            context: The stage's.
        """
        self.chat_template = bool(asking.apply_chat_template)
        if asking.apply_chat_template is not False:
            tokenizer = tokenizer_of(asking.tokenizer_directory, asking.load.trust_remote_code)
            self.chat_template = self.chat_template or bool(tokenizer.chat_template)
            if self.chat_template:
                require_template(tokenizer, "tasks.apply_chat_template")
        self._asking, self._context = asking, context
        self._manager = task_manager(include, with_harness_tasks, asking.metadata)
        context.progress(0, 1, "loading the checkpoint")
        self.model = open_model(
            asking.load,
            asking.tokenizer_directory,
            asking.batch_size,
            context,
            asking.process and _importing(asking.process, context.cache),
        )

    def ask(
        self, name: str, num_fewshot: int | None, *, needs_hub: bool, limit: float | None = None
    ) -> "Asked":
        """Ask one task or group; answers that an attempt before found are not asked again."""
        path = self._context.partial / f"{path_part(name)}.jsonl"
        answers = Answers(path, telling(self._context.progress, name))
        keep_answers(self.model, answers)
        self.model.prompts_cut = 0
        loaded = load_tasks(self._manager, [name], needs_hub, run_code=self._asking.run_code)
        results = evaluate(
            self.model,
            loaded[name],
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=self.chat_template,
            seed=self._asking.seed,
            run_code=self._asking.run_code,
        )
        answers.close()
        samples = _samples(results, self.model, answers)
        return Asked(results, samples, self.model.prompts_cut, answers.found)


@dataclass
class Asked:
    """What came of asking one task or group."""

    results: dict[str, Any]
    """The harness's."""
    samples: dict[str, list[Sample]]
    """By task."""
    prompts_cut: int
    resumed: int
    """Answers that were there before."""

    def level_scores(self, task: str) -> list[LevelScore]:
        """Right answers by level."""
        return level_scores(self.samples[task], ACCURACY)


def ask(request: TasksRequest, context: StageContext) -> TasksResult:
    """Load, ask task by task, compare."""
    folder = context.output / TASKS_DIRECTORY
    for name, own in request.own.items():
        write_task(folder, name, own, own.levels)
    questioner = Questioner(
        request.asking,
        [folder, *request.include] if request.own else request.include,
        with_harness_tasks=any(name not in request.own for name in request.names),
        context=context,
    )
    before = _Baseline(request.baseline_directory)
    start = time.perf_counter()
    scores: list[TaskScores] = []
    resumed = 0
    with (context.output / SAMPLES_FILE).open("w", encoding="utf-8") as stream:
        for name in request.names:
            asked = questioner.ask(
                name,
                request.num_fewshot[name],
                needs_hub=name not in request.own,
                limit=request.limit,
            )
            resumed += asked.resumed
            results, samples = asked.results, asked.samples
            for sample in (sample for of_task in samples.values() for sample in of_task):
                stream.write(json.dumps(sample, default=_plain) + "\n")
            for task in results["results"]:
                answered, old = _below(task, results, samples), before.of(task, results)
                one = scores_of(task, results, task == name, answered, old)
                if one.asked_for:
                    one.prompts_cut = asked.prompts_cut
                    one.pilot = request.own[name].pilot if name in request.own else []
                one.generation = generation(answered, None if old is None else old[1])
                scores.append(one)
    return TasksResult(
        tasks=scores,
        overall=overall(scores),
        requests_resumed=resumed,
        seconds=time.perf_counter() - start,
        leading_bos=questioner.model.leading_bos is not None,
        arithmetic=questioner.model.arithmetic,
        chat_template=questioner.chat_template,
    )


def _importing(process: EngineProcess, cache: Path) -> EngineProcess:
    """The same, and it finds the runner and installed plug-ins."""
    path = {"PYTHONPATH": str(importable(cache))}
    return replace(process, variables={**process.variables, **path})


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


def _samples(found: dict[str, Any], model: Any, answers: Answers) -> dict[str, list[Sample]]:
    """What is kept of each item, by task, as it reads back from JSON."""
    samples = {}
    for task, logged in found["samples"].items():
        kind = str(found["configs"][task].get("output_type"))
        samples[task] = list(samples_of(task, kind, logged))
        if kind == GENERATE:
            add_generated(samples[task], logged, model, answers)
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
