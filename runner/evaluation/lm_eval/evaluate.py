"""Runs lm-evaluation-harness on a model, task by task."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.errors import StageError, UsageError
from runner.evaluation.lm_eval.loading import explain, require_helpers
from runner.evaluation.lm_eval.names import unknown_task

_CODE_ALLOWED = "HF_ALLOW_CODE_EVAL"


def task_manager(
    include: Sequence[Path], with_its_own: bool, metadata: dict[str, Any] | None = None
) -> Any:
    """The harness's index of tasks.

    Args:
        include: Folders with further task files.
        with_its_own: Whether to read the harness's own 14,000 files too; 16 s.
        metadata: What tasks that are made to measure are told, as ``lm_eval --metadata``.
    """
    from lm_eval.tasks import TaskManager

    return TaskManager(
        include_path=[str(p) for p in include],
        include_defaults=with_its_own,
        metadata=metadata or None,
    )


def load_tasks(
    manager: Any, names: Sequence[str], needs_hub: bool, *, run_code: bool = False
) -> dict[str, Any]:
    """Tasks and groups with their data, fetched where they are not on this machine yet.

    Args:
        manager: The harness's index.
        names: Tasks, groups or tags.
        needs_hub: Whether their data may have to come from the hub.
        run_code: Whether those may be loaded that run programs of the model.

    Raises:
        UsageError: There is no such task, or it runs programs.
        StageError: Its data or a package cannot be had, or its file is not right.
    """
    if unknown := [name for name in names if name not in manager.task_index]:
        raise UsageError("; ".join(unknown_task(name, manager.all_tasks) for name in unknown))
    loaded: dict[str, Any] = {}
    if run_code:
        # What the metric of humaneval and mbpp asks for when it is loaded and when it computes.
        os.environ.setdefault(_CODE_ALLOWED, "1")
    with _hub_or_not(needs_hub) as reachable:
        for name in names:
            try:
                loaded[name] = manager.load([name])
            # Whatever a data set's host or a task's own code raises.
            except Exception as error:
                if _CODE_ALLOWED in str(error) and not run_code:
                    raise code_refused(name) from None
                if (missing := explain(name, error)) is not None:
                    raise StageError(missing) from None
                why = " ".join(str(error).split())[:300]
                raise StageError(
                    f"task {name} cannot be loaded ({type(error).__name__}: {why})"
                    if reachable or not needs_hub
                    else f"task {name} needs data from the hub ({_endpoint()}), which does not "
                    f"answer, and it is not on this machine yet ({type(error).__name__}: {why}): "
                    "tasks=packaged needs no hub; a mirror goes into HF_ENDPOINT"
                ) from None
            found = loaded[name]["tasks"].values()
            if not run_code and any(getattr(task, "UNSAFE_CODE", False) for task in found):
                raise code_refused(name)
            require_helpers(name)
    return loaded


def code_refused(name: str) -> UsageError:
    """A task runs programs that the model writes, which was not allowed."""
    return UsageError(
        f"task {name} runs programs that the model writes, on this machine; allow it with "
        "tasks.run_code=true"
    )


def evaluate(
    model: Any,
    loaded: dict[str, Any],
    *,
    num_fewshot: int | None,
    limit: float | None,
    apply_chat_template: bool,
    seed: int | None,
    run_code: bool = False,
) -> dict[str, Any]:
    """What ``lm_eval run`` finds for one task or group.

    Alone, so that its batches, and with them the last digits of its scores, do not depend on
    what else is asked. Seeds and examples are set as ``lm_eval.simple_evaluate`` sets them,
    which would also list all installed packages and ask the hub about the model each time.

    Args:
        model: A model of the harness.
        loaded: The task with its data, see ``load_tasks``.
        num_fewshot: Examples in a prompt; a task that says 0 itself keeps to that.
        limit: Items of each task, or a share of them when below 1.
        apply_chat_template: Wrap prompts in the tokenizer's chat template.
        seed: As ``lm_eval --seed``.
        run_code: As ``lm_eval --confirm_run_unsafe_code``.
    """
    import random

    import numpy as np
    from lm_eval import evaluator
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.utils import set_torch_seed

    other = DEFAULT_OTHER_SEED if seed is None else seed
    random.seed(DEFAULT_RANDOM_SEED if seed is None else seed)
    np.random.seed(other)
    set_torch_seed(other)
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        if num_fewshot is not None and own != 0:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=other)
    results: dict[str, Any] | None = evaluator.evaluate(
        lm=model,
        task_dict=loaded,
        limit=limit,
        apply_chat_template=apply_chat_template,
        fewshot_as_multiturn=apply_chat_template,
        confirm_run_unsafe_code=run_code,
    )
    assert results is not None
    return results


@contextlib.contextmanager
def _hub_or_not(needed: bool) -> Iterator[bool]:
    """Within it nobody waits for a hub that does not answer; yields whether it does."""
    import datasets.config
    import huggingface_hub.constants as hub

    reachable = needed and not hub.HF_HUB_OFFLINE and _answers(_endpoint())
    before = hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not reachable:
        hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield reachable
    finally:
        hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _endpoint() -> str:
    import huggingface_hub.constants as hub

    return hub.ENDPOINT


@functools.cache
def _answers(endpoint: str) -> bool:
    """Whether the hub, and not a proxy that forbids it, answers within seconds."""
    import huggingface_hub

    try:
        status: int = huggingface_hub.get_session().head(endpoint, timeout=5).status_code
    # Of one HTTP library or another, or the operating system's.
    except Exception:
        return False
    return status < 400


def telling(say: Callable[[int, int, str], None], name: str) -> Callable[[int, int], None]:
    """Progress of one task's requests."""
    return lambda done, total: say(done, max(1, total), f"{name}: requests")
