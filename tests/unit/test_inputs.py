"""What a run's stages are given and what they tell of it, before anything is computed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from runner.config.schema.bench import Bench, Interleave
from runner.config.schema.engine import Engine
from runner.data.texts.calibration import Part
from runner.data.texts.protocols import Excerpt, ProtocolText, Window
from runner.engines.instruments import turns
from runner.engines.loading import LoadRequest
from runner.errors import Refused, StageError
from runner.evaluation.metrics.speed import Limits
from runner.pipeline import record
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.facts import _known_tasks
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.bench import BenchRequest, _opponent
from runner.pipeline.stages.bench import measure as bench
from runner.pipeline.stages.bench.limits import limits
from runner.pipeline.stages.eval import EvalRequest
from runner.pipeline.stages.eval.score import _Scorer
from runner.pipeline.stages.jobs import check, tokens, weights, windows
from runner.pipeline.stages.jobs.tokens import TokensResult
from runner.pipeline.stages.jobs.weights import WeightsRequest
from runner.pipeline.stages.tasks.ask import _below, _plain
from runner.planning.hardware.detect import Machine
from tests.unit.conftest import Compose, MakeInputs

pytestmark = pytest.mark.unit

MODEL = Checkpoint(Path("model"), "float", {}, "model", "bfloat16")


def test_what_float16_cannot_hold_is_not_rounded_in_it(inputs: MakeInputs) -> None:
    narrow = inputs("method.rounding_dtype=float16")
    assert narrow.rounding_dtype(replace(MODEL, dtype="float16")) == "float16"
    with pytest.raises(Refused, match=r"weights are bfloat16, whose range .* exceed float16"):
        narrow.rounding_dtype(MODEL)


def test_a_gpu_without_room_for_float32_is_told(inputs: MakeInputs, gpu: Machine) -> None:
    small = inputs("model=llama32_1b", machine=gpu)
    assert (small.rounding_dtype(MODEL), small.warnings) == ("float32", [])
    large = inputs("model=llama31_405b", machine=gpu)
    assert large.rounding_dtype(MODEL) == "bfloat16"
    assert (
        "weights are rounded in bfloat16: this machine has too little memory" in large.warnings[0]
    )


def test_windows_of_almost_no_tokens_are_told(
    inputs: MakeInputs, capsys: pytest.CaptureFixture[str]
) -> None:
    one = inputs("eval.protocols=[spread,gptq]")
    found = TokensResult({"spread": 8, "gptq": 9}, {}, {"spread": 3, "gptq": 0}, {"gptq": 2})
    tokens._tell(one, found, MODEL)
    assert "spread: 3 windows skipped, with" in capsys.readouterr().err
    assert one.warnings[0].startswith("gptq: 2 of 9 windows have ")
    one.warnings.clear()
    part = Part("mine", windows=16, tokens=1, documents=1, duplicates=0)
    for left_out in (0, 1):
        windows._tell_left_out(one, replace(part, left_out=left_out))
    assert not one.warnings
    assert "1 of 17 windows of text mine skipped" in capsys.readouterr().err
    windows._tell_left_out(one, replace(part, left_out=4))
    (told,) = one.warnings
    assert told.startswith("4 of 20 windows of text mine skipped")
    assert told.endswith("check that this is the intended text")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["bench.interleave=never"], "bench.interleave=never"),
        (["bench.baseline=false"], "bench.baseline=false"),
        (["engine=vllm"], "engine=vllm cannot hold two models in a process"),
        ([], None),
        (["bench.baseline=false", "bench.interleave=always"], None),
    ],
)
def test_why_no_turns_are_taken(overrides: list[str], why: str | None, inputs: MakeInputs) -> None:
    one = inputs(*overrides)
    assert _opponent(one, MODEL) == (None if why else MODEL, why)
    assert _opponent(one, None) == (None, None)


def test_speed_is_held_against_the_published_limits_of_a_device_that_is_named(
    inputs: MakeInputs, gpu: Machine
) -> None:
    named = limits(inputs("hardware=h100_sxm"))
    assert named[0] == Limits("measured", None)
    assert (named[1].source, named[1].bandwidth_bytes_per_second) == ("h100_sxm", 3350e9)
    assert named[1].peak_teraflops["bf16"] > 900
    assert [one.source for one in limits(inputs(machine=gpu))] == ["measured", "a100_80_sxm"]
    assert [one.source for one in limits(inputs())] == ["measured"]


@pytest.mark.parametrize(
    ("overrides", "together"),
    [(("engine=vllm", "engine.tensor_parallel_size=2"), 2), (("engine=vllm",), 1), ((), 1)],
)
def test_gpus_that_compute_together_have_the_limits_of_all(
    overrides: tuple[str, ...], together: int, inputs: MakeInputs, gpu: Machine
) -> None:
    two = gpu.using([*gpu.gpus, replace(gpu.gpus[0], uuid="GPU-1", index=1)])
    given = inputs(*overrides, machine=two)
    one = SimpleNamespace(bandwidth_bytes_per_second=1e12, peak_teraflops={"bf16": 200.0})
    known = SimpleNamespace(known=one)
    given.obtain = lambda *_, **__: known  # type: ignore[method-assign, assignment]
    here, listed = limits(given)
    assert here == Limits("measured", together * 1e12, {"bf16": together * 200.0}, together)
    assert listed.bandwidth_bytes_per_second == together * 2039e9
    assert (listed.source, listed.devices) == ("a100_80_sxm", together)


def turn_request(folder: Path, interleave: Interleave) -> BenchRequest:
    (folder / "config.json").write_text("{}")
    save_file({"w": torch.zeros(8)}, folder / "model.safetensors")
    model = load_request(folder)
    return BenchRequest(model, Bench(interleave=interleave), [], None, "fp32", model)


def test_a_model_that_cannot_stand_beside_is_told_and_insisting_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, why = bench._beside(turn_request(tmp_path, Interleave.auto), 0, 1)
    assert model is None
    assert (why or "").startswith("the unquantized model could not be loaded beside the recipe: ")
    with pytest.raises(ValueError):
        bench._beside(turn_request(tmp_path, Interleave.always), 0, 1)
    monkeypatch.setattr(turns, "free_memory_bytes", lambda _: 10)
    model, why = bench._beside(turn_request(tmp_path, Interleave.auto), 0, 1)
    assert model is None and "it needs about" in (why or "")


def test_names_of_tasks_are_unknown_until_the_harness_is_there(
    composed: Compose, tmp_path: Path
) -> None:
    words = ["stages=[tasks]", f"store.environments={tmp_path}"]
    away = composed(*words, "tasks.names=[hellaswag]", "engine=vllm")
    assert _known_tasks(away, "cpu") is None, "no environment is made yet"
    assert _known_tasks(composed(*words, "tasks=packaged"), "cpu") is None, "all are our own"


def test_samples_of_a_group_are_those_of_all_below_and_numbers_are_plain() -> None:
    found = {"group_subtasks": {"all": ["some", "c"], "some": ["a", "b"]}}
    samples: Any = {"a": [1], "b": [2, 3], "c": [4], "d": [5]}
    assert _below("all", found, samples) == [1, 2, 3, 4]
    assert (_below("a", found, samples), _below("e", found, samples)) == ([1], [])
    assert (_plain(np.float32(0.5)), _plain({1})) == (0.5, "{1}")


def test_sections_without_secrets_are_kept_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_seen", seen := cast(dict[bytes, Any], {}))
    monkeypatch.setattr(record, "_MOST_SEEN", 2)
    for number in range(5):
        content = {"a": {"n": number}, "b": {"token": "x"}}
        assert record._masked(content)["a"] == {"n": number}
        assert "x" not in str(record._masked(content)["b"])
        assert len(seen) <= 2


def written(folder: Path, **others: Any) -> LlamaForCausalLM:
    """A tiny model in a folder."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=90, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, **others,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("method", "format", "checked"),
    [("gptq", "gptq", False), ("mine", "unknown", False), (None, "float", True)],
)
def test_only_what_is_known_of_a_format_is_held_against_the_architecture(
    method: str | None, format: str, checked: bool, tmp_path: Path
) -> None:
    quantized = {"quantization_config": {"quant_method": method}} if method else {}
    written(tmp_path, **quantized)
    if method == "gptq":
        save_file({"model.nowhere.qweight": torch.zeros(1)}, tmp_path / "model.safetensors")
    headers = weights.tensor_headers(tmp_path)
    assert weights._check(WeightsRequest(tmp_path, format, False), headers) == checked


def test_an_architecture_that_transformers_does_not_know_is_told(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nobodys"}')
    with pytest.raises(StageError, match=r"transformers cannot make the model of .*nobodys"):
        weights._check(WeightsRequest(tmp_path, "float", False), {})


def load_request(folder: Path) -> LoadRequest:
    return LoadRequest(
        folder, "float", Engine(name="hf"), "cpu", "float32", trust_remote_code=False
    )


TEXT = ProtocolText("spread_4", [Window([1, 2, 3, 4], 3), Window([5, 6, 7, 8], 3)])


def scorer(folder: Path, progress: Callable[[int, int, str], None]) -> _Scorer:
    """Scores windows with the model of a folder; what is kept of them lies in ``partial``."""
    excerpt = Excerpt(folder, folder, 4, 2, False)
    request = EvalRequest(load_request(folder), excerpt, [], True, 10**6, 20, None)
    partial = folder / "partial"
    partial.mkdir(exist_ok=True)
    context = StageContext(folder, partial, folder, 1, progress, lambda load: load())
    return _Scorer(request, context, len(TEXT.windows))


def test_a_window_whose_distributions_were_lost_is_scored_again(tmp_path: Path) -> None:
    written(tmp_path)
    told: list[tuple[int, int, str]] = []

    def attempt() -> tuple[list[Any], int]:
        one = scorer(tmp_path, lambda *state: told.append(state))
        return one.score(TEXT, compare=True), one.resumed

    first, resumed = attempt()
    assert (resumed, told) == (0, [(1, 2, "scoring windows"), (2, 2, "scoring windows")])
    again, resumed = attempt()
    assert resumed == 2 and np.array_equal(first, again)
    (tmp_path / "partial" / "reference" / "window-00001.npy").write_bytes(b"damaged")
    again, resumed = attempt()
    assert resumed == 1 and np.array_equal(first, again)


def test_losses_that_are_not_finite_are_no_result(tmp_path: Path) -> None:
    model = written(tmp_path)
    found = check._look(load_request(tmp_path), [[1, 2, 3]], 1, "the checkpoint")
    assert found.losses.shape == (2,) and found.log_probabilities[0].shape == (2, 90)
    model.lm_head.weight.data[:] = 0
    model.lm_head.weight.data[:, 0] = 3e38
    model.model.norm.weight.data[0] = 1000
    model.save_pretrained(tmp_path)
    with pytest.raises(StageError, match="the checkpoint gives losses that are not finite"):
        check._look(load_request(tmp_path), [[1, 2, 3]], 1, "the checkpoint")
    with pytest.raises(StageError, match="the model gives losses that are not finite"):
        scorer(tmp_path, lambda *_: None).score(TEXT, compare=False)


def test_of_an_engine_that_tells_the_likeliest_tokens_alone_those_are_kept() -> None:
    top = np.zeros((3, 20))
    assert check._kept(cast(Any, SimpleNamespace(top=top))) is top
