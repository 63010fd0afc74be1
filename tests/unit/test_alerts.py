"""Alerts: about what is wanted, once, without credentials."""

import pytest

from runner.config.schema.tracker import AlertOn, Tracker
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import rows_of
from runner.reporting.tracking.alerts import alert_of_run, alert_of_sweep
from runner.reporting.tracking.base import SweepEnd
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
