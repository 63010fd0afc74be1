"""Stage ``levels``: ask the unquantized model a task's levels of difficulty, from the lowest."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.engines.loading import LoadRequest
from runner.evaluation.lm_eval.levels import LevelScore
from runner.evaluation.lm_eval.task_files import PILOT_FILE, OwnTask, write_task
from runner.pipeline.stages.base import Cost, Stage, StageContext
from runner.pipeline.stages.tasks import TASKS_DIRECTORY, Asking

if TYPE_CHECKING:
    from runner.config.schema.root import Config

_USUAL_LEVELS = 4
"""The last of them is too hard."""


@dataclass
class LevelsRequest:
    """A task whose levels are asked in turn."""

    asking: Asking
    name: str
    task: OwnTask
    """Its levels are those to try."""
    num_fewshot: int | None
    least: float
    """Share of right answers below which no higher level is tried."""

    @property
    def load(self) -> LoadRequest:
        """Of the unquantized model."""
        return self.asking.load


@dataclass
class LevelsResult:
    """Scores of the levels that were tried, from the lowest."""

    levels: list[LevelScore]


class LevelsStage(Stage[LevelsRequest, LevelsResult]):
    """Tries levels."""

    name = "levels"
    schema_version = 1
    request = LevelsRequest
    result = LevelsResult

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Pilot items of a few levels are answered: of a suite like the others."""
        suites = [task.items for task in config.tasks.own.values() if task.items.levels]
        tokens = sum(items.pilot * (items.usual_tokens or 0.0) for items in suites)
        return Cost(tokens=_USUAL_LEVELS * tokens / max(len(suites), 1))

    def stand_in(self) -> LevelsResult:
        """Nothing is known of answers that are yet to be given."""
        return LevelsResult([])

    def run(self, request: LevelsRequest, context: StageContext) -> LevelsResult:
        """Load, ask level by level until one is too hard."""
        from runner.pipeline.stages.tasks.ask import Questioner

        folder = context.output / TASKS_DIRECTORY
        names = {level: f"{request.name}_{level}" for level in sorted(request.task.levels)}
        for level, name in names.items():
            write_task(folder, name, request.task, [level], PILOT_FILE)
        questioner = Questioner(request.asking, [folder], with_harness_tasks=False, context=context)
        found = []
        for name in names.values():
            asked = questioner.ask(name, request.num_fewshot, needs_hub=False)
            (score,) = asked.level_scores(name)
            score.fits = asked.prompts_cut == 0
            found.append(score)
            if not score.fits or score.share < request.least:
                break
        return LevelsResult(found)


STAGE = LevelsStage()
