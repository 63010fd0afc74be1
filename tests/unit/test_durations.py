"""What work took on a machine, and what more of its kind is expected to take."""

from pathlib import Path

import pytest

from runner.config.words import quoted
from runner.multirun.dry_run.forecast import forecast
from runner.multirun.dry_run.session import PeekSession, Seen
from runner.pipeline.clock import Clock
from runner.pipeline.experience.durations import Durations, Kind, kind_of, kinds_of
from runner.planning.hardware.detect import detect
from runner.store import durations as noted
from runner.store.durations import FILE, Duration, durations, note_duration
from tests.unit.judging import Compose

pytestmark = pytest.mark.unit

EVAL = Kind("eval", "eval x", "tiny", "hf", "gptq", 8000.0)
MADE = Kind("quantize", "quantize x", "tiny", "hf", "gptq", 6000.0)


def known(*pairs: tuple[Kind, float]) -> Durations:
    found = Durations([])
    for kind, seconds in pairs:
        found.learn(kind, seconds)
    return found


def changed(kind: Kind, **fields: object) -> Kind:
    return Kind(**{**vars(kind), **fields})  # type: ignore[arg-type]


def test_what_is_the_same_kind() -> None:
    found = known((EVAL, 10.0), (MADE, 50.0))
    assert found.seconds(EVAL) == 10.0
    assert found.seconds(changed(EVAL, title="eval y", method="rtn")) == 10.0
    assert found.seconds(changed(EVAL, engine="vllm")) is None
    assert found.seconds(changed(EVAL, model="large")) is None
    assert found.seconds(changed(MADE, title="quantize y", engine="vllm")) == 50.0
    assert found.seconds(changed(MADE, method="awq")) is None, "another method takes what it takes"
    alike = known((EVAL, 10.0), (EVAL, 14.0), (EVAL, 90.0), (changed(EVAL, method="rtn"), 1.0))
    assert alike.seconds(EVAL) == 12.0, "the median of what has its name"


def test_what_every_model_needs_is_the_same_for_each(composed: Compose) -> None:
    text = kind_of("text", "text wikipedia", composed("model=tiny"))
    found = known((text, 3.0))
    assert found.seconds(changed(text, model="large", title="text bible")) == 3.0
    made = kind_of("model", "model tiny", composed("model=tiny"))
    assert known((made, 3.0)).seconds(changed(made, title="model large", model="large")) is None


def test_more_of_it_takes_longer_in_proportion() -> None:
    found = known((EVAL, 10.0))
    assert found.seconds(changed(EVAL, work=18_000.0)) == pytest.approx(20.0)
    assert found.seconds(changed(EVAL, work=3000.0)) == pytest.approx(5.0)
    assert found.seconds(changed(EVAL, work=0.0)) is None, "that is no evaluation"
    assert found.seconds(changed(EVAL, work=80_000.0)) is None
    both = known((EVAL, 10.0), (changed(EVAL, work=100_000.0), 60.0))
    assert both.seconds(changed(EVAL, work=98_000.0)) == 60.0, "the nearest"


def test_notes_are_of_one_machine_and_survive_whatever_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Duration(**vars(EVAL), seconds=3.0, machine="a")
    assert [*durations(tmp_path, "a")] == []
    note_duration(tmp_path, one)
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"stage": "eval"}\n[]\nhalf a li')
    assert [*durations(tmp_path, "a")] == [one]
    assert [*durations(tmp_path, "b")] == []
    note_duration(tmp_path / "absent", one)
    monkeypatch.setattr(noted, "_MOST_BYTES", 100)
    for _ in range(20):
        note_duration(tmp_path, one)
    assert 0 < len((tmp_path / FILE).read_text().splitlines()) < 6


def test_a_clock_learns_from_its_session_and_from_earlier_ones(
    tmp_path: Path, composed: Compose
) -> None:
    config = composed("model=tiny", "method=rtn", "eval=quick", "stages=[quantize,eval]")
    titles = [kind.title for kind in kinds_of(config)]
    clock = Clock(tmp_path, detect())
    clock.took("eval", titles[1], 9.0)  # of no run
    clock.turn_to(config)
    clock.started("default", 5.0)
    for title in titles:
        clock.took(title.split()[0], title, 7.0)
    clock.ended(22.5)
    clock.turn_to(None)
    for one in (clock, Clock(tmp_path, detect())):
        known = one.known(config)
        # The worker's start is no part of the stage that waited for it.
        assert [known.seconds(kind) for kind in kinds_of(config)] == [2.0, 7.0, 7.0]
        one.turn_to(config)
        assert one.starts("default") == 5.0
        assert one.expects("rest", "rest") == 1.5
        one.turn_to(None)


def test_a_sweep_takes_what_its_runs_have_yet_to_make(
    tmp_path: Path, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("model=tiny", "method=rtn", "eval=quick", "group_size=g32", "stages=[quantize,eval]",
              f"store.root={quoted(tmp_path)}")  # fmt: skip
    jobs = [["bits=w8a16"], ["bits=w4a16"], ["bits=w2a16", "group_size=g128"]]
    configs = {tuple(job): composed(*common, *job) for job in jobs}
    missing = iter([[("quantize", "quantize a"), ("eval", "eval unquantized")],
                    [("quantize", "quantize b")]])  # fmt: skip
    monkeypatch.setattr(
        PeekSession, "look", lambda *_: Seen(missing=next(missing), starting={"default"})
    )
    clock, first = Clock(tmp_path, detect()), configs["bits=w8a16",]
    clock.turn_to(first)
    clock.started("default", 5.0)
    clock.took("quantize", "quantize a", 8.0)
    clock.took("eval", "eval unquantized", 2.0)
    clock.ended(11.0)
    found = forecast([*jobs, ["bits=w3a16"]], configs, {}, "s")
    assert found == [3.0 + 2.0 + 5.0 + 1.0, 3.0 + 1.0, 0.0, None], "the third is illegal"
    assert forecast(jobs * 50, configs, {}, "s") == []
