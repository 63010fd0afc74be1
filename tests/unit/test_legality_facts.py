"""Rules on facts about the model and the machine: memory, GPUs, formats; where each begins."""

from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema.bench import Interleave
from runner.config.schema.bits import NumberType
from runner.config.schema.calibration import Cut
from runner.config.schema.model import ModelKind
from runner.config.schema.root import StageName
from runner.environments.needs import Obstacle
from runner.planning.hardware.detect import Machine
from runner.util.gpus import Gpu
from runner.validation.layers import linear_inputs
from runner.validation.verdict import Severity, Verdict, illegal, warning
from tests.unit.judging import Changes, Compose, Judge

pytestmark = pytest.mark.unit

WARNING, ILLEGAL = Severity.warning, Severity.illegal
EVAL, BENCH, QUANTIZE = [StageName.eval], [StageName.bench], [StageName.quantize]
PLAN, SENSITIVITY = [StageName.plan], [StageName.sensitivity]


NONE, GPTQ, RTN = "method=none bits=bf16", "", "method=rtn"
VLLM = "method=none bits=bf16 engine=vllm"
GIGA = 10**9


def card(memory: int | None, capability: str = "9.0", name: str = "a card") -> Gpu:
    return Gpu(name, memory, capability, f"GPU-{name}")


@pytest.mark.parametrize(
    ("base", "changes", "parameters", "refused"),
    [
        # 24 GB; 4 bytes a parameter in float32.
        (NONE, {"stages": EVAL}, 6 * GIGA, False),
        (NONE, {"stages": EVAL}, 6 * GIGA + 1, True),
        (NONE, {"stages": PLAN}, 6 * GIGA + 1, False),
        (NONE, {"stages": EVAL}, None, False),
        # An engine that rounds to 8 bits while it loads, and 1 of 2 devices' share.
        (VLLM, {"stages": EVAL, "engine.quantization": "fp8"}, 24 * GIGA, False),
        (VLLM, {"stages": EVAL, "engine.quantization": "fp8"}, 24 * GIGA + 1, True),
        (VLLM, {"stages": EVAL, "engine.tensor_parallel_size": 2}, 12 * GIGA, False),
        (VLLM, {"stages": EVAL, "engine.tensor_parallel_size": 2}, 12 * GIGA + 1, True),
        # A recipe is made from the whole model.
        (RTN + " engine=vllm group_size=per_channel",
         {"stages": [*QUANTIZE, *EVAL], "engine.tensor_parallel_size": 2}, 6 * GIGA + 1, True),
    ],
)  # fmt: skip
def test_a_model_fits_up_to_the_last_byte(
    base: str, changes: Changes, parameters: int | None, refused: bool, judged: Judge
) -> None:
    found = judged(base, changes, parameters=parameters, load_bytes_per_parameter=4.0)
    assert any("to load unquantized" in one.reason for one in found) == refused


def test_memory_is_that_of_the_gpu_that_computes(judged: Judge, cpu: Machine) -> None:
    def refused(parameters: int, *gpus: Gpu, device: str = "cuda") -> list[str]:
        machine = Machine(**{**vars(cpu), "gpus": gpus})
        changes = {"stages": EVAL, "engine.device": device}
        verdicts = judged(
            NONE, changes, machine, parameters=parameters, load_bytes_per_parameter=2.0
        )
        return [str(one) for one in verdicts]

    cards = card(80 * GIGA), card(40 * GIGA), card(None)
    # A gigabyte is CUDA's, and half of one is computed with.
    most = 39_250_000_000
    assert refused(most, *cards) == []
    assert len(refused(most - 19 * GIGA, *cards, device="cuda:1")) == 1
    assert refused(most - 20 * GIGA, *cards, device="cuda:1") == []
    (found,) = refused(40 * GIGA, *cards)
    assert found == (
        "eval needs about 81 GB of GPU memory to load unquantized smollm2_135m (80 GB of weights) "
        "and compute with it; the GPU has 80 GB; try engine.gpus=2"
    )
    (found,) = refused(12 * GIGA + 1, *cards, device="cpu")
    assert "this machine has 24 GB of memory" in found
    assert refused(12 * GIGA, card(None)) == []
    assert len(refused(12 * GIGA + 1, card(None))) == 1, "the machine's, where no GPU tells"


def test_a_narrower_type_is_suggested_only_where_it_is_enough(judged: Judge) -> None:
    def nearest(parameters: int, of: float = 4.0, kind: ModelKind = ModelKind.package) -> str:
        changes = {"stages": EVAL, "model.kind": kind}
        narrower = ("engine.dtype=bfloat16", "eval.dtype=bfloat16")
        (one,) = judged(
            NONE, changes, parameters=parameters, load_bytes_per_parameter=of,
            load_narrower=narrower,
        )  # fmt: skip
        assert one.severity is ILLEGAL
        return str(one.nearest)

    assert nearest(12 * GIGA) == "engine.dtype=bfloat16 eval.dtype=bfloat16"
    assert nearest(12 * GIGA + 1) == "a machine with more memory, or a smaller model"
    assert nearest(13 * GIGA, of=2.0) == "a machine with more memory, or a smaller model"
    hub = "a machine with more memory, or model=smollm2_135m to try the runner"
    assert nearest(12 * GIGA + 1, kind=ModelKind.hub) == hub


@pytest.mark.parametrize(
    ("width", "bytes_of_both"), [(4, 2.5), (8, 3.0), (16, 4.0), (32, 4.0)]
)  # fmt: skip
def test_two_models_that_take_turns_fit_together(
    width: int, bytes_of_both: float, judged: Judge
) -> None:
    most = int(24 * GIGA / bytes_of_both)
    changes: Changes = {
        "stages": [*QUANTIZE, *BENCH],
        "bench.interleave": Interleave.always,
        "bits.weight.num_bits": width,
        "bench.batch_sizes": [],
    }

    def told(parameters: int, **more: Any) -> int:
        found = judged(
            RTN, {**changes, **more}, parameters=parameters, load_bytes_per_parameter=1.0
        )
        both = [one for one in found if "in memory at once" in one.reason]
        assert all(one.nearest == "bench.interleave=auto" for one in both)
        return len(both)

    assert told(most) == 0
    assert told(most + 1) == 1
    assert told(most + 1, **{"bench.interleave": Interleave.auto}) == 0
    assert told(most + 1, stages=[*QUANTIZE, *EVAL]) == 0
    assert told(most + 1, stages=BENCH) == 0


@pytest.mark.parametrize(("there", "wanted", "refused"), [(2, 2, False), (2, 3, True)])
def test_as_many_gpus_as_share_a_model(
    there: int, wanted: int, refused: bool, judged: Judge, cpu: Machine
) -> None:
    machine = Machine(**{**vars(cpu), "gpus": (card(80 * GIGA),) * there})
    changes = {"stages": EVAL, "engine.tensor_parallel_size": wanted, "engine.device": "cuda"}
    found = [one for one in judged(VLLM, changes, machine) if "as many GPUs" in one.reason]
    assert [one.nearest for one in found] == [f"engine.tensor_parallel_size={there}"] * refused
    changes["engine.device"] = "cuda:1"
    (found,) = [one for one in judged(VLLM, changes, machine) if "as many GPUs" in one.reason]
    assert "has 1 GPU from engine.device=cuda:1 on" in found.reason


def test_slices_of_gpus_share_no_model(judged: Judge, cpu: Machine) -> None:
    slices = tuple(Gpu("A100 MIG 3g.20gb", 20 * GIGA, "8.0", f"MIG-{n}") for n in range(2))
    machine = Machine(**{**vars(cpu), "gpus": slices})
    changes = {"stages": EVAL, "engine.tensor_parallel_size": 2, "engine.device": "cuda"}
    (found,) = [one for one in judged(VLLM, changes, machine) if "MIG" in one.reason]
    assert found.nearest == "engine.tensor_parallel_size=1"


def test_a_server_that_takes_a_slice_for_a_gpu_is_not_started(judged: Judge, cpu: Machine) -> None:
    cards = Gpu("A100 MIG 3g.20gb", 20 * GIGA, "8.0", "MIG-1"), card(80 * GIGA)
    machine = Machine(**{**vars(cpu), "gpus": cards})

    def refused(device: str, stage: StageName = StageName.serving) -> int:
        verdicts = judged(VLLM, {"stages": [stage], "engine.device": device}, machine)
        return len([one for one in verdicts if "MIG" in one.reason])

    assert (refused("cuda:0"), refused("cuda:1"), refused("cuda:0", StageName.eval)) == (1, 0, 0)


def test_a_gpu_that_is_named_has_to_be_there(
    judged: Judge, cpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*cards: Gpu) -> tuple[str, str | None]:
        machine = Machine(**{**vars(cpu), "gpus": cards})
        verdicts = judged(NONE, {"stages": EVAL, "engine.device": "cuda:2"}, machine)
        (found,) = [one for one in verdicts if "engine.device" in one.reason]
        return found.reason, found.nearest

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    one, other = card(80 * GIGA, "9.0", "one"), card(80 * GIGA, "9.0", "other")
    named = "engine.device=cuda:2: the GPUs of this machine are 0: one, 1: other"
    assert refused(one, other) == (named, "engine.device=cuda:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    reason, _ = refused(one, other)
    assert reason == f"{named} (CUDA_VISIBLE_DEVICES=4,5 decides which may be used)"
    reason, nearest = refused()
    assert reason.startswith("engine.device=cuda:2, but no GPU answers on this machine (CUDA_VIS")
    assert nearest == "engine.device=cpu"


@pytest.mark.parametrize(
    ("capability", "lacks"), [("8.0", 1), ("8.6", 1), ("8", 1), ("8.9", 0), ("9", 0), ("10.0", 0)]
)
def test_ada_is_the_first_with_fp8(
    capability: str, lacks: int, judged: Judge, cpu: Machine
) -> None:
    cards = card(80 * GIGA, "9.0", "another"), card(80 * GIGA, capability)
    machine = Machine(**{**vars(cpu), "gpus": cards})
    changes = {"stages": QUANTIZE, "engine.device": "cuda:1"}
    found = judged("method=fp8 bits=fp8_e4m3 group_size=per_channel", changes, machine)
    assert [one.nearest for one in found] == ["bits=w8a8 method=smoothquant"] * lacks
    assert all(one.severity is WARNING and "a card (compute" in one.reason for one in found)


@pytest.mark.parametrize(
    ("formats", "nearest"),
    [(["fp16", "int8"], ["bits=w8a8 method=smoothquant"]), (["fp16"], [None]), (["fp8"], [])],
)
def test_a_device_that_is_named_lacks_fp8(
    formats: list[str], nearest: list[str | None], judged: Judge
) -> None:
    found = judged(
        "method=fp8 bits=fp8_e4m3 group_size=per_channel hardware=t4",
        {"stages": QUANTIZE, "hardware.native_formats": formats},
    )
    assert [one.nearest for one in found] == nearest


def test_a_batch_beyond_the_turn_of_an_a100(judged: Judge, gpu: Machine) -> None:
    """312 TFLOPS x 0.5 byte / (2 x 2039 GB/s): 38.25 sequences."""

    def told(base: str, batch: int, machine: Machine = gpu) -> list[str]:
        changes = {"stages": [*QUANTIZE, *BENCH], "bench.batch_sizes": [1, batch],
                   "bench.prompt_tokens": 4}  # fmt: skip
        return [str(one) for one in judged(base, changes, machine) if "int4" in str(one)]

    assert told(RTN, 38) == []
    (found,) = told(RTN, 39)
    assert "beyond a batch of about 38 a100_80_sxm is busy" in found
    assert told("method=rtn bits=w8a16", 500) == []
    assert told("method=rtn bits=w2a16", 19) == []
    assert len(told("method=rtn bits=w2a16", 20)) == 1, "half of the bytes, half of the batch"
    other = Machine(**{**vars(gpu), "gpus": (card(80 * GIGA, "8.0", "something else"),)})
    assert told(RTN, 500, other) == []


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        (16 * 256, None),
        (16 * 256 - 1, "calibration.samples=7"),
        (4 * 256, "calibration.samples=2"),
        (2 * 256, "calibration.samples=1"),
        (2 * 256 - 1, "calibration.text.path of a longer text"),
    ],
)
def test_no_token_is_shorter_than_a_byte(size: int, nearest: str | None, judged: Judge) -> None:
    sizes = {"local_text_bytes": {"": size}}
    found = judged(GPTQ, {"stages": QUANTIZE}, **sizes)
    assert [one.nearest for one in found] == ([] if nearest is None else [nearest])
    assert all(f"has {size} bytes, fewer than the 4096 tokens" in one.reason for one in found)
    assert all(one.severity is ILLEGAL for one in found)
    # Documents cut one by one may be many and short: what is there is told later.
    assert judged(GPTQ, {"stages": QUANTIZE, "calibration.cut": Cut.per_sample}, **sizes) == []


def test_a_model_that_is_quantized_is_quantized_and_probed_no_more(judged: Judge) -> None:
    facts = {"quantized_as": "gptq"}
    (found,) = judged(RTN, {"stages": QUANTIZE}, **facts)
    nearest = "stages=[eval,bench], or model.path of the unquantized model"
    assert (found.severity, found.nearest) == (ILLEGAL, nearest)
    (found,) = judged(NONE, {"stages": SENSITIVITY}, **facts)
    assert (found.severity, found.nearest) == (ILLEGAL, "model.path of the unquantized model")
    assert judged(NONE, {"stages": QUANTIZE}, **facts) == [], "nothing is quantized"


def test_facts_that_are_findings_by_themselves(judged: Judge) -> None:
    (code,) = judged(NONE, {"stages": EVAL}, code_refusal="no code")
    assert code == illegal("no code")
    (stale,) = judged(RTN, {"stages": QUANTIZE}, stale_calibration="out of date")
    nearest = "quantizing the base model again, stages=[quantize]"
    assert stale == warning("out of date", nearest)


def test_what_a_recipe_is_ignored_for(judged: Judge) -> None:
    def nearest(*stages: StageName, chosen: str = "bits") -> str | None:
        found = judged(RTN, {"stages": [*stages]}, chosen=frozenset({chosen}))
        assert len(found) <= 1
        return found[0].nearest if found else None

    assert nearest(StageName.plan) == "plan.recipes=[w4a16-g64]: a plan compares formats by name"
    added = "adding quantize to stages (a finished checkpoint is reused), or method=none"
    assert nearest(StageName.plan, StageName.eval) == added
    assert nearest(StageName.eval) == added
    assert nearest(StageName.eval, chosen="eval") is None
    assert nearest(StageName.quantize) is None
    assert judged(NONE, {"stages": EVAL}, chosen=frozenset({"method"})) == []


@pytest.mark.parametrize(
    ("activation", "width", "expected"),
    [
        (NumberType.int, 8, ["outliers"]),
        (NumberType.int, 4, ["4-bit integer activations", "does not support"]),
        (NumberType.bfloat, 16, []),
    ],
)
def test_activations_as_they_come(
    activation: NumberType, width: int, expected: list[str], judged: Judge
) -> None:
    changes = {
        "stages": QUANTIZE, "bits.activation.type": activation, "bits.activation.num_bits": width,
    }  # fmt: skip
    found = judged("method=rtn bits=w8a16 group_size=per_channel", changes)
    told = sorted(str(one) for one in found)
    assert len(told) == len(expected)
    assert all(part in one for one, part in zip(told, expected, strict=True)), told


def test_verdicts_say_what_to_try() -> None:
    assert str(illegal("no", "yes")) == "no; try yes"
    assert str(warning("no")) == "no"
    assert illegal("no", "yes") == Verdict(ILLEGAL, "no", "yes")
    assert warning("no", "yes") == Verdict(WARNING, "no", "yes")


def test_inputs_of_layers(composed: Compose) -> None:
    shape = composed().model.architecture
    wide = replace(shape, head_dim=128)
    assert linear_inputs(wide) == {
        "q/k/v_proj": 576, "o_proj": 9 * 128, "gate/up_proj": 576, "down_proj": 1536,
    }  # fmt: skip
    assert linear_inputs(replace(shape, head_dim=None))["o_proj"] == 576
    assert linear_inputs(replace(shape, heads=None))["o_proj"] == 576
    opt = {"q/k/v_proj": 576, "out_proj": 576, "fc1": 576, "fc2": 1536}
    assert linear_inputs(replace(shape, family="opt")) == opt
    assert linear_inputs(replace(shape, hidden=None)) == {}
    assert linear_inputs(replace(shape, intermediate=None)) == {}


def test_an_environment_that_is_not_there(judged: Judge) -> None:
    (found,) = judged(GPTQ, {"stages": QUANTIZE, "method.environment": "mine"})
    assert (found.severity, found.nearest) == (ILLEGAL, "method.environment=null")
    assert judged(GPTQ, {"stages": EVAL, "method.environment": "mine"}) == []


def test_an_obstacle_is_told_once_whatever_it_stands_in_the_way_of(
    judged: Judge, cpu: Machine
) -> None:
    """Engine, backend and measurement share an environment, whose torch knows no GPU."""
    machine = Machine(**{**vars(cpu), "gpus": (card(80 * GIGA, "9.0"),)})
    changes = {"stages": [*QUANTIZE, *EVAL, *BENCH], "engine.device": "cuda"}
    reason = "environment default has torch 2.13.0+cpu"
    blocked = judged(RTN, changes, machine, obstacle=lambda *_: Obstacle(reason, "another"))
    assert [one.reason for one in blocked].count(reason) == 1
    none = judged(RTN, changes, cpu, obstacle=lambda *_: Obstacle(reason, "another"))
    assert reason not in [one.reason for one in none], "without a GPU it is beside the point"


def test_a_plan_needs_no_environment(judged: Judge, gpu: Machine) -> None:
    """It is arithmetic: a torch that knows no GPU stands in nobody's way."""
    found = judged(NONE, {"stages": PLAN}, gpu, obstacle=lambda *_: Obstacle("no CUDA", "another"))
    assert "no CUDA" not in [one.reason for one in found]
