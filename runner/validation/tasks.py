"""Rules on tasks."""

from collections.abc import Iterator
from pathlib import Path

from runner.config.schema.root import Config, StageName
from runner.data.texts.files import local_files
from runner.engines import find_engine, names_with
from runner.engines.traits import HarnessModel
from runner.errors import UsageError
from runner.evaluation.lm_eval.environment import harness_need
from runner.evaluation.lm_eval.names import unknown_task
from runner.evaluation.lm_eval.task_files import runs_code
from runner.util.given import require_regular, shown, user_path
from runner.validation.context import Facts
from runner.validation.environments import Need, judge
from runner.validation.verdict import Verdict, illegal


def check_tasks(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on what is to be asked."""
    tasks = config.tasks
    listed = StageName.tasks in config.stages
    if tasks.names and not listed:
        yield illegal(
            f"tasks={tasks.name} needs stage tasks, which stages leaves out",
            "adding tasks to stages",
        )
        return
    if not tasks.names and listed and "stages" in facts.chosen:
        yield illegal(
            "stages has tasks, but tasks.names is empty",
            "tasks=packaged or tasks.names=[hellaswag], or stages without tasks",
        )
    if not tasks.names or not listed:
        return
    yield from _check_engine(config, facts)
    yield from _check_numbers(config)
    yield from _check_names(config, facts)


def _check_engine(config: Config, facts: Facts) -> Iterator[Verdict]:
    name = config.engine.name
    if find_engine(name).traits.harness_model is None:
        able = names_with(lambda traits: traits.harness_model)
        yield illegal(
            f"lm-evaluation-harness does not support engine {name}",
            " or ".join(f"engine={other}" for other in able),
        )
        return
    yield from judge(config, facts, Need(harness_need(name), facts.device))
    if find_engine(name).traits.harness_model is HarnessModel.tokens:
        for task in filter(config.tasks.own.__contains__, config.tasks.names):
            options = config.tasks.own[task].harness.get("generation_kwargs") or {}
            if options.get("do_sample"):
                yield illegal(
                    f"task {task} draws its answers (do_sample), and engine {name} gives the most "
                    "likely ones alone",
                    f"tasks.own.{task}.harness.generation_kwargs.do_sample=false",
                )


def _check_numbers(config: Config) -> Iterator[Verdict]:
    tasks = config.tasks
    if tasks.limit is not None and tasks.limit > 1 and tasks.limit != int(tasks.limit):
        yield illegal(
            f"tasks.limit={tasks.limit:g} is neither a number of items nor a share (below 1) of "
            "them",
            f"tasks.limit={int(tasks.limit)}",
        )
    levels = tasks.levels
    if levels.least > levels.most:
        yield illegal(
            f"tasks.levels.least={levels.least:g} exceeds tasks.levels.most={levels.most:g}",
            f"tasks.levels.least={levels.most:g}",
        )
    for name in tasks.names:
        task = tasks.own.get(name)
        if task is not None and task.items.maker.has_levels and not task.items.levels:
            yield illegal(
                f"tasks.own.{name}.items.levels is empty, so there is nothing to ask",
                f"tasks.own.{name}.items.levels=[1,2,3]",
            )


def _fault_of_folder(folder: str) -> str | None:
    """Why a folder of tasks cannot be read, if it cannot."""
    try:
        place = user_path(folder, "tasks.include")
        if not place.is_dir():
            return f"tasks.include: there is no folder {shown(folder)}"
        for file in filter(Path.exists, local_files(place)):
            require_regular(file)
    except UsageError as error:
        return f"tasks.include: {error}"
    return None


def _fault(path: str, setting: str) -> str | None:
    """Why a file of items cannot be read, if it cannot."""
    try:
        place = user_path(path, setting)
        if not place.exists():
            return f"{setting}: there is no file {shown(path)}"
        if not require_regular(place).st_size:
            return f"{setting}: {shown(path)} is empty"
    except UsageError as error:
        return str(error)
    return None


def _check_names(config: Config, facts: Facts) -> Iterator[Verdict]:
    tasks = config.tasks
    for folder in tasks.include:
        if wrong := _fault_of_folder(folder):
            yield illegal(wrong)
    for name in tasks.names:
        if name in tasks.own:
            own = tasks.own[name]
            if runs_code(own.harness, own.scorer) and not tasks.run_code:
                yield illegal(
                    f"task {name} runs programs that the model writes, on this machine",
                    f"tasks.run_code=true, or tasks.names without {name}",
                )
            path = own.items.path
            if path is not None and (wrong := _fault(path, f"tasks.own.{name}.items.path")):
                yield illegal(wrong)
        elif facts.known_tasks is not None and name not in facts.known_tasks:
            yield illegal(unknown_task(name, {*facts.known_tasks, *tasks.own}))
    for name in tasks.fewshot:
        if name not in tasks.names:
            yield illegal(
                f"tasks.fewshot.{name}: {name} is not among tasks.names", f"~tasks.fewshot.{name}"
            )
