"""Settings of tasks that have no effect."""

import functools
from collections.abc import Iterator

from runner.config.schema.root import Config, StageName
from runner.evaluation.lm_eval.task_files import runs_code
from runner.validation.unread import Unread, unread_fields


def unread_of_tasks(config: Config) -> Iterator[Unread]:
    """Items, levels and permissions that nothing that is asked makes use of."""
    tasks = config.tasks
    if StageName.tasks not in config.stages:
        return
    if not tasks.names:
        yield Unread("tasks", "tasks.names is empty", lambda: "tasks=packaged, or tasks.names=[…]")
        return
    for name, task in tasks.own.items():
        key = f"tasks.own.{name}"
        if name not in tasks.names:
            near = functools.partial("tasks.names=[{}]".format, name)
            yield Unread(key, f"{name} is not among tasks.names", near)
        yield from unread_fields(f"{key}.items", task.items.unread())
    asked = [tasks.own[name] for name in tasks.names if name in tasks.own]
    # What tasks of the harness do is known once they are loaded.
    known = len(asked) == len(tasks.names)
    if tasks.run_code and known and not any(runs_code(task.harness, task.scorer) for task in asked):
        why = "no task that is asked runs programs"
        yield Unread("tasks.run_code", why, lambda: "tasks.run_code=false")
    if tasks.metadata and all(name in tasks.own for name in tasks.names):
        why = "the tasks that are asked are the runner's own, which read none"
        yield Unread("tasks.metadata", why, lambda: "tasks=long")
    levels = tasks.levels
    if not any(name in tasks.names and task.items.levels for name, task in tasks.own.items()):
        yield Unread("tasks.levels", "no task that is asked has levels", lambda: None)
    elif not levels.adaptive:
        for field in ("least", "most"):
            why = "tasks.levels.adaptive is false: every level is asked"
            yield Unread(f"tasks.levels.{field}", why, lambda: "tasks.levels.adaptive=true")
