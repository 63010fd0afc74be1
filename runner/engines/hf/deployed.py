"""How transformers' own server is started for what was measured.

Flags are those of ``transformers serve`` 5.17.0, which needs more packages than the rest of it.
"""

import shlex
from pathlib import Path
from typing import Any

from runner.engines.base import rotated_at_run_time
from runner.engines.planned import Measured

_PACKAGES = ("fastapi", "openai", "uvicorn")
"""Of the extra ``serving``, which an environment may lack."""
_READ_BY_ITSELF = (None, "compressed-tensors", "bitsandbytes")
"""Values of ``quant_method`` for which it needs no other library than the environment has."""


def serve_measured(measured: Measured) -> str | None:
    """``transformers serve …``; ``None`` for what only the runner reads through it."""
    if not measured.kv_cache.is_auto:
        return None
    quantization: Any = measured.config.get("quantization_config") or {}
    if rotated_at_run_time(measured.config):
        return None
    if not measured.config or quantization.get("quant_method") not in _READ_BY_ITSELF:
        return None
    programs = measured.programs
    program = "transformers" if programs is None else shlex.quote(str(programs / "transformers"))
    words = [program, "serve", shlex.quote(str(measured.checkpoint))]
    words.append(f"--device {'cpu' if measured.device == 'cpu' else 'auto'}")
    if measured.dtype != "auto":
        words.append(f"--dtype {measured.dtype}")
    if measured.trust_remote_code:
        words.append("--trust-remote-code")
    if programs is not None and not _has_packages(programs):
        python = shlex.quote(str(programs / "python"))
        words.append(f'# first: {python} -m pip install "transformers[serving]"')
    return " ".join(words)


def _has_packages(programs: Path) -> bool:
    places = [*programs.parent.glob("lib/python*/site-packages")]
    return all(any((place / name).is_dir() for place in places) for name in _PACKAGES)
