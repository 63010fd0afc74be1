"""Alerts that a tracker sends to its users."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema.tracker import AlertOn
from runner.reporting.tracking.base import SweepEnd
from runner.store.records import RunRecord, Status
from runner.util.redact import redact

_OF_ITS_OWN_ACCORD = (Status.failed, Status.oom, Status.timeout)
_HEADLINE = "verdict/headline"


@dataclass(frozen=True)
class Alert:
    """A message, credentials masked."""

    title: str
    text: str
    is_error: bool


def alert_of_run(wanted: Sequence[AlertOn], record: RunRecord) -> Alert | None:
    """Of a run that failed, if that is wanted; one that the user stopped is none."""
    if AlertOn.run_failed not in wanted or record.status not in _OF_ITS_OWN_ACCORD:
        return None
    title = f"{record.sweep}/{record.run}: {record.status.value}"
    return Alert(redact(title), redact(record.reason or ""), is_error=True)


def alert_of_sweep(wanted: Sequence[AlertOn], end: SweepEnd) -> Alert | None:
    """Of a sweep that is over, with the reasons of its failures."""
    failed = [record for record in end.records if not record.status.without_fault]
    count = len(end.records)
    if failed and {AlertOn.sweep_failed, AlertOn.sweep_ended} & {*wanted}:
        reasons = "\n".join(f"{record.run}: {record.reason}" for record in failed)
        title = f"{len(failed)} of {count} runs failed"
        return Alert(title, redact(reasons), is_error=True)
    if not failed and AlertOn.sweep_ended in wanted:
        best = ", ".join(row.recipe for row in end.rows if row.best_tradeoff)
        told = [text for name, text in end.verdict().items() if name.startswith(_HEADLINE)]
        text = "\n".join([*told, f"Pareto-optimal: {best or 'none'}"])
        return Alert(f"sweep {redact(end.sweep)} is over", redact(text), is_error=False)
    return None
