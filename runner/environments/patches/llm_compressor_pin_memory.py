"""llm-compressor 0.14.0.1: AWQ pins memory for a GPU although there is none, and raises.

``llmcompressor.pipelines.cache.IntermediatesCache.pin_memory`` is called unconditionally;
pinning only speeds up copies to a GPU, so without one it may do nothing.
"""

from typing import Any

from runner.environments.patches.late import after_import


def apply() -> None:
    """Mend the cache of intermediates."""
    after_import("llmcompressor.pipelines.cache", _mend)


def _mend(module: Any) -> None:
    import torch

    if not torch.cuda.is_available():
        module.IntermediatesCache.pin_memory = lambda *_, **__: None
