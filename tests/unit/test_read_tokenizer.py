"""Tokenizers do what their files say, whatever class they name; or one sentence says why not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from runner.data.models.read_tokenizer import _taken_whole, read_tokenizer
from runner.errors import StageError

pytestmark = pytest.mark.unit

TEXT = "\n".join(
    f"line {row}: the quick brown fox jumps over {row * 7} lazy dogs, na\u00efve caf\u00e9; "
    f"def f(x): return x ** {row}  # two  spaces"
    for row in range(300)
)
LIKE_LLAMA: dict[str, Any] = {
    "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
    "byte_fallback": True, "split_digits": True, "allow_whitespace_only_pieces": True,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "bpe": {"model_type": "bpe", "byte_fallback": True},
    "bpe_like_llama": {"model_type": "bpe", **LIKE_LLAMA},
    "bpe_like_gemma": {
        "model_type": "bpe", "add_dummy_prefix": False, **LIKE_LLAMA,
        "user_defined_symbols": ["<tool>", "  ", "\n"],
    },
    "unigram": {"model_type": "unigram"},
    "unigram_like_t5": {
        "model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1,
    },
}  # fmt: skip
WORDS = {"model_type": "word", "normalization_rule_name": "identity"}
TEXTS = [
    "The quick brown fox", " one space before", "two  spaces,   three", "tabs\tand\n\nlines ",
    "na\u00efve caf\u00e9 \uff26\uff35\uff2c\uff2c \ufb01", "\u65e5\u672c\u8a9e \U0001f642",
    "x1234y", "<tool> and <tool>", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a SentencePiece file of a kind."""
    place = tmp_path_factory.mktemp("pieces")
    (place / "text").write_text(TEXT)

    def train(kind: str) -> Path:
        file = place / f"{kind}.model"
        if not file.exists():
            sentencepiece.SentencePieceTrainer.train(
                input=str(place / "text"), model_prefix=str(place / kind), vocab_size=400,
                hard_vocab_limit=False, minloglevel=2, **KINDS.get(kind, WORDS),
            )  # fmt: skip
        return file

    return train


def model(place: Path, model_type: str = "llama", **settings: Any) -> Path:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({"model_type": model_type}))
    if settings:
        (place / "tokenizer_config.json").write_text(json.dumps(settings))
    return place


def byte_level(place: Path) -> Path:
    """A byte-level tokenizer.json with every digit apart, as SmolLM's."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    built.train_from_iterator([TEXT], trainer)
    built.save(str(place / "tokenizer.json"))
    return place / "tokenizer.json"


NAMED = [
    ("llama", {"tokenizer_class": "LlamaTokenizer"}, True),
    ("llama", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, False),
    ("llama", {}, True),
    ("mistral", {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True}, True),
    ("gemma2", {"tokenizer_class": "GemmaTokenizer"}, True),
    ("qwen3", {"tokenizer_class": "PreTrainedTokenizerFast"}, False),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("model_type", "settings", "begins"), NAMED)
def test_a_sentence_piece_file_alone_is_read_as_sentence_piece_reads_it(
    model_type: str,
    settings: dict[str, Any],
    begins: bool,
    kind: str,
    pieces: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    file = pieces(kind)
    place = model(tmp_path / "model", model_type, **settings)
    shutil.copy(file, place / "tokenizer.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    found = read_tokenizer(place, False)
    for text in TEXTS:
        expected = processor.encode(text)
        assert found(text, add_special_tokens=False)["input_ids"] == expected
        if processor.unk_id() not in expected:  # SentencePiece shows those by a sign of its own
            back = found.decode(expected, clean_up_tokenization_spaces=False)
            assert back == processor.decode(expected)
    first = [processor.bos_id()] if begins and processor.bos_id() >= 0 else []
    assert found("The fox")["input_ids"] == first + processor.encode("The fox")
    assert found.eos_token_id == processor.eos_id()


def test_a_text_to_text_file_ends_texts(pieces: Callable[[str], Path], tmp_path: Path) -> None:
    place = model(tmp_path / "model", tokenizer_class="T5Tokenizer")
    file = shutil.copy(pieces("unigram_like_t5"), place / "spiece.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert read_tokenizer(place, False)("The fox")["input_ids"] == [*processor.encode("The fox"), 1]


@pytest.mark.parametrize("where", ["added_tokens.json", "tokenizer_config.json", "jinja"])
def test_tokens_and_templates_beside_a_sentence_piece_file_count(
    where: str, pieces: Callable[[str], Path], tmp_path: Path
) -> None:
    place = model(tmp_path / "model")
    file = shutil.copy(pieces("bpe_like_llama"), place / "tokenizer.model")
    size = sentencepiece.SentencePieceProcessor(model_file=str(file)).get_piece_size()
    settings: dict[str, Any] = {"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ 1 }}"}
    if where == "jinja":
        (place / "chat_template.jinja").write_text(settings.pop("chat_template"))
    if where == "added_tokens.json":
        (place / where).write_text(json.dumps({"<|end|>": size}))
    else:
        settings["added_tokens_decoder"] = {str(size): {"content": "<|end|>", "special": True}}
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    found = read_tokenizer(place, False)
    assert found("fox<|end|>")["input_ids"][-1] == size
    assert found.chat_template == "{{ 1 }}"


@pytest.mark.parametrize("named", ["LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", None])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2"])
def test_tokenizer_json_is_followed_whatever_class_is_named(
    model_type: str, named: str | None, tmp_path: Path
) -> None:
    place = model(tmp_path / "model", model_type, **({"tokenizer_class": named} if named else {}))
    meant = Tokenizer.from_file(str(byte_level(place)))
    found = read_tokenizer(place, False)
    for text in TEXTS:
        assert found(text, add_special_tokens=False)["input_ids"] == meant.encode(text).ids


def test_a_space_that_settings_put_before_texts_stays(tmp_path: Path) -> None:
    place = model(tmp_path / "m", "gpt2", tokenizer_class="GPT2Tokenizer", add_prefix_space=True)
    meant = Tokenizer.from_file(str(byte_level(place)))
    assert read_tokenizer(place, False)("fox")["input_ids"] == meant.encode(" fox").ids


def test_files_of_gpt2_are_read(tmp_path: Path) -> None:
    meant = Tokenizer.from_file(str(byte_level(tmp_path)))
    place = model(tmp_path / "model", "gpt2", tokenizer_class="GPT2Tokenizer")
    meant.model.save(str(place))
    assert sorted(path.name for path in place.glob("*s.txt")) == ["merges.txt"]
    text = "The quick brown fox jumps"
    assert read_tokenizer(place, False)(text)["input_ids"] == meant.encode(text).ids


def test_a_vocabulary_that_only_its_class_knows_to_read_is_read(tmp_path: Path) -> None:
    place = model(tmp_path / "model", "bert", tokenizer_class="BertTokenizer")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "jump", "##s"]
    (place / "vocab.txt").write_text("\n".join(words))
    assert read_tokenizer(place, False)("Fox jumps")["input_ids"] == [2, 5, 6, 7, 3]


def test_what_a_tokenizers_own_code_makes_is_taken(tmp_path: Path) -> None:
    own = type("Own", (), {"__module__": "transformers_modules.m.tokenization", "__init__": str})
    other = type("Other", (), {"__init__": str})
    assert _taken_whole(object.__new__(own), tmp_path)
    assert not _taken_whole(object.__new__(other), tmp_path)


def tiktoken(place: Path) -> None:
    (place / "tokenizer.model").write_text("IQ== 0\nIg== 1\nIw== 2\n")


def broken(place: Path) -> None:
    (place / "tokenizer.json").write_text('{"version": "1.0", "model"')


def nothing(place: Path) -> None:
    (place / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')


def unparsed(place: Path) -> None:
    byte_level(place)
    (place / "tokenizer_config.json").write_text("{")


def bytes_without_a_splitter(place: Path) -> None:
    Tokenizer.from_file(str(byte_level(place))).model.save(str(place))
    (place / "tokenizer.json").unlink()


def bytes_of_another_class(place: Path) -> None:
    bytes_without_a_splitter(place)
    (place / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (tiktoken, r"tokenizer.model is not a SentencePiece model \(a tiktoken.*tokenizer.json"),
        (broken, "tokenizer.json is not a valid tokenizer: .*download it again"),
        (nothing, "has no tokenizer: none of tokenizer.json"),
        (unparsed, "tokenizer_config.json is not JSON"),
        (bytes_without_a_splitter, "do not say how text is split, and no tokenizer_class"),
        (bytes_of_another_class, "cannot be read as its files specify: .*comes back as"),
    ],
)
def test_what_cannot_be_read_is_refused_with_one_sentence(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    place = model(tmp_path / "model")
    write(place)
    with pytest.raises(StageError, match=message) as refused:
        read_tokenizer(place, False)
    assert "\n" not in str(refused.value)


def test_a_sentence_piece_file_of_an_unknown_kind_is_refused(
    pieces: Callable[[str], Path], tmp_path: Path
) -> None:
    place = model(tmp_path / "model", tokenizer_class="LlamaTokenizer")
    shutil.copy(pieces("word"), place / "tokenizer.model")
    with pytest.raises(StageError, match=r"where the file has.*save it with a tokenizer\.json"):
        read_tokenizer(place, False)


def test_ids_that_are_not_the_files_own_are_refused(
    pieces: Callable[[str], Path], tmp_path: Path
) -> None:
    place = model(tmp_path / "model", "xglm", tokenizer_class="XGLMTokenizer")
    shutil.copy(pieces("bpe"), place / "sentencepiece.bpe.model")
    with pytest.raises(StageError, match=r"where the file has.*save it with a tokenizer\.json"):
        read_tokenizer(place, False)
