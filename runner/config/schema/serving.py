"""Load on an engine's server, and the latencies it is to keep."""

from dataclasses import dataclass, field
from typing import Optional

from runner.config.bounds import bounded


@dataclass
class ServiceLevelObjective:
    """What a request must keep to count as good; fields left out do not matter."""

    time_to_first_token_seconds: Optional[float] = bounded(None, above=True)
    """The server's queue included."""
    time_per_output_token_seconds: Optional[float] = bounded(None, above=True)
    """Mean over the tokens after the first."""
    request_latency_seconds: Optional[float] = bounded(None, above=True)
    """From sending it to its last token."""


def _concurrencies() -> list[int]:
    return [1, 4]


@dataclass
class Serving:
    """Requests of fixed lengths, at set numbers at once or at set rates of arrival."""

    prompt_tokens: int = bounded(64, least=1)
    """Of every request, synthetic text."""
    new_tokens: int = bounded(16, least=2, why="one token has no inter-token latency")
    """Of every answer: nothing ends it earlier."""
    concurrencies: list[int] = bounded(factory=_concurrencies, least=1, most=10**5)
    """Each a level: so many requests at any time, the next sent when one ends."""
    arrival_rates: list[float] = bounded(factory=list, above=True, most=10**5)
    """Each a level: requests per second on average, at random (Poisson) moments."""
    requests: int = bounded(16, least=1)
    """Of every level."""
    slo: ServiceLevelObjective = field(default_factory=ServiceLevelObjective)
    startup_timeout_seconds: float = bounded(300.0, above=True)
    """How long the server may take until it answers."""
    reuse: bool = False
    """Take an earlier measurement from the store instead of measuring afresh."""
