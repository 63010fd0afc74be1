"""Measures LLM quantization trade-offs: which recipe to serve, where, and at what cost."""

from runner.api import keep_workers, run
from runner.errors import RunnerError, StageError, UsageError

__all__ = ["RunnerError", "StageError", "UsageError", "keep_workers", "run"]
