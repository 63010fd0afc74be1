"""Whether a run could begin here at once."""

from pathlib import Path

from runner.config.schema.root import Config
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager, State
from runner.errors import UsageError
from runner.planning.compute_for import compute_for
from runner.planning.hardware.detect import detect
from runner.validation.environments import environment_needs


def is_ready(config: Config) -> bool:
    """Whether every environment that a run needs is on this machine, and the device too.

    Args:
        config: The run's.
    """
    machine = detect()
    device = compute_for(config, machine).device
    if device != "cpu" and not machine.gpus:
        return False
    environments = Path(config.store.environments).expanduser().resolve()
    manager = EnvironmentManager(environments, environments / "logs")
    try:
        chosen = [
            (choose(config.environment, need.provided, need.device, need.named), need.device)
            for need in environment_needs(config, device)
        ]
    except UsageError:
        return False
    lacking = (State.absent, State.outdated)
    return all(manager.state(one, device) not in lacking for one, device in chosen)
