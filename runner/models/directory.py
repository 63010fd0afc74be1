"""A model directory that readers of several transformers versions understand."""

import json
from pathlib import Path
from typing import Any

MADE_DTYPE = "bfloat16"
"""Torch dtype name of the weights of every model that is made here."""


def save(model: Any, tokenizer: Any, destination: Path) -> None:
    """Save model and tokenizer as safetensors and JSON.

    transformers 5 writes names that version 4 cannot read: ``TokenizersBackend`` for a fast
    tokenizer, ``rope_parameters`` for ``rope_theta``, ``dtype`` for ``torch_dtype``. The
    older names are written as well.
    """
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    config = _read(destination / "config.json")
    if "rope_parameters" in config:
        config.setdefault("rope_theta", config["rope_parameters"].get("rope_theta"))
    config.setdefault("torch_dtype", config.get("dtype"))
    _write(destination / "config.json", config)
    settings = _read(destination / "tokenizer_config.json")
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Details of how it was loaded, which tie the directory to one version; and ids, which the
    # GGUF converter gets wrong and which the tokens tell.
    loaded = ("backend", "is_local", "local_files_only", "model_type", "legacy")
    for name in (*loaded, "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        settings.pop(name, None)
    # True would remove the space before punctuation when decoding, which BPE had on purpose.
    settings["clean_up_tokenization_spaces"] = False
    _write(destination / "tokenizer_config.json", settings)
    for path in destination.iterdir():
        path.chmod(0o644)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
