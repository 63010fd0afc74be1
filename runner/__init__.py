"""Measures LLM quantization trade-offs: which recipe to serve, where, and at what cost."""

import sys

# `python -m runner` would take modules of its own that come later from the working directory,
# where a json.py or a torch.py of the user's may lie. Then as now argv[0] is "-m".
if sys.argv[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

from runner.api import keep_workers, run
from runner.errors import RunnerError, StageError, UsageError

__all__ = ["RunnerError", "StageError", "UsageError", "keep_workers", "run"]
