"""Tokens that a model has no embedding for, and chat templates that refuse a conversation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from runner.config.schema.calibration import Calibration, Source
from runner.config.schema.eval import PerplexityProtocol
from runner.data.texts.calibration import cut_windows
from runner.data.texts.documents import write_documents, write_places
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.data.texts.vocabulary import embedding_rows
from runner.data.texts.windows import leading_windows
from runner.errors import StageError

pytestmark = pytest.mark.unit

ROLES_ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m.content }} "
    "{% endfor %}"
)


def model(
    place: Path, rows: int, template: Any = None, name: str = "model.embed_tokens.weight"
) -> Path:
    """A tokenizer of 40 words, of which the last is w39, and an embedding of some rows."""
    inner = Tokenizer(models.WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0", bos_token="w1")
    made.chat_template = template
    made.save_pretrained(place)
    save_file({name: np.zeros((rows, 4), np.float32)}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"vocab_size": 40}))
    return place


def text(place: Path, *documents: Any) -> Path:
    place.mkdir()
    write_documents(place, list(documents))
    write_places(place, [f"line {number} of chat.jsonl" for number in range(1, 1 + len(documents))])
    return place


def words(*numbers: int) -> str:
    return " ".join(f"w{number}" for number in numbers)


def cut(place: Path, folder: Path, **fields: Any) -> Any:
    calibration = Calibration(
        "c", sources=[Source("t", weight=1.0)], samples=1, sequence_length=4, **fields
    )
    return cut_windows(calibration, ["mine"], [folder], place, False)


BEYOND = r"has token 'w39' with id 39, but the model's embedding has 32 rows \(ids 0 to 31\)"


def test_a_token_beyond_the_embedding_is_told_wherever_ids_are_made(tmp_path: Path) -> None:
    place, folder = model(tmp_path / "m", 32), text(tmp_path / "t", words(5, 6, 39, 7))
    with pytest.raises(StageError, match=f"text mine {BEYOND}"):
        cut(place, folder)
    with pytest.raises(StageError, match=BEYOND):
        leading_windows(folder, place, 4, 1, False)
    for protocol in PerplexityProtocol:
        with pytest.raises(StageError, match=BEYOND):
            protocol_text(protocol, Excerpt(folder, place, 4, 1, False))


def test_a_larger_tokenizer_is_fine_where_its_further_tokens_do_not_occur(tmp_path: Path) -> None:
    place, folder = model(tmp_path / "m", 32), text(tmp_path / "t", words(5, 6, 7, 31))
    assert cut(place, folder)[0] == [[5, 6, 7, 31]]
    assert leading_windows(folder, place, 4, 1, False) == [[5, 6, 7, 31]]
    for protocol in PerplexityProtocol:
        protocol_text(protocol, Excerpt(folder, place, 4, 1, False))


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("transformer.wte.weight", 32),
        ("gpt_neox.embed_in.weight", 32),
        ("model.language_model.embed_tokens.weight", 32),
        # A table of positions is none of tokens: config.json has to tell.
        ("transformer.wpe.weight", 40),
    ],
)
def test_rows_are_those_of_the_weights(name: str, rows: int, tmp_path: Path) -> None:
    assert embedding_rows(model(tmp_path / "m", 32, name=name)) == rows


def test_a_refused_conversation_is_named_with_the_rule(tmp_path: Path) -> None:
    place = model(tmp_path / "m", 40, ROLES_ALTERNATE)
    good = [{"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6"}]
    bad = [{"role": "system", "content": "w7"}, *good]
    folder = text(tmp_path / "t", good, bad)
    said = (
        r"line 2 of chat\.jsonl \(roles: system, user, assistant\).*refuses it: Conversation roles "
        r"must alternate; .*calibration\.apply_chat_template=false"
    )
    with pytest.raises(StageError, match=said):
        cut(place, folder, apply_chat_template=True)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "the model has no chat template: set calibration.apply_chat_template=false"),
        ({"tool_use": "x"}, r"templates \(tool_use\), but none is called default"),
        ("{% for m in messages %}", "template is broken: .*line 1 of the template"),
        ("{{ messages[0].content + 1 }}", "line 1 of chat.jsonl .*fails on it: TypeError"),
        ("{{ messages[0].name.first }}", "line 1 of chat.jsonl .*fails on it: UndefinedError"),
    ],
)
def test_templates_that_cannot_be_used(template: Any, said: str, tmp_path: Path) -> None:
    place = model(tmp_path / "m", 40, template)
    folder = text(tmp_path / "t", [{"role": "user", "content": "w5"}])
    with pytest.raises(StageError, match=said):
        cut(place, folder, apply_chat_template=True)
