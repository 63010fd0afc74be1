"""Executes one configuration and writes its record. Never raises for a run that fails."""

import time
import traceback
from typing import Any

from runner.config.schema.root import Config, StageName
from runner.errors import Refused, RunnerError
from runner.pipeline.context import RunContext
from runner.pipeline.experience.durations import kinds_of
from runner.pipeline.judge import judge
from runner.pipeline.observers import RunTracker
from runner.pipeline.placement import placement
from runner.pipeline.record import RunIdentity, kept_record, new_record
from runner.pipeline.session import Session
from runner.pipeline.stage_job import StageResult
from runner.pipeline.stages import in_order, loads_model, stage_names
from runner.pipeline.stages.base import Place
from runner.pipeline.worker.failed import WorkerFailed
from runner.planning.compute import DTYPE_BITS
from runner.store.liveness import carried_out
from runner.store.records import RunRecord, StageRecord, Status, write_record
from runner.util.redact import redact


def illegalities(config: Config, session: Session, overrides: list[str]) -> list[str]:
    """Why a configuration cannot be carried out; empty when it can.

    Raises:
        UsageError: A local model's directory is not one.
    """
    return judge(config, session.machine, overrides).reasons


def run_experiment(config: Config, session: Session, identity: RunIdentity) -> RunRecord:
    """Go through legality and the stages; returns the record as it was filed.

    Raises:
        KeyboardInterrupt: The user stopped the run; its record says so.
    """
    record = new_record(config, session.machine, identity)
    kept = kept_record(session.store.runs, record, config)
    if kept is not None:
        keep(kept, config, session)
        return kept
    folder = session.store.runs / record.sweep / record.run
    known = session.clock.known(config)
    session.display.begin_run(record, folder, [known.seconds(kind) for kind in kinds_of(config)])
    session.clock.turn_to(config)
    try:
        with carried_out(folder / "record.json"):
            return _carry_out(config, session, identity, record)
    finally:
        session.clock.turn_to(None)


def keep(record: RunRecord, config: Config, session: Session) -> None:
    """Tell of a run that an earlier start of the sweep has done."""
    folder = session.store.runs / record.sweep / record.run
    session.display.begin_run(record, folder, [])
    text = f"  {record.status.value} since {record.started}: kept as it is"
    session.display.line(text, detail=True)
    session.display.end_run(record, kept=True)


def _carry_out(
    config: Config, session: Session, identity: RunIdentity, record: RunRecord
) -> RunRecord:
    write_record(session.store.runs, record)
    start = time.monotonic()
    tracker = session.start_tracker(config.tracker, record)
    session.listener = tracker.log_progress
    try:
        _decide_and_work(config, session, identity, record, tracker)
    except KeyboardInterrupt:
        record.status, record.reason = Status.interrupted, "stopped by the user"
        raise
    except WorkerFailed as error:
        record.status = Status.oom if error.out_of_memory else Status.failed
        record.reason = str(error)
        if error.refused:
            record.status = Status.skipped
        else:
            record.log_tail = redact(error.log_tail)
    except RunnerError as error:
        record.status = Status.skipped if isinstance(error, Refused) else Status.failed
        record.reason = str(error)
    except Exception as error:
        record.status, record.reason = Status.failed, f"{type(error).__name__}: {error}"
        record.log_tail = redact(traceback.format_exc().splitlines()[-20:])
    finally:
        record.seconds = time.monotonic() - start
        record.reason = None if record.status is Status.ok else redact(record.reason)
        write_record(session.store.runs, record)
        _say_how_it_ended(record, session)
        tracker.finish(record)
        session.display.end_run(record)
    return record


def _decide_and_work(
    config: Config, session: Session, identity: RunIdentity, record: RunRecord, tracker: RunTracker
) -> None:
    judged = judge(config, session.machine, identity.overrides)
    facts, record.warnings = judged.facts, judged.warnings
    if judged.reasons:
        record.status, record.reason = Status.skipped, "; ".join(judged.reasons)
        return
    for warning in record.warnings:
        session.display.line(f"  warning: {warning}", style="yellow")

    def keep(name: str, subject: str, obtained: StageResult[Any]) -> None:
        record.stages.append(_stage_record(name, subject, obtained))
        write_record(session.store.runs, record)
        tracker.log_stage(record.stages[-1])
        if name in stage_names():
            session.display.step()

    run = RunContext(
        config, session, identity.sweep, record.warnings, facts=facts, keep=keep,
        ruled_out=lambda: session.ruled_out(record),
    )  # fmt: skip
    for stage in in_order(config.stages):
        if stage.place is Place.control:
            stage.carry_out(run)
    if loads_model(config):
        record.model_fingerprint = run.model.identity["model"]
        if run.model.format == "float":
            record.unquantized_bits = DTYPE_BITS.get(run.model.dtype)
        if run.asks_for(StageName.eval):
            record.text_sha256 = run.inputs.text(config.eval.text).result.sha256
        try:
            go_through_stages(run)
        finally:
            record.placement = placement(run)
    record.status = Status.ok


def go_through_stages(run: RunContext) -> None:
    """The stages that need the model, in order; each files its results."""
    stages = [s for s in in_order(run.config.stages) if s.place is Place.worker]
    for stage in stages:
        stage.prepare(run)
    for stage in stages:
        stage.carry_out(run)


def _stage_record(stage: str, subject: str, obtained: StageResult[Any]) -> StageRecord:
    content = {**(obtained.content or {}), "resources": obtained.resources}
    return StageRecord(
        stage=stage,
        subject=subject,
        environment=obtained.environment,
        versions=obtained.versions,
        key=obtained.address.key,
        reused=obtained.reused,
        seconds=obtained.seconds,
        result=content,
        schema_version=obtained.stage.schema_version,
    )


def _say_how_it_ended(record: RunRecord, session: Session) -> None:
    if record.status is Status.ok:
        session.clock.ended(record.seconds or 0.0)
        session.display.line(f"  ok in {record.seconds:.1f} s", detail=True)
        return
    style = "yellow" if record.status is Status.skipped else "red"
    session.display.line(f"  {record.status.value}: {record.reason}", style=style)
    for line in record.log_tail:
        session.display.line(f"    | {line}", style="dim")
