"""Alerts: about what is wanted, once, without credentials. A tracker that breaks ends no run."""

import pytest

from runner.config.schema.tracker import AlertOn, Tracker
from runner.errors import UsageError
from runner.reporting import tracking
from runner.reporting.display import Display
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import rows_of
from runner.reporting.tracking.alerts import alert_of_run, alert_of_sweep
from runner.reporting.tracking.base import SweepEnd, TrackerImplementation, require_library
from runner.store.records import RunRecord, Status
from tests.unit.records import recipe, record

pytestmark = pytest.mark.unit

GOOD = recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
FAILED = record(2, "x", [], status=Status.oom, reason=f"out of memory, token hf_{'x' * 24}")


def end(*records: RunRecord) -> SweepEnd:
    rows = rows_of(list(records))
    mark_best_tradeoffs(rows)
    return SweepEnd("demo", list(records), rows, [])


def test_by_default_a_sweep_with_failures_is_told_and_nothing_else() -> None:
    usual = Tracker().alerts
    assert alert_of_run(usual, FAILED) is None
    assert alert_of_sweep(usual, end(GOOD)) is None
    alert = alert_of_sweep(usual, end(GOOD, FAILED))
    assert alert is not None
    assert (alert.title, alert.is_error) == ("1 of 2 runs failed", True)
    assert alert.text.startswith("002-x: out of memory")
    assert "hf_xxxx" not in alert.text


def test_a_run_that_failed_by_itself_is_told_at_once() -> None:
    wanted = [AlertOn.run_failed]
    alert = alert_of_run(wanted, FAILED)
    assert alert is not None
    assert alert.title == "demo/002-x: oom"
    assert "hf_xxxx" not in alert.text
    for status in (Status.ok, Status.skipped, Status.interrupted, Status.cancelled):
        assert alert_of_run(wanted, record(3, "y", [], status=status)) is None
    assert alert_of_sweep(wanted, end(FAILED)) is None


def test_the_end_of_a_sweep_is_told_with_what_it_found() -> None:
    wanted = [AlertOn.sweep_ended]
    alert = alert_of_sweep(wanted, end(GOOD))
    assert alert is not None
    assert alert.title == "sweep demo is over"
    assert "gptq-w4a16-g64" in alert.text
    assert not alert.is_error
    failed = alert_of_sweep(wanted, end(GOOD, FAILED))
    assert failed is not None
    assert failed.is_error
    assert alert_of_sweep([], end(GOOD, FAILED)) is None


class Breaks:
    """A tracker of somebody's own that fails at one of its calls."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.called: list[str] = []

    def _called(self, name: str) -> None:
        self.called.append(name)
        if name == self.at:
            raise RuntimeError(f"no route at {name}")

    def start(self, *_: object) -> "Breaks":
        self._called("start")
        return self

    def log_stage(self, *_: object) -> None:
        self._called("log_stage")

    def log_progress(self, *_: object) -> None:
        self._called("log_progress")

    def finish(self, *_: object) -> None:
        self._called("finish")

    def summarise(self, *_: object) -> None:
        self._called("summarise")


CALLS = ["start", "log_progress", "log_stage", "finish"]


@pytest.mark.parametrize("at", [*CALLS, "never"])
def test_a_tracker_that_breaks_costs_its_log_and_one_warning(
    at: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = Breaks(at)
    monkeypatch.setattr(tracking, "find_tracker", lambda name: TrackerImplementation(tracker.start))
    followed = tracking.start_tracker(Tracker(name="mine"), GOOD, Display())
    followed.log_progress("eval x", 1, 2, "windows")
    followed.log_stage(GOOD.stages[0])
    followed.finish(GOOD)
    reached = CALLS if at == "never" else CALLS[: CALLS.index(at) + 1]
    assert tracker.called == reached, "nothing is asked of it afterwards"
    warning = (
        f"  warning: tracking stopped (RuntimeError: no route at {at}); results are still in "
        "the store\n"
    )
    assert capfd.readouterr().err == ("" if at == "never" else warning)


@pytest.mark.parametrize("at", ["summarise", "never"])
def test_a_sweep_that_cannot_be_summarised_is_told(
    at: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = Breaks(at)
    made = TrackerImplementation(tracker.start, tracker.summarise)
    monkeypatch.setattr(tracking, "find_tracker", lambda name: made)
    tracking.summarise_sweep(Tracker(name="mine"), end(GOOD), Display())
    assert tracker.called == ["summarise"]
    warning = (
        "  warning: the sweep is not summarised in mine (RuntimeError: no route at summarise)\n"
    )
    assert capfd.readouterr().err == ("" if at == "never" else warning)


def test_a_library_that_is_not_there_is_told_with_what_installs_it() -> None:
    require_library("json", "pip install json")
    with pytest.raises(UsageError, match="no_such_library is not installed: pip install it"):
        require_library("no_such_library", "pip install it")
