"""Sessions whose runs are shown on the terminal and logged by the tracker."""

from pathlib import Path

from runner.config.schema.root import Config
from runner.pipeline.session import Session
from runner.reporting.display import Display
from runner.reporting.tracking.service import TrackingService
from runner.store.records import RunRecord


class ObservedSession(Session):
    """A session with a display on standard error."""

    def __init__(
        self,
        root: Path,
        environments: Path,
        *,
        live: bool = True,
        tracking: TrackingService | None = None,
    ) -> None:
        """Use the store below ``root`` and environments below ``environments``.

        Args:
            root: Of the store.
            environments: Folder of virtual environments.
            live: See ``Display``.
            tracking: What logs its runs, and outlives it; one of its own by default.
        """
        self.terminal = Display(live)
        self._closes_log = tracking is None
        self.tracking = tracking or TrackingService(self.terminal)
        # Above what this session draws.
        self.tracking.display = self.terminal
        super().__init__(root, environments, self.terminal, self.tracking.follow)

    def close(self) -> None:
        """End all workers, and wait for the log where it is the session's own."""
        super().close()
        if self._closes_log:
            self.tracking.close()

    def ruled_out(self, record: RunRecord) -> str | None:
        """By the limits that the answer's verdict goes by."""
        from runner.reporting.ruled_out import ruled_out

        return ruled_out(record)


def open_session(
    config: Config, *, live: bool = True, tracking: TrackingService | None = None
) -> ObservedSession:
    """The session of a configuration's store and environments.

    Args:
        config: Names them.
        live: See ``Display``.
        tracking: See ``ObservedSession``.
    """
    root = Path(config.store.root).expanduser().resolve()
    environments = Path(config.store.environments).expanduser().resolve()
    session = ObservedSession(root, environments, live=live, tracking=tracking)
    session.store.clear_leftovers()
    return session
