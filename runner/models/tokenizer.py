"""The tokenizer that a GGUF file describes."""

from typing import Any

_DIGITS_APART = {"smollm": True, "gpt-2": False}
"""llama.cpp's names of the byte-level pre-tokenizers built here: is every digit a piece?"""

_CONTROL = 3
"""llama.cpp's token type for special tokens (``LLAMA_TOKEN_TYPE_CONTROL``)."""


def gguf_tokenizer(reader: Any) -> Any | None:
    """Build the byte-level BPE tokenizer of a GGUF file as its authors published it.

    transformers' converter for Llama files takes no notice of ``tokenizer.ggml.pre``: it leaves
    digits together and adds byte fallback, by which llama.cpp's converter then takes the
    tokenizer for SentencePiece and aborts on text.

    Returns:
        A fast tokenizer, or None where the file has a tokenizer of another kind.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def read(name: str) -> Any:
        field = reader.fields.get(f"tokenizer.{name}")
        return None if field is None else field.contents()

    digits_apart = _DIGITS_APART.get(read("ggml.pre"))
    if read("ggml.model") != "gpt2" or digits_apart is None:
        return None
    tokens = read("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in read("ggml.merges")]
    built = Tokenizer(models.BPE({token: row for row, token in enumerate(tokens)}, merges))
    bytes_apart = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_apart])
        if digits_apart
        else bytes_apart
    )
    built.decoder = decoders.ByteLevel()
    kinds = read("ggml.token_type") or []
    control = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]
    built.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    unknown = read("ggml.unknown_token_id")
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        unk_token=None if unknown is None else tokens[unknown],
        chat_template=read("chat_template"),
    )
