"""What is varied for a noise floor, and what would measure nothing is refused."""

from pathlib import Path

import pytest

from runner.config.schema.floor import Variation
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stages.jobs.floor import subject_of, variation_of
from runner.pipeline.varied import Varied, variations
from tests.unit.conftest import MakeInputs
from tests.unit.judging import Judge, illegal_ones

pytestmark = pytest.mark.unit

TYPES = {"eval.floor": [Variation.bfloat16]}
ENGINE = {"eval.floor": [Variation.engine]}
TYPES_AND_THREADS = [Variation.float32, Variation.threads]
TASKS = "tasks=packaged stages=[tasks]"


@pytest.mark.parametrize(
    ("base", "changes", "said"),
    [
        ("eval.dtype=bfloat16", TYPES, "quality is measured in bfloat16; try eval.floor=[]"),
        (
            "engine=llama_cpp method=gguf bits=w4a16",
            {"eval.floor": [Variation.batch_size]},
            "llama_cpp scores one window at a time; try engine=hf",
        ),
        ("engine=llama_cpp method=gguf bits=w4a16", TYPES, "llama.cpp multiplies"),
        ("", ENGINE, "needs another engine"),
        ("", ENGINE | {"eval.floor_engine": "vllm"}, "most likely tokens only"),
        ("engine=vllm method=none", ENGINE, "vllm tells the most likely tokens only"),
        (
            "",
            ENGINE | {"eval.floor_engine": "llama_cpp", "eval.divergence": False},
            "compares distributions",
        ),
        (TASKS, {"tasks.floor": [Variation.engine]}, "prompts of their own"),
        (TASKS, {"tasks.floor": TYPES_AND_THREADS}, "try tasks.floor=[threads]"),
    ],
)
def test_a_variation_that_changes_nothing_is_refused(
    base: str, changes: dict[str, object], said: str, judged: Judge
) -> None:
    reasons = [str(one) for one in illegal_ones(judged(base, changes))]
    assert any(said in reason for reason in reasons), reasons


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "engine"])
def test_both_types_are_whichever_the_run_is_not_in(dtype: str, judged: Judge) -> None:
    both = [Variation.float32, Variation.bfloat16]
    for stages, name in (("", "eval"), (TASKS, "tasks")):
        assert not illegal_ones(
            judged(f"{stages} eval.dtype={dtype}".strip(), {f"{name}.floor": both})
        )


def test_a_model_that_came_quantized_has_no_floor(judged: Judge) -> None:
    found = judged("method=none", {"eval.floor": [Variation.threads]}, quantized_as="gptq")
    assert any("the model is quantized already" in str(one) for one in illegal_ones(found))
    found = judged("method=none", {}, quantized_as="gptq")
    assert not any("quantized already, and" in str(one) for one in found), "the default costs none"


def test_what_changes_something_is_legal(judged: Judge) -> None:
    floor = [one for one in Variation if one is not Variation.engine]
    assert not illegal_ones(judged("", {"eval.floor": floor}))
    every = {"eval.floor": [*floor, Variation.engine], "eval.floor_engine": "llama_cpp"}
    assert not illegal_ones(judged("", every))
    assert not illegal_ones(judged(TASKS, {"tasks.floor": floor[1:]}))


def test_each_variation_changes_one_thing(inputs: MakeInputs, tmp_path: Path) -> None:
    own = inputs("tasks.batch_size=8", "eval.dtype=float32", "eval.floor_engine=llama_cpp")
    model = Checkpoint(tmp_path, "float", {}, "unquantized", "float32")
    found = variations(own, model, [*Variation, Variation.threads], own.config.tasks.batch_size)
    assert found == {
        Variation.bfloat16: Varied(dtype="bfloat16"),
        Variation.threads: Varied(threads=1),
        Variation.batch_size: Varied(batch_size=4),
        Variation.engine: Varied(engine="llama_cpp"),
    }, "float32 is what it computes in"
    changed = {one: varied.inputs(own) for one, varied in found.items()}
    assert changed[Variation.bfloat16].arithmetic.dtype == "bfloat16"
    assert changed[Variation.threads].compute.threads == 1
    assert changed[Variation.batch_size].config.tasks.batch_size == 4
    assert changed[Variation.engine].config.engine.name == "llama_cpp"
    assert (own.compute.threads, own.arithmetic.dtype) == (2, "float32")
    assert [variation_of(subject_of(one)) for one in Variation] == [*Variation]
    assert variation_of("of a later version") is None
