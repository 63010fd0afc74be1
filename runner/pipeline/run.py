"""Carries out one configuration and files its record. Never raises for a run that fails."""

import time
import traceback
from collections.abc import Callable
from typing import Any

from runner.config.schema.root import Config, StageName
from runner.errors import Refused, RunnerError
from runner.methods.recipe import used_recipe
from runner.pipeline.checkpoint import Subject
from runner.pipeline.facts import gather_facts
from runner.pipeline.inputs import Inputs
from runner.pipeline.observers import RunTracker
from runner.pipeline.progress import expected_stages
from runner.pipeline.record import RunIdentity, kept_record, new_record
from runner.pipeline.session import Obtained, Session
from runner.pipeline.speed import measure_speed
from runner.pipeline.steps.calibration import calibration_windows, overlap, overlap_verdicts
from runner.pipeline.steps.checkpoint import checkpoint
from runner.pipeline.steps.evaluate import FLOOR, evaluate, floor, require_tokens
from runner.pipeline.steps.plan import plan
from runner.pipeline.steps.sensitivity import needed_sensitivity, sensitivity
from runner.pipeline.steps.tasks import ask, prepare
from runner.pipeline.worker.failed import WorkerFailed
from runner.planning.compute import DTYPE_BITS
from runner.store.liveness import carried_out
from runner.store.records import RunRecord, StageRecord, Status, write_record
from runner.util.redact import redact
from runner.validation.check import check
from runner.validation.verdict import Severity

_NOT_ASKED_FOR = ("overlap", FLOOR)
"""What a run files besides the stages that it is asked for."""


def illegalities(config: Config, session: Session, overrides: list[str]) -> list[str]:
    """Why a configuration cannot be carried out; empty when it can.

    Raises:
        UsageError: A local model's directory is not one.
    """
    facts = gather_facts(config, session.machine, overrides)
    found = check(config, facts)
    return [str(verdict) for verdict in found if verdict.severity is Severity.illegal]


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
    session.display.begin_run(record, folder, len(expected_stages(config)))
    with carried_out(folder / "record.json"):
        return _carry_out(config, session, identity, record)


def keep(record: RunRecord, config: Config, session: Session) -> None:
    """Tell of a run that an earlier start of the sweep has done."""
    folder = session.store.runs / record.sweep / record.run
    session.display.begin_run(record, folder, len(expected_stages(config)))
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
        record.reason = "stopped by the user"
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
        record.reason = redact(record.reason)
        write_record(session.store.runs, record)
        _say_how_it_ended(record, session)
        tracker.finish(record)
        session.display.end_run(record)
    return record


def _decide_and_work(
    config: Config, session: Session, identity: RunIdentity, record: RunRecord, tracker: RunTracker
) -> None:
    facts = gather_facts(config, session.machine, identity.overrides)
    verdicts = check(config, facts)
    record.warnings = [str(v) for v in verdicts if v.severity is Severity.warning]
    reasons = [str(v) for v in verdicts if v.severity is Severity.illegal]
    if reasons:
        record.status, record.reason = Status.skipped, "; ".join(reasons)
        return
    for warning in record.warnings:
        session.display.line(f"  warning: {warning}", style="yellow")

    def keep(stage: StageName | str, subject: str, obtained: Obtained) -> None:
        name = stage if isinstance(stage, str) else stage.value
        record.stages.append(_stage_record(name, subject, obtained))
        write_record(session.store.runs, record)
        tracker.log_stage(record.stages[-1])
        if name not in _NOT_ASKED_FOR:
            session.display.step()

    if StageName.plan in config.stages:
        keep(StageName.plan, "recipe", plan(config, facts.architecture, session))
    if not any(stage.loads_model for stage in config.stages):
        record.status = Status.ok
        return
    inputs = Inputs(config, session, identity.sweep, record.warnings)
    model = inputs.model()
    record.model_fingerprint = model.identity["model"]
    if model.format == "float":
        record.unquantized_bits = DTYPE_BITS.get(model.dtype)
    if StageName.eval in config.stages:
        record.text_sha256 = inputs.text(config.eval.text).result["sha256"]
    go_through_stages(config, inputs, model, keep)
    record.status = Status.ok


def go_through_stages(
    config: Config,
    inputs: Inputs,
    model: Subject,
    keep: Callable[[StageName | str, str, Obtained], None],
) -> None:
    """The stages that a configuration names, in order; ``keep`` is given each result."""
    if StageName.eval in config.stages:
        require_tokens(inputs, model)
    asked = StageName.tasks in config.stages and config.tasks.names
    questions = prepare(inputs) if asked else None
    subject = model
    sensitivities = _sensitivities(config, inputs, model, keep)
    if StageName.quantize in config.stages:
        subject, made = checkpoint(inputs, model, sensitivities)
        if made is not None:
            keep(StageName.quantize, "recipe", made)
            if StageName.eval in config.stages:
                _look_for_overlap(inputs, model, keep)
    quantized_here = subject is not model
    # A model that came quantized has no unquantized one to be compared with.
    has_baseline = quantized_here or model.format == "float"
    if StageName.eval in config.stages:
        baseline = evaluate(inputs, model, model, None) if has_baseline else None
        if baseline is not None:
            keep(StageName.eval, "baseline", baseline)
            if (apart := floor(inputs, model)) is not None:
                keep(FLOOR, "baseline", apart)
        if baseline is None or quantized_here:
            keep(StageName.eval, "recipe", evaluate(inputs, subject, model, baseline))
    if questions is not None:
        answered = ask(inputs, questions, model, model, None) if has_baseline else None
        if answered is not None:
            keep(StageName.tasks, "baseline", answered)
        if answered is None or quantized_here:
            keep(StageName.tasks, "recipe", ask(inputs, questions, subject, model, answered))
    own = "recipe" if quantized_here or not has_baseline else "baseline"
    speed = [(own, subject, model if quantized_here else None)]
    if quantized_here and config.bench.baseline:
        speed.insert(0, ("baseline", model, None))
    measure_speed(inputs, model, speed, keep)


def _look_for_overlap(
    inputs: Inputs, model: Subject, keep: Callable[[StageName | str, str, Obtained], None]
) -> None:
    windows = calibration_windows(inputs, model, used_recipe(inputs.config).calibration)
    if windows is None:
        return
    found = overlap(inputs, model, windows)
    keep("overlap", "recipe", found)
    for verdict in overlap_verdicts(found, inputs.config.eval.text.name):
        inputs.warn(str(verdict))


def _sensitivities(
    config: Config,
    inputs: Inputs,
    model: Subject,
    keep: Callable[[StageName, str, Obtained], None],
) -> Obtained | None:
    """Measure what is asked for; returns what the recipe needs, if anything."""
    if StageName.sensitivity in config.stages:
        asked = sensitivity(inputs, model, config.sensitivity)
        keep(StageName.sensitivity, "baseline", asked)
    needed = needed_sensitivity(config) if StageName.quantize in config.stages else None
    if needed is None:
        return None
    found = sensitivity(inputs, model, needed)
    keep(StageName.sensitivity, "baseline", found)
    return found


def _stage_record(stage: str, subject: str, obtained: Obtained) -> StageRecord:
    result: dict[str, Any] = dict(obtained.result)
    result["resources"] = obtained.resources
    return StageRecord(
        stage=stage,
        subject=subject,
        environment=obtained.environment,
        versions=obtained.versions,
        key=obtained.address.key,
        reused=obtained.reused,
        seconds=obtained.seconds,
        result=result,
    )


def _say_how_it_ended(record: RunRecord, session: Session) -> None:
    if record.status is Status.ok:
        record.reason = None
        write_record(session.store.runs, record)
        session.display.line(f"  ok in {record.seconds:.1f} s", detail=True)
        return
    style = "yellow" if record.status is Status.skipped else "red"
    session.display.line(f"  {record.status.value}: {record.reason}", style=style)
    for line in record.log_tail:
        session.display.line(f"    | {line}", style="dim")
