"""Tables over stages have an entry for each, so that none is forgotten."""

import pytest

from runner.multirun.launchers.estimate import Experience
from runner.pipeline.progress import expected_stages
from runner.pipeline.stages import find_stage, stage_names
from runner.planning.hardware.detect import Machine
from tests.unit.judging import Compose, illegal_ones, judge

pytestmark = pytest.mark.unit

LOADING = [name for name in stage_names() if find_stage(name).loads_model]
ASKING = [name for name in stage_names() if find_stage(name).asks_engine]
TASKS = ("tasks=packaged",)


def words(stage: str, *others: str) -> list[str]:
    named = TASKS if stage == "tasks" else ()
    return [f"stages=[{stage}]", *named, *others]


@pytest.mark.parametrize("stage", LOADING)
def test_a_model_that_does_not_fit_is_refused(stage: str, composed: Compose, cpu: Machine) -> None:
    small = Machine(**{**vars(cpu), "memory_bytes": 25_000_000_000})
    found = illegal_ones(judge(composed, small, words(stage, "model=llama31_405b")))
    assert any("GB to load unquantized" in str(verdict) for verdict in found)


@pytest.mark.parametrize("stage", ASKING)
def test_a_checkpoint_that_the_engine_does_not_read_is_refused(
    stage: str, composed: Compose, cpu: Machine
) -> None:
    overrides = words(f"quantize,{stage}", "method=gptq", "bits=w3a16", "engine=vllm")
    if stage == "tasks":
        overrides += TASKS
    found = illegal_ones(judge(composed, cpu, overrides))
    assert any("not of w3a16" in str(verdict) for verdict in found)


def test_what_loads_nothing_is_not_refused_for_its_memory(composed: Compose, cpu: Machine) -> None:
    assert {*stage_names()} - {*LOADING} == {"plan", "report", "compare", "gate"}
    assert not illegal_ones(judge(composed, cpu, ["stages=[plan]", "model=llama31_405b"]))


@pytest.mark.parametrize("stage", LOADING)
def test_every_stage_takes_longer_with_a_larger_model(
    stage: str, composed: Compose, cpu: Machine
) -> None:
    config = composed(*words(stage))
    known = Experience([])
    small, large = (known.estimate(stage, config, cpu, size) for size in (10**8, 10**11))
    assert large.seconds > 100 * small.seconds / 10
    assert large.memory_bytes > 100 * small.memory_bytes / 10


@pytest.mark.parametrize("stage", [*LOADING, "plan"])
def test_every_stage_is_expected_where_it_is_asked_for(stage: str, composed: Compose) -> None:
    expected = expected_stages(composed(*words(stage)))
    assert stage in [name for name, _ in expected]
