"""How the runs of a sweep are started, and what a failure means for the rest."""

import re
from dataclasses import dataclass

from runner.errors import UsageError

_STOP_AFTER = re.compile(r"stop_after_([1-9]\d*)")


@dataclass
class Launch:
    """Settings of a whole sweep; they do not affect results."""

    detach: bool = False
    """Return as soon as the jobs are submitted; ``runner report ID`` collects their results."""
    on_failure: str = "continue"
    """``continue``, ``stop``, or ``stop_after_N``: after how many failed runs to start no more."""

    @property
    def max_failures(self) -> int | None:
        """Failed runs after which no further run begins; ``None`` for no such bound.

        Raises:
            UsageError: ``on_failure`` is no policy.
        """
        if self.on_failure == "continue":
            return None
        if self.on_failure == "stop":
            return 1
        if match := _STOP_AFTER.fullmatch(self.on_failure):
            return int(match[1])
        raise UsageError(
            f"launch.on_failure={self.on_failure}: expected continue, stop or stop_after_N, "
            "such as stop_after_3"
        )
