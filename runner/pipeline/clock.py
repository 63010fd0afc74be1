"""Times a session's work, and tells what to expect of more of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.planning.hardware.detect import Machine
from runner.store.durations import Duration, durations, note_duration
from runner.util.redact import redact

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.experience.durations import Durations, Kind


class Clock:
    """Knows the run under way: without one it notes nothing and expects nothing."""

    def __init__(self, root: Path, machine: Machine) -> None:
        """Keep durations in the store at ``root``; they are read when first asked for."""
        self._root = root
        self._machine = machine
        self._config: Config | None = None
        self._known: dict[str, Durations] = {}
        self._spent = 0.0
        self._starting = 0.0

    def turn_to(self, config: "Config | None") -> None:
        """A run begins, or is over."""
        self._config, self._spent, self._starting = config, 0.0, 0.0

    def known(self, config: "Config") -> "Durations":
        """What is known of this machine, as far as a run uses it."""
        from runner.pipeline.experience.durations import Durations, machine_of

        name = machine_of(config, self._machine)
        if name not in self._known:
            self._known[name] = Durations(durations(self._root, name))
        return self._known[name]

    def expects(self, stage: str, title: str) -> float | None:
        """Seconds that a stage will take; ``None`` where none of its kind is known."""
        from runner.pipeline.experience.durations import kind_of

        if self._config is None:
            return None
        return self.known(self._config).seconds(kind_of(stage, title, self._config))

    def starts(self, environment: str) -> float | None:
        """Seconds until a worker of an environment has imported its libraries."""
        from runner.pipeline.experience.durations import START

        return self.expects(START, environment)

    def started(self, environment: str, seconds: float) -> None:
        """A worker was started: that is no part of the stage that waited for it."""
        from runner.pipeline.experience.durations import START

        self._starting += seconds
        self._note(START, environment, seconds)

    def took(self, stage: str, title: str, seconds: float) -> None:
        """A stage is done."""
        self._spent += seconds
        self._note(stage, title, max(0.0, seconds - self._starting))
        self._starting = 0.0

    def ended(self, seconds: float) -> None:
        """The run is, after so many seconds."""
        from runner.pipeline.experience.durations import REST

        if self._spent:
            self._note(REST, REST, max(0.0, seconds - self._spent))

    def _note(self, stage: str, title: str, seconds: float) -> None:
        from runner.pipeline.experience.durations import kind_of, machine_of

        if (config := self._config) is None:
            return
        kind: Kind = kind_of(stage, title, config)
        self.known(config).learn(kind, seconds)
        machine = machine_of(config, self._machine)
        noted = Duration(**redact(vars(kind)), seconds=round(seconds, 3), machine=machine)
        note_duration(self._root, noted)
