"""How llama.cpp's own server is started for what a plan has chosen.

Flags are those of ``llama-server`` (llama.cpp's tools/server/README.md). Slots share the context
that ``-c`` sets.
"""

from collections.abc import Iterator

from runner.engines.planned import Deployment

_CACHE_TYPES = {8: "q8_0", 4: "q4_0", 5: "q5_0"}
"""Types of keys and values by their bits; 16: its default."""


def serve_command(deployment: Deployment) -> str:
    """``llama-server …``: ``-m`` a file, or ``-hf`` a repository with one."""
    return " ".join(["llama-server", *_flags(deployment)])


def _flags(deployment: Deployment) -> Iterator[str]:
    yield f"-m {deployment.model}"
    yield f"-c {deployment.context_length * deployment.sequences}"
    yield f"-np {deployment.sequences}"
    yield "-ngl 99"
    if deployment.devices > 1:
        yield "-sm layer"
    if (kind := _CACHE_TYPES.get(deployment.kv_cache_bits)) is not None:
        yield f"-ctk {kind} -ctv {kind}"


def measured_with(deployment: Deployment) -> list[str]:
    """Fields of ``LlamaCpp``."""
    return [f"engine.context_length={deployment.context_length}"]
