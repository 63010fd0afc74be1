"""How far things are, and how long they may still take."""

import re
import time
from pathlib import Path

import pytest

from runner.reporting.display import Display
from runner.reporting.display.screen import Screen, window
from runner.reporting.display.state import (
    RUNNING,
    WAITING,
    Line,
    RunState,
    StageState,
    SweepState,
    clock,
    distinct_titles,
    duration,
)
from runner.reporting.display.watch import Watch
from runner.store.records import Status, write_record
from tests.unit.records import recipe, record

pytestmark = pytest.mark.unit


def test_a_stage_tells_its_time_left_from_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stage = StageState("eval x")
    stage.update(0, 1, "loading")
    assert stage.seconds_left() is None, "one unit tells nothing"
    now[0] += 50  # loading does not count for the windows
    stage.update(0, 64, "scoring windows")
    now[0] += 30  # nor does what the first unit pays for all
    stage.update(1, 64, "scoring windows")
    assert stage.seconds_left() is None
    now[0] += 8
    stage.update(17, 64, "scoring windows")
    assert stage.seconds_left() == pytest.approx(47 / 2)
    assert stage.fraction == 17 / 64


def test_windows_found_finished_do_not_count_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stage = StageState("eval x")
    stage.update(40, 64, "scoring windows")  # resumed
    now[0] = 4.0
    stage.update(44, 64, "scoring windows")
    now[0] = 8.0
    stage.update(48, 64, "scoring windows")
    assert stage.seconds_left() == pytest.approx(16)


def test_a_stage_goes_by_what_it_took_before_until_it_has_a_pace_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stage = StageState("quantize x", expected=60.0, began=0.0)
    now[0] = 20.0
    assert stage.seconds_left() == pytest.approx(40)
    stage.update(0, 10, "blocks")
    for done in (1, 2, 3):
        now[0] += 10
        stage.update(done, 10, "blocks")
    assert stage.seconds_left() == pytest.approx(70), "slower than before"
    now[0] += 60
    assert stage.seconds_left() == pytest.approx(10), "it does not stand still without news"
    assert stage.silent == pytest.approx(60)
    now[0] += 60
    assert stage.seconds_left() is None, "the guess was wrong"


def test_a_run_takes_what_its_stage_takes_and_the_ones_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = RunState("000-x", "tiny", [10.0, 20.0, 30.0, 5.0], began=0.0)
    assert run.seconds_left() == pytest.approx(65)
    text = StageState("text wikipedia")
    text.update(1, 2, "reading")
    run.stages.append(text)
    assert (run.fraction, run.seconds_left()) == (0, pytest.approx(65)), "no stage of its own"
    run.stages = [StageState("eval x", is_step=True, expected=20.0, began=0.0)]
    run.done = 1
    run.stages[0].update(0, 10, "windows")
    run.stages[0].update(5, 10, "windows")
    now[0] = 15.0
    assert run.fraction == pytest.approx(1.5 / 4)
    assert run.stages[0].seconds_left() == pytest.approx(5)
    assert run.seconds_left() == pytest.approx(5 + 30 + 5), "it never says less than its stage"
    now[0] = 30.0
    assert run.stages[0].seconds_left() is run.seconds_left() is None
    unknown = RunState("000-x", "tiny", [10.0, None], began=0.0, stages=run.stages)
    assert unknown.seconds_left() is None, "nobody knows the last one"


def test_a_sweep_takes_what_its_runs_took_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    lines = [Line("a", "ok", 20.0), Line("b", "skipped", 0.0), Line("c", RUNNING),
             Line("d", expected=40.0), Line("e", expected=2.0)]  # fmt: skip
    sweep = SweepState("s", lines)
    run = RunState("c", "tiny", [10.0, 15.0], began=0.0)
    assert sweep.seconds_left(run) == pytest.approx(25 + 42)
    assert sweep.counts() == "1 ok, 1 skipped"
    lines[-1].expected = None
    assert sweep.seconds_left(run) is None, "a run of another kind says nothing of it"


def test_runs_elsewhere_go_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 60.0)
    lines = [Line("a", "ok", 55.0), Line("b", "ok", 55.0), Line("c", RUNNING), Line("d", RUNNING)]
    assert SweepState("s", lines, began=0.0).seconds_left(None) == pytest.approx(60)


def test_a_line_takes_a_records_figures() -> None:
    line = Line("method=gptq")
    line.take(recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000))
    assert (line.title, line.state) == ("001-gptq-w4a16-g64", "ok")
    assert (line.bits_per_weight, line.perplexity) == (4.25, 21.0)
    assert line.decode_tokens_per_second == 60.0


def test_jobs_are_told_apart_by_what_differs() -> None:
    jobs = [["model=tiny", "method=rtn", "bits=w4a16"], ["model=tiny", "method=gptq", "bits=w4a16"]]
    assert distinct_titles(jobs) == ["method=rtn", "method=gptq"]
    assert distinct_titles([["model=tiny"]]) == ["model=tiny"]
    assert distinct_titles([]) == []


@pytest.mark.parametrize(("current", "first"), [(0, 0), (10, 8), (29, 25)])
def test_a_long_sweep_shows_what_is_under_way(current: int, first: int) -> None:
    lines = [Line(str(n), "ok" if n < current else "waiting") for n in range(30)]
    shown, before, after = window(lines, 5)
    assert (shown[0].title, before, after) == (str(first), first, 25 - first)
    assert lines[current] in shown


@pytest.mark.parametrize(
    ("seconds", "said", "shown"),
    [
        (7, "7 s", "0:07"),
        (89, "89 s", "1:29"),
        (150, "2 min", "2:30"),
        (7800, "2 h 10 min", "2:10:00"),
    ],
)
def test_times_as_one_says_them(seconds: float, said: str, shown: str) -> None:
    assert (duration(seconds), clock(seconds)) == (said, shown)


def test_a_stage_that_says_nothing_is_told_of(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.reporting.display.display._PLAIN_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("runner.reporting.display.display._LOOKS_SECONDS", 0.001)
    monkeypatch.setattr("runner.reporting.display.display.SILENT_SECONDS", -1.0)
    said = ""
    with Display().stage("quantize awq"):
        while not said:
            said = capfd.readouterr().err
    assert re.match(r"  quantize awq, 0 s so far, no news for 0 s\n", said)


def test_a_pipe_gets_lines_without_colour(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.reporting.display.display._PLAIN_INTERVAL_SECONDS", 0.0)
    display = Display()
    assert not display.is_live
    display.line("careful " * 40, style="red")
    with display.stage("eval x") as stage:
        stage.update(0, 4, "windows")
        stage.update(2, 4, "windows")
    said = capfd.readouterr().err.splitlines()
    assert said[0] == ("careful " * 40)
    assert said[-1].startswith("  eval x: windows 2/4, ")
    assert not any("\x1b" in line for line in said)


def test_a_variable_brings_colour_but_no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Display().is_live


def drawn(screen: Screen) -> list[str]:
    with screen._console.capture() as shown:
        screen._console.print(screen.drawn())
    return [line.strip() for line in shown.get().splitlines()]


def test_a_table_that_is_longer_than_the_terminal_says_what_it_leaves_out() -> None:
    from rich.console import Console

    screen = Screen(Console(width=60, height=14, color_system=None))
    screen.sweep = SweepState(
        "s", [Line(f"r{n}", "ok" if n < 10 else "waiting") for n in range(30)]
    )
    lines = drawn(screen)
    # The run under way is in the middle of five.
    start = lines.index("… 8 before")
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == [
        f"r{n}" for n in range(8, 13)
    ]
    assert lines[start + 6] == "… 17 more"
    screen.sweep.lines = screen.sweep.lines[8:13]
    assert not any("…" in line for line in drawn(screen))


def test_what_belongs_to_no_run_is_drawn_while_it_lasts() -> None:
    display = Display()
    display.is_live = True
    with display.stage("env x") as stage:
        stage.update(1, 4, "installing")
        assert display._screen._live is not None
        assert any("env x: installing" in one for one in drawn(display._screen))
    assert display._screen._live is None and display._screen.run is None


def test_a_sweep_of_others_is_drawn_until_it_is_closed() -> None:
    display = Display()
    display.is_live = True
    state = display.watch("demo", ["000-a", "001-b"])
    assert [line.state for line in state.lines] == [WAITING, WAITING]
    assert any("000-a" in one for one in drawn(display._screen))
    assert display._screen._live is not None
    display.close()
    assert display._screen._live is None


def test_runs_elsewhere_are_followed_by_their_records(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = recipe(0, "a", 21.0, 60.0, 90_000_000)
    bad = record(1, "b", [], status=Status.failed, reason="killed")
    watch = Watch(tmp_path / "demo", [good.run, bad.run])
    watch._display.is_live = True
    with watch:
        watch.look({good.run: "PENDING", bad.run: "RUNNING"})
        states = [line.state for line in watch._lines.values()]
        assert states == [WAITING, RUNNING]
        watch.look({})
        assert [line.state for line in watch._lines.values()] == states, "no record says how"
        for one in (good, bad):
            write_record(tmp_path, one)
        watch.look({})
        watch.look({good.run: "RUNNING"})
        assert [line.state for line in watch._lines.values()] == ["ok", "failed"]
    said = capfd.readouterr().err
    assert said.count("001-b  failed: killed  [2 of 2]") == 1
    assert "000-a  ok" not in said, "its line of the table says so"
