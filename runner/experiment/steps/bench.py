"""Step ``bench``: speed and memory of a checkpoint."""

from dataclasses import replace

from runner.config.root import StageName
from runner.engines import find_engine
from runner.experiment.inputs import Inputs, engine_determinants
from runner.experiment.steps.limits import arithmetic, limits, model_work
from runner.experiment.subject import Subject
from runner.serialise import to_json
from runner.session import Obtained, Work
from runner.stages.bench import BenchRequest


def bench(inputs: Inputs, subject: Subject, model: Subject | None) -> Obtained:
    """Speed of a subject: measured once a sweep, or taken from the store if asked for.

    Args:
        inputs: The configuration at hand.
        subject: What to measure.
        model: The unquantized model if the subject was made from it, to take turns with where
            the configuration asks for that; ``None`` when there is none.
    """
    bench, engine = inputs.config.bench, inputs.config.engine
    dense = subject.format == "float"
    subject = inputs.presented(subject)
    environment = inputs.environment(engine.name, engine.environment)
    load = inputs.load(subject, engine)
    against = inputs.presented(model) if model is not None and bench.interleave else None
    request = BenchRequest(
        subject=load,
        # Who else is measured, and whether anew, does not change this measurement.
        load=replace(bench, baseline=True, reuse=False),
        limits=limits(inputs),
        work=model_work(inputs),
        arithmetic=arithmetic(inputs, subject, dense),
        in_turns_with=None if against is None else inputs.load(against, engine),
    )
    determinants = {
        "subject": subject.identity,
        "in_turns_with": None if against is None else against.identity,
        **engine_determinants(load),
        "load": to_json(request.load),
        "threads": inputs.compute.threads,
        "machine": inputs.session.machine.to_dict(),
        "versions": environment.versions(find_engine(engine.name).packages),
    }
    if not bench.reuse:
        determinants["measured_in"] = inputs.sweep
    force = StageName.bench in inputs.config.force
    task = inputs.task("bench", request, environment)
    return inputs.session.obtain(Work(f"bench {subject.label}", task, determinants, force))
