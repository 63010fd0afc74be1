"""Stage ``items``: create the items of one of the runner's own tasks."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.tasks import Items
from runner.data.task_items.make import make_items
from runner.evaluation.lm_eval.task_files import DATA_FILE, EXAMPLES_FILE, PILOT_FILE
from runner.pipeline.stages.base import Cost, Stage, StageContext

if TYPE_CHECKING:
    from runner.config.schema.root import Config


@dataclass
class ItemsRequest:
    """Which items to make."""

    task: str
    items: Items


@dataclass
class ItemsResult:
    """Items lie in ``items.jsonl`` beside the result, others for prompts in ``examples.jsonl``."""

    items: int
    examples: int
    sha256: str
    """Of the files, one after the other."""
    levels: list[int] = field(default_factory=list)
    """Of difficulty; ``pilot.jsonl`` has further items of each. None where a task has no levels."""


class ItemsStage(Stage[ItemsRequest, ItemsResult]):
    """Makes items."""

    name = "items"
    schema_version = 1
    request = ItemsRequest
    result = ItemsResult
    runs_beside = True

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Files are read, or fetched."""
        return Cost(seconds=2.0)

    def stand_in(self) -> ItemsResult:
        """Nothing is known of items that are yet to be made."""
        return ItemsResult(0, 0, "")

    def run(self, request: ItemsRequest, context: StageContext) -> ItemsResult:
        """Fetch or generate, store one item a line."""
        context.progress(0, 1, f"making items of {request.task}")
        made = make_items(request.items, context.cache)
        files = {DATA_FILE: made.scored, EXAMPLES_FILE: made.examples, PILOT_FILE: made.pilot}
        files = {name: items for name, items in files.items() if items or name != PILOT_FILE}
        for name, items in files.items():
            _write(context.output / name, items)
        context.progress(1, 1, f"making items of {request.task}")
        digest = hashlib.sha256()
        for name in files:
            digest.update((context.output / name).read_bytes())
        return ItemsResult(
            len(made.scored),
            len(made.examples),
            digest.hexdigest(),
            sorted({item["level"] for item in made.pilot}),
        )


def _write(path: Path, items: list[dict[str, Any]]) -> None:
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    path.write_text("".join(lines), encoding="utf-8")


STAGE = ItemsStage()
