"""Error messages for jobs that returned no result."""

from runner.errors import StageError


class WorkerFailed(StageError):
    """A job ended without a result."""

    def __init__(
        self,
        message: str,
        log_tail: list[str],
        out_of_memory: bool = False,
        refused: bool = False,
    ) -> None:
        """Keep the last lines the worker printed beside the message."""
        super().__init__(message)
        self.log_tail = log_tail
        self.out_of_memory = out_of_memory
        """It asked for more than there was, as far as one can know."""
        self.refused = refused
        """It did not begin its work: see ``Refused``."""
