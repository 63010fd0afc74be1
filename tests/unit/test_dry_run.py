"""A dry run reads nothing of a result that is not there: it tells what is to be done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.schema.root import Config
from runner.errors import NotThere
from runner.multirun.dry_run.show import DryRun
from runner.pipeline.record import RunIdentity
from runner.pipeline.stage_job import StageResult
from runner.pipeline.stages.sensitivity import STAGE
from runner.store.objects import Address

pytestmark = pytest.mark.unit

ORDINARY = ["model=tiny", "group_size=per_channel", "method=rtn", "eval=quick", "tracker=none"]
NEEDS = [
    ["bits=auto", "stages=[quantize,eval]"],
    ["bits=auto", "stages=[quantize]", "bits.average=null", "bits.bytes=200000"],
    ["method.keep_most_sensitive=2", "stages=[quantize,eval,bench]", "bench=quick"],
    ["bits=auto", "stages=[sensitivity,quantize,eval,tasks]", "tasks=packaged"],
    ["method=gptq", "group_size=g32", "bits=auto", "stages=[quantize,eval]"],
]


def describe(config: Config, overrides: list[str]) -> str:
    return DryRun().describe(config, RunIdentity("s", 0, overrides))


@pytest.mark.parametrize("needs", NEEDS, ids=" ".join)
def test_what_is_missing_is_told(needs: list[str], composed: Callable[..., Config]) -> None:
    said = describe(composed(*ORDINARY, *needs), [*ORDINARY, *needs])
    assert "would run" in said
    assert "to do: model tiny" in said
    assert "sensitivity by" in said
    assert "Error" not in said


def test_a_result_that_is_not_there_is_never_read() -> None:
    absent = StageResult(
        "sensitivity", STAGE, Address("s", "k"), Path(), None, {}, "e", {}, False, 0.0
    )
    assert absent.known is None
    with pytest.raises(NotThere, match="need sensitivity, which does not exist yet"):
        _ = absent.result
