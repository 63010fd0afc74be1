"""A count of parameters is held against the files' heads, else against the name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.config.names import last_part
from runner.config.schema.architecture import Architecture
from runner.config.schema.model import Model, ModelKind
from runner.data.models.stated_size import named_sizes, stored_size
from runner.errors import UsageError
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.validation.check import check
from tests.unit.conftest import Compose

pytestmark = pytest.mark.unit

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 96, "vocab_size": 100, "max_position_embeddings": 8192,
}  # fmt: skip
COUNTED = 2 * (4 * 64 * 64 + 3 * 64 * 96) + 2 * 100 * 64 + 5 * 64


def local(directory: Path, name: str = "m") -> Model:
    return Model(name=name, kind=ModelKind.local, path=str(directory))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Llama-3.1-70B-Instruct", [(65, 75, False)]),
        ("Qwen2.5-0.5B", [(0.45, 0.55, False)]),
        ("SmolLM2-135M", [(0.1345, 0.1355, False)]),
        ("Qwen3-30B-A3B", [(25, 35, False), (2.5, 3.5, True)]),
        ("NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4", [(545, 555, False), (54.5, 55.5, True)]),
        ("Llama-4-Maverick-17B-128E-Instruct", [(16.5, 17.5, True)]),
        ("gpt_oss_120b", [(115, 125, False)]),
        ("Kimi-K2-1T", [(500, 1500, False)]),
        ("Mixtral-8x7B-v0.1", [(39.2 / 0.98, 56, False)]),
        # Context lengths, bits, effective sizes and versions are no sizes.
        ("gemma-3n-E4B-it", []),
        ("Nemotron-128k-4bit", []),
        ("phi-4", []),
    ],
)
def test_sizes_that_a_name_states(name: str, sizes: list[tuple[float, float, bool]]) -> None:
    model = Model(name="m", kind=ModelKind.hub, hub_id=f"owner/{name}")
    found = [
        (one.least / 0.98 / 1e9, one.most / 1.02 / 1e9, one.active) for one in named_sizes(model)
    ]
    assert found == [(pytest.approx(a), pytest.approx(b), c) for a, b, c in sizes]


def test_the_heads_of_files_count_the_language_model_alone(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.a.weight": np.zeros((10, 10), np.float16),
        "model.layers.1.a.weight": np.zeros((10, 10), np.int8),
        "model.layers.1.a.weight_scale": np.zeros((10, 1), np.float32),
        "model.layers.2.a.weight": np.zeros((10, 10), np.float16),  # predicts further tokens
        "model.visual.a.weight": np.zeros((10, 10), np.float16),
        "lm_head.weight": np.zeros((10, 10), np.float16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    for tied, number in ((False, 300), (True, 200)):
        stored = stored_size(local(tmp_path), 2, quantized=False, tied=tied)
        assert stored is not None
        assert (stored.least, stored.most) == (pytest.approx(number * 0.98), number * 1.02)
    save_file({**tensors, "b.qweight": np.zeros(4, np.int32)}, tmp_path / "model.safetensors")
    assert stored_size(local(tmp_path), 2, quantized=True, tied=False) is None, "packed"


@pytest.mark.parametrize(
    ("metadata", "names", "number"),
    [
        ({"total_size": 400}, ["model.layers.0.a"], 200),
        ({"total_size": 400, "total_parameters": 150}, ["model.layers.0.a"], 150),
        ({"total_size": 400}, ["model.layers.0.a", "model.layers.2.a"], None),
        ({"total_size": 400}, ["model.layers.0.a", "vision_tower.a"], None),
        ({}, ["model.layers.0.a"], None),
    ],
)
def test_an_index_without_its_files_tells_bytes(
    metadata: dict[str, int], names: list[str], number: int | None, tmp_path: Path
) -> None:
    index = {"metadata": metadata, "weight_map": dict.fromkeys(names, "a.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    stored = stored_size(local(tmp_path), 2, quantized=False, tied=False)
    assert (stored and stored.most / 1.02) == (number and pytest.approx(number))
    assert stored_size(local(tmp_path), 2, quantized=True, tied=False) is None


@pytest.fixture
def said(composed: Compose, cpu: Machine, tmp_path: Path) -> Any:
    """What a plan of a bare config.json is told."""
    plan = composed("model=local", "model.path=/nowhere", "stages=[plan]")

    def found(name: str, family: str | None = None, **changes: Any) -> list[str]:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text(json.dumps({**LLAMA, **changes}))
        shape = Architecture(family=family)
        config = replace(plan, model=replace(local(directory, name), architecture=shape))
        verdicts = check(config, gather_facts(config, cpu, []))
        return [f"{one.severity.value}: {one}" for one in verdicts]

    return found


def test_a_count_that_is_not_what_a_name_states_is_told(said: Any) -> None:
    assert said("mine") == []
    (told,) = said("mine-7B")
    assert told.startswith(f"warning: the dimensions of model mine-7B give {COUNTED / 1e6:.3g} M")
    assert "by its name (7B) it should be 6.37 B to 7.65 B" in told


def test_weights_that_are_of_another_size_are_told(said: Any, tmp_path: Path) -> None:
    (tmp_path / "mine-7B").mkdir()
    for numbers, agrees in ((COUNTED, True), (COUNTED * 11 // 10, False)):
        weights = {"model.layers.0.a.weight": np.zeros(numbers, np.float16)}
        save_file(weights, tmp_path / "mine-7B" / "model.safetensors")
        found = said("mine-7B")
        # What the files say counts more than a name.
        assert [one for one in found if "its name" in one] == []
        assert (found == []) is agrees
        assert agrees or "by the heads of its safetensors files it should be 0.0892 M" in found[0]


def test_an_unknown_family_needs_something_that_its_count_agrees_with(said: Any) -> None:
    (told,) = said("mine", model_type="brand_new")
    assert told.startswith("illegal: model_type brand_new is not known here: read as most")
    assert told.endswith("try model.architecture.family=llama, if its layers are Llama's")
    assert said("mine", "llama", model_type="brand_new") == []
    (told,) = said("mine-9B", model_type="brand_new")
    assert told.startswith("illegal: ")
    thousand = {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008}
    (told,) = said("mine-7B", model_type="brand_new", vocab_size=32000, **thousand)
    assert told.startswith("warning: model_type brand_new is not known here")


def test_a_layer_that_is_not_known_is_no_plan(said: Any) -> None:
    (told,) = said("mine", layer_types=["full_attention", "hyper_attention"])
    assert told.startswith("illegal: model mine: its config.json cannot be planned with: ")
    assert "'hyper_attention'" in told


def test_a_config_json_alone_is_planned_and_nothing_else(
    composed: Compose, cpu: Machine, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    plan = composed("model=local", "model.path=/nowhere", "stages=[plan]")
    timed = composed("model=local", "model.path=/nowhere", "stages=[bench]", "method=none")
    for place in (tmp_path, tmp_path / "config.json"):
        facts = gather_facts(replace(plan, model=local(place)), cpu, [])
        assert facts.parameters == COUNTED
        assert not check(replace(plan, model=local(place)), facts)
    with pytest.raises(UsageError, match="has no weights; save it as safetensors"):
        gather_facts(replace(timed, model=local(tmp_path)), cpu, [])
    with pytest.raises(UsageError, match="a file without weights, which is enough for stages="):
        gather_facts(replace(timed, model=local(tmp_path / "config.json")), cpu, [])
    assert last_part(str(tmp_path / "config.json")) == tmp_path.name
