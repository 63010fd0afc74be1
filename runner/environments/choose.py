"""Selects the environment for a backend or an engine on a device."""

from collections.abc import Mapping

from runner.config.schema.environment import Environment
from runner.errors import UsageError


def choose(
    environments: Mapping[str, Environment], need: str, device: str, named: str | None = None
) -> Environment:
    """The environment called ``named``, or the first that provides ``need`` on ``device``.

    Raises:
        UsageError: There is none; the message names those that come nearest.
    """
    if named is not None:
        if named not in environments:
            raise UsageError(
                f"{need} needs environment {named}, which does not exist; environments: "
                f"{', '.join(environments)}"
            )
        return environments[named]
    providers = [e for e in environments.values() if need in e.provides]
    for environment in providers:
        if device in environment.accelerators:
            return environment
    if not providers:
        known = sorted({name for e in environments.values() for name in e.provides})
        raise UsageError(
            f"no environment provides {need}; there are environments for {', '.join(known)}"
        )
    served = sorted({a for e in providers for a in e.accelerators})
    if not served:
        names = ", ".join(one.name for one in providers)
        raise UsageError(
            f"{need} has no environment for {device}: accelerators is empty in {names}"
        )
    raise UsageError(
        f"{need} has no environment for {device}, only for {', '.join(served)}: "
        f"engine.device={served[0]}, or add one under conf/environment"
    )
