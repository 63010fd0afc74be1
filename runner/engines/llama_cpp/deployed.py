"""How llama.cpp's own server is started for what a plan has chosen.

Flags are those of ``llama-server`` (llama.cpp's tools/server/README.md). Slots share the context
that ``-c`` sets.
"""

from collections.abc import Iterator

from runner.engines.planned import Deployment

_CACHE_TYPES = {16: "f16", 8: "q8_0", 5: "q5_0", 4: "q4_0"}
"""Types of keys and values by their bits, its default first."""
_MEASURED = 16
"""Bits of the runner's own, whatever is asked for."""


def serve_command(deployment: Deployment) -> str | None:
    """``llama-server …``; ``None``: it has no KV cache of such numbers."""
    if deployment.kv_cache_bits not in _CACHE_TYPES:
        return None
    return " ".join(["llama-server", *_flags(deployment)])


def _flags(deployment: Deployment) -> Iterator[str]:
    yield f"-m {deployment.model}"
    yield f"-c {deployment.context_length * deployment.sequences}"
    yield f"-np {deployment.sequences}"
    yield "-ngl 99"
    if deployment.devices > 1:
        yield "-sm layer"
    if (kind := _CACHE_TYPES[deployment.kv_cache_bits]) != _CACHE_TYPES[16]:
        yield f"-ctk {kind} -ctv {kind}"


def measured_with(deployment: Deployment) -> list[str] | None:
    """Fields of ``LlamaCpp``."""
    if deployment.kv_cache_bits != _MEASURED:
        return None
    return [f"engine.context_length={deployment.context_length}"]
