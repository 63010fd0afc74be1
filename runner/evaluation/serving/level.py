"""What requests met at one load, read from guidellm's report."""

from dataclasses import dataclass, field
from typing import Any

from runner.config.schema.serving import ServiceLevelObjective
from runner.errors import StageError
from runner.evaluation.metrics.statistics import Summary, summarise


@dataclass
class Level:
    """Requests at one load. Times are a request's each."""

    concurrency: int | None
    arrival_rate: float | None
    """Requests per second; one of the two is told."""
    requests: int
    """That were answered."""
    failed: int
    seconds: float
    """From the first request's start to the last one's end."""
    prompt_tokens: float
    """Mean, as the server counts them."""
    new_tokens: float
    time_to_first_token_seconds: Summary
    """From sending the request, waiting in the server's queue included."""
    time_per_output_token_seconds: Summary
    """(last token - first token) / (tokens - 1): guidellm calls this its inter-token latency."""
    request_latency_seconds: Summary
    requests_per_second: float
    output_tokens_per_second: float
    """Of all requests together."""
    attainment: float | None
    """Part of all requests, failed ones included, that met the objective; ``None`` without one."""
    goodput_requests_per_second: float | None
    steady_tokens_per_second: float | None = None
    """Of all users together while each had a request in flight: neither the first round's start
    nor the last one's end, when some have none. ``None`` at an arrival rate and in older records.
    """
    missed: dict[str, int] = field(default_factory=dict)
    """Answered requests that missed a limit, by the objective's field."""

    @property
    def tokens_per_second_per_user(self) -> float | None:
        """What one user sees once an answer has begun: 1 / the median time per output token."""
        median = self.time_per_output_token_seconds.p50
        return 1 / median if median > 0 else None


def read_level(
    benchmark: dict[str, Any],
    concurrency: int | None,
    rate: float | None,
    objective: ServiceLevelObjective,
    warmup: int = 0,
) -> Level:
    """One level out of guidellm's report.

    Args:
        benchmark: The report's part about it.
        concurrency: Requests in flight, or
        rate: requests a second.
        objective: What requests are to keep.
        warmup: How many of those that were sent first are not counted.

    Raises:
        StageError: No request was answered; the first one's error is told.
    """
    requests = benchmark["requests"]
    every, bad = requests["successful"], [*requests["errored"], *requests["incomplete"]]
    good = sorted(every, key=lambda request: request["request_start_time"])[warmup:]
    if not good:
        why = next((r["info"].get("error") for r in bad if r["info"].get("error")), "no reason")
        raise StageError(f"none of {len(bad)} requests was answered: {why}")
    times = [
        {
            "time_to_first_token_seconds": r["time_to_first_token_ms"] / 1000,
            "time_per_output_token_seconds": (r["inter_token_latency_ms"] or 0.0) / 1000,
            "request_latency_seconds": r["request_latency"],
        }
        for r in good
    ]
    limits = {name: limit for name, limit in vars(objective).items() if limit is not None}
    missed = {name: sum(one[name] > limit for one in times) for name, limit in limits.items()}
    met = sum(all(one[name] <= limit for name, limit in limits.items()) for one in times)
    seconds = _end(good) - min(r["request_start_time"] for r in good)
    return Level(
        concurrency=concurrency,
        arrival_rate=rate,
        requests=len(good),
        failed=len(bad),
        seconds=seconds,
        prompt_tokens=sum(r["prompt_tokens"] or 0 for r in good) / len(good),
        new_tokens=sum(r["output_tokens"] or 0 for r in good) / len(good),
        **{name: summarise([one[name] for one in times]) for name in times[0]},
        requests_per_second=len(good) / seconds,
        output_tokens_per_second=sum(r["output_tokens"] or 0 for r in good) / seconds,
        attainment=met / (len(good) + len(bad)) if limits else None,
        goodput_requests_per_second=met / seconds if limits else None,
        steady_tokens_per_second=None if concurrency is None else _steady(every, good),
        missed=missed,
    )


def _end(requests: list[dict[str, Any]]) -> float:
    last: float = max(request["request_end_time"] for request in requests)
    return last


def _steady(every: list[dict[str, Any]], counted: list[dict[str, Any]]) -> float:
    """Tokens per second while every user has a request in flight.

    That is from the first request that counts until the first one ends after the last was sent.
    A request's tokens are spread evenly over the time in which it is answered, its first at its
    beginning.
    """
    begin: float = min(request["request_start_time"] for request in counted)
    last = max(request["request_start_time"] for request in every)
    end: float = min(r["request_end_time"] for r in every if r["request_end_time"] > last)
    tokens = 0.0
    for request in every:
        first: float = request["request_start_time"] + request["time_to_first_token_ms"] / 1000
        number, length = request["output_tokens"] or 0, request["request_end_time"] - first
        inside = max(0.0, min(end, request["request_end_time"]) - max(begin, first))
        tokens += float(begin <= first < end) if number else 0.0
        tokens += (number - 1) * inside / length if number > 1 and length > 0 else 0.0
    return tokens / (end - begin)
