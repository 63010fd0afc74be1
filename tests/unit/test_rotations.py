"""Rotations: which models they fit, that they change no function, and who applies what is left."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from runner.engines import find_engine
from runner.engines.base import CheckpointFacts, rotated_at_run_time
from runner.engines.hf.rotations import online_rotations
from runner.engines.vllm.rotations import reason_against_rotations, reason_against_serving
from runner.errors import Refused, StageError
from runner.methods.backends import rotatable, rotations
from runner.methods.quip import Quip
from runner.methods.recipe import Recipe
from runner.methods.spinquant import Rotation, SpinQuant
from tests.unit.conftest import Compose
from tests.unit.judging import Judge, illegal_ones
from tests.unit.test_backends import LLAMA, MIXTRAL, directory, job_of, recipe_of

pytestmark = pytest.mark.unit

GEMMA3 = {**LLAMA, "model_type": "gemma3_text", "head_dim": 8}
GEMMA = {**GEMMA3, "model_type": "gemma"}
OPT = {
    "model_type": "opt", "vocab_size": 64, "hidden_size": 32, "word_embed_proj_dim": 32,
    "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
}  # fmt: skip


def model_of(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(0.5 * torch.rand_like(weight))
    return model


@pytest.mark.parametrize(("config", "asked", "reason"), [
    (GEMMA3, ["R1"], "norms input_layernorm, post_attention_layernorm, post_feedf.*=\\[R2\\]"),
    (MIXTRAL, ["R1"], "is no linear layer; try method.rotations=\\[R2\\]"),
    (MIXTRAL, ["v"], "readers fuse its experts.*; try method=gptq"),
    (MIXTRAL, ["R4"], "down_proj of their own"),
    (OPT, ["R1"], "not where Llama has them"),
    (OPT, ["R2"], "no v_proj and o_proj"),
    ({**LLAMA, "intermediate_size": 86}, ["R4"], "86 wide, and no random-hadamard matrix"),
])  # fmt: skip
def test_models_that_a_rotation_does_not_fit_are_refused_before_their_weights_are_read(
    config: dict[str, Any], asked: list[str], reason: str, tmp_path: Path
) -> None:
    job = job_of(directory(config, tmp_path), recipe_of(SpinQuant("spinquant")))
    with pytest.raises(Refused, match=reason):
        rotatable.require_rotatable(job, asked, "random-hadamard", None)


def test_a_block_size_has_to_divide_what_it_rotates(tmp_path: Path) -> None:
    job = job_of(directory(LLAMA, tmp_path), recipe_of(Quip("quip")))
    rotatable.require_rotatable(job, ["v"], "random-hadamard", None)
    rotatable.require_rotatable(job, ["v"], "hadamard", 32)
    with pytest.raises(Refused, match=r"64 does not divide 32.*transform_block_size=32$"):
        rotatable.require_rotatable(job, ["v"], "hadamard", 64)
    with pytest.raises(Refused, match=r"96 wide.*=32 or method.transform_type=random_hadamard"):
        rotatable.require_rotatable(job, ["v"], "hadamard", None)


@pytest.mark.parametrize(("size", "sylvester", "known"), [
    (64, True, True), (576, False, True), (640, False, True), (1536, False, True),
    (86, False, False),
])  # fmt: skip
def test_matrices_are_known_of_widths(size: int, sylvester: bool, known: bool) -> None:
    assert rotatable.has_hadamard_matrix(size, "hadamard") is sylvester
    assert rotatable.has_hadamard_matrix(size, "random-hadamard") is known


@pytest.mark.parametrize(("config", "asked"), [
    ({**LLAMA, "tie_word_embeddings": True}, ["R1", "R2", "R4"]),
    (GEMMA3, ["R2", "R4"]),
])  # fmt: skip
def test_a_rotated_model_computes_what_it_did(
    config: dict[str, Any], asked: list[str], tmp_path: Path
) -> None:
    from llmcompressor.core import State

    model, tokens = model_of(config), torch.arange(16)[None]
    before = model(tokens).logits
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    job = job_of(directory(config, tmp_path), recipe_of(SpinQuant("spinquant")))
    modifier = rotations.spinquant_modifier(
        job, rotations=asked, transform_type="random-hadamard", block_size=None
    )
    state = State(model=model)
    modifier.on_initialize(state)
    modifier.on_calibration_start(state, None)
    assert torch.allclose(model(tokens).logits, before, atol=1e-5)
    moved = {name for name, weight in model.named_parameters()
             if name not in weights or not torch.equal(weight, weights[name])}  # fmt: skip
    assert {"model.layers.0.self_attn.v_proj.weight", "model.layers.0.mlp.down_proj.weight"} < moved
    assert ("lm_head.weight" in moved) is ("R1" in asked)
    assert model.config.tie_word_embeddings is (config is GEMMA3)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_norm_hands_on_what_it_multiplies_by(offset: float) -> None:
    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt() * (self.weight + offset)

    norm, linear, x = Norm(), torch.nn.Linear(8, 4), torch.rand(3, 8)
    before = linear(norm(x))
    rotations._fuse(norm, [linear])
    assert torch.allclose(linear(norm(x)), before, atol=1e-5)
    assert torch.equal(norm.weight, torch.full((8,), 1 - offset))
    with pytest.raises(Refused, match="LayerNorm does more than multiply"):
        rotations._fuse(torch.nn.LayerNorm(8), [linear])


def test_what_changes_the_function_is_refused() -> None:
    model = model_of(LLAMA)
    with (
        pytest.raises(Refused, match="would change what LlamaForCausalLM computes"),
        rotations.function_kept(model, "R1"),
        torch.no_grad(),
    ):
        embedding = model.get_input_embeddings().weight
        embedding -= embedding.mean(-1, keepdim=True)  # as the library does


def _written(place: Path, transform_type: str) -> tuple[Any, torch.Tensor]:
    """A checkpoint whose layers' inputs are left to the reader, nothing rounded."""
    from llmcompressor.core import State

    model, tokens = model_of(LLAMA), torch.arange(16)[None]
    before = model(tokens).logits
    job = job_of(directory(LLAMA, place), recipe_of(Quip("quip")))
    modifier = rotations.quip_modifier(
        job, rotations=["u", "v"], transform_type=transform_type, block_size=16
    )
    state = State(model=model)
    modifier.on_initialize(state)
    modifier.on_calibration_start(state, None)
    model.save_pretrained(place)
    config = json.loads((place / "config.json").read_text())
    transforms = modifier.transform_config.model_dump(mode="json")
    config["quantization_config"] = {"transform_config": transforms}
    (place / "config.json").write_text(json.dumps(config))
    return before, tokens


@pytest.mark.parametrize("transform_type", ["hadamard", "random-hadamard"])
def test_what_is_left_to_readers_is_attached_from_the_files(
    transform_type: str, tmp_path: Path
) -> None:
    before, tokens = _written(tmp_path, transform_type)
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
    stored = load_file(tmp_path / "model.safetensors")
    plain.load_state_dict(stored, strict=False)
    assert not torch.allclose(plain(tokens).logits, before, atol=1e-2), "rotations are left out"
    left = online_rotations(tmp_path)
    assert left is not None and left.tensors
    assert {*stored} - {*plain.state_dict()} == {*left.tensors}
    left.attach(plain)
    assert torch.allclose(plain(tokens).logits, before, atol=1e-5)
    # Those of the files, not ones that are made anew.
    again = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
    again.load_state_dict(stored, strict=False)
    save_file({name: torch.eye(16) * 4 if name in left.tensors else tensor
               for name, tensor in stored.items()}, tmp_path / "model.safetensors")  # fmt: skip
    left.attach(again)
    assert not torch.allclose(again(tokens).logits, before, atol=1e-2)


def test_a_checkpoint_without_its_rotations_is_refused(tmp_path: Path) -> None:
    _written(tmp_path, "hadamard")
    stored = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in stored.items() if "put.weight" not in name}
    save_file(kept, tmp_path / "model.safetensors")
    left = online_rotations(tmp_path)
    assert left is not None
    with pytest.raises(StageError, match=r"lacks model\.layers\.\d.*, which rotates"):
        left.attach(model_of(LLAMA))


def test_fused_rotations_are_nothing_to_readers() -> None:
    def config(*places: str) -> dict[str, Any]:
        apply = [{"location": place} for place in places]
        return {
            "quantization_config": {"transform_config": {"config_groups": {"R": {"apply": apply}}}}
        }

    assert rotated_at_run_time({}) == rotated_at_run_time(config("weight_input")) == {}
    assert rotated_at_run_time(config("input", "weight_input"))["R"]["apply"] == [
        {"location": "input"}
    ]


def test_vllm_rotates_without_biases_and_its_server_on_gpus_alone(
    judged: Judge, tmp_path: Path
) -> None:
    def reason(device: str, **config: Any) -> str | None:
        return reason_against_rotations(
            CheckpointFacts("compressed-tensors", None, None, Quip("quip"), device, config)
        )

    for device in ("cpu", "cuda"):
        assert reason(device, model_type="llama") is None
        assert "adds a bias" in str(reason(device, model_type="qwen2"))
    assert (
        find_engine("vllm").caution(  # type: ignore[attr-defined]
            CheckpointFacts("compressed-tensors", None, None, SpinQuant("spinquant"), "cuda")
        )
        is None
    )
    assert not [found for found in illegal_ones(judged("method=quip engine=vllm", {}))
                if "rotates" in found.reason]  # fmt: skip
    assert reason_against_serving(tmp_path, "cpu") is None
    config = {"transform_config": {"config_groups": {"v": {"apply": [{"location": "input"}]}}}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    assert "server rotates layers' inputs on GPUs only" in str(
        reason_against_serving(tmp_path, "cpu")
    )
    assert reason_against_serving(tmp_path, "cuda") is None


def test_labels_and_calibration_follow_from_the_options(composed: Compose) -> None:
    config = composed("method=spinquant", "method.rotations=[R2,R4]", "method.rounding=gptq")
    recipe = Recipe(config.method, config.bits, config.group_size, None)
    assert recipe.label == "spinquant-w4a16-g64,rounding=gptq,rotations=R2+R4"
    assert config.method.rotates_at_run_time and config.method.solves_with_hessians
    plain = SpinQuant("spinquant")
    assert plain.rotations == [Rotation.R1, Rotation.R2] and not plain.rotates_at_run_time
    assert Quip("quip").rotates_at_run_time
