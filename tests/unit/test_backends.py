"""What backends find of a model's layers: which they leave, keep or refuse, and by what name."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.numpy import save_file
from transformers import conversion_mapping
from transformers.core_model_loading import Concatenate, WeightConverter

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import Granularity, GroupSize
from runner.errors import Refused, StageError
from runner.methods import find_method, without_rounding_dtype
from runner.methods.autoround import Autoround
from runner.methods.awq import Awq
from runner.methods.backends import (
    auto_round,
    bitsandbytes,
    expert_layers,
    gptqmodel,
    packed,
    smoothing,
)
from runner.methods.base import QuantizeJob, bits_fit
from runner.methods.fp8 import METHOD as FP8
from runner.methods.fp8 import Fp8
from runner.methods.gguf import Gguf
from runner.methods.holders import require_holders
from runner.methods.mixed_precision.keep_layers import with_kept_layers
from runner.methods.recipe import Recipe
from runner.methods.rtn import Rtn

pytestmark = pytest.mark.unit

BF16, INT4 = NumberFormat(NumberType.bfloat, 16), NumberFormat(NumberType.int, 4)
CHANNEL, G32 = GroupSize(Granularity.channel), GroupSize(Granularity.group, 32)
G16 = GroupSize(Granularity.group, 16)
LLAMA = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
OPT = {
    "model_type": "opt", "vocab_size": 64, "hidden_size": 32, "word_embed_proj_dim": 32,
    "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "bos_token_id": 0,
    "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
NEOX = {**LLAMA, "model_type": "gpt_neox"}


def directory(config: dict[str, Any], place: Path) -> Path:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    return place


def model_of(config: dict[str, Any]) -> Any:
    made = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(made)


def recipe_of(method: Any, **changed: Any) -> Recipe:
    return replace(Recipe(method, Bits(INT4, BF16), G32, None), **changed)


def job_of(place: Path, recipe: Recipe, **changed: Any) -> QuantizeJob:
    given: dict[str, Any] = {
        "model_directory": place, "checkpoint_directory": place, "scratch": place, "windows": [],
        "device": "cpu", "compute_dtype": "float32", "trust_remote_code": False, "cache": place,
        "threads": 1, "progress": lambda *_: None,
    }  # fmt: skip
    return QuantizeJob(recipe=recipe, **{**given, **changed})


def test_layers_to_leave_are_found_by_name_or_expression() -> None:
    model = model_of(LLAMA)
    down = ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
    assert packed.ignored_layers(model, ["lm_head"]) == []
    assert packed.ignored_layers(model, ["lm_head", "re:.*down_proj$"]) == down
    assert packed.ignored_layers(model, ["re:lm_h", down[1]]) == down[1:]
    with pytest.raises(StageError, match=r"method\.ignore: no layer matches down_proj$"):
        packed.ignored_layers(model, ["lm_head", "down_proj"])
    with pytest.raises(StageError, match=r"output embedding: method\.ignore must name lm_head$"):
        packed.ignored_layers(model, [down[0]])


@pytest.mark.parametrize(("ignored", "size"), [(["a.b"], G32), ([], CHANNEL)])
def test_a_gptq_config_says_what_readers_take_for_dense(
    ignored: list[str], size: GroupSize, tmp_path: Path
) -> None:
    job = job_of(tmp_path, recipe_of(Rtn("rtn"), group_size=size))
    written = packed.gptq_config(
        job, sym=True, static_groups=True, damp_percent=0.01, true_sequential=False,
        checkpoint_format="gptq", ignored=ignored,
    )  # fmt: skip
    assert written["group_size"] == (32 if size is G32 else -1)
    assert written.get("dynamic") == ({r"-:^a\.b$": {}} if ignored else None)
    assert (written["bits"], written["desc_act"], written["static_groups"]) == (4, False, True)


def test_layers_of_broken_blocks_are_refused_on_cpus_unless_left_alone(tmp_path: Path) -> None:
    place = directory({**LLAMA, "hidden_size": 128}, tmp_path)
    job = job_of(place, recipe_of(Rtn("rtn")))
    with pytest.raises(Refused, match=r"blocks of 64 .*layers\.0\.mlp\.down_proj has 96; try meth"):
        bitsandbytes.require_whole_blocks(job, 64)
    bitsandbytes.require_whole_blocks(job, 32)
    bitsandbytes.require_whole_blocks(replace(job, device="cuda"), 64)
    left = Rtn("rtn", ignore=["lm_head", "re:.*down_proj"])
    bitsandbytes.require_whole_blocks(job_of(place, recipe_of(left)), 64)


def test_experts_get_the_names_that_the_files_have(tmp_path: Path) -> None:
    plain = job_of(directory(MIXTRAL, tmp_path), recipe_of(Rtn("rtn")))
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    assert expert_layers.expert_names(plain, []) == names
    assert (
        expert_layers.expert_names(replace(plain, model_directory=directory(LLAMA, tmp_path)), [])
        == {}
    )


def test_experts_in_other_than_a_tensor_for_each_layer_have_no_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fused = WeightConverter(
        ["experts.gate_up_proj_blocks"], ["experts.gate_up_proj"], [Concatenate()]
    )
    other = WeightConverter(["experts.*.bias"], ["experts.bias"], [Concatenate()])
    found = [fused, other]
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda _: found)
    assert expert_layers.stored_names(object()) == {}
    found += [WeightConverter([f"experts.*.{name}.weight"], [f"experts.{name}"], [Concatenate()])
              for name in ("up_proj", "down_proj")]  # fmt: skip
    assert expert_layers.stored_names(object()) == {"up_proj": "up_proj", "down_proj": "down_proj"}


def test_experts_are_renamed_in_index_and_ignored_layers_too(tmp_path: Path) -> None:
    old = ["a.experts.0.up_proj.weight", "a.experts.11.down_proj.scale", "a.up_proj.weight"]
    new = ["a.experts.0.w3.weight", "a.experts.11.w2.scale", "a.up_proj.weight"]
    for number, name in enumerate(old):
        save_file({name: torch.zeros(1).numpy()}, tmp_path / f"model-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    files = [f"model-{number}.safetensors" for number in range(3)]
    index.write_text(json.dumps({"weight_map": dict(zip(old, files, strict=True))}))
    config = tmp_path / "config.json"
    ignored = ["lm_head", "a.experts.3.up_proj", "a.up_proj"]
    config.write_text(json.dumps({"quantization_config": {"ignore": ignored}}))
    names = {"up_proj": "w3", "down_proj": "w2"}
    assert expert_layers.rename_experts(tmp_path, names) == dict(zip(old, new, strict=True))
    assert json.loads(index.read_text()) == {"weight_map": dict(zip(new, files, strict=True))}
    renamed = json.loads(config.read_text())["quantization_config"]["ignore"]
    assert renamed == ["lm_head", "a.experts.3.w3", "a.up_proj"]
    assert expert_layers.rename_experts(tmp_path, {"up_proj": "up_proj"}) == {}


def test_a_type_that_the_backend_does_not_know_is_refused_with_who_may(tmp_path: Path) -> None:
    place = directory({"model_type": "of_tomorrow"}, tmp_path)
    recipe = recipe_of(Awq("awq", backend="autoawq"))
    with pytest.raises(Refused) as refused:
        require_holders(recipe, place, False)
    said, _, tried = str(refused.value).partition("; try ")
    assert said == (
        f"transformers {transformers.__version__}, which method.backend=autoawq needs, does not "
        "know models of type of_tomorrow"
    )
    assert tried.startswith("method.backend=llm_compressor or ")
    assert "method=rtn" in tried and "autoawq" not in tried
    # What else is wrong is told by the method, which loads the model in its own way.
    (place / "config.json").unlink()
    require_holders(recipe, place, False)


def test_layers_that_are_kept_get_their_width_and_the_ignored_stay(tmp_path: Path) -> None:
    place = directory(LLAMA, tmp_path)
    method = Rtn("rtn", keep=["0.self_attn.q_proj"], ignore=["lm_head", "re:.*1.mlp.up"])
    widths = with_kept_layers(recipe_of(method), place, False).layer_formats
    assert widths is not None and len(widths) == 14 and "lm_head" not in widths
    left = (name for name, bits in widths.items() if bits == "16")
    assert {name.removeprefix("model.layers.") for name in left} == {
        "0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.v_proj", "1.mlp.up_proj",
    }  # fmt: skip
    assert {bits for bits in widths.values() if bits != "16"} == {"w4a16-g32"}
    eight = with_kept_layers(recipe_of(replace(method, keep_bits=8)), place, False).layer_formats
    assert eight is not None and eight["model.layers.0.self_attn.k_proj"] == "8"
    assert eight["model.layers.1.mlp.up_proj"] == "16"
    with pytest.raises(StageError, match=r"method\.keep names no_such, but no linear layer"):
        with_kept_layers(recipe_of(replace(method, keep=["no_such"])), place, False)
    decided = recipe_of(method, layer_formats={"a": "3"})
    assert with_kept_layers(decided, place, False) is decided


@pytest.mark.parametrize(
    ("config", "why", "others"),
    [
        (OPT, "no matches found for keys: .*input_layernorm", "method=rtn$"),
        (GPT2, "no layer's input would be scaled", "method=rtn$"),
        (NEOX, "no matches found for keys", "method=rtn, or method=awq .*=autoawq$"),
    ],
)
def test_models_that_no_table_of_smoothing_fits_are_refused(
    config: dict[str, Any], why: str, others: str
) -> None:
    model = model_of(config)
    data = SimpleNamespace(calib=[])
    awq = smoothing.awq_modifier(duo_scaling=False)
    awq.on_initialize(SimpleNamespace(model=model, data=data))
    said = rf"{type(model).__name__} \(.*{why}.*\); try method=gptq or {others}"
    with pytest.raises(Refused, match="llm-compressor's AWQ has no table of layers .*" + said):
        awq.on_calibration_start(SimpleNamespace(model=model), None)
    with pytest.raises(Refused, match="llm-compressor's SmoothQuant has no table .*" + said):
        smoothing.smoothquant_modifier(smoothing_strength=0.5).on_initialize(
            SimpleNamespace(model=model, data=data)
        )


def test_a_cache_of_8_bits_is_scaled_on_text() -> None:
    calibration = Calibration(name="some")
    for cache in (False, True):
        recipe = recipe_of(Fp8("fp8", kv_cache=cache), calibration=calibration)
        assert FP8.calibration_for(recipe) is (calibration if cache else None)


def test_a_mix_fits_if_all_widths_that_are_rounded_to_do() -> None:
    able = find_method("rtn").backends["llm_compressor"]
    mix = Bits(INT4, BF16, average=4, candidates=["3", "4", "16"])
    assert bits_fit(able, mix)
    assert not bits_fit(replace(able, bits=("w4a16",)), mix)


def test_sensitivities_are_measured_in_the_dtype_whatever_the_backend_rounds_in() -> None:
    fixed = recipe_of(Gguf("gguf"))
    assert "always rounds in float32" in (without_rounding_dtype(fixed) or "")
    assert without_rounding_dtype(recipe_of(Gguf("gguf", keep_most_sensitive=1))) is None


def test_formats_with_a_name_of_their_own_are_planned_by_it() -> None:
    bits = Bits(NumberFormat(NumberType.float, 4), BF16)
    assert find_method("nvfp4").config(name="nvfp4").plan_label(bits, G16) == "nvfp4"


def test_gptqmodel_does_not_begin_what_it_cannot_save() -> None:
    said = "GPTQModel 7.4 cannot save a quantized gemma3_text"
    assert gptqmodel.model_refusal({"model_type": "gemma3_text"}) == said


def test_autoround_rounds_each_layer_of_a_block_as_its_own_scheme_says(tmp_path: Path) -> None:
    place = directory(LLAMA, tmp_path)
    job = job_of(place, recipe_of(Autoround("autoround"), layer_formats={
        "model.layers.0.q_proj": "8", "model.layers.0.k_proj": "4", "model.layers.0.v_proj": "16",
    }))  # fmt: skip
    modifier = auto_round.modifier(replace(job, windows=[[1, 2]]), iters=1, lr=None, batch_size=1)
    block = torch.nn.ModuleDict({f"{name}_proj": torch.nn.Linear(32, 32) for name in "qkv"})
    schemes = {}
    for scheme in modifier.resolve_quantization_config().config_groups.values():
        for target in scheme.targets:
            schemes[target.rpartition(".")[2]] = scheme
    for name, scheme in schemes.items():
        block[name].quantization_scheme = scheme
    wrapped = torch.nn.Module()
    wrapped.model = torch.nn.Module()
    wrapped.model.layers = torch.nn.ModuleList([block])
    (own,) = modifier._build_layer_config_for_autoround(wrapped).items()
    assert (own[0], own[1]["bits"]) == ("model.layers.0.q_proj", 8), "others have the first's"
    assert modifier.get_unquantized_layer_names(block) == ["v_proj"]
