"""Step ``bench``: speed and memory of a checkpoint."""

from dataclasses import replace

from runner.config.root import StageName
from runner.engines import find_engine
from runner.experiment.inputs import TRANSFORMERS, Inputs, engine_determinants
from runner.experiment.subject import Subject
from runner.serialise import to_json
from runner.session import Obtained, Work
from runner.stages.bench import BenchRequest
from runner.stages.hardware import HardwareRequest


def bench(inputs: Inputs, subject: Subject, bandwidth_bytes_per_second: float | None) -> Obtained:
    """Speed of a subject: measured once a sweep, or taken from the store if asked for."""
    bench, engine = inputs.config.bench, inputs.config.engine
    subject = inputs.presented(subject)
    environment = inputs.environment(engine.name, engine.environment)
    load = inputs.load(subject, engine)
    request = BenchRequest(
        subject=load,
        # Who else is measured, and whether anew, does not change this measurement.
        load=replace(bench, baseline=True, reuse=False),
        bandwidth_bytes_per_second=bandwidth_bytes_per_second,
    )
    determinants = {
        "subject": subject.identity,
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


def bandwidth_bytes_per_second(inputs: Inputs) -> float | None:
    """Memory bandwidth: measured for this machine, published for a device in the table."""
    published = inputs.config.hardware.memory_bandwidth_gigabytes_per_second
    if published is not None:
        return published * 1e9
    machine = inputs.session.machine
    environment = inputs.environment(TRANSFORMERS)
    request = HardwareRequest(inputs.compute.device, machine.last_level_cache_bytes)
    determinants = {
        "machine": machine.to_dict(),
        "device": inputs.compute.device,
        "threads": inputs.compute.threads,
        "versions": environment.versions(("torch",)),
    }
    task = inputs.task("hardware", request, environment)
    measured = inputs.session.obtain(Work("hardware local", task, determinants))
    value: float = measured.result["bandwidth_bytes_per_second"]
    return value
