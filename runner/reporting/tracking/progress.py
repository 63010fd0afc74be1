"""Progress of a stage as metrics, at a rate that any tracker can take."""

import re
import time

_INTERVAL_SECONDS = 5.0


class Progress:
    """Turns what workers tell of their progress into points of a curve."""

    def __init__(self) -> None:
        """Begin with the first thing told."""
        self._name = ""
        self._last = 0.0

    def metrics(self, title: str, done: int, total: int, what: str) -> dict[str, float]:
        """A point, or nothing when the last one is fresh; a phase's end is always one.

        Args:
            title: The stage and what it works on: ``eval gptq-w4a16-g64``.
            done: Finished units of the phase.
            total: All of them; of a phase of one unit nothing is known before its end.
            what: The phase, in words.

        Returns:
            ``progress/<stage>_<phase>``, the share that is done, from 0 to 1; of the unquantized
            model ``progress/<stage>_baseline_<phase>``.
        """
        stage, _, subject = title.partition(" ")
        phase = re.sub(r"\W+", "_", what).strip("_")
        whose = "_baseline" if subject == "unquantized" else ""
        name = f"progress/{stage}{whose}_{phase}"
        now = time.monotonic()
        fresh = name == self._name and now - self._last < _INTERVAL_SECONDS
        if total <= 1 or (fresh and done < total):
            return {}
        self._name, self._last = name, now
        return {name: done / total}
