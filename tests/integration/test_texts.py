"""Models and texts of the user: names of their own, refused where they do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import Called, base_model, records

pytestmark = pytest.mark.integration

SMALL = ("tracker=none", "eval=quick", "eval.context_length=32", "text@eval.text=local")


@pytest.fixture
def tiny(command: Callable[..., Called], store: Path, prose: Path) -> Path:
    """Directory of the tiny model."""
    done = command(
        *SMALL, "model=tiny", "method=none", "stages=[eval]", f"eval.text.path={quoted(prose)}",
        "sweep=tiny_for_texts",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return base_model(store, records(store, "tiny_for_texts")[0])


def test_swept_models_and_texts_have_rows_of_their_own(
    command: Callable[..., Called], store: Path, tiny: Path, tmp_path: Path, prose: Path
) -> None:
    """Two directories of one name; and a text as JSON lines, found by the file's name alone."""
    from safetensors.torch import load_file, save_file

    for name in "ab":
        shutil.copytree(tiny, tmp_path / name / "mine")
    weights = tmp_path / "b" / "mine" / "model.safetensors"
    tensors = load_file(weights)
    save_file({key: value * 0.9 for key, value in tensors.items()}, weights, {"format": "pt"})
    (tmp_path / "lines.jsonl").write_text(json.dumps({"text": prose.read_text()}) + "\n")
    done = command(
        "-m", *SMALL, "model=local", "model.path=a/mine,b/mine", "method=none", "stages=[eval]",
        "eval.text.path=lines.jsonl", "sweep=swept_models",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "a/mine" in lines and "b/mine" in lines, done.stdout
    assert "Evaluation text: lines.jsonl." in lines
    answer = json.loads((store / "runs" / "swept_models" / "answer.json").read_text())
    assert [row["model"] for row in answer["rows"]] == ["a/mine", "b/mine"]
    assert answer["rows"][0]["perplexity"] != answer["rows"][1]["perplexity"]
    assert "## b/mine" in (store / "runs" / "swept_models" / "answer.md").read_text()
    whole, other = (
        records(store, name)[0]["stages"][0]["result"]["perplexity"]["value"]
        for name in ("tiny_for_texts", "swept_models")
    )
    assert whole == other, "the same words, whatever file they stand in"


def test_a_token_without_an_embedding_ends_a_run_before_work(
    command: Callable[..., Called], store: Path, tiny: Path, tmp_path: Path, prose: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny, mine)
    tokenizer = json.loads((mine / "tokenizer.json").read_text())
    rows = json.loads((mine / "config.json").read_text())["vocab_size"]
    added = {"id": rows + 7, "content": "quantized", "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}  # fmt: skip
    tokenizer["added_tokens"].append(added)
    (mine / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = command(
        *SMALL, "model=local", "model.path=mine", "method=rtn", "group_size=g32",
        f"eval.text.path={quoted(prose)}", "stages=[quantize,eval]", "sweep=beyond",
    )  # fmt: skip
    assert done.returncode == 1
    (record,) = records(store, "beyond")
    # An added token gets the next free id, whatever the file says.
    assert "has token 'quantized' with id " in record["reason"]
    assert f"the model's embedding has {rows} rows" in record["reason"]
    assert record["stages"] == [], "nothing was computed"
    assert "Traceback" not in done.stdout + done.stderr
