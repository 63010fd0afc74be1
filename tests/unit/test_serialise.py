"""What crosses between processes comes back equal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.schema.eval import PerplexityProtocol
from runner.config.schema.root import Config
from runner.data.texts.protocols import Excerpt
from runner.engines.hf.settings import Hf
from runner.engines.loading import LoadRequest
from runner.methods.base import ActivationScales
from runner.methods.gptq import Gptq
from runner.methods.recipe import Recipe
from runner.pipeline.stages.eval import EvalRequest
from runner.util.serialise import from_json, to_json

pytestmark = pytest.mark.unit


def test_a_request_with_paths_and_none() -> None:
    request = EvalRequest(
        load=LoadRequest(
            checkpoint=Path("/a"),
            checkpoint_format="gptq",
            engine=Hf(name="hf", gpus=2),
            device="cpu",
            dtype="auto",
            trust_remote_code=False,
        ),
        excerpt=Excerpt(Path("/c"), Path("/b"), 512, 16, trust_remote_code=False),
        protocols=[PerplexityProtocol.gptq, PerplexityProtocol.lm_eval],
        divergence=True,
        reference_max_bytes=1000,
        top_k=20,
        baseline_directory=None,
    )
    assert from_json(EvalRequest, json.loads(json.dumps(to_json(request)))) == request


def test_a_recipe_keeps_its_methods_own_knobs(composed: Callable[..., Config]) -> None:
    config = composed("method.desc_act=true", "method.activation_scales=static")
    recipe = Recipe(config.method, config.bits, config.group_size, config.calibration)
    back = from_json(Recipe, json.loads(json.dumps(to_json(recipe))))
    assert back == recipe
    assert isinstance(back.method, Gptq)
    assert back.method.desc_act
    assert back.method.activation_scales is ActivationScales.static


def test_a_whole_configuration(composed: Callable[..., Config]) -> None:
    content = json.loads(json.dumps(to_json(composed("method=awq", "engine=hf"))))
    assert content["method"]["duo_scaling"] is True
    assert content["engine"]["device"] == "auto"
    assert "autoawq" in content["environment"]["legacy"]["provides"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"top_k": "lots"}, "top_k"), ({"top_k": None}, "top_k"), ({"x": 1}, "load")],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json(EvalRequest, change)
