"""Which models backends and engines refuse by what config.json says, before any work."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config
from runner.data.models.llama_cpp_families import conversion_refusal, family_refusal
from runner.engines import engine_names, find_engine
from runner.engines.base import CheckpointFacts
from runner.methods import find_method, method_names
from runner.methods.backends import auto_gptq, autoawq, gptqmodel
from runner.planning.hardware.detect import Machine
from runner.util.paths import conf_dir
from tests.unit.judging import illegal_ones, judge

pytestmark = pytest.mark.unit

ZOO = {
    path.stem: yaml.safe_load(path.read_text())["config"]
    for path in (conf_dir() / "model" / "zoo").glob("*.yaml")
}


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ("model=zoo/qwen3 method.backend=auto_gptq", "knows no qwen3 .*method.backend=llm_compr"),
        ("model=zoo/opt method=awq method.backend=autoawq", "knows no opt models"),
        ("model=zoo/falcon method=awq method.backend=autoawq", "new_decoder_architecture=true"),
        ("model=zoo/phi3 method.backend=gptqmodel", "fused projections of phi3.*=llm_compressor"),
        ("model=zoo/qwen3_moe method=awq method.backend=autoawq", "router too, 8 .* has 4"),
        ("model=zoo/deepseek_v3 method=llm_int8", "DeepSeek-V3 cannot compute.*method=smoothq"),
        ("model=zoo/opt method=gguf", "converter does not support opt models.*method=rtn"),
        ("model=zoo/opt method=none engine=llama_cpp", "converter does not support opt.*engine=hf"),
        ("model=zoo/cohere method=gguf engine=hf", "GGUF files of cohere.*engine=llama_cpp"),
        ("model=zoo/deepseek_v3 method=none engine=vllm",
         "latent attention for .* 320, 512 or 576, not of 160.*engine=hf or engine=llama_cpp"),
        ("model=zoo/mistral method=none engine=llama_cpp eval.context_length=65 bench=quick",
         "no sliding window for mistral: it .*eval.context_length=64 or less"),
    ],
)  # fmt: skip
def test_a_family_that_cannot_be_done_is_refused_with_who_can(
    choices: str, said: str, composed: Callable[..., Config], cpu: Machine
) -> None:
    found = [str(one) for one in illegal_ones(judge(composed, cpu, choices.split()))]
    assert len(found) == 1 and re.search(said, found[0]), found


def test_every_model_of_the_zoo_is_done_by_some_method_and_engine() -> None:
    for config in ZOO.values():
        backends = [able for m in method_names() for able in find_method(m).backends.values()]
        assert any(able.model_refusal(config) is None for able in backends)
        facts = CheckpointFacts("float", None, None, None, "cpu", config=config)
        assert find_engine("hf").refusal(facts) is None
    assert len([name for name in engine_names() if name != "hf"]) >= 2


def test_what_is_not_known_of_a_model_refuses_nothing() -> None:
    for refusal in (auto_gptq.model_refusal, autoawq.model_refusal, gptqmodel.model_refusal):
        assert refusal({}) is None
        assert refusal({"model_type": None}) is None
    assert family_refusal({}, 4096) is None
    for name in engine_names():
        engine = find_engine(name)
        assert engine.refusal(CheckpointFacts(engine.dense_format, None, None, None, "cpu")) is None


@pytest.mark.parametrize(
    ("config", "tokens", "refused"),
    [
        ({"model_type": "mistral", "sliding_window": 64}, 65, True),
        ({"model_type": "mistral", "sliding_window": 64}, 64, False),
        ({"model_type": "mistral", "sliding_window": None}, 999, False),
        ({"model_type": "qwen2", "sliding_window": 64}, 999, False),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}, 999, True),
        ({"model_type": "phi3", "sliding_window": 64}, 999, True),
        ({"model_type": "qwen3", "sliding_window": 64, "layer_types": ["full_attention"]}, 99, 0),
        ({"model_type": "gemma2", "sliding_window": 64}, 999, False),
        (ZOO["gemma2"], 999, False),
        (ZOO["gemma3"], 999, False),
        ({**ZOO["gemma3"], "layer_types": ["sliding_attention", "full_attention"]}, 9, True),
        ({**ZOO["smollm3"], "no_rope_layers": [1, 0, 1, 0]}, 9, True),
        (ZOO["smollm3"], 9, False),
    ],
)
def test_llama_cpp_has_not_every_window_and_layout(
    config: dict[str, Any], tokens: int, refused: bool
) -> None:
    assert bool(family_refusal(config, tokens)) == bool(refused)


def test_the_default_model_is_refused_nowhere(composed: Callable[..., Config]) -> None:
    config = composed()
    assert config.model.kind is ModelKind.package
    assert conversion_refusal({"model_type": config.model.architecture.family}) is None
