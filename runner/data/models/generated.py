"""Models with random weights and a byte-level tokenizer, for tests."""

from pathlib import Path
from typing import Any

from runner.config.schema.model import ByteTokenizer, Model
from runner.data.models.byte_tokenizers import byte_tokenizer, write_sentencepiece
from runner.data.models.directory import MADE_DTYPE, save
from runner.errors import UsageError


def write_generated_model(model: Model, destination: Path) -> None:
    """Generate weights from the model's seed and save them.

    ``model.config`` says any architecture that transformers has; without it, the dimensions of
    ``model.architecture`` make a Llama.

    Raises:
        UsageError: transformers has no such architecture or cannot make one of these values, or
            the vocabulary cannot hold every byte.
    """
    make = _of_any_family if model.config else _llama
    generated = make(model)
    config = generated.config
    tokenizer = byte_tokenizer(
        model.tokenizer,
        config.vocab_size,
        getattr(config, "max_position_embeddings", None),
        model.special_tokens,
    )
    save(generated, tokenizer, destination)
    if model.tokenizer is ByteTokenizer.sentencepiece:
        write_sentencepiece(config.vocab_size, model.special_tokens, destination)


def _llama(model: Model) -> Any:
    shape = model.architecture
    if shape.family not in (None, "llama"):
        raise UsageError(
            f"model {model.name}: architecture.family={shape.family} is made from model.config "
            "alone, as conf/model/zoo does it"
        )
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        tie_word_embeddings=bool(shape.tied_embeddings),
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=_WIDE * min(1.0, _NARROW_MODEL / (shape.hidden or 1)),
    )
    torch.manual_seed(model.seed)
    return LlamaForCausalLM(config).to(getattr(torch, MADE_DTYPE))


def _of_any_family(model: Model) -> Any:
    """A model of transformers, every tensor of which tells: none is all zeros or ones."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(model.config)
    kind = values.pop("model_type", None)
    try:
        config = AutoConfig.for_model(kind, **values)
        instance = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"model {model.name}: transformers cannot build a language model from model.config: "
            f"{message}"
        ) from error
    generator = torch.Generator().manual_seed(model.seed)
    deviation = float(values.get("initializer_range", _DEVIATION))
    with torch.no_grad():
        # Families differ in what they initialise how, and some ignore ``initializer_range``.
        for parameter in instance.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * deviation
            # Biases and norms keep what is their own, a norm's one among it.
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    return instance.to(getattr(torch, MADE_DTYPE))


_WIDE, _NARROW_MODEL = 0.2, 256
"""Deviation of a Llama's weights, wide enough that predictions hang on them, so that rounding
shows; less in models wider than that, where it would turn every prediction into another."""
_DEVIATION = 0.1
"""Of random weights, unless the config says ``initializer_range``."""
