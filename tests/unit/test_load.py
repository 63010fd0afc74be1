"""Models are loaded whole, with every tensor accounted for, or refused with the tensors' names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from runner.data.models.directory import save_weights
from runner.data.models.generated import write_generated_model
from runner.data.models.load import account, load_model
from runner.errors import StageError, UsageError
from tests.unit.test_models import tiny

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose experts transformers stacks when it loads them."""
    from transformers import MixtralConfig, MixtralForCausalLM

    place = tmp_path_factory.mktemp("mixtral")
    config = MixtralConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(place)
    return place


def test_tensors_that_transformers_cannot_convert_are_told_of(mixtral: Path) -> None:
    file = mixtral / "model.safetensors"
    whole = load_file(file)
    left = {name: one for name, one in whole.items() if "experts.1.w1" not in name}
    assert len(left) == len(whole) - 1
    save_file(left, file, metadata={"format": "pt"})
    with pytest.raises(StageError, match="cannot be loaded: transformers cannot make the model's"):
        load_model(mixtral)
    save_file(whole, file, metadata={"format": "pt"})
    assert load_model(mixtral).config.num_local_experts == 2


def test_an_error_that_is_not_of_the_weights_stays_what_it_is(mixtral: Path) -> None:
    with pytest.raises(RuntimeError, match="nowhere") as found:
        load_model(mixtral, device_map={"": "nowhere"})
    assert not isinstance(found.value, StageError)


def test_shapes_are_named_as_far_as_a_version_of_transformers_tells_them() -> None:
    """Version 5 gives both shapes, version 4 names alone."""
    report: dict[str, Any] = {"missing_keys": [], "unexpected_keys": []}
    for mismatched, said in (
        (
            [("a", (2, 3), (4, 3))],
            r"contains a of shape \[2, 3\] where config.json says \[4, 3\]: ",
        ),
        (["b", "a"], r"contains a of another shape than config.json says, b of another"),
    ):
        with pytest.raises(StageError, match=said):
            account({**report, "mismatched_keys": mismatched}, Path("m"))
    account({**report, "mismatched_keys": []}, Path("m"))


def test_settings_for_generation_do_not_keep_a_model_from_being_saved(tmp_path: Path) -> None:
    """transformers refuses to save a temperature in config.json, after all the work."""
    from transformers import GenerationConfig, LlamaConfig

    config = LlamaConfig(num_hidden_layers=1)
    config.temperature = 0.5
    asked: list[Any] = []
    model = SimpleNamespace(
        config=config,
        generation_config=GenerationConfig(temperature=0.5, do_sample=False),
        save_pretrained=lambda place, **options: asked.append((place, options)),
    )
    save_weights(model, tmp_path, max_shard_size=9)
    assert asked == [(tmp_path, {"max_shard_size": 9})]
    assert not hasattr(config, "temperature")
    assert model.generation_config.temperature is None


def test_a_family_that_dimensions_alone_do_not_make_is_refused(tmp_path: Path) -> None:
    model = tiny()
    model.architecture.family = "gemma2"
    with pytest.raises(UsageError, match=r"architecture\.family=gemma2 is made from model\.config"):
        write_generated_model(model, tmp_path)
