"""Sessions whose runs are shown on the terminal and logged by the tracker."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.config.schema.root import Config
from runner.config.schema.tracker import Tracker
from runner.pipeline.observers import RunTracker
from runner.pipeline.session import Session
from runner.reporting.display import Display
from runner.reporting.tracking import start_tracker
from runner.store.records import RunRecord


class ObservedSession(Session):
    """A session with a display on standard error."""

    def __init__(self, root: Path, environments: Path, *, live: bool = True) -> None:
        """Use the store below ``root`` and environments below ``environments``.

        Args:
            root: Of the store.
            environments: Folder of virtual environments.
            live: See ``Display``.
        """
        self.terminal = Display(live)
        super().__init__(root, environments, self.terminal, self._start_tracker)

    def open_sweep(
        self,
        name: str,
        jobs: Sequence[Sequence[str]],
        numbers: Mapping[int, int],
        configs: Mapping[tuple[str, ...], Config | None],
    ) -> None:
        """Show a sweep that this process carries out.

        Args:
            name: Its id.
            jobs: Overrides of each run.
            numbers: See ``Display.open_sweep``.
            configs: Of runs by their overrides, of a sweep that is not too long.
        """
        expected = self.clock.forecast([configs.get(tuple(job)) for job in jobs])
        self.terminal.open_sweep(name, jobs, numbers, expected)

    def _start_tracker(self, config: Tracker, record: RunRecord) -> RunTracker:
        return start_tracker(config, record, self.terminal)


def open_session(config: Config, *, live: bool = True) -> ObservedSession:
    """The session of a configuration's store and environments; see ``Display`` for ``live``."""
    root = Path(config.store.root).expanduser().resolve()
    environments = Path(config.store.environments).expanduser().resolve()
    session = ObservedSession(root, environments, live=live)
    session.store.clear_leftovers()
    return session
