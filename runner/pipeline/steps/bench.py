"""Step ``bench``: speed and memory of a checkpoint."""

from dataclasses import replace
from typing import Any

from runner.config.schema.bench import Interleave
from runner.config.schema.root import StageName
from runner.engines import find_engine
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import Inputs, engine_determinants, engine_versions
from runner.pipeline.session import Obtained, Work
from runner.pipeline.stages.bench import BenchRequest
from runner.pipeline.steps.limits import arithmetic, limits, model_work
from runner.util.serialise import to_json


def bench(
    inputs: Inputs, subject: Subject, model: Subject | None, after: Obtained | None = None
) -> Obtained:
    """Speed of a subject: measured once a sweep, or taken from the store if asked for.

    Args:
        inputs: The configuration at hand.
        subject: What to measure.
        model: The unquantized model that the subject was made from and is compared with, to take
            turns with where the configuration asks for that; ``None`` when there is none.
        after: A measurement after which this one is made once more, to see what the machine did.
    """
    bench, engine = inputs.config.bench, inputs.config.engine
    dense = subject.format == "float"
    subject = inputs.presented(subject)
    environment = inputs.environment(engine.name, engine.environment)
    load = inputs.load(subject, engine)
    against, why_not = _opponent(inputs, model)
    request = BenchRequest(
        subject=load,
        # Who else is measured, and whether anew, does not change this measurement.
        load=replace(
            bench,
            baseline=True,
            reuse=False,
            interleave=bench.interleave if against is not None else Interleave.never,
        ),
        limits=limits(inputs),
        work=model_work(inputs),
        arithmetic=arithmetic(inputs, subject, dense),
        against=None if against is None else inputs.load(against, engine),
        not_in_turns=why_not,
    )
    determinants: dict[str, Any] = {
        "subject": subject.identity,
        "against": why_not if against is None else against.identity,
        **engine_determinants(load),
        "load": to_json(request.load),
        "threads": inputs.compute.threads,
        "machine": inputs.session.machine.to_dict(),
        "versions": engine_versions(environment, engine.name),
    }
    if after is not None:
        determinants["after"] = after.address.key
    if not bench.reuse:
        determinants["measured_in"] = inputs.sweep
    force = StageName.bench in inputs.config.force
    task = inputs.task("bench", request, environment)
    again = " again" if after is not None else ""
    return inputs.session.obtain(Work(f"bench {subject.label}{again}", task, determinants, force))


def needs_baseline_again(inputs: Inputs, measured: Obtained) -> bool:
    """Whether a recipe took no turns, so that only another look tells what the machine did."""
    bench = inputs.config.bench
    if not bench.baseline or bench.interleave is not Interleave.auto:
        return False
    holds_two = find_engine(inputs.config.engine.name).traits.several_models
    return not measured.said.get("in_turns", holds_two)


def _opponent(inputs: Inputs, model: Subject | None) -> tuple[Subject | None, str | None]:
    """The model to take turns with, as the engine wants it; or why there is none."""
    bench, engine = inputs.config.bench, inputs.config.engine
    if model is None:
        return None, None
    if bench.interleave is Interleave.never:
        return None, "bench.interleave=never"
    if bench.interleave is Interleave.auto and not bench.baseline:
        return None, "bench.baseline=false"
    if not find_engine(engine.name).traits.several_models:
        return None, f"engine={engine.name} cannot hold two models in a process"
    return inputs.presented(model), None
