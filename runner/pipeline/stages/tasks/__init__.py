"""Stage ``tasks``: lm-evaluation-harness on a checkpoint, item by item with the baseline."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.engines.loading import LoadRequest
from runner.engines.server.client import EngineProcess
from runner.evaluation.lm_eval.scores import Overall, TaskScores
from runner.evaluation.lm_eval.task_files import OwnTask
from runner.pipeline.stages.base import Cells, Cost, Stage, StageContext
from runner.pipeline.stages.tasks.generated import generation_metrics, generation_table
from runner.store.records import BASELINE, RECIPE

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.context import Expected, RunContext

_USUAL_ITEMS = 1000.0
_TOKENS_OF_AN_ITEM = 400.0
"""Four answers of a hundred tokens, question included."""
SAMPLES_FILE = "samples.jsonl"
TASKS_DIRECTORY = "tasks"
"""Task files of our own, as they were asked: ``lm_eval --include_path`` reads them too."""


@dataclass
class Asking:
    """A checkpoint, and how it is asked whatever it is asked."""

    load: LoadRequest
    tokenizer_directory: Path
    """The unquantized model's: every recipe is asked the same tokens."""
    apply_chat_template: bool | None
    """``None``: where the tokenizer has one."""
    batch_size: int
    seed: int | None
    run_code: bool = False
    """Whether programs that the model writes may run."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What tasks that are made to measure are told."""
    process: EngineProcess | None = None
    """Of the engine's environment, for engines that compute there."""


@dataclass
class TasksRequest:
    """What a checkpoint is to be asked, and the baseline to compare with."""

    asking: Asking
    names: list[str]
    own: dict[str, OwnTask]
    include: list[Path]
    num_fewshot: dict[str, int | None]
    """By name; ``None`` for what the task itself says."""
    limit: float | None
    baseline_directory: Path | None
    """Result of the unquantized model's tasks; ``None`` for that one itself."""

    @property
    def load(self) -> LoadRequest:
        """Of the checkpoint."""
        return self.asking.load


@dataclass
class TasksResult:
    """Scores. Every item's answer lies in ``samples.jsonl`` beside it."""

    tasks: list[TaskScores]
    """What was named and all that it consists of, in the order of asking."""
    overall: Overall | None
    requests_resumed: int
    """Answers that an attempt which was killed had found."""
    seconds: float
    """Asking, without loading."""
    leading_bos: bool | None = None
    """Whether every prompt began with the tokenizer's BOS; ``None`` in results that do not say."""
    arithmetic: str = ""
    """As ``EvalResult.arithmetic``."""
    chat_template: bool | None = None
    """Whether prompts were wrapped in one; ``None`` in results that do not say."""


class TasksStage(Stage[TasksRequest, TasksResult]):
    """Asks tasks."""

    name = "tasks"
    schema_version = 2
    request = TasksRequest
    result = TasksResult
    follows = ("eval", "quantize")

    def run(self, request: TasksRequest, context: StageContext) -> TasksResult:
        """Load, ask task by task, compare."""
        from runner.pipeline.stages.tasks.ask import ask

        return ask(request, context)

    def prepare(self, run: "RunContext") -> None:
        """See that the tasks exist and their data can be had."""
        from runner.pipeline.stages.tasks.order import prepare

        if run.config.tasks.names:
            prepare(run.inputs, run.model)

    def carry_out(self, run: "RunContext") -> None:
        """The unquantized model's answers, what arithmetic alone changes, then the recipe's."""
        from runner.pipeline.stages.jobs.tasks_floor import STAGE as FLOOR
        from runner.pipeline.stages.tasks.order import answers_of, at_levels, prepare

        if not run.config.tasks.names:
            return
        inputs, model = run.inputs, run.model
        questions = at_levels(inputs, prepare(inputs, model), model)
        baseline = None
        if run.has_baseline:
            baseline = answers_of(inputs, questions, model, model, None)
            run.keep(self.name, BASELINE, baseline)
            for whose, floor in FLOOR.found(run, questions, baseline):
                run.keep(FLOOR.name, whose, floor)
        if baseline is None or run.has_recipe:
            own = answers_of(inputs, questions, run.checkpoint, model, baseline)
            run.keep(self.name, RECIPE, own)

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """Nothing where no task is named."""
        return super().expects(run) if run.config.tasks.names else []

    def metrics(self, result: TasksResult) -> dict[str, float | None]:
        """Every score with its error, what changed against the baseline, and the means."""
        metrics: dict[str, float | None] = {}
        for task in result.tasks:
            for score in task.scores:
                name = score.metric if score.filter == "none" else f"{score.metric}_{score.filter}"
                values = {"": score.value, "_stderr": score.standard_error}
                if (change := score.change) is not None:
                    values["_delta"] = change.delta
                    values["_recovery_percent"] = change.recovery_percent
                    values["_answers_changed"] = change.answers_changed
                    if change.mcnemar is not None:
                        values["_mcnemar_p"] = change.mcnemar.p_value
                stem = f"tasks/{name}"
                metrics |= {f"{stem}{end}/{task.task}": value for end, value in values.items()}
            metrics |= generation_metrics(task)
        if result.overall is not None:
            metrics["tasks/mean_accuracy"] = result.overall.mean
            metrics["tasks/recovery_percent"] = result.overall.recovery_percent
        return metrics

    def tables(self, result: TasksResult) -> dict[str, Cells]:
        """One line for each task and metric; the changes are against the unquantized model.

        Another table says of generated answers how their text differs.
        """
        lines: list[list[Any]] = []
        for task in result.tasks:
            for score in task.scores:
                own = [task.task, score.metric, score.filter, score.value, score.standard_error]
                change = score.change
                changes: list[Any] = [None] * 3
                if change is not None:
                    changes = [change.delta, change.recovery_percent, change.answers_changed]
                lines.append([*own, *changes])
        names = ["task", "metric", "filter", "value", "standard_error"]
        columns = [*names, "delta", "recovery_percent", "answers_changed"]
        return {"tasks/scores": (columns, lines), **generation_table(result.tasks)}

    def words(self, result: TasksResult) -> dict[str, str]:
        """The arithmetic, which figures of other runs have to share."""
        return {"arithmetic": result.arithmetic}

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Every answer of every item is read."""
        return Cost(tokens=sum(_tokens(config, name) for name in config.tasks.names))


def _tokens(config: "Config", name: str) -> float:
    """Of a task's prompts and answers."""
    limit, own = config.tasks.limit, config.tasks.own.get(name)
    items, tokens, most = _USUAL_ITEMS, _TOKENS_OF_AN_ITEM, math.inf
    if own is not None:
        items = most = own.items.count * max(len(own.items.levels), 1)
        tokens = own.items.usual_tokens or tokens
    if limit is not None:
        # How many items the harness's own tasks have is not known here.
        items = items * limit if limit < 1 else min(most, limit)
    return items * tokens


STAGE = TasksStage()
