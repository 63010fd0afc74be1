"""How llama.cpp's server is started, for what a plan has chosen and for what was measured.

Flags are those of ``llama-server`` (llama.cpp's tools/server/README.md). Slots share the context
that ``-c`` sets. An environment of the runner has llama-cpp-python's server instead, the same
library behind the same interface: its flags are the fields of its settings.
"""

import shlex
from collections.abc import Iterator

from runner.config.schema.kv_cache import KvFormat
from runner.engines.llama_cpp.cache import TYPES, cache_options, is_quantized
from runner.engines.llama_cpp.settings import LlamaCpp
from runner.engines.planned import Deployment, Measured

_ROOM = 4096
"""Tokens of a sequence that llama-cpp-python's server makes room for where nothing is asked for."""


def serve_command(deployment: Deployment) -> str | None:
    """``llama-server …``; ``None``: it has no KV cache of such numbers."""
    if not {*deployment.kv_cache.formats} <= {*TYPES}:
        return None
    programs = deployment.programs
    if programs is None:
        return " ".join(["llama-server", *_flags(deployment), *deployment.further])
    python = shlex.quote(str(programs / "python"))
    return " ".join([python, "-m llama_cpp.server", *_python_flags(deployment)])


def serve_measured(measured: Measured) -> str | None:
    """A server of the GGUF file that was measured; ``None`` for anything else."""
    settings = measured.settings
    assert isinstance(settings, LlamaCpp)
    if measured.checkpoint.suffix != ".gguf":
        return None
    further = [f"-t {settings.threads}"] if settings.threads is not None else []
    if measured.device != "cpu" and settings.gpu_layers >= 0:
        further.append(f"-ngl {settings.gpu_layers}")
    return serve_command(
        Deployment(
            model=shlex.quote(str(measured.checkpoint)),
            devices=1,
            context_length=settings.context_length,
            sequences=None,
            kv_cache=measured.kv_cache,
            memory_utilization=None,
            on_gpus=measured.device != "cpu",
            programs=measured.programs,
            further=tuple(further),
        )
    )


def _python_flags(deployment: Deployment) -> Iterator[str]:
    yield f"--model {deployment.model}"
    yield f"--n_ctx {deployment.context_length or _ROOM}"
    yield f"--n_gpu_layers {-1 if deployment.on_gpus else 0}"
    for name, value in cache_options(deployment.kv_cache).items():
        yield f"--{name} {value}"


def _flags(deployment: Deployment) -> Iterator[str]:
    yield f"-m {deployment.model}"
    if deployment.context_length is not None:
        yield f"-c {deployment.context_length * (deployment.sequences or 1)}"
    if deployment.sequences is not None:
        yield f"-np {deployment.sequences}"
    if deployment.on_gpus:
        yield "-ngl 99"
    if deployment.devices > 1:
        yield "-sm layer"
    key, value = (TYPES[kind] for kind in deployment.kv_cache.formats)
    if (key, value) != (TYPES[KvFormat.auto],) * 2:
        yield f"-ctk {key} -ctv {value}"
    if is_quantized(deployment.kv_cache.value):
        yield "-fa on"


def measured_with(deployment: Deployment) -> list[str] | None:
    """Fields of ``LlamaCpp``."""
    if not {*deployment.kv_cache.formats} <= {*TYPES}:
        return None
    return [f"engine.context_length={deployment.context_length}"]
