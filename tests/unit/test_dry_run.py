"""A dry run reads nothing of a result that is not there: it tells what is to be done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.compose import quoted
from runner.config.schema.root import Config
from runner.errors import NotThere
from runner.multirun.dry_run import session
from runner.multirun.dry_run.session import PeekSession, Seen
from runner.multirun.dry_run.show import DryRun
from runner.pipeline.context import RunContext
from runner.pipeline.record import RunIdentity
from runner.pipeline.stage_job import StageResult
from runner.pipeline.stages.sensitivity import STAGE
from runner.store.objects import RESULT_FILE, Address

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


def test_a_run_that_only_predicts_needs_nothing_of_the_store(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    plans = composed(*ORDINARY, "stages=[plan]")
    assert PeekSession(tmp_path, tmp_path).look(plans, "s") == Seen()


def test_what_an_environment_would_make_is_not_looked_for_before_it_is_there(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    """What comes before it is told."""
    absent = f"store.environments={quoted(tmp_path / 'none')}"
    asked = [*ORDINARY, "method=none", "engine=llama_cpp", "stages=[eval]", absent]
    said = describe(composed(*asked), asked)
    assert "to do: model tiny" in said
    assert "later stages not checked: environment llama_cpp must be built first" in said


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ([], "FileNotFoundError: no such file"),
        ([("model", "model tiny")], "they need a result that is not there yet"),
    ],
)
def test_a_stage_that_fails_ends_the_look_and_not_the_sweeps(
    missing: list[tuple[str, str]],
    told: str,
    composed: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plug-in's may read files that are not there, because an earlier stage writes them."""
    peeking = PeekSession(tmp_path, tmp_path)

    def walk(context: RunContext) -> None:
        peeking.seen.missing += missing
        raise FileNotFoundError("no such file")

    monkeypatch.setattr(session, "go_through_stages", walk)
    seen = peeking.look(composed(*ORDINARY), "s")
    assert (seen.missing, seen.unknown) == (missing, told)


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"value": 1}', "[" * 100_000])
def test_an_old_result_that_cannot_be_read_is_to_be_made_anew(content: str, tmp_path: Path) -> None:
    """Without a seal there are no digests that would tell."""
    address, peeking = Address("eval", "k"), PeekSession(tmp_path, tmp_path)
    place = peeking.store.directory(address)
    place.mkdir(parents=True)
    assert peeking._sound(address) is None
    (place / RESULT_FILE).write_text(content)
    assert peeking._sound(address) is None
    whole = '{"result": {"value": 1}, "resources": {}, "more": 2}'
    (place / RESULT_FILE).write_text(whole)
    assert peeking._sound(address) == {"result": {"value": 1}, "resources": {}}
