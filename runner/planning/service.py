"""What an option does for users: their times, how many it serves, and what that costs."""

import math

from runner.config.schema.plan import Plan
from runner.planning.kernels.load import Load, Served, serve
from runner.planning.option import Miss, Option, Range
from runner.planning.regimes import Kind, Regime, spread_regime
from runner.planning.roofline import (
    Step,
    bound_seconds,
    crossover_batch,
    decode_work,
    limits_of,
)
from runner.planning.timing import Subject, Timing

HOURS_PER_MONTH = 730
SECONDS_PER_DAY = 86400
_ALL_EXPERTS = 1e9
"""Tokens of which some choose each expert."""


def add_service(
    option: Option, subject: Subject, timing: Timing, plan: Plan, most_running: int
) -> None:
    """Add times, objectives missed, users served and costs to an option that fits.

    Args:
        option: To complete.
        subject: What it is.
        timing: Of its passes.
        plan: The load and its objectives.
        most_running: Sequences that fit, and that the engine decodes at once.
    """
    users = _Users(subject, timing, plan, most_running)
    asked = users.served(plan.concurrency)
    token, first = users.token_regime(plan.concurrency), users.prompt_regime(plan.concurrency)
    _add_limits(option, subject, timing, asked)
    option.source, option.regime, option.median_error = (
        timing.source,
        token.what,
        token.median_error,
    )
    option.decoded_at_once = most_running
    option.first_token_regime = first.what
    option.decode_step_seconds = asked.decode_seconds
    option.time_per_output_token_seconds = token.around(asked.time_per_output_token_seconds)
    option.time_to_first_token_seconds = first.around(asked.time_to_first_token_seconds)
    option.prefill_seconds = users.prompt_regime(1).around(
        timing.forward.prefill_seconds(plan.prompt_tokens)
    )
    option.tokens_per_second = _inverse(
        users.throughput_regime(plan.concurrency), asked.tokens_per_second
    )
    option.misses = _misses(option, plan)
    _add_costs(option, users, plan)


class _Users:
    """An option under a number of users."""

    def __init__(self, subject: Subject, timing: Timing, plan: Plan, most_running: int) -> None:
        self._timing, self._plan = timing, plan
        self.most_running = most_running
        self._calibrated = None if timing.spread is None else spread_regime(timing.spread)
        shape = subject.shape
        self._kind = Kind(
            timing.family,
            bool(shape.experts),
            shape.parameters,
            timing.is_exact,
            local=subject.device.is_local and not timing.is_exact,
        )
        self._new_tokens = max(1, plan.context_length - plan.prompt_tokens)

    def served(self, concurrency: int) -> Served:
        """What so many users see."""
        load = Load(concurrency, self._plan.prompt_tokens, self._new_tokens, self.most_running)
        return serve(self._timing.forward, load)

    def most(self) -> int:
        """Most users at once within the objectives; as many as asked for where they miss them."""
        asked, most = self._plan.concurrency, max(self._plan.concurrency, self.most_running)
        strain = self._strain(asked)
        return self._last(asked, strain, most) if strain <= 1 else asked

    def within(self) -> int:
        """Most users at once within the objectives, where as many as asked for miss them."""
        return self._last(0, 0.0, self._plan.concurrency - 1)

    def _last(self, low: int, below: float, high: int) -> int:
        """The most users that meet the objectives.

        Args:
            low: Some that do.
            below: The largest part of an objective that they take.
            high: Most that are asked about.
        """
        if high <= low or (above := self._strain(high)) <= 1:
            return max(low, high)
        # Times grow almost evenly with users, so that a straight line leads near.
        while high - low > 1:
            near = low + int((high - low) * (1 - below) / (above - below))
            users = min(max(near, low + 1), high - 1)
            if (strain := self._strain(users)) <= 1:
                low, below = users, strain
            else:
                high, above = users, strain
        return low

    def token_regime(self, concurrency: int) -> Regime:
        """Of times per output token."""
        return self._calibrated or self._kind.token_regime(concurrency)

    def prompt_regime(self, concurrency: int) -> Regime:
        """Of times to the first token."""
        return self._calibrated or self._kind.prompt_regime(concurrency)

    def throughput_regime(self, concurrency: int) -> Regime:
        """Of tokens per second, as a time."""
        return self._calibrated or self._kind.throughput_regime(concurrency)

    def _strain(self, concurrency: int) -> float:
        """The largest part of an objective that so many users take; above 1 it is missed."""
        found = self.served(concurrency)
        token, first = self._plan.latency_seconds, self._plan.ttft_seconds
        return max(
            found.time_per_output_token_seconds / token if token else 0.0,
            found.time_to_first_token_seconds / first if first else 0.0,
        )


def _add_limits(option: Option, subject: Subject, timing: Timing, asked: Served) -> None:
    """What the device's published limits say, and what a step is made of."""
    limits = limits_of(subject.fmt, subject.device)
    assert limits is not None
    option.arithmetic = limits.arithmetic
    shape, fmt, devices = subject.shape, subject.fmt, subject.at_once
    steps = (
        Step(batch, subject.context_tokens, subject.kv_bits / 8, devices)
        for batch in (option.concurrency, 1)
    )
    work, one = (decode_work(shape, fmt, step) for step in steps)
    option.bound_decode_seconds = bound_seconds(work, limits)
    all_weights = fmt.streamed_bytes(shape, _ALL_EXPERTS) / devices
    option.crossover_batch = crossover_batch(one, all_weights, limits)
    reading, computing = timing.forward.parts(asked.running)
    option.limited_by = "memory" if reading >= computing else "compute"
    option.communication_seconds = timing.forward.reduce_seconds(asked.running)


def _misses(option: Option, plan: Plan) -> list[Miss]:
    """Objectives that are expected to be missed."""
    objectives = (
        ("ITL", option.time_per_output_token_seconds, plan.latency_seconds),
        ("TTFT", option.time_to_first_token_seconds, plan.ttft_seconds),
    )
    return [
        Miss(what, seconds, at_most)
        for what, seconds, at_most in objectives
        if seconds is not None and at_most is not None and seconds.expected > at_most
    ]


def _add_costs(option: Option, users: _Users, plan: Plan) -> None:
    """Most users inside the objectives, what they get, and what that costs."""
    option.served_concurrency = users.most()
    option.users_within = users.within() if option.misses else option.served_concurrency
    found = users.served(option.served_concurrency)
    regime = users.throughput_regime(option.served_concurrency)
    option.served_tokens_per_second = _inverse(regime, found.tokens_per_second)
    if not option.misses:
        running = min(option.served_concurrency, users.most_running)
        option.requests_per_second = running / found.request_seconds
    price, degree = option.price_per_hour, option.tensor_parallel
    seconds = regime.around(1 / found.tokens_per_second)
    if price is not None:
        dollars = degree * price * 1e6 / 3600
        option.cost_per_million_tokens = Range(
            dollars * seconds.low, dollars * seconds.expected, dollars * seconds.high
        )
    if plan.tokens_per_day is None:
        return
    demand = tokens_per_second_needed(plan.tokens_per_day) * plan.peak_factor
    option.replicas = max(1, math.ceil(demand * seconds.expected))
    option.devices_needed = option.replicas * degree
    if price is not None:
        option.monthly_cost = option.devices_needed * price * HOURS_PER_MONTH
        tokens_a_month = plan.tokens_per_day * HOURS_PER_MONTH / 24
        option.cost_per_million_tokens_at_traffic = option.monthly_cost / tokens_a_month * 1e6


def _inverse(regime: Regime, rate: float) -> Range:
    """A rate, by the range of the times that it follows from."""
    return Range(rate / regime.high, rate, rate / regime.low)


def tokens_per_second_needed(tokens_per_day: float) -> float:
    """Mean rate of a day's traffic."""
    return tokens_per_day / SECONDS_PER_DAY
