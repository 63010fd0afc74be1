"""What is loaded is what was meant, or the run says which tensor, file or setting is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
)

from runner.config.compose import quoted
from runner.errors import StageError
from runner.pipeline.stages.jobs.weights import STAGE, WeightsRequest
from tests.integration.conftest import Called, keys, records

pytestmark = pytest.mark.integration

SHAPE: dict[str, Any] = {
    "vocab_size": 258, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
NORM = "model.layers.1.post_attention_layernorm.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
Change = Callable[[dict[str, torch.Tensor]], object]


def made(directory: Path, config: Any) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=258, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("llama") / "m", LlamaConfig(**SHAPE, attention_bias=True))


def changed(source: Path, directory: Path, change: Change) -> Path:
    shutil.copytree(source, directory)
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def settings(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def weights(directory: Path, kind: str = "float") -> Any:
    context: Any = SimpleNamespace(progress=lambda *_: None)
    return STAGE.run(WeightsRequest(directory, kind, trust_remote_code=False), context)


def of_another_model(tensors: dict[str, torch.Tensor]) -> None:
    tensors |= {f"transformer.{name}": tensors.pop(name) for name in list(tensors)}


AMISS: dict[str, tuple[Change, str]] = {
    "head": (lambda t: t.pop("lm_head.weight"), r"lacks lm_head\.weight"),
    "embedding": (lambda t: t.pop("model.embed_tokens.weight"), r"lacks model\.embed_tokens\.w"),
    "one norm": (lambda t: t.pop(NORM), f"lacks {NORM}"),
    "bias": (lambda t: t.pop("model.layers.0.self_attn.q_proj.bias"), r"lacks .*q_proj\.bias"),
    "renamed": (
        lambda t: t.update({DOWN.replace("down", "dwn"): t.pop(DOWN)}),
        f"lacks {DOWN}; contains .*dwn_proj.*the model does not have",
    ),
    "another shape": (lambda t: t.update({DOWN: t[DOWN][:32]}), rf"{DOWN} of shape \[32, 64\]"),
    "left over": (lambda t: t.update(extra=torch.ones(2)), "contains extra, which"),
    "another layer": (
        lambda t: t.update({NORM.replace(".1.", ".2."): t[NORM].clone()}),
        r"contains model\.layers\.2\.",
    ),
    "another model": (of_another_model, r"lacks .* and \d+ more; contains transformer"),
}


@pytest.mark.parametrize(("change", "said"), AMISS.values(), ids=AMISS)
def test_tensors_that_are_amiss_are_named(
    change: Change, said: str, llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=said):
        weights(changed(llama, tmp_path / "m", change))


HARMLESS: dict[str, tuple[Any, Change]] = {
    "biases": (LlamaConfig(**SHAPE, attention_bias=True), lambda _: None),
    "tied head": (LlamaConfig(**SHAPE, tie_word_embeddings=True), lambda _: None),
    "tied head, stored": (
        LlamaConfig(**SHAPE, tie_word_embeddings=True),
        lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}),
    ),
    "rotary buffers": (
        LlamaConfig(**SHAPE),
        lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)}),
    ),
    "fused experts": (MixtralConfig(**SHAPE, num_local_experts=4), lambda _: None),
    "layers of another purpose": (
        DeepseekV3Config(
            **{**SHAPE, "num_hidden_layers": 61}, moe_intermediate_size=16, n_routed_experts=2,
            num_experts_per_tok=1, n_group=1, topk_group=1, kv_lora_rank=16, q_lora_rank=16,
            qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, first_k_dense_replace=61,
        ),
        lambda t: t.update({"model.layers.61.eh_proj.weight": torch.ones(2, 2)}),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "change"), HARMLESS.values(), ids=HARMLESS)
def test_what_an_architecture_does_without_is_not_missed(
    config: Any, change: Change, tmp_path: Path
) -> None:
    directory = changed(made(tmp_path / "made", config), tmp_path / "m", change)
    assert weights(directory).checked


def test_one_expert_less_is_missed(tmp_path: Path) -> None:
    made(tmp_path / "made", MixtralConfig(**SHAPE, num_local_experts=4))

    def without_the_last(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".1." in name and ".experts.3." in name]:
            del tensors[name]

    directory = changed(tmp_path / "made", tmp_path / "m", without_the_last)
    with pytest.raises(StageError, match=r"layers\.1\..*experts"):
        weights(directory)


def evaluated(directory: Path, prose: Path, *more: str) -> list[str]:
    return [
        "model=local", f"model.path={quoted(directory)}", "text@eval.text=local",
        f"eval.text.path={quoted(prose)}", "eval=quick", "eval.windows=2", "tracker=none", *more,
    ]  # fmt: skip


RTN = ("method=rtn", "bits=w4a16", "group_size=g32", "stages=[quantize,eval]")


def test_a_model_without_its_head_is_not_scored(
    llama: Path, prose: Path, store: Path, tmp_path: Path, command: Callable[..., Called]
) -> None:
    directory = changed(llama, tmp_path / "m", lambda tensors: tensors.pop("lm_head.weight"))
    done = command(*evaluated(directory, prose, *RTN, "sweep=headless"))
    assert done.returncode == 1
    (record,) = records(store, "headless")
    assert record["status"] == "failed"
    assert "lacks lm_head.weight" in record["reason"]
    assert record["stages"] == []
    assert not any("Traceback" in line for line in record["log_tail"])


CODE = {
    "configuration_mine.py": "from transformers import LlamaConfig\n"
    "class MineConfig(LlamaConfig):\n    model_type = 'minellama'\n",
    "modeling_mine.py": "from transformers import LlamaForCausalLM\n"
    "from .configuration_mine import MineConfig\n"
    "class MineForCausalLM(LlamaForCausalLM):\n    config_class = MineConfig\n",
}
AUTO_MAP = {
    "AutoConfig": "configuration_mine.MineConfig",
    "AutoModelForCausalLM": "modeling_mine.MineForCausalLM",
}


@pytest.fixture
def with_code(llama: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "with_code"
    shutil.copytree(llama, directory)
    for name, text in CODE.items():
        (directory / name).write_text(text)
    settings(
        directory / "config.json", model_type="minellama", auto_map=AUTO_MAP,
        architectures=["MineForCausalLM"],
    )  # fmt: skip
    return directory


def test_code_that_ships_with_a_model_runs_when_it_is_trusted_alone(
    with_code: Path, prose: Path, store: Path, command: Callable[..., Called]
) -> None:
    done = command(*evaluated(with_code, prose, *RTN))
    assert done.returncode == 2
    assert "modeling_mine.MineForCausalLM" in done.stderr
    assert "model.trust_remote_code=true" in done.stderr
    trusted = "model.trust_remote_code=true"
    done = command(*evaluated(with_code, prose, *RTN, trusted, "sweep=coded"))
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(store, "coded")
    ((_, key, _),) = keys(record, "quantize")
    # The checkpoint has the code with it, and is read again by itself.
    checkpoint = store / "objects" / "quantize" / key / "checkpoint"
    done = command(*evaluated(checkpoint, prose, "stages=[eval]", trusted, "sweep=coded_again"))
    assert done.returncode == 0, done.stdout + done.stderr
    (again,) = records(store, "coded_again")
    scored = [
        next(s["result"] for s in r["stages"] if (s["stage"], s["subject"]) == ("eval", "recipe"))
        for r in (record, again)
    ]
    perplexities = [found["perplexity"]["value"] for found in scored]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-2)


def test_an_architecture_that_nobody_knows_is_refused(
    llama: Path, prose: Path, tmp_path: Path, command: Callable[..., Called]
) -> None:
    directory = changed(llama, tmp_path / "m", lambda _: None)
    settings(directory / "config.json", model_type="nobodys")
    done = command(*evaluated(directory, prose, "stages=[eval]"))
    assert done.returncode == 2
    assert "is of model_type nobodys, which this version of transformers does not know" in (
        done.stderr
    )


def test_float16_that_overflows_is_named_by_its_setting(
    llama: Path, prose: Path, store: Path, tmp_path: Path, command: Callable[..., Called]
) -> None:
    directory = changed(
        llama, tmp_path / "m", lambda tensors: tensors.update({DOWN: tensors[DOWN] * 1e7})
    )
    done = command(
        *evaluated(directory, prose, "stages=[eval]", "eval.dtype=float16", "sweep=float16_narrow")
    )
    assert done.returncode == 1
    (record,) = records(store, "float16_narrow")
    assert f"{DOWN} contains larger values" in record["reason"]
    assert "eval.dtype=bfloat16" in record["reason"]
    assert "broken" not in record["reason"]


@pytest.mark.parametrize("claimed", [{"dtype": "float32"}, {"dtype": None}])
def test_what_config_claims_of_the_type_changes_nothing(
    claimed: dict[str, Any],
    llama: Path,
    prose: Path,
    store: Path,
    tmp_path: Path,
    command: Callable[..., Called],
) -> None:
    directory = changed(llama, tmp_path / "m", lambda _: None)
    settings(directory / "config.json", **claimed)
    sweep = f"claimed_{claimed['dtype']}"
    done = command(
        *evaluated(directory, prose, "stages=[bench]", "bench=quick", f"sweep={sweep}"),
        QUANT_RUNNER_INSTRUCTION_SETS="+avx512_bf16",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(store, sweep)
    (bench,) = (entry["result"] for entry in record["stages"] if entry["stage"] == "bench")
    assert set(bench["footprint"]["weight_bytes_by_dtype"]) <= {"bfloat16", "float32"}
    assert bench["footprint"]["weight_bytes_by_dtype"]["bfloat16"] > 50_000
