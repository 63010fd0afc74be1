"""llama-cpp-python's server: its command line."""

from pathlib import Path

from runner.data.models.gguf_file import only_gguf
from runner.data.models.sentence_piece import sentence_piece_file
from runner.engines.base import LoadSpec
from runner.engines.llama_cpp.cache import cache_options
from runner.engines.llama_cpp.settings import NO_GPU, LlamaCpp, layers_on_gpu
from runner.engines.server import PORT, Requests, ServerCommand

_SERVED_AS = "model"
_SERVER_ON_GPU = f"""
import llama_cpp, runpy, sys
llama_cpp.llama_supports_gpu_offload() or sys.exit({NO_GPU!r})
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""
_SERVER_MARGIN = 64
"""Prompts are sent as text and may be a few tokens longer when they are cut up again."""


def command(spec: LoadSpec, requests: Requests) -> ServerCommand:
    """The server with the settings that measurements offline have."""
    settings = spec.settings
    assert isinstance(settings, LlamaCpp)
    room = max(requests.tokens + _SERVER_MARGIN, settings.context_length or 0)
    options = {
        "model": only_gguf(spec.checkpoint),
        "model_alias": _SERVED_AS,
        "host": "127.0.0.1",
        "port": PORT,
        "n_ctx": room,
        "n_batch": settings.batch_size,
        "n_threads": spec.threads,
        "n_threads_batch": spec.threads,
        "n_gpu_layers": layers_on_gpu(spec.device, settings),
        **cache_options(spec.kv_cache),
        # A second request would otherwise break off the first.
        "interrupt_requests": "false",
        "verbose": "false",
    }
    # SentencePiece llama.cpp reads itself.
    if sentence_piece_file(Path(requests.tokenizer)) is None:
        # Every recipe and engine then sees the same tokens, and a file whose own vocabulary
        # llama.cpp's converter has taken for another kind can be served at all.
        options["hf_pretrained_model_name_or_path"] = requests.tokenizer
    return ServerCommand(
        [*_start(spec.device), *(f"--{key}={value}" for key, value in options.items())],
        _SERVED_AS,
        body={"logit_bias": {str(token): -100.0 for token in requests.end_tokens}},
    )


def _start(device: str) -> list[str]:
    """What starts the server; on a GPU only if it finds one: it would take the CPU in silence."""
    if device == "cpu":
        return ["-m", "llama_cpp.server"]
    return ["-c", _SERVER_ON_GPU]
