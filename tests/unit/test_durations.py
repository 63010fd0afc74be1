"""What work took on a machine, and what more of its kind is expected to take."""

from pathlib import Path

import pytest

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
    assert found.seconds(changed(EVAL, work=0.0)) == pytest.approx(2.0)
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
    assert clock.forecast([config]) == [None]
    clock.took("eval", titles[1], 9.0)  # of no run
    clock.turn_to(config)
    clock.started("default", 5.0)
    for title in titles:
        clock.took(title.split()[0], title, 7.0)
    clock.ended(22.5)
    clock.turn_to(None)
    for one in (clock, Clock(tmp_path, detect())):
        # The worker's start is no part of the first; the unquantized model is looked at once.
        assert one.forecast([config, config, None]) == [2.0 + 7.0 + 7.0, 0.0, None]
        other = composed("model=tiny", "method=rtn", "bits=w8a16", "eval=quick",
                         "stages=[quantize,eval]")  # fmt: skip
        assert one.forecast([config, other]) == [16.0, 9.0]
        one.turn_to(config)
        assert one.starts("default") == 5.0
        assert one.expects("rest", "rest") == 1.5
        one.turn_to(None)
