"""A tiny Llama of random weights with a byte-level tokenizer: for tests, not for answers."""

from pathlib import Path

from runner.config.model import Model
from runner.errors import UsageError
from runner.models.directory import MADE_DTYPE, save

_SMALLEST_VOCABULARY = 256 + 2
"""One token a byte, and the tokens for begin and end."""


def write_generated_model(model: Model, destination: Path) -> None:
    """Generate weights from the model's seed and save them.

    Raises:
        UsageError: The architecture is no Llama, or its vocabulary cannot hold every byte.
    """
    shape = model.architecture
    if shape.family not in (None, "llama"):
        raise UsageError(f"model {model.name}: only family llama is generated, not {shape.family}")
    if (shape.vocab or 0) < _SMALLEST_VOCABULARY:
        raise UsageError(
            f"model.architecture.vocab={shape.vocab} is too small: a byte-level tokenizer needs "
            f"{_SMALLEST_VOCABULARY}"
        )
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    # Bytes by Llama's names, and as many entries as rows: llama.cpp's converter takes no other.
    names = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [f"<unused_{row}>" for row in range(len(names), shape.vocab or 0)]
    vocabulary = {name: row for row, name in enumerate(names)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=shape.context,
    )
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
        # Wide enough that predictions depend on the weights, so that rounding shows.
        initializer_range=0.2,
    )
    torch.manual_seed(model.seed)
    save(LlamaForCausalLM(config).to(getattr(torch, MADE_DTYPE)), tokenizer, destination)
