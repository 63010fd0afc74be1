"""A checkpoint's directory has its model's files as they came, open to all."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from runner.data.models.directory import finish
from runner.data.models.generation import generation_options

pytestmark = pytest.mark.unit

ODD = '{"do_sample": false, "temperature": 0.9,\n "top_p": 0.6, "unheard_of": [1]}'
COMPANIONS = {
    "generation_config.json": ODD,
    "tokenizer.json": "{}",
    "tokenizer.model": "pieces",
    "special_tokens_map.json": "{}",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tool_use.jinja": "{{ tools }}",
    "preprocessor_config.json": "{}",
    "modeling_own.py": "class Own: pass",
    "merges.txt": "a b",
    "LICENSE": "terms",
}
INDEX = "model.safetensors.index.json"
MAP = '{"weight_map": {"up": "model-1.safetensors"}}'
STAY = (
    INDEX, "pytorch_model.bin", "quantize_config.json", "params.json",
    "adapter_config.json", "README.md",
)  # fmt: skip


def tensors(path: Path, dtypes: dict[str, str]) -> None:
    sizes = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1}
    header: dict[str, Any] = {}
    end = 0
    for name, dtype in dtypes.items():
        header[name] = {"dtype": dtype, "shape": [4], "data_offsets": [end, end + 4 * sizes[dtype]]}
        end += 4 * sizes[dtype]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def directory(place: Path, config: dict[str, Any], files: dict[str, str]) -> Path:
    place.mkdir()
    for name, content in {**files, "config.json": json.dumps(config)}.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(content)
    return place


def finished(
    tmp_path: Path, model: dict[str, Any], written: dict[str, Any], **dtypes: str
) -> dict[str, Any]:
    """config.json of a checkpoint whose kept tensor is stored in one of these types."""
    source = directory(tmp_path / "model", model, {})
    made = directory(tmp_path / "checkpoint", written, {})
    tensors(source / "model.safetensors", {"norm": dtypes.get("model", "BF16"), "up": "BF16"})
    tensors(made / "model.safetensors", {"norm": dtypes.get("kept", "BF16"), "up": "I8"})
    finish(source, made, False)
    content: dict[str, Any] = json.loads((made / "config.json").read_text())
    return content


def test_files_come_along_byte_for_byte_and_replace_what_a_library_made_of_them(
    tmp_path: Path,
) -> None:
    source = directory(
        tmp_path / "model", {}, {**COMPANIONS, **dict.fromkeys(STAY, "{}"), INDEX: MAP}
    )
    theirs = {
        "generation_config.json": "{}",
        "tokenizer_config.json": "{}",
        "added_tokens.json": "",
    }
    made = directory(tmp_path / "checkpoint", {}, {**theirs, INDEX: MAP.replace("1", "2")})
    tensors(made / "model-2.safetensors", {"norm": "BF16"})
    finish(source, made, False)
    found = {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()}
    assert found == {*COMPANIONS, "config.json", INDEX, "model-2.safetensors"}
    for name, content in COMPANIONS.items():
        assert (made / name).read_text() == content
    assert (made / INDEX).read_text() == MAP.replace("1", "2")


def test_trusted_code_keeps_every_file_that_it_may_read(tmp_path: Path) -> None:
    files = {"modeling_own.py": "", "own.vocab": "a", "pytorch_model.bin": "pickled"}
    source = directory(tmp_path / "model", {}, files)
    for trusted in (False, True):
        made = directory(tmp_path / f"checkpoint-{trusted}", {}, {})
        finish(source, made, trusted)
        assert (made / "modeling_own.py").exists()
        assert (made / "own.vocab").exists() == trusted
        assert not (made / "pytorch_model.bin").exists()


def test_everyone_may_read_files_and_enter_folders(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        source = directory(tmp_path / "model", {}, COMPANIONS)
        made = directory(tmp_path / "checkpoint", {}, {})
        finish(source, made, False)
    finally:
        os.umask(before)
    modes = {p: p.stat().st_mode & 0o777 for p in made.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o644}


def test_links_of_a_hub_cache_become_files(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_text("{}")
    source = directory(tmp_path / "model", {}, {})
    (source / "tokenizer.json").symlink_to(blob)
    made = directory(tmp_path / "checkpoint", {}, {})
    finish(source, made, False)
    assert not (made / "tokenizer.json").is_symlink()


TEMPLATE = "{{ messages }}"


@pytest.mark.parametrize(
    "template",
    [TEMPLATE, [{"name": "default", "template": TEMPLATE}], {"default": TEMPLATE}],
    ids=["string", "list", "dict"],
)
def test_tokenizer_settings_change_in_their_class_alone(tmp_path: Path, template: object) -> None:
    settings = {"tokenizer_class": "TokenizersBackend", "chat_template": template, "own": 1}
    files = {"tokenizer_config.json": json.dumps(settings)}
    made = directory(tmp_path / "checkpoint", {}, {})
    finish(directory(tmp_path / "model", {}, files), made, False)
    written = json.loads((made / "tokenizer_config.json").read_text())
    assert written == {**settings, "tokenizer_class": "PreTrainedTokenizerFast"}


def test_tokenizer_settings_that_all_read_stay_byte_for_byte(tmp_path: Path) -> None:
    text = '{"tokenizer_class":   "LlamaTokenizer"}'
    made = directory(tmp_path / "checkpoint", {}, {})
    finish(directory(tmp_path / "model", {}, {"tokenizer_config.json": text}), made, False)
    assert (made / "tokenizer_config.json").read_text() == text


def test_config_is_the_models_with_what_was_written_of_the_weights(tmp_path: Path) -> None:
    model = {
        "model_type": "llama", "rope_theta": 5.0, "temperature": 0.7, "auto_map": {"A": "own.B"},
        "torch_dtype": "float16", "tie_word_embeddings": True, "quantization_config": {"old": 1},
        "vision_config": {"model_type": "v", "depth": 3, "torch_dtype": "float16"},
    }  # fmt: skip
    written = {
        "model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 5.0},
        "auto_map": {"A": "there--own.B"}, "tie_word_embeddings": False, "dtype": "bfloat16",
        "vision_config": {"model_type": "v", "depth": 3, "dtype": "bfloat16"},
    }  # fmt: skip
    assert finished(tmp_path, model, written) == {
        "model_type": "llama", "rope_theta": 5.0, "temperature": 0.7, "auto_map": {"A": "own.B"},
        "rope_parameters": written["rope_parameters"], "tie_word_embeddings": False,
        "dtype": "bfloat16", "torch_dtype": "bfloat16",
        "vision_config": {
            "model_type": "v", "depth": 3, "dtype": "bfloat16", "torch_dtype": "bfloat16",
        },
    }  # fmt: skip


def test_dtype_is_the_weights(tmp_path: Path) -> None:
    config = finished(tmp_path, {"dtype": "float32"}, {"dtype": "float32"}, kept="F16")
    assert (config["dtype"], config["torch_dtype"]) == ("float16", "float16")


def test_config_of_another_model_is_taken_as_it_was_written(tmp_path: Path) -> None:
    model = {"model_type": "sees", "text_config": {"hidden_size": 8}}
    config = finished(tmp_path, model, {"model_type": "reads", "hidden_size": 8})
    assert (config["model_type"], config["hidden_size"]) == ("reads", 8)
    assert "text_config" not in config


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (ODD, False),
        ('{"do_sample": ', False),
        ('{"num_return_sequences": 4, "eos_token_id": [1, 2]}', True),
        ('{"cache_implementation": "unheard of", "eos_token_id": [1, 2]}', True),
        ("[1]", True),
    ],
)
def test_no_generation_settings_stop_a_load(tmp_path: Path, content: str, refused: bool) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    options = generation_options(tmp_path)
    assert bool(options) == refused
    if "eos_token_id" in content:
        assert options["generation_config"].eos_token_id == [1, 2]
    assert generation_options(tmp_path / "absent") == {}
