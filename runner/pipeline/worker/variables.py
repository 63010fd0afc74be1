"""Environment variables that workers get in addition to those of the control process."""

import os
from pathlib import Path

from runner.environments.ready import ReadyEnvironment
from runner.pipeline.worker.importable import importable
from runner.planning.hardware.detect import detect
from runner.util.instructions import kernel_limits
from runner.util.surroundings import for_children, for_workers


def variables_for(chosen: ReadyEnvironment, cache: Path) -> dict[str, str]:
    """Variables for workers of an environment.

    Args:
        chosen: The environment.
        cache: The store's; what makes the runner importable is made there.
    """
    limits = kernel_limits(detect().instruction_sets)
    return {
        **for_children(),
        **for_workers(cache / "home"),
        **{name: limit for name, limit in limits.items() if name not in os.environ},
        **chosen.variables,
        # The worker decides about threads after its fork; tokenizers warn about forks otherwise.
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        **({} if chosen.is_control else {"PYTHONPATH": str(importable(cache))}),
    }
