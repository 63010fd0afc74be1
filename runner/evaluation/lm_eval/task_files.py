"""Writes task files of the runner's own tasks, as ``lm_eval --include_path`` reads them."""

import json
import math
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.data.task_items import EXAMPLE_LEVEL
from runner.evaluation.lm_eval.levels import LevelScore

DATA_FILE = "items.jsonl"
EXAMPLES_FILE = "examples.jsonl"
PILOT_FILE = "pilot.jsonl"
_RUN_CODE = frozenset({"functions"})
"""Scorers that run what the model wrote."""
_BYTES_PER_TOKEN = 3
_LEAST_ROOM = 24
"""Tokens that any answer may have."""
_LEVELS = '''"""Keeps the items of some levels, and examples."""

LEVELS = {levels}


def process_docs(docs):
    return docs.select([place for place, level in enumerate(docs["level"]) if level in LEVELS])
'''


@dataclass
class OwnTask:
    """A task of our own whose items have been made."""

    harness: dict[str, Any]
    """Keys of its task file, but for the name and the data set."""
    items_directory: Path
    """Its items and examples."""
    scorer: str | None = None
    """A file of ``runner/evaluation/lm_eval/scorers``."""
    levels: list[int] = field(default_factory=list)
    """Those that are asked; empty where the task has none."""
    pilot: list[LevelScore] = field(default_factory=list)
    """By which they were chosen."""
    answer_room: float | None = None
    """As ``Task.answer_room``."""


def write_task(
    directory: Path,
    name: str,
    task: OwnTask,
    levels: Collection[int],
    file: str = DATA_FILE,
) -> None:
    """Write a task file, and beside it the code that keeps its levels and scores its answers.

    Args:
        directory: Where to.
        name: Name of the task.
        task: Its keys and items.
        levels: Those to ask; empty for all items.
        file: Which of its items to ask.
    """
    import yaml

    directory.mkdir(parents=True, exist_ok=True)
    items, examples = task.items_directory / file, task.items_directory / EXAMPLES_FILE
    content = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items), "train": str(examples)}},
        "test_split": "test",
        "fewshot_split": "train",
        **task.harness,
    }
    # Whatever a user's keys say: the harness then asks for --confirm_run_unsafe_code.
    if runs_code(task.harness, task.scorer):
        content["unsafe_code"] = True
    if task.answer_room is not None and levels:
        kwargs = dict(task.harness["generation_kwargs"])
        room = _room(items, levels, task.answer_room)
        content["generation_kwargs"] = kwargs | {"max_gen_toks": min(kwargs["max_gen_toks"], room)}
    text = yaml.safe_dump(content, sort_keys=False)
    if task.scorer is not None:
        shutil.copyfile(scorer_file(task.scorer), directory / f"{task.scorer}.py")
        text += f"process_results: !function {task.scorer}.process_results\n"
    if levels:
        # The harness keeps what it has imported, by name.
        module = re.sub(r"\W", "_", name) + "_levels"
        code = _LEVELS.format(levels=sorted({EXAMPLE_LEVEL, *levels}))
        (directory / f"{module}.py").write_text(code, "utf-8")
        text += f"process_docs: !function {module}.process_docs\n"
    (directory / f"{name}.yaml").write_text(text, "utf-8")


def runs_code(harness: dict[str, Any], scorer: str | None) -> bool:
    """Whether scoring a task of our own runs programs that the model wrote.

    Args:
        harness: Keys of its task file.
        scorer: What scores its answers.
    """
    return scorer in _RUN_CODE or bool(harness.get("unsafe_code"))


def _room(items: Path, levels: Collection[int], times: float) -> int:
    """Tokens that an answer may have, by the longest right answer of some levels."""
    every = map(json.loads, items.read_text("utf-8").splitlines())
    longest = max(len(one["target"].encode()) for one in every if one["level"] in levels)
    return _LEAST_ROOM + math.ceil(times * longest / _BYTES_PER_TOKEN)


def scorer_file(name: str) -> Path:
    """Where a scorer's code lies."""
    return Path(__file__).parent / "scorers" / f"{name}.py"
