"""Which engine serves a recipe on a device, as its tables and its source say."""

from dataclasses import replace

import pytest

from runner.config.schema.hardware import Hardware
from runner.engines.vllm.planned import rows
from runner.errors import UsageError
from runner.planning.devices import read_device
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility
from runner.planning.planner import Question, make_plan
from runner.planning.ranking import best
from runner.planning.serving import serving
from tests.unit.small_plan import PLAN, SMALL
from tests.unit.test_sharding import GPT_OSS

pytestmark = pytest.mark.unit

DENSE, MIXTURE = Shape(SMALL), Shape(GPT_OSS)


def device(kind: str, capability: str | None) -> Hardware:
    return Hardware(name="box", kind=kind, compute_capability=capability)


@pytest.mark.parametrize(
    ("label", "kind", "capability", "engine"),
    [
        ("bf16", "cuda", "9.0", "vllm"),
        ("w8a8", "cuda", "9.0", "vllm"),
        ("w8a8", "cuda", "10.0", None),  # CUTLASS has no INT8 from Blackwell on
        ("w8a8", "cuda", "12.0", None),
        ("w4a16-g128", "cuda", "12.0", "vllm"),
        ("w4a16-g64-asym", "cuda", "8.0", "vllm"),
        ("nf4", "cuda", "9.0", None),  # no bitsandbytes
        ("nf4-dq", "cuda", "8.6", None),
        ("llm_int8", "cuda", "8.0", None),
        ("q4_k_m", "cuda", "8.9", "llama_cpp"),
        ("q4_k_m", "metal", None, "llama_cpp"),
        ("q4_k_m", "rocm", "gfx942", "llama_cpp"),
        ("q4_k_m", "tpu", None, None),
        ("bf16", "metal", None, "llama_cpp"),
        ("fp8_e4m3", "cuda", "8.0", "vllm"),
        ("fp8_block", "cuda", "9.0", "vllm"),
        ("fp8_block", "cuda", "8.0", "vllm"),
        ("fp8_block", "rocm", "gfx950", "vllm"),
        ("mxfp4", "cuda", "7.5", None),
        ("nvfp4_a4", "cuda", "10.3", "vllm"),
        ("nvfp4_a4", "rocm", "gfx942", None),
        ("mxfp8", "cuda", "10.0", "vllm"),
        ("mxfp8", "rocm", "gfx942", None),
        ("fp8_e4m3", "rocm", "gfx942", "vllm"),
        ("fp8_e4m3_a16", "rocm", "gfx942", None),
        ("w8a8", "gaudi", None, "vllm"),
        ("bf16", "tpu", None, "vllm"),
    ],
)
def test_formats_belong_to_engines_and_devices(
    label: str, kind: str, capability: str | None, engine: str | None
) -> None:
    found = serving(find_format(label), device(kind, capability), DENSE)
    assert (found.engine, found.known) == (engine, True)
    assert engine or found.said


@pytest.mark.parametrize(
    ("label", "kind", "capability"),
    [
        ("w4a16-g128", "gaudi", None),
        ("w4a16-g128", "tpu", None),
        ("fp8_e4m3", "tpu", None),
        ("fp8_e4m3", "rocm", "gfx1151"),
        ("w4a16-g128", "cuda", "7.0"),
        ("w4a16-g48", "cuda", "9.0"),  # nobody asked about such groups
        ("w4a16-g128", "metal", None),
        ("w4a16-g128", "a new kind", None),
    ],
)
def test_what_nobody_has_said_is_not_known(label: str, kind: str, capability: str | None) -> None:
    found = serving(find_format(label), device(kind, capability), DENSE)
    assert found.engine == "vllm" and not found.known and "not known whether" in found.said


@pytest.mark.parametrize(
    ("kind", "capability", "engine"),
    [
        ("cuda", "9.0", "vllm"),
        ("cuda", "8.0", "vllm"),
        ("cuda", "7.5", "llama_cpp"),
        ("rocm", "gfx942", "vllm"),
        ("metal", None, "llama_cpp"),
    ],
)
def test_experts_alone_are_asked_about_alone(
    kind: str, capability: str | None, engine: str
) -> None:
    experts = serving(find_format("mxfp4-experts"), device(kind, capability), MIXTURE)
    assert (experts.engine, experts.known) == (engine, True)
    # The same format in every layer is another thing: attention has to be read too.
    whole = serving(find_format("mxfp4"), device("rocm", "gfx942"), MIXTURE)
    assert whole.engine is None and "dequantizes" in whole.said


def test_experts_need_experts() -> None:
    recipe = find_format("mxfp4-experts")
    assert recipe.problem_with(MIXTURE) is None
    assert recipe.problem_with(DENSE) == (
        "mxfp4-experts is of experts, and the model has none: use mxfp4"
    )
    (option,) = make_plan(
        Question(DENSE, (recipe,), (device("cuda", "9.0"),), replace(PLAN, tensor_parallel=[1]))
    )
    assert option.verdict is Feasibility.impossible and option.reason.endswith("use mxfp4")
    for label in ("bf16-experts", "q4_k_m-experts"):
        with pytest.raises(UsageError, match=f"plan.recipes: {label}: no checkpoint has"):
            find_format(label)


@pytest.mark.parametrize(
    ("label", "capability", "widens"),
    [
        ("fp8_e4m3", "8.0", True),
        ("fp8_e4m3", "8.9", False),
        ("fp8_e4m3_a16", "8.0", False),  # nothing to widen
        ("fp8_block", "8.9", True),  # though the device has units for it
        ("fp8_block", "9.0", False),
        ("nvfp4_a4", "9.0", True),
        ("nvfp4_a4", "12.0", False),
        ("w8a8", "8.0", False),
    ],
)
def test_what_kernels_widen_is_planned_in_16_bits(
    label: str, capability: str, widens: bool
) -> None:
    fmt = find_format(label)
    found = serving(fmt, device("cuda", capability), DENSE)
    assert found.engine == "vllm" and found.widens is widens
    assert found.held(fmt).arithmetic == ("bf16" if widens else fmt.arithmetic)
    assert found.held(fmt).label == label


def test_what_a_device_could_do_and_the_engine_does_not_is_said() -> None:
    plan = replace(PLAN, tensor_parallel=[1], memory_utilization=0.9)
    fmt = (find_format("fp8_block"),)
    ada, ampere = (
        make_plan(Question(DENSE, fmt, (read_device(name),), plan))[0]
        for name in ("l40s", "a100_80_sxm")
    )
    assert ada.warnings == ["vllm has no fp8_block kernel there but of 16 bits"]
    assert ada.arithmetic == ampere.arithmetic == "bf16" and not ampere.warnings


def test_a_16_bit_type_that_a_device_lacks_is_said() -> None:
    assert "float16" in serving(find_format("bf16"), device("cuda", "7.5"), DENSE).said


def test_what_no_engine_reads_is_not_recommended() -> None:
    plan = replace(PLAN, tensor_parallel=[1], memory_utilization=0.9, latency_seconds=None)
    formats = tuple(map(find_format, ("w8a8", "nf4", "bf16", "w4a16-g128")))
    found = make_plan(Question(Shape(SMALL), formats, (read_device("b200_sxm"),), plan))
    verdicts = {option.recipe: option.verdict for option in found}
    assert verdicts["w8a8"] is verdicts["nf4"] is Feasibility.unsupported
    assert all(option.engine == "vllm" for option in found[:2])
    first = best(found)
    assert first is not None and first.recipe in ("bf16", "w4a16-g128")
    reason = next(option.reason for option in found if option.recipe == "w8a8")
    assert (
        "vLLM" in reason and "w8a8 on compute capability 10.0" in reason and "llama.cpp" in reason
    )


def test_what_was_read_by_hand_has_words_of_its_own() -> None:
    assert len(rows()) > 50
    assert {row.reads for row in rows()} == {"yes", "widened", "emulated", "depends", "no"}
    assert {row.where for row in rows()} <= {"all", "dense", "experts"}
