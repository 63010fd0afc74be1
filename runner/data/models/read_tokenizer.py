"""Reads a model's tokenizer, and checks that it does what its files specify."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.data.models import sentence_piece
from runner.errors import StageError

_FILES = (
    "tokenizer.json", *sentence_piece.NAMES, "vocab.json", "vocab.txt", "tekken.json",
    "*.tiktoken", "*.spm", "*.bpe",
)  # fmt: skip
_PROBES = (
    "The quick brown fox jumps over 1234567 lazy dogs, doesn't it?",
    " a space before,  two  inside,   three\tand a tab ",
    "def main(x):\n    return [x**2 for x in range(10)]\n\n\n# end",
    "naïve café, Ünïcode: 日本語, 한국어, Ελληνικά, русский 🙂",
    "\uff26\uff35\uff2c\uff2c width, \ufb01 ligature, \u00bd, e\u0301 apart",
)
"""What tokenizers are compared on: spaces, digits, code, scripts, normalization."""
_SHOWN = 6


def read_tokenizer(directory: Path, trust_remote_code: bool) -> Any:
    """The tokenizer of a model's directory.

    transformers 5 makes some tokenizers by their class's name where it differs from what the files
    say (a Llama tokenizer of byte-level tokens, a SentencePiece file). What it makes is compared
    with the package that the files are of, and where it differs the files are followed.

    Args:
        directory: The model's.
        trust_remote_code: Whether a tokenizer's own code may run.

    Raises:
        StageError: There is none, or it cannot be read as its files specify.
    """
    if not any(any(directory.glob(name)) for name in _FILES) and not trust_remote_code:
        raise StageError(
            f"{directory} has no tokenizer: none of {', '.join(_FILES[:4])} is there; download "
            "the tokenizer's files, or save them with tokenizer.save_pretrained(directory)"
        )
    file = sentence_piece.sentence_piece_file(directory)
    tokenizer, reason = _automatic(directory, trust_remote_code)
    if tokenizer is not None and _taken_whole(tokenizer, directory):
        return tokenizer
    encode = _encoder(directory, file)
    kind = _kind(directory, tokenizer)
    if file is not None and encode is not None and sentence_piece.keeps_ids(kind):
        built = sentence_piece.build(directory, file)
        difference = _difference(built, encode)
        if difference is None:
            return _begun(built, directory, kind)
        raise StageError(_refusal(directory, difference))
    if tokenizer is None and encode is None:
        raise StageError(_refusal(directory, reason))
    if encode is None:
        return _lossless(tokenizer, directory)
    difference = reason if tokenizer is None else _difference(tokenizer, encode)
    if difference is not None and file is None:
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
        difference = _difference(tokenizer, encode)
    if difference is not None:
        raise StageError(_refusal(directory, difference))
    return tokenizer


def _automatic(directory: Path, trust_remote_code: bool) -> tuple[Any, str]:
    """What transformers makes of it, or why it makes nothing of it."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code), ""
    except Exception as error:  # whatever a file's parser raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if reason.startswith("Couldn't instantiate"):
            reason = "they do not say how text is split, and no tokenizer_class that would is named"
        return None, reason


def _taken_whole(found: Any, directory: Path) -> bool:
    """Whether it is what its own code makes it, or what tokenizer.json says.

    Classes with an ``__init__`` of their own build another (``convert_to_native_format``).
    """
    kind = type(found)
    if kind.__module__.startswith("transformers_modules"):
        return True
    builds = "__init__" in kind.__dict__ and kind.__name__ != "TokenizersBackend"
    return (directory / "tokenizer.json").is_file() and not builds


def _kind(directory: Path, found: Any) -> str:
    """The class of tokenizers that the directory names, or that goes with its model."""
    named = _settings(directory).get("tokenizer_class")
    if named and not named.startswith("PreTrainedTokenizer"):
        return str(named)
    if named is None and _model_type(directory) in _LLAMA_TOKENIZED:
        return "LlamaTokenizer"
    return str(named or type(found).__name__)


_LLAMA_TOKENIZED = ("llama", "mistral", "mixtral", "phi3")
"""Models whose tokenizer is Llama's when their files do not say."""


def _encoder(directory: Path, file: Path | None) -> Callable[[str], list[int]] | None:
    """What the files themselves make of a text; ``None`` where nothing but transformers knows."""
    if (directory / "tokenizer.json").is_file():
        return _tokenizers(directory)
    if file is None:
        return None
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError):
        raise StageError(
            f"{file} is not a SentencePiece model (a tiktoken vocabulary does not say how text is "
            "split, or which special tokens there are): put the model's tokenizer.json beside it"
        ) from None

    def encode(text: str) -> list[int]:
        ids: list[int] = processor.encode(text)
        return ids

    return encode


def _tokenizers(directory: Path) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer

    file = directory / "tokenizer.json"
    try:
        read = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing narrower
        raise StageError(f"{file} is not a valid tokenizer: {error}; download it again") from None
    read.no_truncation()
    read.no_padding()
    # Some byte-level tokenizers put a space before a text by their settings, not by the file.
    spaced = _settings(directory).get("add_prefix_space")
    before = spaced and "ByteLevel(add_prefix_space=False" in repr(read.pre_tokenizer)

    def encode(text: str) -> list[int]:
        padded = f" {text}" if before and not text.startswith(" ") else text
        ids: list[int] = read.encode(padded, add_special_tokens=False).ids
        return ids

    return encode


def _difference(found: Any, encode: Callable[[str], list[int]]) -> str | None:
    """Where two tokenizers differ, for a message."""
    for text in _PROBES:
        made, meant = found(text, add_special_tokens=False)["input_ids"], encode(text)
        if made != meant:
            first = next(
                (row for row, (a, b) in enumerate(zip(made, meant, strict=False)) if a != b),
                min(len(made), len(meant)),
            )
            shown = [
                found.convert_ids_to_tokens(ids[first : first + _SHOWN]) for ids in (made, meant)
            ]
            return f"{text!r} becomes {shown[0]} where the file has {shown[1]}"
    return None


def _lossless(found: Any, directory: Path) -> Any:
    """See that a tokenizer of a vocabulary of bytes loses nothing."""
    if not (directory / "vocab.json").is_file():
        return found
    text = _PROBES[2]
    ids = found(text, add_special_tokens=False)["input_ids"]
    back = found.decode(ids, clean_up_tokenization_spaces=False)
    if back.strip() != text.strip():
        raise StageError(_refusal(directory, f"{text!r} comes back as {back!r}"))
    return found


def _begun(found: Any, directory: Path, kind: str) -> Any:
    """Let a tokenizer add the tokens that its class adds when it is not told."""
    begins, ends = sentence_piece.added_tokens(kind, _settings(directory))
    ids = found("a")["input_ids"]
    if begins and found.bos_token_id is not None and ids[:1] != [found.bos_token_id]:
        found.add_bos_token = True
    if ends and found.eos_token_id is not None and ids[-1:] != [found.eos_token_id]:
        found.add_eos_token = True
    return found


def _refusal(directory: Path, reason: str) -> str:
    return (
        f"the tokenizer of {directory} cannot be read as its files specify: {reason}; save it with "
        "a tokenizer.json, with the version of transformers that wrote it"
    )


def _settings(directory: Path) -> dict[str, Any]:
    return _json(directory / "tokenizer_config.json")


def _model_type(directory: Path) -> str | None:
    return _json(directory / "config.json").get("model_type")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StageError(f"{file} is not JSON: {error}") from None
    return content if isinstance(content, dict) else {}
