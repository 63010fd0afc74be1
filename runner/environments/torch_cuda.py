"""Whether an interpreter's torch can use this machine's GPU, found without importing it."""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from runner.environments.ready import asked
from runner.util.nvidia_driver import Driver

_FIND = """
import importlib.util, json
spec = importlib.util.find_spec("torch")
print(json.dumps(spec and spec.origin))
"""


@dataclass(frozen=True)
class Torch:
    """A torch as its own files describe it."""

    version: str
    cuda: str | None
    """Release of CUDA that it was built for."""

    def unfit_for(self, driver: Driver) -> str | None:
        """Why it cannot use a GPU with this driver, as a description of it; ``None`` if it can."""
        if self.cuda is None:
            return f"torch {self.version}, which was built without CUDA"
        if int(self.cuda.partition(".")[0]) <= driver.cuda_major:
            return None
        return (
            f"torch {self.version}, which was built for CUDA {self.cuda}, and this machine's "
            f"driver {driver.version} runs CUDA {driver.cuda} at most"
        )


@functools.cache
def torch_of(python: str) -> Torch | None:
    """An interpreter's torch; ``None`` without one, or where its files say nothing of CUDA.

    Raises:
        UsageError: The interpreter cannot be run.
    """
    origin = asked(python, _FIND)
    if origin is None:
        return None
    try:
        text = Path(origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return None
    version, cuda, hip = (_stated(text, name) for name in ("__version__", "cuda", "hip"))
    if version is None or cuda is None or hip not in (None, "None"):
        return None
    return Torch(ast.literal_eval(version), ast.literal_eval(cuda))


def _stated(text: str, name: str) -> str | None:
    """What a line of torch's version.py assigns, as it stands there."""
    found = re.search(rf"^{name}\b[^=\n]*=\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else None
