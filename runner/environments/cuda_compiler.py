"""The CUDA compiler of this machine, for environments that compile something for GPUs."""

import functools
import re
import shutil
import subprocess

from runner.config.schema.environment import Environment

_COMPILER = "nvcc"


def compiled_for(environment: Environment) -> str | None:
    """Release of CUDA that what the environment builds is compiled for here, such as ``13.0``.

    ``None`` if it needs no CUDA compiler, or there is none.
    """
    return _release() if _COMPILER in environment.build_tools else None


@functools.cache
def _release() -> str | None:
    nvcc = shutil.which(_COMPILER)
    if nvcc is None:
        return None
    try:
        done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    except OSError:  # a broken link, or for another processor
        return None
    found = re.search(r"\brelease (\d+\.\d+)", done.stdout)
    return found[1] if found else None
