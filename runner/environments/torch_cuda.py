"""Whether an interpreter's torch was built for CUDA, found without importing it."""

import ast
import functools
import re
from pathlib import Path

from runner.environments.ready import asked

_FIND = """
import importlib.util, json
spec = importlib.util.find_spec("torch")
print(json.dumps(spec and spec.origin))
"""


@functools.cache
def torch_without_cuda(python: str) -> str | None:
    """The version of an interpreter's torch if that cannot compute on GPUs.

    ``None`` where it can, where there is no torch, or where its files do not say.

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
    stated = {name: _stated(text, name) for name in ("__version__", "cuda", "hip")}
    if stated["cuda"] != "None" or stated["hip"] not in (None, "None"):
        return None
    version = ast.literal_eval(stated["__version__"] or "'?'")
    return str(version)


def _stated(text: str, name: str) -> str | None:
    """What a line of torch's version.py assigns, as it stands there."""
    found = re.search(rf"^{name}\b[^=\n]*=\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else None
