"""vLLM's OpenAI-compatible server: its command line from the arguments of ``vllm.LLM``."""

from pathlib import Path
from typing import Any

from runner.engines.server import PORT, ServerCommand

_SERVED_AS = "model"
# Scheduling ahead of results is what a server is for; the rest is for scoring and timing steps.
_OFFLINE_ONLY = (
    "model", "async_scheduling", "skip_tokenizer_init", "use_tqdm_on_load", "logprobs_mode",
    "max_logprobs",
)  # fmt: skip


def command(
    arguments: dict[str, Any], variables: dict[str, str], checkpoint: Path, tokenizer: Path
) -> ServerCommand:
    """The server with the same model settings.

    Args:
        arguments: What ``vllm.LLM`` would be given.
        variables: Environment variables it would find.
        checkpoint: What to serve.
        tokenizer: Directory of the unquantized model.
    """
    options: dict[str, Any] = {
        "model": checkpoint,
        "served_model_name": _SERVED_AS,
        "tokenizer": tokenizer,
        "host": "127.0.0.1",
        "port": PORT,
    }
    options |= {name: value for name, value in arguments.items() if name not in _OFFLINE_ONLY}
    # Its loader for CPUs is registered in the worker's process alone.
    options["load_format"] = "safetensors"
    flags = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            flags.append(f"--{flag}={value}")
    # The server is always a process apart from its engine.
    variables = {key: v for key, v in variables.items() if key != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    return ServerCommand(
        ["-m", "vllm.entrypoints.openai.api_server", *flags], _SERVED_AS, variables
    )
