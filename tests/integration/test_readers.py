"""Checkpoints of every format read alike in the newest transformers 4 and in 5."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from runner.util.paths import conf_dir
from tests.integration.conftest import here, records

pytestmark = [pytest.mark.integration, pytest.mark.environments("legacy")]

SWEEP = """
defaults: [config, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      cast: {method: none, bits: "fp16,fp32"}
      integers: {method: rtn, bits: w4a16, group_size: g32}
      activations: {method: rtn, bits: w8a8, group_size: per_channel}
      floats: {method: fp8}
      blocks: {method: bnb_4bit}
      outliers: {method: llm_int8}
      auto_gptq: {method: gptq, method.backend: auto_gptq, bits: w4a16, group_size: g32}
      autoawq: {method: awq, method.backend: autoawq, bits: w4a16, group_size: g32}
"""
FORMATS = {
    "float": 2, "compressed-tensors": 3, "bitsandbytes": 2, "gptq": 1, "awq": 1,
}  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
UNWISE = '{"do_sample": false, "temperature": 0.9,\n  "top_p": 0.6, "bos_token_id": 0}\n'
ROPE = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
TEXT = "A checkpoint is read by others: 1 2 3 <tool> äöü."

READ = """
import json, logging, sys
logging.disable(logging.WARNING)
import torch, transformers
from pathlib import Path
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

asked = json.load(sys.stdin)
found = {"version": transformers.__version__}
for directory in asked["directories"]:
    config = AutoConfig.from_pretrained(directory)
    method = json.loads(Path(directory, "config.json").read_text()).get("quantization_config", {})
    method = method.get("quant_method")
    if method in ("gptq", "awq"):
        # Libraries for both need a GPU; what is packed is unpacked in plain torch.
        sys.path.append(asked["runner"])
        from runner.engines.hf.dequantize import load_dense
        model = load_dense(Path(directory), method, torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        for module in model.modules():
            if hasattr(module, "compute_dtype"):
                module.compute_dtype = torch.float32
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(asked["text"])["input_ids"]
    window = torch.arange(200).remainder(250)[None] + 2
    with torch.inference_mode():
        logits = model.eval()(window).logits[0].float()
    found[directory] = {
        "ids": ids,
        "extra": tokenizer.convert_tokens_to_ids("<tool>"),
        "templates": sorted(tokenizer.chat_template),
        "dtype": str(config.dtype),
        "logits": logits[::10].tolist(),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as transformers 5 saves it: scaled rotations, named templates, unwise settings."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("readers") / "model"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        initializer_range=0.2, bos_token_id=0, eos_token_id=1, rope_parameters=ROPE,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(place)
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    built.train_from_iterator([], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", eos_token="</s>",
        extra_special_tokens=["<tool>"],
    )  # fmt: skip
    tokenizer.chat_template = {"default": TEMPLATE, "tool_use": TEMPLATE}
    tokenizer.save_pretrained(place)
    (place / "generation_config.json").write_text(UNWISE)
    return place


@pytest.fixture(scope="module")
def checkpoints(
    model: Path,
    prose: Path,
    environment: dict[str, str],
    store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[Path]]:
    """Checkpoints of one model by their format."""
    work = tmp_path_factory.mktemp("work")
    (work / "sweeps").mkdir()
    (work / "sweeps" / "all_formats.yaml").write_text(SWEEP)
    done = here(
        "-cn", "all_formats", "model=local", f"model.path={quoted(model)}", "tracker=none",
        "stages=[quantize]", "sweep=all_formats", "calibration=local",
        f"calibration.text.path={quoted(prose)}", "calibration.samples=4",
        "calibration.sequence_length=64", "eval=quick", cwd=work, variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made: dict[str, list[Path]] = {}
    for record in records(store, "all_formats"):
        assert record["status"] == "ok", record
        for entry in record["stages"]:
            if entry["stage"] == "quantize":
                place = store / "objects" / "quantize" / entry["key"]
                kind = entry["result"]["checkpoint_format"]
                made.setdefault(kind, []).append(place / "checkpoint")
    return made


@pytest.fixture(scope="module")
def readings(
    model: Path,
    checkpoints: dict[str, list[Path]],
    plain_variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, Any]]:
    """What versions 5 and 4 of transformers find in the directories of all checkpoints."""
    environment = ["env", "create", "transformers4", "environment=[default,transformers4]"]
    made = here(*environment, cwd=tmp_path_factory.mktemp("env"), variables=plain_variables)
    assert made.returncode == 0, made.stderr
    root = Path(plain_variables["QUANT_RUNNER_ENVIRONMENTS"])
    older = max(root.glob("transformers4-*"), key=lambda place: place.stat().st_mtime)
    asked = {
        "directories": [str(one) for made in checkpoints.values() for one in made],
        "text": TEXT,
        "runner": str(conf_dir().parent),
    }
    found = []
    for python in (sys.executable, str(older / "bin" / "python")):
        done = subprocess.run(
            [python, "-c", READ], input=json.dumps(asked), capture_output=True, text=True,
            check=False, cwd=tmp_path_factory.mktemp("cwd"), env=plain_variables,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    return found


def test_both_versions_read_every_format_alike(
    checkpoints: dict[str, list[Path]], readings: list[dict[str, Any]]
) -> None:
    assert {kind: len(made) for kind, made in checkpoints.items()} == FORMATS
    newer, older = copy.deepcopy(readings)
    assert older.pop("version").startswith("4.57.")
    assert newer.pop("version").startswith("5.")
    assert newer.keys() == older.keys()
    for directory, found in newer.items():
        logits, other = found.pop("logits"), older[directory].pop("logits")
        for row, one in zip(logits, other, strict=True):
            assert one == pytest.approx(row, rel=1e-3, abs=1e-3 * max(map(abs, row))), directory
        assert older[directory] == found
        assert found["extra"] == 258
        assert found["templates"] == ["default", "tool_use"]


def test_what_comes_along_is_byte_for_byte_the_models(
    model: Path, checkpoints: dict[str, list[Path]]
) -> None:
    names = ("generation_config.json", "tokenizer.json", "additional_chat_templates/tool_use.jinja")
    for directory in (one for made in checkpoints.values() for one in made):
        for name in names:
            assert (directory / name).read_bytes() == (model / name).read_bytes()
        assert (directory / "additional_chat_templates").stat().st_mode & 0o777 == 0o755
        config = json.loads((directory / "config.json").read_text())
        assert config["rope_theta"] == ROPE["rope_theta"]
        assert config["rope_scaling"]["rope_type"] == "llama3"


def test_types_are_the_weights_own(checkpoints: dict[str, list[Path]]) -> None:
    types = {
        json.loads((directory / "config.json").read_text())["torch_dtype"]
        for made in checkpoints.values()
        for directory in made
    }
    assert types == {"bfloat16", "float16", "float32"}


def test_a_sentence_piece_file_alone_goes_through_every_stage(
    model: Path, prose: Path, environment: dict[str, str], store: Path, tmp_path: Path
) -> None:
    import sentencepiece

    place = tmp_path / "pieces"
    place.mkdir()
    for name in ("config.json", "model.safetensors"):
        (place / name).write_bytes((model / name).read_bytes())
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    sentencepiece.SentencePieceTrainer.train(
        input=str(prose), model_prefix=str(place / "tokenizer"), model_type="unigram",
        vocab_size=60, hard_vocab_limit=False, minloglevel=2, max_sentence_length=100_000,
    )  # fmt: skip
    (place / "tokenizer.vocab").unlink()
    done = here(
        "model=local", f"model.path={quoted(place)}", "method=rtn", "bits=w4a16", "group_size=g32",
        "stages=[quantize,eval]", "eval=quick", "text@eval.text=local", "tracker=none",
        f"eval.text.path={quoted(prose)}", "sweep=pieces", cwd=tmp_path, variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "pieces")
    (entry,) = (e for e in record["stages"] if e["stage"] == "quantize")
    made = store / "objects" / "quantize" / entry["key"] / "checkpoint"
    for name in ("tokenizer.model", "tokenizer_config.json"):
        assert (made / name).read_bytes() == (place / name).read_bytes()
    assert not (made / "tokenizer.json").exists()
