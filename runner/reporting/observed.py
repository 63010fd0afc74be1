"""Sessions whose runs are shown on the terminal and logged by the tracker."""

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

    def _start_tracker(self, config: Tracker, record: RunRecord) -> RunTracker:
        return start_tracker(config, record, self.terminal)


def open_session(config: Config, *, live: bool = True) -> ObservedSession:
    """The session of a configuration's store and environments; see ``Display`` for ``live``."""
    root = Path(config.store.root).expanduser().resolve()
    environments = Path(config.store.environments).expanduser().resolve()
    session = ObservedSession(root, environments, live=live)
    session.store.clear_leftovers()
    return session
