"""Builds the tokenizer that a GGUF file describes, as llama.cpp reads it."""

from collections.abc import Iterator, Sequence
from typing import Any

from runner.data.models.gguf_header import GgufHeader
from runner.errors import StageError

_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_BY_DIGITS = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2, _DIGITS_APART = "gpt2", "digits apart"
_PRE_TOKENIZERS = {
    "gpt-2": _GPT2,
    "smollm": _DIGITS_APART,
    "starcoder": _DIGITS_APART,
    "refact": _DIGITS_APART,
    "command-r": _DIGITS_APART,
    "llama-bpe": _BY_DIGITS.replace("DIGITS", "{1,3}"),
    "llama-v3": _BY_DIGITS.replace("DIGITS", "{1,3}"),
    "llama3": _BY_DIGITS.replace("DIGITS", "{1,3}"),
    "qwen2": _BY_DIGITS.replace("DIGITS", ""),
    "deepseek-r1-qwen": _BY_DIGITS.replace("DIGITS", ""),
}
"""Where text is parted before merging, by llama.cpp's name (``llama_vocab_pre_type``)."""
_WHOLE_WORDS = ("llama-bpe", "llama-v3", "llama3")
"""A word that is in the vocabulary is one token there, whether merges lead to it or not."""
_PHI3 = ("phi-3", "phi3")
_PHI3_KEEPS_SPACES = ("<unk>", "<s>", "<|endoftext|>")

# llama.cpp's token types (``llama_token_type``), which are SentencePiece's.
UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6
SPACE = "▁"


def gguf_tokenizer(header: GgufHeader) -> Any:
    """Build the fast tokenizer of a GGUF file.

    transformers' own converter splits byte-level text in other places than the file says
    (``tokenizer.ggml.pre``), makes a Unigram model of Gemma's merges, and puts no BOS before a
    text.

    Raises:
        StageError: The tokenizer is of a kind that is not known here.
    """
    kind = _read(header, "model")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders or not _read(header, "tokens"):
        raise _unknown(header, f"a tokenizer of kind {kind}")
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = _read(header, "tokens")
    built = builders[kind](header)
    _add_tokens(built, tokens, header)
    _add_template(built, tokens, header, bos_by_default=kind == "llama")
    unknown = header.special_token("unknown")
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        unk_token=None if unknown is None else tokens[unknown],
        chat_template=header.fields.get("tokenizer.chat_template"),
    )


def drops_spaces_after(header: GgufHeader, token: str) -> bool:
    """Whether a special token swallows the spaces behind it.

    No field says so; llama.cpp goes by the model's name (``llama_vocab::impl::load``).
    """
    name = str(header.fields.get("general.name", "")).lower()
    return any(part in name for part in _PHI3) and token not in _PHI3_KEEPS_SPACES


def _read(header: GgufHeader, name: str) -> Any:
    return header.fields.get(f"tokenizer.ggml.{name}")


def _unknown(header: GgufHeader, what: str) -> StageError:
    return StageError(
        f"{header.path.name} has {what}, which is not supported; use the model's own directory "
        "(model=local model.path=…, with config.json, tokenizer and safetensors)"
    )


def _byte_level(header: GgufHeader) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pre = _read(header, "pre")
    pattern = _PRE_TOKENIZERS.get(pre)
    if pattern is None:
        raise _unknown(header, f"a tokenizer with the pre-tokenizer {pre}")
    tokens = _read(header, "tokens")
    merges = [tuple(merge.split(" ")) for merge in _read(header, "merges")]
    built = Tokenizer(
        models.BPE(
            {token: row for row, token in enumerate(tokens)},
            merges,
            ignore_merges=pre in _WHOLE_WORDS,
        )
    )
    by_gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern == _GPT2:
        built.pre_tokenizer = by_gpt2
    elif pattern == _DIGITS_APART:
        apart = pre_tokenizers.Digits(individual_digits=True)
        built.pre_tokenizer = pre_tokenizers.Sequence([apart, by_gpt2])
    else:
        parted = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        built.pre_tokenizer = pre_tokenizers.Sequence([parted, to_bytes])
    built.decoder = decoders.ByteLevel()
    return built


def _sentencepiece(header: GgufHeader) -> Any:
    """Merges by the score of what they give: SentencePiece's BPE, which llama.cpp calls SPM."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens, scores = _read(header, "tokens"), _read(header, "scores")
    if not scores or len(scores) != len(tokens):
        raise _unknown(header, "SentencePiece tokens without scores")
    rows = {token: row for row, token in enumerate(tokens)}
    kinds = _read(header, "token_type") or []
    unknown = header.special_token("unknown")
    built = Tokenizer(
        models.BPE(
            rows,
            list(_merges(tokens, rows, scores)),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=BYTE in kinds,
        )
    )
    spaced = _read(header, "add_space_prefix") is not False
    steps = [normalizers.Prepend(SPACE)] if spaced else []
    built.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    # Bytes first: a vocabulary may have the sign for a space in pieces only.
    back = [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace(SPACE, " ")]
    if spaced:
        back.append(decoders.Strip(content=" ", left=1, right=0))
    built.decoder = decoders.Sequence(back)
    return built


def _merges(
    tokens: Sequence[str], rows: dict[str, int], scores: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """Pairs of tokens that together are one, best score first, as llama.cpp tries them."""
    order = sorted(range(len(tokens)), key=lambda row: -scores[row])
    for row in order:
        token = tokens[row]
        if rows[token] != row:
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in rows and right in rows:
                yield left, right


def _add_tokens(built: Any, tokens: list[str], header: GgufHeader) -> None:
    """Tokens that text is searched for before anything is merged: all that are no ordinary ones."""
    from tokenizers import AddedToken

    def added(kinds: tuple[int, ...], **options: bool) -> list[Any]:
        pairs = zip(tokens, _read(header, "token_type") or [], strict=False)
        return [
            AddedToken(t, normalized=False, rstrip=drops_spaces_after(header, t), **options)
            for t, kind in pairs
            if kind in kinds
        ]

    if plain := added((USER_DEFINED,)):
        built.add_tokens(plain)
    built.add_special_tokens(added((CONTROL, UNKNOWN), special=True))


def _add_template(
    built: Any, tokens: list[str], header: GgufHeader, *, bos_by_default: bool
) -> None:
    """Put the tokens around a text that the file says, or llama.cpp by default for its kind."""
    from tokenizers import processors

    by_default = bos_by_default or _read(header, "pre") in _WHOLE_WORDS
    around = []
    for name, wanted in (("bos", by_default), ("eos", False)):
        flag = _read(header, f"add_{name}_token")
        row = header.special_token(name)
        put = wanted if flag is None else flag
        around.append((tokens[row], row) if put and row is not None else None)
    bos, eos = around
    if bos or eos:
        single = [*([f"{bos[0]}:0"] if bos else []), "$A:0", *([f"{eos[0]}:0"] if eos else [])]
        built.post_processor = processors.TemplateProcessing(
            single=single,
            pair=[*single, *(part.replace("$A", "$B").replace(":0", ":1") for part in single)],
            special_tokens=[found for found in around if found],
        )
