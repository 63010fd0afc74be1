"""What workers do: one module a stage, found by its name.

Each exposes ``STAGE``: its request and result types, the version of their schema, and
``run``. Dataclasses come first and are light; heavy imports are inside functions.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.pipeline.stages.base import Stage

WITHOUT_MODEL = ("text", "tokens", "windows", "overlap", "items", "task_data", "weights")
"""Stages that load no model, and so may run while another process keeps one."""


def find_stage(name: str) -> "Stage":
    """The stage called ``name``."""
    stage: Stage = importlib.import_module(f"runner.pipeline.stages.{name}").STAGE
    return stage
