"""Windows out of texts and mixes: how many, which, and what is said when there are too few."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from runner.config.compose import quoted
from runner.config.schema.calibration import Calibration, Cut, Source, windows_of_parts
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.root import Config
from runner.config.schema.text import Text, TextKind, TextReader
from runner.config.text_by_name import resolve_text
from runner.data.texts.calibration import cut_windows, digest
from runner.data.texts.documents import write_documents
from runner.data.texts.readers import read_documents
from runner.data.texts.windows import bos_determinant
from runner.errors import StageError, UsageError
from runner.evaluation.metrics.overlap import overlap
from runner.methods import used_recipe
from runner.store.lineage import Lineage

pytestmark = pytest.mark.unit

Compose = Callable[..., Config]


def mix(samples: int, *sources: Source) -> Calibration:
    return Calibration(name="mix", sources=list(sources), samples=samples, sequence_length=4)


@pytest.mark.parametrize(
    ("samples", "shares", "counts"),
    [
        (16, [{"weight": 0.5}, {"weight": 0.5}], [8, 8]),
        (16, [{"weight": 1}, {"weight": 3}], [4, 12]),
        (10, [{"weight": 1}, {"weight": 1}, {"weight": 1}], [4, 3, 3]),
        (16, [{"samples": 4}, {"samples": 12}], [4, 12]),
        (16, [{"samples": 4}, {"weight": 1}, {"weight": 2}], [4, 4, 8]),
        (7, [{"weight": 0.7}, {"weight": 0.3}], [5, 2]),
    ],
)
def test_windows_are_shared_out(
    samples: int, shares: list[dict[str, Any]], counts: list[int]
) -> None:
    sources = [Source(f"t{i}", **share) for i, share in enumerate(shares)]
    assert windows_of_parts(mix(samples, *sources)) == counts


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([{}], "either a weight or samples"),
        ([{"weight": 1.0, "samples": 2}], "either a weight or samples"),
        ([{"weight": -1.0}], "no positive share"),
        ([{"samples": 20}], "count 20 windows, calibration.samples is 16"),
        ([{"samples": 4}], "count 4 windows, calibration.samples is 16"),
        ([{"weight": 1}, {"weight": 0.001}], "t1 gets none of the 16"),
    ],
)
def test_shares_that_make_no_sense(shares: list[dict[str, Any]], said: str) -> None:
    sources = [Source(f"t{i}", **share) for i, share in enumerate(shares)]
    with pytest.raises(ValueError, match=said):
        windows_of_parts(mix(16, *sources))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word a token, numbered as in the text: w7 is 7."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(400)} | {"[UNK]": 400, "user": 401, "assistant": 402}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    made.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    place = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(place)
    return place


def text(folder: Path, *documents: Any) -> Path:
    folder.mkdir()
    write_documents(folder, list(documents))
    return folder


def words(start: int, stop: int) -> str:
    return " ".join(f"w{i}" for i in range(start, stop))


def cut(calibration: Calibration, tokenizer: Path, *folders: Path) -> Any:
    names = [f"t{i}" for i in range(len(folders))]
    return cut_windows(calibration, names, list(folders), tokenizer, False)


def one(samples: int, length: int, **fields: Any) -> Calibration:
    source = [Source("t0", weight=1.0)]
    return Calibration("c", sources=source, samples=samples, sequence_length=length, **fields)


def test_windows_are_full_disjoint_and_fixed_by_the_seed(tokenizer: Path, tmp_path: Path) -> None:
    folder = text(tmp_path / "a", words(0, 30), words(30, 60))
    windows, parts = cut(one(5, 8), tokenizer, folder)
    assert [len(window) for window in windows] == [8] * 5
    assert all(window == list(range(window[0], window[0] + 8)) for window in windows)
    assert len({window[0] for window in windows}) == 5
    assert all(window[0] % 8 == 0 for window in windows), "documents are joined before cutting"
    assert (parts[0].windows, parts[0].tokens, parts[0].documents) == (5, 40, 2)
    again, _ = cut(one(5, 8), tokenizer, folder)
    other, _ = cut(one(5, 8, seed=1), tokenizer, folder)
    assert digest(again) == digest(windows) != digest(other)


@pytest.mark.parametrize(
    ("family", "first"), [("gemma3_text", {62}), ("llama", {0, 8, 16, 24, 32})]
)
def test_windows_of_families_that_are_lost_without_bos_begin_with_it(
    tokenizer: Path, tmp_path: Path, family: str, first: set[int]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tokenizer, model)
    (model / "config.json").write_text(json.dumps({"model_type": family}))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["bos_token"] = "w62"
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = text(tmp_path / "a", words(0, 40))
    calibrated, _ = cut(one(5, 8), model, folder)
    assert {window[0] for window in calibrated} == first
    assert {len(window) for window in calibrated} == {8}
    assert bool(bos_determinant(model)) is (len(first) == 1)


def test_the_start_of_a_text_can_be_left_alone(tokenizer: Path, tmp_path: Path) -> None:
    windows, _ = cut(one(4, 8, skip_tokens=32), tokenizer, text(tmp_path / "a", words(0, 64)))
    assert sorted(window[0] for window in windows) == [32, 40, 48, 56]


def test_documents_that_are_evaluated_can_be_left_alone(tokenizer: Path, tmp_path: Path) -> None:
    folder = text(tmp_path / "a", words(0, 20), words(20, 40), words(40, 60), words(0, 20))
    windows, (part,) = cut(one(2, 8, skip_documents=2), tokenizer, folder)
    # The last document is a copy of one that is skipped.
    assert sorted(window[0] for window in windows) == [40, 48]
    assert (part.documents, part.duplicates) == (2, 1)
    with pytest.raises(StageError, match=r"has 4 documents, all of which are skipped"):
        cut(one(2, 8, skip_documents=4), tokenizer, folder)


def test_a_mix_is_shuffled_and_takes_nothing_twice(tokenizer: Path, tmp_path: Path) -> None:
    shared = words(0, 40)
    first = text(tmp_path / "a", shared, shared.upper().replace("W", "w"), words(40, 80))
    second = text(tmp_path / "b", shared, words(200, 300))
    calibration = mix(16, Source("a", weight=1), Source("b", weight=1))
    windows, parts = cut(calibration, tokenizer, first, second)
    assert [part.windows for part in parts] == [8, 8]
    assert [part.duplicates for part in parts] == [1, 1]
    assert len({tuple(window) for window in windows}) == 16
    from_second = [window[0] >= 200 for window in windows]
    assert sum(from_second) == 8
    assert from_second != sorted(from_second), "shuffled, not one text after the other"


def test_per_sample_takes_the_beginnings_of_long_documents(tokenizer: Path, tmp_path: Path) -> None:
    folder = text(tmp_path / "a", words(0, 20), words(100, 103), words(200, 206))
    windows, _ = cut(one(1, 8, cut=Cut.per_sample), tokenizer, folder)
    assert windows == [list(range(8))]
    windows, _ = cut(one(2, 8, cut=Cut.per_sample, minimum_length=5), tokenizer, folder)
    assert sorted(windows) == [list(range(8)), list(range(200, 206))]
    with pytest.raises(StageError, match=r"has 1 documents of at least 8 tokens, .* asks for 2"):
        cut(one(2, 8, cut=Cut.per_sample), tokenizer, folder)


def test_conversations_with_and_without_the_template(tokenizer: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3"}]
    folder = text(tmp_path / "a", turns)
    assert cut(one(1, 3), tokenizer, folder)[0] == [[1, 2, 3]]
    windows, _ = cut(one(1, 5, apply_chat_template=True), tokenizer, folder)
    assert windows == [[401, 1, 2, 402, 3]]


def test_too_few_tokens_are_told_in_numbers(tokenizer: Path, tmp_path: Path) -> None:
    folder = text(tmp_path / "a", words(0, 20))
    said = r"t0 has 20 tokens, calibration asks for 40 \(5 windows of 8\): set calibration.samples"
    with pytest.raises(StageError, match=said):
        cut(one(5, 8), tokenizer, folder)
    with pytest.raises(StageError, match="has 1 different windows of 8 tokens"):
        cut(one(2, 8), tokenizer, text(tmp_path / "b", " ".join(["w1"] * 40)))


def test_windows_of_almost_no_distinct_tokens_are_left_out_and_counted(
    tokenizer: Path, tmp_path: Path
) -> None:
    """Others are taken in their place; of a mix each text has its own count."""
    junk = " ".join(["w7 w8"] * 32)
    first = text(tmp_path / "a", f"{words(0, 64)} {junk} {words(100, 196)}")
    second = text(tmp_path / "b", words(200, 360))
    calibration = mix(10, Source("a", weight=1), Source("b", weight=1))
    calibration.sequence_length = 32
    windows, parts = cut(calibration, tokenizer, first, second)
    assert [(part.windows, part.tokens, part.left_out) for part in parts] == [
        (5, 160, 2),
        (5, 160, 0),
    ]
    assert all(len(set(window)) == 32 for window in windows)
    with pytest.raises(
        StageError,
        match=r"has 5 different windows of 32 tokens \(2 others left out: almost no distinct tok",
    ):
        cut(one(6, 32), tokenizer, first)


def test_documents_of_almost_no_distinct_tokens_are_left_out(
    tokenizer: Path, tmp_path: Path
) -> None:
    folder = text(tmp_path / "a", " ".join(["w7"] * 40), words(0, 40), " ".join(["w7 w8"] * 20))
    windows, (part,) = cut(one(1, 32, cut=Cut.per_sample), tokenizer, folder)
    assert windows == [list(range(32))]
    assert part.left_out <= 2
    with pytest.raises(StageError, match=r"has 1 documents of at least 32 tokens \(2 others left"):
        cut(one(2, 32, cut=Cut.per_sample), tokenizer, folder)


def test_texts_of_a_mix_are_options_or_described(composed: Compose, tmp_path: Path) -> None:
    mine = f"{{name: local, path: {quoted(tmp_path)}}}"
    config = composed(
        "calibration=mixed",
        f"calibration.sources=[{{text: bible, weight: 1}}, {{text: {mine}, samples: 4}}]",
    )
    bible, local = (part.text for part in config.calibration.parts)
    assert (bible.name, bible.kind, bible.field) == ("bible", TextKind.package, "text")
    assert (local.kind, local.reader, local.path) == (
        TextKind.file,
        TextReader.auto,
        str(tmp_path),
    )


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("bibel", "there is no text bibel .*options of text: bible"),
        ({"name": "local"}, "needs a path"),
        ({"name": "bible", "feild": "x"}, "did you mean field"),
        ({"path": "x"}, "needs text: NAME"),
        (7, "needs text: NAME"),
    ],
)
def test_a_source_that_names_no_text(stated: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve_text(stated)


@pytest.mark.parametrize(
    ("overrides", "ending"),
    [
        ([], "gptq-w4a16-g64"),
        (["calibration=bible"], "gptq-w4a16-g64,calibration=bible"),
        (["calibration=mixed_bible_openwebtext"], ",calibration=bible+openwebtext"),
        (
            [
                "calibration=mixed",
                "calibration.sources=[{text: bible, weight: 1}, {text: openwebtext, weight: 3}]",
            ],
            ",calibration=bible*1+openwebtext*3",
        ),
        (["calibration=bible", "method=rtn"], "rtn-w4a16-g64"),
    ],
)
def test_the_label_tells_what_was_looked_at(
    overrides: list[str], ending: str, composed: Compose
) -> None:
    assert used_recipe(composed(*overrides)).label.endswith(ending)


def test_overlap_counts_sequences_of_words() -> None:
    evaluated = ["The quick, brown fox jumps over the lazy dog again and again."]
    found = overlap(evaluated, ["A QUICK brown fox jumps over the lazy dog!", "unrelated"], 8)
    assert (found.total, found.shared) == (5, 1)
    assert found.share == pytest.approx(0.2)
    assert found.example == "quick brown fox jumps over the lazy dog"
    split = ["quick brown fox jumps", "over the lazy dog"]
    assert overlap(evaluated, split, 8).shared == 0
    assert overlap(["too short"], ["too short"], 8).share == 0.0
    apart = ["the quick brown fox jumps", "over the lazy dog"]
    assert overlap(apart, evaluated, 5).shared == 1, "no sequence reaches into another window"


def test_weights_that_changed_in_place_make_checkpoints_stale(tmp_path: Path) -> None:
    model = Model(name="mine", kind=ModelKind.local, path="/models/mine")
    recipe = {"recipe": {"bits": 4}, "calibration_windows": "a"}
    first = Lineage(tmp_path, model, {"model": "files:one", **recipe})
    assert first.made_from_other_weights() is None
    first.note()
    assert first.made_from_other_weights() is None
    changed = Lineage(tmp_path, model, {"model": "files:two", **recipe, "calibration_windows": "b"})
    assert changed.made_from_other_weights()
    other_recipe = Lineage(tmp_path, model, {"model": "files:two", "recipe": {"bits": 3}})
    assert other_recipe.made_from_other_weights() is None
    elsewhere = Model(name="mine", kind=ModelKind.local, path="/models/other")
    assert (
        Lineage(tmp_path, elsewhere, {"model": "files:two", **recipe}).made_from_other_weights()
        is None
    )
    # A fingerprint of another kind was taken of other files: it tells nothing.
    assert (
        Lineage(tmp_path, model, {"model": "more:one", **recipe}).made_from_other_weights() is None
    )
    changed.note()
    assert changed.made_from_other_weights() is None
    # What a seed generates cannot change.
    made = Model(name="tiny", kind=ModelKind.generated)
    Lineage(tmp_path, made, {"model": "seed 0"}).note()
    assert Lineage(tmp_path, made, {"model": "seed 1"}).made_from_other_weights() is None


def parquet(path: Path, **columns: list[Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_and_conversations_are_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hello"}]
    path = parquet(tmp_path / "t.parquet", text=["one", "two"], messages=[turns, turns])
    stated = {"kind": TextKind.file, "reader": TextReader.parquet, "path": str(path)}
    assert read_documents(Text("t", field="text", **stated), tmp_path) == ["one", "two"]
    assert read_documents(Text("t", field="text", documents=1, **stated), tmp_path) == ["one"]
    chat = Text("t", field="messages", conversation=True, **stated)
    assert read_documents(chat, tmp_path) == [turns, turns]
    with pytest.raises(UsageError, match=r"no column words \(columns: text, messages\)"):
        read_documents(Text("t", field="words", **stated), tmp_path)
    with pytest.raises(UsageError, match="set conversation=true"):
        read_documents(Text("t", field="messages", **stated), tmp_path)


def test_data_sets_are_read_out_of_the_hubs_cache(
    tmp_path: Path, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "datasets--HuggingFaceH4--ultrachat_200k"
    snapshot = repository / "snapshots" / "0123abc" / "data"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    turns = [[{"role": "user", "content": f"question {i}"}] for i in range(3)]
    parquet(snapshot / "train_sft-00000-of-00003-a3.parquet", prompt=["x"] * 3, messages=turns)
    parquet(snapshot / "test_sft-00000-of-00001-b4.parquet", prompt=["y"], messages=turns[:1])
    chat = composed("calibration=ultrachat").calibration.text
    assert chat is not None
    assert read_documents(chat, tmp_path) == turns
    absent = composed("calibration=pile").calibration.text
    assert absent is not None
    with pytest.raises(StageError, match="NeelNanda/pile-10k cannot be downloaded from the hub"):
        read_documents(absent, tmp_path)


def test_gzipped_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "c4-train.00000-of-01024.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": "page"}).encode()))
    stated = Text("c", TextKind.file, TextReader.jsonl, "text", path=str(path))
    assert read_documents(stated, tmp_path) == ["page"]
