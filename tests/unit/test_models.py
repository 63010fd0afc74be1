"""Models from their sources, and what identifies them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.config.schema.architecture import Architecture
from runner.config.schema.model import ByteTokenizer, Model, ModelKind, Part
from runner.data.models.architecture.reading import architecture_of
from runner.data.models.directory import save
from runner.data.models.fingerprint import fingerprint
from runner.data.models.gguf_model import name_special_tokens
from runner.data.models.gguf_source import gguf_file
from runner.data.models.locate import light_config, locate
from runner.data.models.materialise import materialise
from runner.data.models.package import fetch_package
from runner.errors import UsageError

pytestmark = pytest.mark.unit

CONFIG = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2}


def tiny(seed: int = 0, vocab: int = 300) -> Model:
    shape = Architecture(
        family="llama", layers=1, hidden=16, intermediate=32, heads=2, kv_heads=1, head_dim=8,
        vocab=vocab, context=64, tied_embeddings=True,
    )  # fmt: skip
    return Model(name="tiny", kind=ModelKind.generated, architecture=shape, seed=seed)


def local(directory: Path) -> Model:
    return Model(name="local", kind=ModelKind.local, path=str(directory))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    save_file({"a.weight": np.zeros((2, 2), np.float32)}, made / "model.safetensors")
    (made / "tokenizer.json").write_text("{}")
    return made


def test_local_model_is_found_with_its_config(directory: Path) -> None:
    assert locate(local(directory)) == directory.resolve()
    assert light_config(local(directory)) == CONFIG


@pytest.mark.parametrize(
    ("without", "extra", "message"),
    [
        ("config.json", None, "no config.json"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", "pytorch_model.bin", "pickled.*safetensors"),
    ],
)
def test_directory_that_is_no_model_is_refused(
    directory: Path, without: str, extra: str | None, message: str
) -> None:
    (directory / without).unlink()
    if extra:
        (directory / extra).write_bytes(b"")
    with pytest.raises(UsageError, match=message):
        locate(local(directory))


def test_absent_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        light_config(local(tmp_path / "absent"))


def test_a_directory_that_may_not_be_read_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        UsageError, match=r"^model\.path=.*/model cannot be read: permission denied"
    ):
        locate(local(directory))


READ = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/tool_use.jinja",
    "tokenizer.model", "spiece.model", "qwen.tiktoken", "preprocessor_config.json",
    "modeling_mine.py",
)  # fmt: skip
NOT_READ = (
    "README.md", "LICENSE", "LICENSE.txt", ".gitattributes", "notes.txt", "figure.png",
    "consolidated.safetensors", "model-00001-of-00002.safetensors", "original/params.bin",
)  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_fingerprint_follows_every_file_that_can_change_a_result(
    directory: Path, tmp_path: Path, name: str
) -> None:
    def now() -> str:
        return fingerprint(local(directory), tmp_path / "cache")

    (directory / name).parent.mkdir(exist_ok=True)
    if not (directory / name).exists():
        without = now()
        (directory / name).write_text("{}")
        assert now() != without
    before = now()
    assert now() == before
    (directory / name).write_text((directory / name).read_text() + " ")
    assert now() != before


@pytest.mark.parametrize("name", NOT_READ)
def test_fingerprint_takes_no_notice_of_what_is_not_read(
    directory: Path, tmp_path: Path, name: str
) -> None:
    before = fingerprint(local(directory), tmp_path / "cache")
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_bytes(b"no matter")
    assert fingerprint(local(directory), tmp_path / "cache") == before


def test_fingerprint_follows_the_weights_that_are_loaded(directory: Path, tmp_path: Path) -> None:
    before = fingerprint(local(directory), tmp_path / "cache")
    save_file({"a.weight": np.ones((2, 2), np.float32)}, directory / "model.safetensors")
    assert fingerprint(local(directory), tmp_path / "cache") != before


def test_fingerprint_tells_trusted_code_and_whatever_it_may_read(
    directory: Path, tmp_path: Path
) -> None:
    plain, trusting = local(directory), local(directory)
    trusting.trust_remote_code = True

    def now(model: Model) -> str:
        return fingerprint(model, tmp_path / "cache")

    assert now(plain) == now(trusting)
    (directory / "modeling_mine.py").write_text("")
    assert now(plain) != now(trusting)
    before = now(plain), now(trusting)
    (directory / "table.dat").write_text("read by the code, perhaps")
    assert now(plain) == before[0]
    assert now(trusting) != before[1]
    after = now(trusting)
    (directory / "README.md").write_text("no matter")
    assert now(trusting) == after


def test_fingerprint_follows_contents_not_places(directory: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    before = fingerprint(local(directory), tmp_path / "cache")
    directory.rename(moved)
    assert fingerprint(local(moved), tmp_path / "cache") == before


def test_fingerprint_of_made_models_follows_what_they_are_made_from(tmp_path: Path) -> None:
    assert fingerprint(tiny(), tmp_path) == fingerprint(tiny(), tmp_path)
    assert fingerprint(tiny(seed=1), tmp_path) != fingerprint(tiny(), tmp_path)
    assert fingerprint(tiny(vocab=301), tmp_path) != fingerprint(tiny(), tmp_path)
    packages = [Model(name="p", kind=ModelKind.package, sha256=digit * 64) for digit in "01"]
    assert fingerprint(packages[0], tmp_path) != fingerprint(packages[1], tmp_path)


def test_saved_directory_has_the_names_that_older_transformers_read(tmp_path: Path) -> None:
    class Saved:
        def __init__(self, name: str, content: dict[str, Any]) -> None:
            self._name, self._content = name, content

        def save_pretrained(self, destination: Path) -> None:
            (destination / self._name).write_text(json.dumps(self._content))

    config: dict[str, Any] = {"rope_parameters": {"rope_theta": 5.0}, "dtype": "bfloat16"}
    settings: dict[str, Any] = {
        "tokenizer_class": "TokenizersBackend",
        "eos_token": "</s>",
        "eos_token_id": 9,
    }
    save(Saved("config.json", config), Saved("tokenizer_config.json", settings), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["rope_theta"], written["torch_dtype"]) == (5.0, "bfloat16")
    assert written["rope_parameters"] == config["rope_parameters"]
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert written["eos_token"] == "</s>"
    assert "eos_token_id" not in written


def test_special_tokens_of_a_gguf_tokenizer_are_those_of_the_config() -> None:
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = SimpleNamespace(
        bos_token=tokens[1],
        eos_token=tokens[1],
        pad_token=None,
        convert_ids_to_tokens=tokens.__getitem__,
    )
    config = SimpleNamespace(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    name_special_tokens(tokenizer, config)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )


def test_vocabulary_too_small_for_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"vocab=100.*258"):
        materialise(tiny(vocab=100), tmp_path, tmp_path)


def test_found_models_are_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local"):
        materialise(local(tmp_path), tmp_path, tmp_path)


def test_hub_name_is_checked_before_any_request() -> None:
    model = Model(name="hub", kind=ModelKind.hub, hub_id="a/b/c")
    for ask in (light_config, locate):
        with pytest.raises(UsageError, match="owner/name"):
            ask(model)


def test_hub_without_network_names_the_fix_and_no_token_and_loads_no_torch(tmp_path: Path) -> None:
    # In a process of its own: huggingface_hub reads its environment when it is imported.
    script = """
import sys
from runner.config.schema.model import Model, ModelKind
from runner.errors import StageError
from runner.data.models.locate import light_config, locate
model = Model(name="hub", kind=ModelKind.hub, hub_id="owner/absent")
assert light_config(model) is None
assert "torch" not in sys.modules
try:
    locate(model)
except StageError as error:
    print(error)
"""
    token = "hf_" + "x" * 34
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_TOKEN": token},
    )  # fmt: skip
    assert "owner/absent cannot be downloaded" in done.stdout
    assert "model=local model.path=" in done.stdout
    assert token not in done.stdout + done.stderr


def test_hub_config_in_the_cache_is_read(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "config.json").write_text(json.dumps(CONFIG))
    script = """
from runner.config.schema.model import Model, ModelKind
from runner.data.models.locate import light_config
print(light_config(Model(name="hub", kind=ModelKind.hub, hub_id="owner/name"))["hidden_size"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")},
    )  # fmt: skip
    assert done.stdout.strip() == "8"


def test_gguf_file_of_the_hub_is_found_in_the_cache(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee" / "deep").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "deep" / "a.gguf").write_bytes(b"no such file")
    script = """
from runner.config.schema.model import Model, ModelKind
from runner.errors import StageError, UsageError
from runner.data.models.gguf_source import gguf_file, source_header
model = Model(name="hub", kind=ModelKind.hub, hub_id="owner/name", file="deep/a.gguf")
print(gguf_file(model).name)
try:
    source_header(model)
except UsageError as error:
    print(error)
model.file = "b.gguf"
print(source_header(model))
try:
    gguf_file(model)
except StageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"),
             "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    name, broken, absent, missing = done.stdout.strip().splitlines()
    assert (name, absent) == ("a.gguf", "None")
    assert "deep/a.gguf is not a GGUF file" in broken
    assert "owner/name cannot be downloaded" in missing


@pytest.mark.parametrize(
    ("files", "path", "file", "message"),
    [
        (
            ("a.gguf", "b.gguf"),
            "",
            None,
            r"contains a\.gguf, b\.gguf: choose one with model\.file=",
        ),
        (("a.gguf",), "", "c.gguf", "no such file in"),
        (("a.gguf",), "", "a.bin", r"model\.file=a\.bin is not a \.gguf file"),
        (("a.gguf",), "", "../a.gguf", r"model\.file=\.\./a\.gguf is not a path inside"),
        (("a.gguf",), "a.gguf", "a.gguf", r"model\.file=a\.gguf has no effect.*is a file"),
        (("a.txt",), "a.txt", None, r"neither a directory.*nor a \.gguf file"),
        ((), "a.gguf", None, "there is no such file"),
    ],
)
def test_choice_of_a_gguf_file_is_told(
    tmp_path: Path, files: tuple[str, ...], path: str, file: str | None, message: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    model = replace(local(tmp_path / path), file=file)
    with pytest.raises(UsageError, match=message):
        gguf_file(model)


def test_gguf_file_of_a_local_model_is_the_one_meant(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(name.encode())
    assert gguf_file(local(tmp_path / "a.gguf")) == tmp_path / "a.gguf"
    assert gguf_file(replace(local(tmp_path), file="b.gguf")) == tmp_path / "b.gguf"
    keys = {fingerprint(local(tmp_path / name), tmp_path / "c") for name in ("a.gguf", "b.gguf")}
    assert len(keys) == 2
    (tmp_path / "b.gguf").unlink()
    assert gguf_file(local(tmp_path)) == tmp_path / "a.gguf"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert gguf_file(local(tmp_path)) is None, "a model in Hugging Face layout is taken as it is"
    with pytest.raises(UsageError, match=r"model\.file=a\.gguf has no effect.*generated"):
        gguf_file(replace(tiny(), file="a.gguf"))


@pytest.mark.parametrize(
    "fields",
    [
        {"package": "p", "version": "1", "member": "a.gguf"},
        {"sha256": "0" * 64},
        {"package": "p", "sha256": "0" * 64},
        {"package": "p", "sha256": "0" * 64, "members": [Part("p", "1", "a")]},
    ],
)
def test_a_model_of_a_package_names_one_file(fields: dict[str, Any], tmp_path: Path) -> None:
    model = Model(name="packed", kind=ModelKind.package, **fields)
    with pytest.raises(UsageError, match="model packed needs sha256, and either package, version"):
        fetch_package(model, tmp_path)


def test_architecture_falls_back_to_hidden_by_heads() -> None:
    shape = architecture_of(CONFIG)
    assert (shape.head_dim, shape.kv_heads) == (4, 2)


@pytest.mark.parametrize(
    ("config", "heads", "kv_heads", "intermediate", "context"),
    [
        ({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_positions": 64}, 2, 2, 32, 64),
        ({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_inner": 20}, 2, 2, 20, None),
        ({"model_type": "falcon", "hidden_size": 8, "num_attention_heads": 4, "multi_query": True},
         4, 1, 32, None),
        ({"model_type": "opt", "hidden_size": 8, "num_attention_heads": 2, "ffn_dim": 12},
         2, 2, 12, None),
    ],
)  # fmt: skip
def test_dimensions_by_older_names(
    config: dict[str, Any], heads: int, kv_heads: int, intermediate: int, context: int | None
) -> None:
    found = architecture_of(config)
    assert (found.hidden, found.heads, found.kv_heads) == (8, heads, kv_heads)
    assert (found.intermediate, found.context) == (intermediate, context)


@pytest.mark.parametrize(
    ("says", "every"),
    [
        ({"sliding_window_pattern": 6, "num_hidden_layers": 13}, 6),
        ({"layer_types": ["sliding_attention", "full_attention"] * 2}, 2),
        ({"layer_types": ["sliding_attention"] * 4}, None),
    ],
)
def test_how_often_a_layer_sees_everything(says: dict[str, Any], every: int | None) -> None:
    assert architecture_of({**CONFIG, "sliding_window": 64, **says}).global_layer_interval == every
    assert architecture_of({**CONFIG, **says}).global_layer_interval is None


def test_the_key_of_a_generated_model_follows_what_it_is_made_from(tmp_path: Path) -> None:
    plain = tiny()
    other = Model(name="tiny", kind=ModelKind.generated, config={"model_type": "gpt2"})
    level = ByteTokenizer.byte_level
    models = [plain, other, replace(other, seed=1), replace(other, tokenizer=level)]
    models += [replace(other, tokenizer=level, special_tokens=["<a>"])]
    models += [replace(other, config={"model_type": "gpt2", "n_embd": 8})]
    assert len({fingerprint(model, tmp_path) for model in models}) == len(models)


def test_a_config_that_makes_no_model_is_told(tmp_path: Path) -> None:
    for config in (
        {"model_type": "lama"},
        {"vocab_size": 300},
        {"model_type": "gpt2", "n_head": 7},
    ):
        model = Model(name="mine", kind=ModelKind.generated, config=config)
        with pytest.raises(
            UsageError, match=r"model mine: transformers cannot build .*model\.config"
        ):
            materialise(model, tmp_path, tmp_path)
