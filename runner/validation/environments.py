"""Rules on the environments that a run needs."""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.config.schema.root import Config, StageName
from runner.environments.choose import choose
from runner.environments.torch_build import CPU
from runner.errors import UsageError
from runner.methods import capabilities_of, find_method
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal

_TRANSFORMERS = "transformers"
_MEASURE = {StageName.bench, StageName.sensitivity}
"""Stages in which transformers' environment computes for itself, whatever the engine."""


@dataclass(frozen=True)
class Need:
    """What an environment is to provide."""

    provided: str
    """Backend or engine."""
    device: str
    """``cpu`` or ``cuda``."""
    named: str | None = None
    """The environment that was asked for."""
    group: str = ""
    """The config group that asked for it."""


def environment_needs(config: Config, device: str) -> list[Need]:
    """What a run's environments are to provide: its engine first.

    Args:
        config: Of the run.
        device: Where the engine computes: ``cpu`` or ``cuda``.
    """
    needs = [Need(config.engine.name, device, config.engine.environment, "engine")]
    if StageName.quantize in config.stages:
        backend = config.method.backend
        # Another rule speaks about an unknown backend.
        if backend in find_method(config.method.name).backends:
            own = CPU if capabilities_of(config.method).only_on_cpus else device
            needs.append(Need(backend, own, config.method.environment, "method"))
    if _MEASURE.intersection(config.stages):
        needs.append(Need(_TRANSFORMERS, device))
    return needs


def check_environments(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether there is an environment for everything that is to run, of use on the device."""
    needs = environment_needs(config, facts.device)
    found = [
        verdict
        for need in needs
        for verdict in judge(config, facts, need, runs=need is not needs[0] or facts.asks_engine)
    ]
    yield from dict.fromkeys(found)  # one environment may serve several needs


def judge(config: Config, facts: Facts, need: Need, *, runs: bool = True) -> Iterator[Verdict]:
    """What stands in the way of the environment that something needs.

    Args:
        config: Of the run.
        facts: What is known of the machine.
        need: What the environment is to provide.
        runs: Whether anything is to run in it.
    """
    unnamed = None if need.named is None else f"{need.group}.environment=null"
    try:
        environment = choose(config.environment, need.provided, need.device, need.named)
    except UsageError as error:
        yield illegal(str(error), unnamed)
        return
    if not runs or (need.device != CPU and not facts.gpus):
        return  # that there is no GPU is told elsewhere
    built_for = environment.accelerators
    if built_for and need.device not in built_for:
        yield illegal(
            f"environment {environment.name} is built for {', '.join(built_for)}, and "
            f"{need.provided} is to compute on {need.device}",
            unnamed,
        )
    elif (obstacle := facts.obstacle(environment, need.device)) is not None:
        served = {
            device
            for other in config.environment.values()
            if need.provided in other.provides
            for device in other.accelerators
        }
        elsewhere = ", or engine.device=cpu" if CPU in served - {need.device} else ""
        yield illegal(obstacle.reason, obstacle.remedy + elsewhere)
