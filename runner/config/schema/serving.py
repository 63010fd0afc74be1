"""Load on an engine's server, and its latency targets."""

from dataclasses import dataclass, field
from typing import Optional

from runner.config.bounds import bounded


@dataclass
class ServiceLevelObjective:
    """What a request must keep to count as good; fields left out do not matter."""

    time_to_first_token_seconds: Optional[float] = bounded(None, above=True)
    """Includes the time in the server's queue."""
    time_per_output_token_seconds: Optional[float] = bounded(None, above=True)
    """Mean over the tokens after the first."""
    request_latency_seconds: Optional[float] = bounded(None, above=True)
    """From sending the request to its last token."""

    @property
    def is_set(self) -> bool:
        """Whether a request can miss anything."""
        return any(value is not None for value in vars(self).values())


def _concurrencies() -> list[int]:
    return [1, 4]


@dataclass
class Serving:
    """Requests of fixed lengths, at fixed loads or in search of the largest within the SLO."""

    prompt_tokens: int = bounded(64, least=1)
    """Prompt tokens of every request (synthetic text)."""
    new_tokens: int = bounded(16, least=2, why="one token has no inter-token latency")
    """Output tokens of every request; nothing ends it earlier."""
    concurrencies: list[int] = bounded(factory=_concurrencies, least=1, most=10**5)
    """One level per entry: this many requests in flight, the next one sent when one ends."""
    arrival_rates: list[float] = bounded(factory=list, above=True, most=10**5)
    """One level per entry: requests per second on average, at random (Poisson) times."""
    max_concurrency: Optional[int] = bounded(None, least=1, most=10**5)
    """Find the largest concurrency that meets ``serving.slo`` by doubling and bisection, to within
    10%, up to this one; null: no search."""
    min_attainment: float = bounded(0.9, above=True, most=1)
    """Share of requests that must meet the SLO in that search."""
    requests: int = bounded(16, least=1)
    """Requests per level; at a concurrency rounded up, so that every user sends as many."""
    warmup_rounds: int = bounded(0, most=1000)
    """Unmeasured requests of every user before the measured ones, at a concurrency: users who all
    start at once wait for each other's prompts, as they do not later."""
    slo: ServiceLevelObjective = field(default_factory=ServiceLevelObjective)
    startup_timeout_seconds: float = bounded(300.0, above=True)
    """Time limit for the server to start answering."""
    reuse: bool = False
    """Reuse an earlier measurement from the store instead of measuring again."""

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        found = {}
        if self.max_concurrency is None:
            found["min_attainment"] = "has no max_concurrency, so nothing is searched for"
        if self.max_concurrency is None and not self.concurrencies:
            found["warmup_rounds"] = "has arrival rates alone, and nobody who sends in rounds"
        return found
