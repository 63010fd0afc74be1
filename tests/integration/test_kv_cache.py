"""Keys and values are rounded: what is scored reads them so, and llama.cpp holds its own types."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
)
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.engines.hf.cache import hold_in
from runner.engines.hf.model import HfModel
from tests.integration.conftest import TINY, Called, here, records

pytestmark = pytest.mark.integration

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "gemma3": Gemma3TextConfig(
        **SIZES, head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    ),
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_head=2, n_layer=2),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=2),
}
HELD = KvCache(KvFormat.int4, KvFormat.fp8_e4m3)


def _rounded(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``HELD`` in other words: 15 steps from a head's least key to its greatest, and a cast."""
    low, high = keys.amin(-1, keepdim=True), keys.amax(-1, keepdim=True)
    steps = torch.round(15 * (keys - low) / (high - low))
    return low + steps * (high - low) / 15, values.to(torch.float8_e4m3fn).to(values.dtype)


@pytest.mark.parametrize("family", CONFIGS)
def test_what_is_scored_was_read_from_the_cache(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family]).float().eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    window = torch.randint(0, 64, (1, 21))
    with torch.inference_mode():
        exact = model(input_ids=window[:, :-1], use_cache=False).logits[0]
        with monkeypatch.context() as patched:
            for layer in (DynamicLayer, DynamicSlidingWindowLayer):
                update = layer.update
                patched.setattr(
                    layer,
                    "update",
                    lambda self, k, v, *more, update=update: update(self, *_rounded(k, v), *more),
                )
            cache = DynamicCache(config=model.config)
            logits = model(input_ids=window[:, :-1], past_key_values=cache).logits[0]
    wanted = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
    unrounded = torch.nn.functional.cross_entropy(exact, window[0, 1:], reduction="none")
    hold_in(model, HELD)
    found = HfModel(model, "cpu", kv_cache=HELD).token_losses(window[0].tolist())
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(found - unrounded.numpy()).max() > 1e-2
    with torch.inference_mode():
        steps, cache = [], None
        for token in window[0, :-1]:
            output = model(input_ids=token[None, None], past_key_values=cache)
            cache = output.past_key_values
            steps.append(output.logits[0, -1])
    one_by_one = torch.nn.functional.cross_entropy(
        torch.stack(steps), window[0, 1:], reduction="none"
    )
    np.testing.assert_allclose(one_by_one, wanted, atol=1e-3)


@pytest.fixture(scope="module")
def sweep(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Called:
    """Weights and cache rounded, each alone and both."""
    done = here(
        *TINY, "-m", "method=none,rtn", "kv_cache=auto,int4",
        "stages=[quantize,eval,bench]", "tracker=none", "sweep=kv_caches",
        cwd=tmp_path_factory.mktemp("kv_caches"), variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_errors_of_weights_and_cache_are_held_against_their_sum(sweep: Called, store: Path) -> None:
    answer = json.loads((store / "runs/kv_caches/answer.json").read_text("utf-8"))
    found = {one["kv_cache"]: one for one in answer["additions"]}["int4"]
    parts = [found[name]["estimate"] for name in ("of_both", "of_weights", "of_cache")]
    assert all(part > 0 for part in parts)
    assert found["excess"]["estimate"] == pytest.approx(parts[0] - parts[1] - parts[2])
    assert "do errors of weights and KV cache add up?" in sweep.stdout


def test_the_cache_is_as_large_as_computed_and_the_baseline_s_its_own(
    sweep: Called, store: Path
) -> None:
    sizes: dict[str, set[float]] = {"baseline": set(), "recipe": set()}
    for record in records(store, "kv_caches"):
        if not record["label"].endswith("kv_cache=int4"):
            continue
        for stage in record["stages"]:
            if stage["stage"] == "bench":
                bench = stage["result"]
                computed = bench["footprint"]["kv_cache_bytes_per_token"]
                assert bench["kv_cache_bytes_per_token_measured"] == pytest.approx(computed)
                sizes[stage["subject"]].add(computed)
    (own,), (wide,) = sizes["recipe"], sizes["baseline"]
    assert own < wide


@pytest.mark.environments("llama_cpp")
def test_llama_cpp_holds_its_own_types(command: Callable[..., Called], store: Path) -> None:
    done = command(
        *TINY, "model.architecture.heads=2", "model.architecture.kv_heads=1",
        "model.architecture.head_dim=32", "engine=llama_cpp", "method=none", "kv_cache=q8_0",
        "kv_cache.value=q4_0", "stages=[eval]", "tracker=none", "sweep=kv_llama",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = records(store, "kv_llama")
    results = {stage["subject"]: stage["result"] for stage in record["stages"]}
    assert 1e-6 < results["recipe"]["divergence"]["kl_divergence"]["mean"]["estimate"] < 0.1
    assert results["recipe"]["perplexity"]["value"] != results["baseline"]["perplexity"]["value"]
