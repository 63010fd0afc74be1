"""Python that ships with a model: whether it is needed, trusted, and all there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.data.models.code import code_complaint, native_types

pytestmark = pytest.mark.unit

OWN = {
    "model_type": "mine",
    "auto_map": {"AutoConfig": "configuration_mine.C", "AutoModelForCausalLM": "modeling_mine.M"},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    for name in ("configuration_mine.py", "modeling_mine.py"):
        (tmp_path / name).write_text("")
    return tmp_path


def complaint(directory: Path, config: dict[str, Any], *, trusted: bool = False) -> str:
    return code_complaint(directory, config, trusted=trusted, whole=True) or ""


def test_types_that_transformers_knows_are_those_it_says_itself() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert native_types() == frozenset(CONFIG_MAPPING_NAMES)


def test_needed_code_names_its_classes_and_the_setting(directory: Path) -> None:
    said = complaint(directory, OWN)
    assert "modeling_mine.M" in said
    assert "model.trust_remote_code=true" in said
    assert complaint(directory, OWN, trusted=True) == ""


def test_code_beside_a_known_type_is_not_needed(directory: Path) -> None:
    known = {**OWN, "model_type": "llama"}
    assert complaint(directory, known) == ""
    assert complaint(directory, known, trusted=True) == ""


@pytest.mark.parametrize("trusted", [True, False])
def test_an_unknown_type_without_code_is_refused(directory: Path, trusted: bool) -> None:
    said = complaint(directory, {"model_type": "nobodys"}, trusted=trusted)
    assert "model_type nobodys" in said
    assert "newer transformers" in said


def test_a_config_without_a_type_is_left_to_transformers(directory: Path) -> None:
    shipped = {"auto_map": {"AutoModelForCausalLM": "absent.M"}}
    assert code_complaint(directory, shipped, trusted=True, whole=True) is None
    assert code_complaint(directory, {}, trusted=False, whole=True) is None


def test_missing_code_and_code_elsewhere_are_named(directory: Path) -> None:
    (directory / "modeling_mine.py").unlink()
    assert "lacks modeling_mine.py" in complaint(directory, OWN, trusted=True)
    # Of the hub's it may only have to be fetched.
    assert code_complaint(directory, OWN, trusted=True, whole=False) is None
    elsewhere = {**OWN, "auto_map": {"AutoConfig": "owner/name--configuration_mine.C"}}
    assert "uses code from owner/name" in complaint(directory, elsewhere, trusted=True)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"tokenizer_class": "MineTokenizer", "auto_map": {"AutoTokenizer": ["tok.T", None]}}, 1),
        ({"tokenizer_class": "MineTokenizer", "auto_map": {"AutoTokenizer": [None, "tok.T"]}}, 1),
        ({"auto_map": {"AutoTokenizer": "tok.T"}}, 1),
        ({"tokenizer_class": "LlamaTokenizerFast", "auto_map": {"AutoTokenizer": "tok.T"}}, 0),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, 0),
        ({"tokenizer_class": "MineTokenizer"}, 0),
    ],
)
def test_a_tokenizer_may_need_code_too(
    directory: Path, settings: dict[str, Any], needed: int
) -> None:
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    said = complaint(directory, {"model_type": "llama"})
    assert ("tok.T" in said and "model.trust_remote_code=true" in said) == bool(needed)
    trusted = complaint(directory, {"model_type": "llama"}, trusted=True)
    assert ("lacks tok.py" in trusted) == ("auto_map" in settings)
