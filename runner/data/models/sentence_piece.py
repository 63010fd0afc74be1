"""Builds a tokenizer from a SentencePiece file, if there is no other file.

transformers 5 goes by a class's name and leaves out parts of what the file says: the space before
a text, its normalization, the type of its model.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
"""What such files are called."""
_CONTROL, _USER_DEFINED = 3, 4
"""``SentencePiece.Type`` in sentencepiece_model.proto."""
_UNIGRAM = 1
"""``TrainerSpec.ModelType`` there."""
_BEGINS = ("Llama", "CodeLlama", "Gemma")
_ENDS = ("T5",)
"""Tokenizer classes, by how their names begin, that add a token to each text when not told."""
_PLAIN = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "SentencePieceBackend")
_BESIDE = ("special_tokens_map.json", "*.jinja")


def sentence_piece_file(directory: Path) -> Path | None:
    """The SentencePiece file that is all of a directory's tokenizer."""
    if (directory / "tokenizer.json").is_file():
        return None
    return next((file for name in NAMES if (file := directory / name).is_file()), None)


def keeps_ids(kind: str) -> bool:
    """Whether the ids of a class of tokenizers are the file's own; XLM-R's and others' are not."""
    return kind.startswith((*_BEGINS, *_ENDS, *_PLAIN))


def added_tokens(kind: str, settings: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a token begins each text, and whether one ends it.

    Args:
        kind: The tokenizer's class.
        settings: Content of tokenizer_config.json, which may say so itself. What it leaves out is
            the class's default in transformers 4, with which models were trained.
    """
    begins, ends = settings.get("add_bos_token"), settings.get("add_eos_token")
    return (
        kind.startswith(_BEGINS) if begins is None else bool(begins),
        kind.startswith(_ENDS) if ends is None else bool(ends),
    )


def build(directory: Path, file: Path) -> Any:
    """A fast tokenizer that does what the file says.

    Args:
        directory: The model's, for the tokenizer's settings and further tokens.
        file: See ``sentence_piece_file``.
    """
    from transformers import PreTrainedTokenizerFast

    pieces = _read(file)
    settings_file = directory / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text("utf-8")) if settings_file.is_file() else {}
    spec = pieces.trainer_spec
    for name in ("bos", "eos", "unk"):
        if getattr(spec, f"{name}_id") >= 0:
            settings.setdefault(f"{name}_token", getattr(spec, f"{name}_piece"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    older = directory / "added_tokens.json"
    if older.is_file() and "added_tokens_decoder" not in settings:
        further: dict[str, int] = json.loads(older.read_text("utf-8"))
        settings["added_tokens_decoder"] = {
            str(row): {"content": token, "normalized": False} for token, row in further.items()
        }
    with tempfile.TemporaryDirectory() as place:
        for path in (path for name in _BESIDE for path in directory.glob(name)):
            shutil.copyfile(path, Path(place) / path.name)
        (Path(place) / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        _fast(pieces).save(str(Path(place) / "tokenizer.json"))
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(place)
    tokenizer.name_or_path = str(directory)
    return tokenizer


def _read(file: Path) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    pieces: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    pieces.ParseFromString(file.read_bytes())
    return pieces


def _fast(pieces: Any) -> Any:
    """Model, normalization and decoding of a ``ModelProto``, as the package tokenizers has them."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
    )
    from transformers.tokenization_utils_base import generate_merges

    trainer, normal = pieces.trainer_spec, pieces.normalizer_spec
    listed = [(piece.piece, piece.score) for piece in pieces.pieces]
    whole = [piece.piece for piece in pieces.pieces if piece.type == _USER_DEFINED]
    made: Any
    if trainer.model_type == _UNIGRAM:
        made = models.Unigram(listed, trainer.unk_id, trainer.byte_fallback)
    else:
        vocabulary = {piece: row for row, (piece, _) in enumerate(listed)}
        made = models.BPE(
            vocabulary,
            generate_merges(vocabulary),
            unk_token=listed[trainer.unk_id][0],
            fuse_unk=True,
            byte_fallback=trainer.byte_fallback,
            ignore_merges=bool(whole),
        )
    built = Tokenizer(made)
    steps: list[Any] = []
    if normal.precompiled_charsmap:
        steps.append(normalizers.Precompiled(normal.precompiled_charsmap))
    if normal.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if normal.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    built.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    undone: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if normal.add_dummy_prefix:
        undone.append(decoders.Strip(" ", 1, 0))
    built.decoder = decoders.Sequence(undone)
    if whole:
        # The longest that fits is taken out before the rest is split.
        either = "|".join(re.escape(piece) for piece in sorted(whole, key=len, reverse=True))
        built.pre_tokenizer = pre_tokenizers.Split(Regex(either), "isolated")
    control = [piece.piece for piece in pieces.pieces if piece.type == _CONTROL]
    built.add_special_tokens([AddedToken(piece, normalized=False) for piece in control])
    return built
