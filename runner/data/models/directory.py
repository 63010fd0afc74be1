"""A model directory that readers of several transformers versions understand."""

import json
from pathlib import Path
from typing import Any

from runner.data.models.companions import copy_companions
from runner.data.models.older_names import add_older_config_names, add_older_tokenizer_names
from runner.data.models.weights import stored_dtype

MADE_DTYPE = "bfloat16"
"""Torch dtype name of the weights of every model that is made here."""
_CONFIG, _TOKENIZER = "config.json", "tokenizer_config.json"
_OF_WEIGHTS = (
    "compression_config", "dtype", "quantization_config", "torch_dtype", "transformers_weights",
)  # fmt: skip
"""What a config says of how weights are stored, rather than of the model."""
_OF_WRITER = ("architectures", "tie_word_embeddings", "transformers_version")
"""What a backend may have changed of the rest: a shared matrix may have become two."""


def save(model: Any, tokenizer: Any, destination: Path) -> None:
    """Save model and tokenizer as safetensors and JSON.

    The names by which transformers 4 reads them are written as well.
    """
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    config = _read(destination / _CONFIG)
    add_older_config_names(config)
    _write(destination / _CONFIG, config)
    settings = _read(destination / _TOKENIZER)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    add_older_tokenizer_names(settings)
    # Details of how it was loaded, which tie the directory to one version; and ids, which the
    # GGUF converter gets wrong and which the tokens tell.
    loaded = ("backend", "is_local", "local_files_only", "model_type", "legacy")
    for name in (*loaded, "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        settings.pop(name, None)
    # True would remove the space before punctuation when decoding, which BPE had on purpose.
    settings["clean_up_tokenization_spaces"] = False
    _write(destination / _TOKENIZER, settings)
    make_readable(destination)


SHARD_BYTES = 5 * 10**9
"""Of a file of weights at most: what writes or rewrites one holds as much a second time."""


def save_weights(model: Any, destination: Path, **options: Any) -> None:
    """Save a transformers model without what tells how to generate with it.

    Version 5 refuses to save settings it finds unwise (``temperature`` without ``do_sample``, or
    in config.json), after all the work. ``finish`` brings them back as they came.

    Args:
        model: What to save.
        destination: An existing directory.
        options: Of ``save_pretrained``.
    """
    forget_generation(model)
    model.save_pretrained(destination, **{"max_shard_size": SHARD_BYTES, **options})


def forget_generation(model: Any) -> None:
    """Take the settings of how to generate from a transformers model that is to be saved."""
    if getattr(model, "generation_config", None) is not None:
        model.generation_config = type(model.generation_config)()
    find = getattr(model.config, "_get_generation_parameters", dict)
    for name in find():
        delattr(model.config, name)


def finish(model_directory: Path, checkpoint: Path, trust_remote_code: bool) -> None:
    """Complete the directory that a backend wrote weights and config.json into.

    Tokenizer files, chat templates, generation settings, code and licence are the model's own.
    config.json is the model's own with what the backend says about the weights; their type is
    read from the weights. The names that transformers 4 looks for are added.

    Args:
        model_directory: The unquantized model.
        checkpoint: What was made of it.
        trust_remote_code: Whether code beside the model is used, which may read any file there.
    """
    copy_companions(model_directory, checkpoint, trust_remote_code)
    config = _merged(_read(model_directory / _CONFIG), _read(checkpoint / _CONFIG))
    config["dtype"] = stored_dtype(checkpoint)
    add_older_config_names(config)
    _write(checkpoint / _CONFIG, config)
    if (checkpoint / _TOKENIZER).is_file():
        settings = _read(checkpoint / _TOKENIZER)
        before = dict(settings)
        add_older_tokenizer_names(settings)
        if settings != before:
            _write(checkpoint / _TOKENIZER, settings)
    make_readable(checkpoint)


def make_readable(directory: Path) -> None:
    """Let everyone read all files and enter all folders, whatever a library's default is."""
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _merged(model: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """The model's config with what a backend wrote about the weights."""
    if written.get("model_type") != model.get("model_type"):
        return written  # the language model out of one that also sees
    config = {**written, **model}
    for name in _OF_WEIGHTS:
        config.pop(name, None)
    config |= {name: written[name] for name in (*_OF_WEIGHTS, *_OF_WRITER) if name in written}
    for name in (name for name in model if name.endswith("_config") and name not in _OF_WEIGHTS):
        value, other = model[name], written.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            config[name] = _merged(value, other)
    return config


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
