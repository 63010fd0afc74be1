"""How a worker's warm parent is started."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.environments.ready import ReadyEnvironment
from runner.pipeline.worker.variables import variables_for


@dataclass(frozen=True)
class Start:
    """How a server is started: one that was started otherwise does not serve."""

    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    """What the runner sets beside the variables that it was given itself."""

    @classmethod
    def of(cls, environment: ReadyEnvironment, cache: Path, visible: Mapping[str, str]) -> "Start":
        """Of an environment.

        Args:
            environment: Where it runs.
            cache: The store's.
            visible: What says which GPUs there are; nothing overrides it.
        """
        patches = f"--patches={','.join(environment.patches)}"
        reused = f"--reused={','.join(environment.preload_reused)}"
        module = ("-m", "runner.pipeline.worker.server")
        return cls(
            (environment.python, *module, patches, reused, *environment.preload),
            tuple(sorted(variables_for(environment, cache, visible).items())),
        )
